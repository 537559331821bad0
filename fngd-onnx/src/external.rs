//! Tensors kept beside the model file, read from inside the model's folder and nowhere else.

use crate::error::quoted;
use crate::proto_generated::{StringStringEntryProto, TensorProto};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Longest `location`.
const LONGEST_LOCATION: usize = 1024;

/// How many times over a data file may be read. Tensors that are tied share their bytes; a hostile file could name one region a
/// million times.
const MOST_READINGS: u64 = 4;

/// Where a tensor lies outside the model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Path relative to the model's folder, as the file says it.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Opens each data file once.
#[derive(Debug)]
pub(crate) struct Reader {
    folder: PathBuf,
    open: BTreeMap<String, DataFile>,
    left: u64,
}

#[derive(Debug)]
struct DataFile {
    file: File,
    stamp: Stamp,
    /// Bytes that may still be read from it.
    left: u64,
}

/// What a data file was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Place {
    /// Reads `TensorProto.external_data` of a tensor that takes `size` bytes.
    pub fn of(tensor: &TensorProto, size: u64) -> Result<Self> {
        let place = Self::with_length(tensor, size)?;
        if place.length != size {
            let found = place.length;
            return Err(Error::external_data(format!(
                "external data has length {found}, its type and dims need {size}"
            )));
        }
        Ok(place)
    }

    /// The same for a tensor that nobody reads: without a length it reaches to the end of the data.
    pub fn anywhere(tensor: &TensorProto) -> Result<Self> {
        Self::with_length(tensor, u64::MAX)
    }

    fn with_length(tensor: &TensorProto, default: u64) -> Result<Self> {
        let entry =
            |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).map(StringStringEntryProto::value);
        let location = entry("location").unwrap_or_default().to_owned();
        check_location(&location)?;
        let number = |key: &str, default: u64| match entry(key) {
            None => Ok(default),
            Some(text) => text.parse::<u64>().map_err(|_| {
                Error::external_data(format!("external data has {key} {}, expected a number", quoted(text)))
            }),
        };
        Ok(Self { location, offset: number("offset", 0)?, length: number("length", default)? })
    }
}

impl Reader {
    /// Reads from `folder`, `limit` bytes at most.
    pub fn new(folder: &Path, limit: u64) -> Self {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self { folder: folder.to_owned(), open: BTreeMap::new(), left: limit }
    }

    /// The bytes at `place`.
    pub fn read(&mut self, place: &Place) -> Result<Vec<u8>> {
        let (location, length) = (&place.location, place.length);
        if !self.open.contains_key(location) {
            let (file, stamp) = open(&self.folder, location)?;
            let left = stamp.length.saturating_mul(MOST_READINGS);
            self.open.insert(location.clone(), DataFile { file, stamp, left });
        }
        // OK because it was inserted above if it was not there.
        let data = self.open.get_mut(location).expect("just opened");
        let (file, size) = (&mut data.file, data.stamp.length);
        let end = place.offset.checked_add(length).filter(|end| *end <= size).ok_or_else(|| {
            Error::external_data(format!(
                "external data takes {length} bytes from {} on, but {} has {size} bytes; copy the data file again",
                place.offset,
                quoted(location)
            ))
        })?;
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            Error::limit(format!(
                "external data up to byte {end} of {} exceeds the limit for external data",
                quoted(location)
            ))
        })?;
        data.left = data.left.checked_sub(length).ok_or_else(|| {
            Error::limit(format!("tensors read {} more than {MOST_READINGS} times over", quoted(location)))
        })?;
        let failed = |error| Error::file(&self.folder.join(location), "read", error);
        file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        let wanted =
            usize::try_from(length).map_err(|_| Error::limit(format!("{length} bytes do not fit in memory")))?;
        let mut bytes = vec![0; wanted];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// What each data file was, by location.
    pub fn stamps(&self) -> BTreeMap<String, Stamp> {
        self.open.iter().map(|(location, data)| (location.clone(), data.stamp)).collect()
    }
}

/// The path of `location` in `folder`, if it is a regular file in that folder.
pub(crate) fn resolve(folder: &Path, location: &str) -> Result<PathBuf> {
    let path = folder.join(location);
    let real = path.canonicalize().map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let advice = if missing { "copy it beside the model file" } else { "check its permissions" };
        Error::external_data(format!("cannot open data file {}: {error}; {advice}", path.display())).caused_by(error)
    })?;
    let home = folder.canonicalize().map_err(|error| Error::file(folder, "open", error))?;
    if !real.starts_with(&home) {
        let what = format!("data file {} leads out of the model's folder to {}", path.display(), real.display());
        return Err(Error::external_data(format!("{what}; put a copy in its place")));
    }
    Ok(real)
}

/// The data file at `location`, opened again; it must be as it was.
pub(crate) fn reopen(folder: &Path, location: &str, stamps: &BTreeMap<String, Stamp>) -> Result<File> {
    let (file, stamp) = open(folder, location)?;
    if stamps.get(location) != Some(&stamp) {
        let path = folder.join(location);
        return Err(Error::external_data(format!(
            "data file {} has changed since the model was read; nothing was written",
            path.display()
        )));
    }
    Ok(file)
}

/// Opens the data file that is in `folder` as `location`.
///
/// The path may be changed between a look at it and its opening. So what was opened is compared with what is there afterwards: it is
/// a file that lies inside the folder. Hard links are as good as files: caches of models are made of them.
fn open(folder: &Path, location: &str) -> Result<(File, Stamp)> {
    let path = resolve(folder, location)?;
    let cannot_open = |error| Error::file(&path, "open", error);
    let require_file = |metadata: &std::fs::Metadata| {
        let refused = || Error::external_data(format!("data file {} is not a regular file", path.display()));
        metadata.is_file().then_some(()).ok_or_else(refused)
    };
    // A socket cannot even be opened; and what a device does when it is, only it knows.
    require_file(&std::fs::metadata(&path).map_err(cannot_open)?)?;
    let file = open_without_waiting(&path).map_err(cannot_open)?;
    let opened = file.metadata().map_err(cannot_open)?;
    require_file(&opened)?;
    let path = resolve(folder, location)?;
    let there = std::fs::symlink_metadata(&path).map_err(|error| Error::file(&path, "open", error))?;
    if !is_same(&opened, &there) {
        let what = format!("data file {} was replaced while it was opened; try again", path.display());
        return Err(Error::external_data(what));
    }
    Ok((file, Stamp { length: opened.len(), modified: opened.modified().ok() }))
}

#[cfg(unix)]
fn open_without_waiting(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // The path is free of links now; and opening a pipe would wait for its other end.
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> std::io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn is_same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    a.is_file() == b.is_file() && a.len() == b.len() && a.modified().ok() == b.modified().ok()
}

fn check_location(location: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::external_data(format!("external data location {} {why}", quoted(location))));
    if location.is_empty() {
        return refuse("is empty, expected a file name");
    }
    if location.len() > LONGEST_LOCATION {
        return refuse(&format!("has {} bytes, at most {LONGEST_LOCATION} are accepted", location.len()));
    }
    if location.contains(['\0', '\\', ':']) {
        return refuse("has a character that file names may not have here (NUL, `\\` or `:`)");
    }
    if !Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return refuse("leads out of the model's folder, expected a relative path without `..`");
    }
    Ok(())
}
