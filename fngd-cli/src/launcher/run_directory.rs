//! The directory of a run: made once, never overwritten, locked while somebody works in it.

use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{system, text};
use crate::settings::Settings;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

/// An open, locked run directory.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    lock: File,
}

impl RunDirectory {
    /// Makes a new one: `RUNS/NAME`, or `RUNS/DATE-TIME-MODEL-OPTIMIZER` with a number after it where that exists.
    pub fn create(settings: &Settings) -> Result<RunDirectory> {
        let default = default_name(settings);
        RunDirectory::create_by(&settings.train.runs_dir, settings.train.name.as_deref(), &default)
    }

    /// The same for any folder of numbers: `RUNS/NAME`, or `RUNS/DATE-TIME-DEFAULT`.
    pub fn create_by(runs: &Path, name: Option<&str>, default: &str) -> Result<RunDirectory> {
        std::fs::create_dir_all(runs).map_err(|error| unusable(runs, &error))?;
        let path = match name {
            Some(name) => {
                let path = runs.join(name);
                std::fs::create_dir(&path).map_err(|error| match error.kind() {
                    std::io::ErrorKind::AlreadyExists => already_there(&path),
                    _ => unusable(&path, &error),
                })?;
                path
            }
            None => {
                let now = jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S").to_string();
                create_numbered(runs, &format!("{now}-{default}"))?
            }
        };
        let opened = lock(&path).and_then(|lock| {
            let directory = RunDirectory { lock, path: path.clone() };
            directory.probe()?;
            Ok(directory)
        });
        if opened.is_err() {
            // A folder that cannot be used must not keep its name. If it cannot go either, the error says enough.
            let _ = std::fs::remove_dir_all(&path);
        }
        opened
    }

    /// What would make [`create`](Self::create) fail, found before data is downloaded, and leaving nothing behind.
    pub fn check(settings: &Settings) -> Result<()> {
        let runs = &settings.train.runs_dir;
        if let Some(path) = settings.train.name.as_ref().map(|name| runs.join(name))
            && path.symlink_metadata().is_ok()
        {
            return Err(already_there(&path));
        }
        let present = runs.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
        probe(present.unwrap_or(Path::new("."))).map_err(|error| unusable(runs, &error))
    }

    /// Opens the directory of an earlier run.
    pub fn open(path: &Path) -> Result<RunDirectory> {
        RunDirectory::open_by(path, "config.toml", "a run directory").map_err(|failure| {
            let help = "runs are made by `fngd-cli train`, in the folder `runs`; the newest is runs/latest";
            if failure.code == Code::Usage { failure.with_help(help) } else { failure }
        })
    }

    /// Opens a folder that has the file `mark`, as `what` has.
    pub fn open_by(path: &Path, mark: &str, what: &str) -> Result<RunDirectory> {
        if !path.join(mark).is_file() {
            let shown = text::name(&path.display().to_string());
            return Err(Failure::usage(format!("{shown} is not {what}: it has no {mark}")));
        }
        // `runs/latest` becomes the run itself, so that what is printed stays true after the next run.
        let path = match path.read_link() {
            Ok(target) => path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => path.to_owned(),
        };
        let directory = RunDirectory { lock: lock(&path)?, path };
        directory.probe()?;
        Ok(directory)
    }

    /// Makes `latest`, beside the run, lead to it: in one step. Some file systems have no links; then there is none.
    pub fn is_latest(&self) {
        let (Some(runs), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let temporary = runs.join(format!(".latest-{}", std::process::id()));
        let _ = std::fs::remove_file(&temporary);
        let linked = std::os::unix::fs::symlink(name, &temporary);
        if linked.is_ok() && std::fs::rename(&temporary, runs.join("latest")).is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock's descriptor: whoever inherits it holds the lock too.
    pub fn lock_descriptor(&self) -> RawFd {
        self.lock.as_raw_fd()
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let target = self.path.join(name);
        write_whole(&target, content).map_err(|error| unusable(&target, &error))
    }

    /// Opens a file to append to.
    pub fn append(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        OpenOptions::new().create(true).append(true).open(&path).map_err(|error| unusable(&path, &error))
    }

    /// Does everything that a checkpoint does, so that a read-only or full disk is found now and not after an epoch.
    fn probe(&self) -> Result<()> {
        probe(&self.path).map_err(|error| unusable(&self.path, &error))
    }
}

fn probe(folder: &Path) -> std::io::Result<()> {
    let target = folder.join(format!(".probe-{}", std::process::id()));
    write_whole(&target, &[0; 65_536]).and_then(|()| std::fs::remove_file(&target))
}

/// Creates beside the target, syncs, renames.
pub fn write_whole(target: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(target).map_err(|error| error.error)?;
    Ok(())
}

fn default_name(settings: &Settings) -> String {
    let stem = settings.model.file_stem().unwrap_or_default().to_string_lossy();
    let model: String = stem.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.')).take(60).collect();
    format!("{model}-{}", settings.optimizer.name)
}

fn create_numbered(runs: &Path, name: &str) -> Result<PathBuf> {
    for number in 1..1000 {
        let path = if number == 1 { runs.join(name) } else { runs.join(format!("{name}-{number}")) };
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(&path, &error)),
        }
    }
    Err(already_there(&runs.join(name)))
}

fn lock(path: &Path) -> Result<File> {
    let name = path.join("run.lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&name)
        .map_err(|error| unusable(path, &error))?;
    if !system::try_lock(&file).map_err(|error| unusable(&name, &error))? {
        let owner = std::fs::read_to_string(&name).unwrap_or_default();
        let message = format!("{} is in use by {}", path.display(), text::name(owner.trim()));
        return Err(Failure::environment(message).with_help("wait for it, or stop it"));
    }
    let now = jiff::ZonedDateTime::now().strftime("%F %T %Z").to_string();
    let outcome = file.set_len(0).and_then(|()| write!(file, "process {}, since {now}", std::process::id()));
    outcome.map_err(|error| unusable(&name, &error))?;
    Ok(file)
}

fn already_there(path: &Path) -> Failure {
    // What such a folder has, and what goes on with it.
    const KINDS: [(&str, &str); 3] =
        [("config.toml", "resume"), ("plan.toml", "compare --resume"), ("study.toml", "study --resume")];
    let word = text::shell(&path.display().to_string());
    let help = KINDS.iter().find(|(mark, _)| path.join(mark).is_file()).map_or_else(
        || "choose another --name".to_owned(),
        |(_, command)| format!("choose another --name, or go on with it: fngd-cli {command} {word}"),
    );
    Failure::usage(format!("{} exists already, and runs are never overwritten", path.display())).with_help(help)
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot write to {}: {error}", text::name(&path.display().to_string()));
    Failure::environment(message).with_help(match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "make room there, or put runs elsewhere with --runs-dir DIR"
        }
        _ => "put runs where you may write: --runs-dir DIR",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DataSettings;

    fn settings(runs: &Path, name: Option<&str>) -> Settings {
        let mut settings = Settings {
            model: "some/where/resnet 20.onnx".into(),
            data: DataSettings::default(),
            import: Default::default(),
            train: Default::default(),
            optimizer: Default::default(),
            schedule: Default::default(),
            stop: Default::default(),
        };
        settings.train.runs_dir = runs.to_owned();
        settings.train.name = name.map(str::to_owned);
        settings
    }

    #[test]
    fn runs_are_never_overwritten() {
        let runs = tempfile::tempdir().unwrap();
        let _first = RunDirectory::create(&settings(runs.path(), Some("a"))).unwrap();
        let failure = RunDirectory::create(&settings(runs.path(), Some("a"))).unwrap_err();
        let path = runs.path().join("a");
        assert_eq!(failure.message, format!("{} exists already, and runs are never overwritten", path.display()));
        assert_eq!(failure.code as u8, 2);
    }

    #[test]
    fn latest_points_to_the_newest() {
        let runs = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(&settings(runs.path(), None)).unwrap();
        let second = RunDirectory::create(&settings(runs.path(), None)).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(!runs.path().join("latest").exists());
        first.is_latest();
        second.is_latest();
        assert!(first.path().file_name().unwrap().to_str().unwrap().ends_with("-resnet20-fngd"));
        let latest = runs.path().join("latest").canonicalize().unwrap();
        assert_eq!(latest, second.path().canonicalize().unwrap());
    }

    #[test]
    fn one_at_a_time() {
        let runs = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(&settings(runs.path(), Some("a"))).unwrap();
        first.write("config.toml", b"").unwrap();
        let failure = RunDirectory::open(first.path()).unwrap_err();
        assert!(failure.message.starts_with(&format!("{} is in use by process ", first.path().display())));
        assert_eq!(failure.code as u8, 5);
        let path = first.path().to_owned();
        drop(first);
        RunDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_check_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("deep/runs");
        RunDirectory::check(&settings(&runs, Some("a"))).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::create_dir_all(runs.join("a")).unwrap();
        let failure = RunDirectory::check(&settings(&runs, Some("a"))).unwrap_err();
        assert_eq!(
            failure.message,
            format!("{} exists already, and runs are never overwritten", runs.join("a").display())
        );
        let failure = RunDirectory::check(&settings(Path::new("/proc/runs"), None)).unwrap_err();
        assert!(failure.message.starts_with("cannot write to /proc/runs: "), "{}", failure.message);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_said_at_once() {
        let failure = RunDirectory::create(&settings(Path::new("/proc/runs"), None)).unwrap_err();
        assert!(failure.message.starts_with("cannot write to /proc/runs: "), "{}", failure.message);
        assert_eq!(failure.code as u8, 5);
    }
}
