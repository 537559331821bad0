//! Reading and writing the file itself. Writing is atomic and durable.

use super::{from_bytes, to_bytes};
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Writes `tensors` to `path` as safetensors: beside it first, then renamed, both on disk when this returns.
///
/// Whenever the process dies, `path` is the old file or the new one, whole.
///
/// # Errors
/// As [`to_bytes`], and what the file system says, with the path.
pub fn save(path: impl AsRef<Path>, tensors: &[(String, Tensor)]) -> Result<()> {
    let path = path.as_ref();
    let bytes = to_bytes(tensors).map_err(|error| error.at(path.display()))?;
    let temporary = temporary_beside(path);
    let written = write_durably(&temporary, &bytes).and_then(|()| replace(&temporary, path));
    written.map_err(|error| {
        // Nothing to add if removal fails too: the first error is the one to mend.
        let _ = fs::remove_file(&temporary);
        Error::from(error).at(path.display())
    })
}

/// Reads what [`save`] wrote, in order of the names, on the CPU.
///
/// # Errors
/// As [`from_bytes`], and what the file system says, with the path.
pub fn load(path: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|error| Error::from(error).at(path.display()))?;
    from_bytes(&bytes).map_err(|error| error.at(path.display()))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn replace(temporary: &Path, path: &Path) -> std::io::Result<()> {
    fs::rename(temporary, path)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // The rename itself is durable only once its directory is.
    File::open(directory)?.sync_all()
}
