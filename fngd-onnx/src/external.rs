//! Tensors kept beside the model file, read from inside the model's folder and nowhere else.

use crate::error::quoted;
use crate::proto_generated::{StringStringEntryProto, TensorProto};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Longest `location`.
const LONGEST_LOCATION: usize = 1024;

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
    open: BTreeMap<String, (File, u64)>,
    left: u64,
}

impl Place {
    /// Reads `TensorProto.external_data` of a tensor that takes `size` bytes.
    pub fn of(tensor: &TensorProto, size: u64) -> Result<Self> {
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
        let place = Self { location, offset: number("offset", 0)?, length: number("length", size)? };
        if place.length != size {
            let found = place.length;
            return Err(Error::external_data(format!(
                "external data has length {found}, its type and dims need {size}"
            )));
        }
        Ok(place)
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
            self.open.insert(location.clone(), open(&self.folder, location)?);
        }
        // OK because it was inserted above if it was not there.
        let (file, size) = self.open.get_mut(location).expect("just opened");
        let end = place.offset.checked_add(length).filter(|end| *end <= *size).ok_or_else(|| {
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
        let failed = |error| Error::file(&self.folder.join(location), "read", error);
        file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        let wanted =
            usize::try_from(length).map_err(|_| Error::limit(format!("{length} bytes do not fit in memory")))?;
        let mut bytes = vec![0; wanted];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
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

fn open(folder: &Path, location: &str) -> Result<(File, u64)> {
    let path = resolve(folder, location)?;
    let failed = |error| Error::file(&path, "open", error);
    let regular = |metadata: &std::fs::Metadata| {
        let what = || Error::external_data(format!("data file {} is not a regular file", path.display()));
        metadata.is_file().then_some(metadata.len()).ok_or_else(what)
    };
    // Looked at before opening, because opening a pipe waits for its other end.
    regular(&std::fs::symlink_metadata(&path).map_err(failed)?)?;
    let file = File::open(&path).map_err(failed)?;
    let size = regular(&file.metadata().map_err(failed)?)?;
    Ok((file, size))
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
