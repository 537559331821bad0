//! Where libtorch is. The launcher looks, so that the engine's dynamic linker does not have to fail.

use crate::launcher::failure::{Failure, Result};
use crate::launcher::text;
use std::path::{Path, PathBuf};

/// The version that the engine is built for.
pub const WANTED: &str = "2.11.0";

/// The library that a usable folder must have.
const LIBRARY: &str = "libtorch_cpu.so";

/// The folder with the libraries that the launcher was built beside, where `LIBTORCH` named one: most likely the engine's own.
const OF_THE_BUILD: Option<&str> = option_env!("FNGD_BUILD_LIBTORCH");

/// A usable libtorch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder with `libtorch_cpu.so`.
    pub folder: PathBuf,
    /// `2.11.0+cu130`, or `None` where the folder does not say.
    pub version: Option<String>,
    /// Who named it: `--libtorch`, `the build`, ...
    pub named_by: &'static str,
    /// Whether the engine must be told; it finds the library of its build by itself.
    pub needs_path: bool,
}

/// One place that was looked at.
#[derive(Debug, Clone)]
struct Place {
    named_by: &'static str,
    path: PathBuf,
    /// The user asked for this one by name, so a wrong one is an error and not a reason to look further.
    demanded: bool,
}

/// The first usable libtorch; the error names every place that was tried.
pub fn find(explicit: Option<&Path>) -> Result<Libtorch> {
    find_in(&places(explicit))
}

fn find_in(places: &[Place]) -> Result<Libtorch> {
    let mut tried = Vec::new();
    for place in places {
        match examine(place) {
            Ok(found) => return Ok(found),
            Err(why) => {
                tried.push(format!(
                    "  {:<18} {}: {why}",
                    place.named_by,
                    text::name(&place.path.display().to_string())
                ));
                if place.demanded {
                    let message = format!("{} is {}, which {why}", place.named_by, place.path.display());
                    return Err(Failure::environment(message).with_help(format!(
                        "name a folder with libtorch {WANTED}, or leave {} out and it is looked for",
                        place.named_by
                    )));
                }
            }
        }
    }
    Err(Failure::environment(format!("libtorch {WANTED} is not here. Looked at\n{}", tried.join("\n"))).with_help(format!(
        "python3 tools/libtorch.py installs it for this user; or set FNGD_LIBTORCH to a folder with libtorch {WANTED}, \
         such as the `torch` folder of `pip install torch=={WANTED}`"
    )))
}

fn places(explicit: Option<&Path>) -> Vec<Place> {
    let mut places = Vec::new();
    let mut add = |named_by, path: Option<PathBuf>, demanded| {
        places.extend(path.map(|path| Place { named_by, path, demanded }));
    };
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    add("--libtorch", explicit.map(Path::to_owned), true);
    add("FNGD_LIBTORCH", variable("FNGD_LIBTORCH"), true);
    add("LIBTORCH", variable("LIBTORCH"), false);
    add("the build", OF_THE_BUILD.map(PathBuf::from), false);
    let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    add("beside fngd-cli", beside.as_ref().map(|folder| folder.join("libtorch")), false);
    add("beside fngd-cli", beside.as_ref().map(|folder| folder.join("../lib")), false);
    add("the cache", cache_folder().map(|cache| cache.join("libtorch").join(WANTED)), false);
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        add(name, variable(name).and_then(|root| torch_of_python(&root)), false);
    }
    add("the system", Some(PathBuf::from("/usr/lib")), false);
    places
}

/// `$FNGD_CACHE`, else the user's cache with `fngd` in it.
pub fn cache_folder() -> Option<PathBuf> {
    if let Some(cache) = std::env::var_os("FNGD_CACHE").filter(|cache| !cache.is_empty()) {
        return Some(PathBuf::from(cache));
    }
    let strategy = etcetera::choose_base_strategy().ok()?;
    Some(etcetera::BaseStrategy::cache_dir(&strategy).join("fngd"))
}

/// The `torch` folder of a Python environment, found without running Python.
fn torch_of_python(root: &Path) -> Option<PathBuf> {
    let pythons = std::fs::read_dir(root.join("lib")).ok()?;
    let torch = |python: std::fs::DirEntry| python.path().join("site-packages/torch");
    pythons.flatten().map(torch).find(|torch| torch.is_dir())
}

/// A place with the library in the right version, or why it is none.
fn examine(place: &Place) -> std::result::Result<Libtorch, String> {
    let holds = |folder: &Path| folder.join(LIBRARY).is_file();
    let folder = [place.path.join("lib"), place.path.clone()].into_iter().find(|folder| holds(folder));
    let Some(folder) = folder else {
        let why = if place.path.exists() { format!("has no lib/{LIBRARY}") } else { "does not exist".to_owned() };
        return Err(why);
    };
    let version = version(&folder);
    if let Some(version) = &version
        && version.split('+').next() != Some(WANTED)
    {
        return Err(format!("has version {}, {WANTED} is needed", text::name(version)));
    }
    let same =
        |left: &Path, right: &Path| matches!((left.canonicalize(), right.canonicalize()), (Ok(l), Ok(r)) if l == r);
    let needs_path = !OF_THE_BUILD.is_some_and(|of_the_build| same(&folder, Path::new(of_the_build)));
    Ok(Libtorch { folder, version, named_by: place.named_by, needs_path })
}

/// From `build-version` (the archive) or `version.py` (the Python package), beside or above the libraries.
fn version(folder: &Path) -> Option<String> {
    let parent = folder.parent()?;
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    for root in [folder, parent] {
        if let Some(version) = read(root.join("build-version")) {
            return Some(version.trim().to_owned());
        }
        let python = read(root.join("version.py")).unwrap_or_default();
        let line = python.lines().find_map(|line| line.strip_prefix("__version__ = "));
        if let Some(version) = line {
            return Some(version.trim_matches(['\'', '"']).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(file: &str, content: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        std::fs::write(folder.path().join("lib").join(LIBRARY), "").unwrap();
        std::fs::write(folder.path().join(file), content).unwrap();
        folder
    }

    fn place(path: &Path, demanded: bool) -> Place {
        Place { named_by: "--libtorch", path: path.to_owned(), demanded }
    }

    #[test]
    fn reads_the_version_of_the_archive_and_of_the_python_package() {
        let archive = folder_with("build-version", "2.11.0+cpu\n");
        let python = folder_with("version.py", "import x\n__version__ = '2.11.0+cu130'\ndebug = False\n");
        let found = |folder: &tempfile::TempDir| examine(&place(folder.path(), true)).unwrap();
        assert_eq!(found(&archive).version.as_deref(), Some("2.11.0+cpu"));
        assert_eq!(found(&python).version.as_deref(), Some("2.11.0+cu130"));
        assert!(found(&archive).needs_path);
    }

    #[test]
    fn a_demanded_folder_of_another_version_is_refused() {
        let old = folder_with("build-version", "2.7.1\n");
        let failure = find_in(&[place(old.path(), true)]).unwrap_err();
        let path = old.path().display();
        assert_eq!(failure.message, format!("--libtorch is {path}, which has version 2.7.1, 2.11.0 is needed"));
        assert_eq!(failure.code as u8, 5);
    }

    #[test]
    fn every_place_that_was_tried_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let failure = find_in(&[place(empty.path(), false), place(Path::new("/nowhere"), false)]).unwrap_err();
        let path = empty.path().display();
        assert_eq!(
            failure.message,
            format!(
                "libtorch 2.11.0 is not here. Looked at\n  --libtorch         {path}: has no lib/libtorch_cpu.so\n  \
                 --libtorch         /nowhere: does not exist"
            )
        );
    }

    #[test]
    fn the_first_usable_place_wins() {
        let old = folder_with("build-version", "2.7.1\n");
        let good = folder_with("build-version", "2.11.0\n");
        let found = find_in(&[place(old.path(), false), place(good.path(), false)]).unwrap();
        assert_eq!(found.folder, good.path().join("lib"));
    }
}
