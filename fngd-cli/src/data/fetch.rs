//! Downloading named sets: resumable, checked by SHA-256, from several mirrors. `fngd-cli data list | fetch | verify | path`.

use super::catalog::RemoteFile;
use super::error::{DataError, Result};
use super::http::{self, Refusal, Timeouts};
use super::spec::{Named, Spec, default_dir};
use crate::protocol::DataSource;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to download.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Where named sets live; `None` is the user's cache.
    pub dir: Option<PathBuf>,
    /// Never use the network.
    pub offline: bool,
    /// Address of a folder tried before the known mirrors: `MIRROR/cifar10/cifar-10-binary.tar.gz`.
    pub mirror: Option<String>,
    timeouts: Timeouts,
    /// Waits before the second, third ... try at one mirror.
    waits: Vec<Duration>,
}

impl FetchOptions {
    /// Into `dir`; the mirror of `$FNGD_DATA_MIRROR` first.
    pub fn new(dir: Option<PathBuf>, offline: bool) -> Self {
        Self {
            dir,
            offline,
            mirror: std::env::var("FNGD_DATA_MIRROR").ok().filter(|mirror| !mirror.is_empty()),
            timeouts: Timeouts { connect: Duration::from_secs(15), stall: Duration::from_secs(30) },
            waits: [1, 2, 4].map(Duration::from_secs).to_vec(),
        }
    }
}

/// What a download tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "progress", rename_all = "kebab-case")]
pub enum Progress {
    /// Bytes of `file` come from `url`, the first `from` are there already.
    Started { file: String, url: String, from: u64, bytes: u64 },
    /// So many bytes of `file` are there.
    At { file: String, at: u64, bytes: u64 },
    /// A mirror failed; the next try follows.
    Retry { url: String, reason: String },
}

/// A row of `data list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedSet {
    pub name: &'static str,
    /// Bytes to download; 0 for the embedded set.
    pub bytes: u64,
    /// Where it is, if it is there.
    pub path: Option<PathBuf>,
    pub terms: &'static str,
}

/// The result of `data fetch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetched {
    pub name: &'static str,
    pub path: PathBuf,
    /// Bytes that came over the network; 0 if all was there.
    pub downloaded: u64,
}

/// The result of `data verify` for one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedFile {
    pub path: PathBuf,
    pub expected: &'static str,
    /// `None` if the file is not there.
    pub found: Option<String>,
    pub good: bool,
}

/// Every named set and whether it is there.
pub fn list(dir: Option<&Path>) -> Result<Vec<ListedSet>> {
    let root = root(dir)?;
    let embedded = ListedSet { name: "digits", bytes: 0, path: None, terms: "CC BY 4.0; embedded in the program" };
    let named = Named::ALL.into_iter().map(|set| {
        let download = set.download();
        let bytes = download.files.iter().map(|file| file.bytes).sum();
        ListedSet { name: set.name(), bytes, path: set.find_in(&root), terms: download.terms }
    });
    Ok(std::iter::once(embedded).chain(named).collect())
}

/// Where the set is, without downloading anything.
///
/// # Errors
/// An unknown name, or a set that is not there.
pub fn path(name: &str, dir: Option<&Path>) -> Result<PathBuf> {
    named(name)?.find(dir)
}

/// Compares the hash of every downloaded file.
///
/// # Errors
/// An unknown name, or a file that cannot be read. A wrong hash is no error but a result.
pub fn verify(name: &str, dir: Option<&Path>) -> Result<Vec<VerifiedFile>> {
    let set = named(name)?;
    let folder = root(dir)?.join(set.name());
    let check = |file: &RemoteFile| {
        let path = folder.join(file.name);
        let found = if path.exists() { Some(sha256(&path)?) } else { None };
        let good = found.as_deref() == Some(file.sha256);
        Ok(VerifiedFile { path, expected: file.sha256, found, good })
    };
    set.download().files.iter().map(check).collect()
}

/// Makes sure that the set is in the folder of named sets, whole and with the right hashes; downloads what is missing.
///
/// # Errors
/// An unknown name; no mirror that gives a file (says why each failed, and how to put the file there by hand); a folder that
/// cannot be written; another process that is downloading the same file.
pub fn fetch(name: &str, options: &FetchOptions, progress: &mut dyn FnMut(Progress)) -> Result<Fetched> {
    let set = named(name)?;
    let root = root(options.dir.as_deref())?;
    let folder = root.join(set.name());
    std::fs::create_dir_all(&folder).map_err(|error| DataError::io("make the folder", &folder, error))?;
    let download = set.download();
    let mirrors = mirrors(set, options);
    let mut downloaded = 0;
    for file in download.files {
        downloaded += fetch_file(file, &folder, &mirrors, options, progress)?;
    }
    let path = set.find(Some(&root))?;
    Ok(Fetched { name: set.name(), path, downloaded })
}

/// What [`super::locate`] does, but downloads a named set that is not there (unless offline).
///
/// # Errors
/// Those of [`super::locate`] and [`fetch`].
pub fn obtain(spec: &str, options: &FetchOptions, progress: &mut dyn FnMut(Progress)) -> Result<DataSource> {
    if let Spec::Named { set, path: None } = Spec::parse(spec)? {
        let root = root(options.dir.as_deref())?;
        let ours = root.join(set.name());
        // A set that somebody else put there is taken as it is; one of ours may be half downloaded.
        let is_ours = ours.is_dir() && set.download().files.iter().any(|file| ours.join(file.name).exists());
        let is_whole = set.download().files.iter().all(|file| ours.join(file.name).exists());
        if set.find_in(&root).is_none() || is_ours && !is_whole {
            fetch(set.name(), options, progress)?;
        }
    }
    super::locate(spec, options.dir.as_deref())
}

/// Addresses of folders that may hold the files, in the order in which they are tried.
fn mirrors(set: Named, options: &FetchOptions) -> Vec<String> {
    let own = options.mirror.iter().map(|mirror| format!("{}/{}/", mirror.trim_end_matches('/'), set.name()));
    own.chain(set.download().mirrors.iter().map(|&mirror| mirror.to_owned())).collect()
}

fn fetch_file(
    file: &RemoteFile,
    folder: &Path,
    mirrors: &[String],
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64> {
    let target = folder.join(file.name);
    let mut failures = Vec::new();
    if target.exists() {
        let found = sha256(&target)?;
        if found == file.sha256 {
            return Ok(0);
        }
        failures.push(set_aside(&target, &target, file, &found)?);
    }
    if options.offline {
        return Err(DataError::missing(format!("{} is not there, and the network may not be used", target.display()))
            .with_help(by_hand(file, &target, mirrors)));
    }
    let mut part = Part::open(folder, file)?;
    let mut downloaded = 0;
    for mirror in mirrors {
        let url = format!("{mirror}{}", file.name);
        for attempt in 0..=options.waits.len() {
            let before = part.at;
            let outcome = part.receive(&url, options.timeouts, progress);
            downloaded += part.at.saturating_sub(before);
            let reason = match outcome {
                Ok(()) => match part.finish(&target)? {
                    None => return Ok(downloaded),
                    // Other bytes: this mirror will not change its mind.
                    Some(reason) => Refusal::Final(reason),
                },
                Err(Failure::Local(error)) => return Err(error),
                Err(Failure::Remote(refusal)) => refusal,
            };
            let (is_final, text) = match reason {
                Refusal::Final(text) => (true, text),
                Refusal::Passing(text) => (attempt == options.waits.len(), text),
            };
            progress(Progress::Retry { url: url.clone(), reason: text.clone() });
            if is_final {
                failures.push(format!("{url}: {text}"));
                break;
            }
            std::thread::sleep(options.waits[attempt]);
        }
    }
    Err(DataError::download(format!("cannot download {}:\n  {}", file.name, failures.join("\n  ")))
        .with_help(by_hand(file, &target, mirrors)))
}

/// Why a try failed: here (no use in going on), or there.
enum Failure {
    Local(DataError),
    Remote(Refusal),
}

/// A file that is being downloaded: the first `at` bytes are there and hashed.
struct Part<'a> {
    expected: &'a RemoteFile,
    path: PathBuf,
    file: File,
    at: u64,
    hash: Sha256,
}

impl<'a> Part<'a> {
    /// Opens `NAME.part`, alone, and hashes what an earlier try left there.
    fn open(folder: &Path, expected: &'a RemoteFile) -> Result<Self> {
        let path = folder.join(format!("{}.part", expected.name));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| DataError::io("write", &path, error))?;
        file.try_lock().map_err(|_| {
            DataError::missing(format!("{}: another process is downloading it", path.display()))
                .with_help("wait for it, then run the same command again")
        })?;
        let mut part = Self { expected, path, file, at: 0, hash: Sha256::new() };
        let mut block = vec![0; 1 << 16];
        loop {
            match part.file.read(&mut block) {
                Ok(0) => break,
                Ok(count) => {
                    part.hash.update(&block[..count]);
                    part.at += count as u64;
                }
                Err(error) => return Err(DataError::io("read", &part.path, error)),
            }
        }
        if part.at > expected.bytes {
            part.restart()?;
        }
        Ok(part)
    }

    /// Receives the rest of the file from `url`.
    fn receive(&mut self, url: &str, timeouts: Timeouts, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        let (file, bytes) = (self.expected.name.to_owned(), self.expected.bytes);
        if self.at == bytes {
            return Ok(());
        }
        let answer = http::get(url, self.at, bytes, timeouts).map_err(Failure::Remote)?;
        if answer.start != self.at {
            // The server sends the file from its beginning.
            self.restart().map_err(Failure::Local)?;
        }
        progress(Progress::Started { file: file.clone(), url: url.to_owned(), from: self.at, bytes });
        let mut body = answer.body.take(bytes - self.at);
        let mut block = vec![0; 1 << 16];
        while self.at < bytes {
            let count = match body.read(&mut block) {
                Ok(0) => {
                    let text = format!("the connection ended after {} of {bytes} bytes", self.at);
                    return Err(Failure::Remote(Refusal::Passing(text)));
                }
                Ok(count) => count,
                Err(error) => {
                    let text = format!("the connection broke after {} of {bytes} bytes: {error}", self.at);
                    return Err(Failure::Remote(Refusal::Passing(text)));
                }
            };
            let written = self.file.write_all(&block[..count]);
            written.map_err(|error| Failure::Local(DataError::io("write", &self.path, error)))?;
            self.hash.update(&block[..count]);
            self.at += count as u64;
            progress(Progress::At { file: file.clone(), at: self.at, bytes });
        }
        Ok(())
    }

    /// Puts the complete file in its place; or, if its hash is wrong, sets it aside and says so.
    fn finish(&mut self, target: &Path) -> Result<Option<String>> {
        let found = hex(&self.hash.finalize_reset());
        if found != self.expected.sha256 {
            let reason = set_aside(&self.path, target, self.expected, &found)?;
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&self.path);
            self.file = file.map_err(|error| DataError::io("write", &self.path, error))?;
            // OK to ignore: a file that was just made is locked by nobody, and a second process would fail on its own lock.
            let _ = self.file.try_lock();
            self.at = 0;
            return Ok(Some(reason));
        }
        let refused = |error| DataError::io("write", target, error);
        self.file.sync_all().map_err(refused)?;
        std::fs::rename(&self.path, target).map_err(refused)?;
        if let Some(folder) = target.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
        }
        Ok(None)
    }

    fn restart(&mut self) -> Result<()> {
        use std::io::Seek;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| DataError::io("write", &self.path, error))?;
        (self.at, self.hash) = (0, Sha256::new());
        Ok(())
    }
}

/// Renames a file with a wrong hash to `NAME.bad`; returns what to tell.
fn set_aside(path: &Path, target: &Path, file: &RemoteFile, found: &str) -> Result<String> {
    let bad = target.with_file_name(format!("{}.bad", file.name));
    std::fs::rename(path, &bad).map_err(|error| DataError::io("rename", path, error))?;
    Ok(format!("expected SHA-256 {}, found {found} (kept as {})", file.sha256, bad.display()))
}

fn by_hand(file: &RemoteFile, target: &Path, mirrors: &[String]) -> String {
    let from = mirrors.last().map_or("", String::as_str);
    format!("get it on another way, for example from {from}{}, and put it at {}", file.name, target.display())
}

fn named(name: &str) -> Result<Named> {
    match Spec::parse(name)? {
        Spec::Named { set, path: None } => Ok(set),
        _ => Err(DataError::usage(format!("data `{name}` is not a set that is downloaded"))
            .with_help(format!("those are: {}", Named::ALL.map(Named::name).join(", ")))),
    }
}

fn root(dir: Option<&Path>) -> Result<PathBuf> {
    dir.map_or_else(default_dir, |dir| Ok(dir.to_path_buf()))
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| DataError::io("read", path, error))?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut block).map_err(|error| DataError::io("read", path, error))? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&block[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
