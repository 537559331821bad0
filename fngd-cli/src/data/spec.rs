//! What the user may write after `--data`, and where named sets are looked for.

use super::error::{DataError, Result};
use std::path::{Path, PathBuf};

/// A parsed data specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// The set inside the program.
    Digits,
    /// A well-known set, by name or found at a path.
    Named { set: Named, path: Option<PathBuf> },
    /// `folder:PATH[?size=HxW]`: images in one folder a class.
    Folder { path: PathBuf, size: Option<(u32, u32)> },
    /// `npz:PATH`: arrays written by numpy.
    Npz { path: PathBuf },
}

/// The well-known sets that have files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Cifar10,
    Cifar100,
    Mnist,
    FashionMnist,
}

impl Spec {
    /// Reads a specification; a plain path is looked at to see what is there.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a malformed option, or a path that holds nothing known.
    pub fn parse(spec: &str) -> Result<Self> {
        if spec == "digits" {
            return Ok(Self::Digits);
        }
        if let Some(set) = Named::from_name(spec) {
            return Ok(Self::Named { set, path: None });
        }
        if let Some((kind, rest)) = spec.split_once(':') {
            match (kind, Named::from_name(kind)) {
                _ if rest.is_empty() => {
                    return Err(DataError::usage(format!("data `{spec}`: no path after `{kind}:`")));
                }
                (_, Some(set)) => return Ok(Self::Named { set, path: Some(PathBuf::from(rest)) }),
                ("folder", _) => return folder(spec, rest),
                ("npz", _) => return Ok(Self::Npz { path: PathBuf::from(rest) }),
                _ => {}
            }
        }
        let path = Path::new(spec);
        if path.exists() {
            return detect(path);
        }
        Err(unknown(spec))
    }
}

impl Named {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cifar10, Self::Cifar100, Self::Mnist, Self::FashionMnist];

    /// The set called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
        }
    }

    /// Where the set lies under `dir` (default: the user's cache).
    ///
    /// # Errors
    /// It is nowhere: names the places looked at.
    pub fn find(self, dir: Option<&Path>) -> Result<PathBuf> {
        let root = match dir {
            Some(dir) => dir.to_path_buf(),
            None => default_dir()?,
        };
        self.find_in(&root).ok_or_else(|| {
            let option = dir.map_or(String::new(), |dir| format!(" --data-dir {}", dir.display()));
            let markers = self.markers().join(" or ");
            DataError::missing(format!("data set `{}` is not in {}: looked for {markers}", self.name(), root.display()))
                .with_help(format!("download it: fngd-cli data fetch {}{option}", self.name()))
        })
    }

    /// The folder or archive of this set in `root` or in one of the folders that other programs make for it.
    pub fn find_in(self, root: &Path) -> Option<PathBuf> {
        let folders = self.folders().iter().map(|folder| root.join(folder)).chain([root.to_path_buf()]);
        folders.into_iter().find_map(|folder| {
            let marker = self.markers().iter().map(|marker| folder.join(marker)).find(|marker| marker.is_file())?;
            let is_archive = marker.extension().is_some_and(|extension| extension == "gz") && self.is_archived();
            Some(if is_archive { marker } else { folder })
        })
    }

    /// Files of which one must be there.
    fn markers(self) -> &'static [&'static str] {
        match self {
            Self::Cifar10 => &["data_batch_1.bin", "cifar-10-binary.tar.gz"],
            Self::Cifar100 => &["train.bin", "cifar-100-binary.tar.gz"],
            Self::Mnist | Self::FashionMnist => &["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"],
        }
    }

    fn is_archived(self) -> bool {
        matches!(self, Self::Cifar10 | Self::Cifar100)
    }

    /// Where the markers may be besides the folder itself, best first: our cache, what the archives unpack to, torchvision's folders.
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Cifar10 => &["cifar10", "cifar10/cifar-10-batches-bin", "cifar-10-batches-bin"],
            Self::Cifar100 => &["cifar100", "cifar100/cifar-100-binary", "cifar-100-binary"],
            Self::Mnist => &["mnist", "MNIST/raw"],
            Self::FashionMnist => &["fashion-mnist", "FashionMNIST/raw"],
        }
    }
}

/// `$FNGD_CACHE/data`, or `fngd/data` in the user's cache folder.
pub fn default_dir() -> Result<PathBuf> {
    use etcetera::BaseStrategy;
    if let Some(cache) = std::env::var_os("FNGD_CACHE").filter(|cache| !cache.is_empty()) {
        return Ok(PathBuf::from(cache).join("data"));
    }
    let strategy = etcetera::choose_base_strategy().map_err(|error| {
        DataError::missing(format!("cannot tell where the user's cache is: {error}"))
            .with_help("set FNGD_CACHE to a folder, or pass --data-dir")
    })?;
    Ok(strategy.cache_dir().join("fngd").join("data"))
}

fn folder(spec: &str, rest: &str) -> Result<Spec> {
    let Some((path, option)) = rest.rsplit_once('?') else {
        return Ok(Spec::Folder { path: PathBuf::from(rest), size: None });
    };
    let size = option.strip_prefix("size=").and_then(|size| {
        let (height, width) = size.split_once('x')?;
        Some((height.parse().ok()?, width.parse().ok()?))
    });
    match size {
        Some((height @ 1..=4096, width @ 1..=4096)) => {
            Ok(Spec::Folder { path: PathBuf::from(path), size: Some((height, width)) })
        }
        _ => Err(DataError::usage(format!(
            "data `{spec}`: expected `?size=HxW` with both in 1..=4096 after the path, found `?{option}`"
        ))),
    }
}

/// What a plain path holds.
fn detect(path: &Path) -> Result<Spec> {
    if path.is_file() && path.extension().is_some_and(|extension| extension == "npz") {
        return Ok(Spec::Npz { path: path.to_path_buf() });
    }
    if path.is_dir() {
        let is_fashion = path.to_string_lossy().to_lowercase().contains("fashion");
        for set in Named::ALL {
            let other_name = if is_fashion { Named::Mnist } else { Named::FashionMnist };
            if let Some(found) = set.find_in(path).filter(|_| set != other_name) {
                return Ok(Spec::Named { set, path: Some(found) });
            }
        }
        if has_folders(path) {
            return Ok(Spec::Folder { path: path.to_path_buf(), size: None });
        }
    }
    Err(DataError::invalid(format!("cannot tell what data {} holds", path.display())).with_help(
        "I looked for: a file *.npz; data_batch_1.bin or cifar-10-binary.tar.gz (cifar10); train.bin or \
         cifar-100-binary.tar.gz (cifar100); train-images-idx3-ubyte[.gz] (mnist, fashion-mnist); a folder of images a class, \
         PATH/train/CLASS/* or PATH/CLASS/*",
    ))
}

fn has_folders(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir())))
}

fn unknown(spec: &str) -> DataError {
    let names = ["digits", "cifar10", "cifar100", "mnist", "fashion-mnist", "folder:PATH", "npz:PATH"];
    let lower = spec.to_lowercase();
    let near = names.iter().map(|name| (strsim::damerau_levenshtein(&lower, name), name)).min();
    let hint = match near {
        Some((distance, name)) if distance <= 2 => format!("did you mean `{name}`?"),
        _ => format!("known: {}, or the path of a folder or file", names.join(", ")),
    };
    DataError::usage(format!("unknown data `{spec}`: no such name, and no such file or folder")).with_help(hint)
}

#[cfg(test)]
mod tests {
    use super::{Named, Spec};
    use std::path::PathBuf;

    #[test]
    fn every_form() {
        assert_eq!(Spec::parse("digits").unwrap(), Spec::Digits);
        for set in Named::ALL {
            assert_eq!(Spec::parse(set.name()).unwrap(), Spec::Named { set, path: None });
        }
        let path = PathBuf::from("a/b");
        assert_eq!(Spec::parse("cifar10:a/b").unwrap(), Spec::Named { set: Named::Cifar10, path: Some(path.clone()) });
        assert_eq!(Spec::parse("npz:a/b").unwrap(), Spec::Npz { path: path.clone() });
        assert_eq!(Spec::parse("folder:a/b").unwrap(), Spec::Folder { path: path.clone(), size: None });
        assert_eq!(Spec::parse("folder:a/b?size=32x48").unwrap(), Spec::Folder { path, size: Some((32, 48)) });
    }

    #[test]
    fn mistakes_are_named() {
        let told = |spec: &str| {
            let error = Spec::parse(spec).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            (error.to_string(), error.help().unwrap_or("").to_owned())
        };
        let (text, help) = told("cifra10");
        assert_eq!(text, "unknown data `cifra10`: no such name, and no such file or folder");
        assert_eq!(help, "did you mean `cifar10`?");
        assert_eq!(told("CIFAR10").1, "did you mean `cifar10`?");
        assert!(told("imagenet").1.starts_with("known: digits, cifar10, "), "{}", told("imagenet").1);
        assert_eq!(told("npz:").0, "data `npz:`: no path after `npz:`");
        assert_eq!(
            told("folder:x?size=32").0,
            "data `folder:x?size=32`: expected `?size=HxW` with both in 1..=4096 after the path, found `?size=32`"
        );
    }

    #[test]
    fn plain_paths_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let spec = dir.path().to_str().unwrap();
        let error = Spec::parse(spec).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot tell what data {spec} holds"));
        assert!(error.help().unwrap().starts_with("I looked for: a file *.npz; data_batch_1.bin"));
        std::fs::create_dir(dir.path().join("cat")).unwrap();
        assert!(matches!(Spec::parse(spec).unwrap(), Spec::Folder { size: None, .. }));
        std::fs::create_dir(dir.path().join("cifar-100-binary")).unwrap();
        std::fs::write(dir.path().join("cifar-100-binary/train.bin"), b"").unwrap();
        let expected = Some(dir.path().join("cifar-100-binary"));
        assert_eq!(Spec::parse(spec).unwrap(), Spec::Named { set: Named::Cifar100, path: expected });
    }

    #[test]
    fn missing_set_says_where_and_how() {
        let dir = tempfile::tempdir().unwrap();
        let error = Named::Cifar10.find(Some(dir.path())).unwrap_err();
        let root = dir.path().display();
        assert_eq!(
            error.to_string(),
            format!("data set `cifar10` is not in {root}: looked for data_batch_1.bin or cifar-10-binary.tar.gz")
        );
        assert_eq!(error.help().unwrap(), format!("download it: fngd-cli data fetch cifar10 --data-dir {root}"));
    }
}
