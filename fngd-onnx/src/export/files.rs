//! Files appear whole or not at all: written beside the target, synced, renamed.

use super::Patches;
use crate::{Error, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes `bytes` to `path`.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(bytes))
}

/// Copies `from` to `path`, with other bytes at some places.
pub(super) fn copy_patched(from: &Path, path: &Path, patches: &Patches) -> Result<()> {
    let mut source = File::open(from).map_err(|error| Error::file(from, "read", error))?;
    replace(path, |file| {
        std::io::copy(&mut source, file)?;
        for (offset, bytes) in patches {
            file.seek(SeekFrom::Start(*offset))?;
            file.write_all(bytes)?;
        }
        Ok(())
    })
}

fn replace(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let folder = folder_of(path);
    let result = (|| {
        std::fs::create_dir_all(folder)?;
        let mut temporary = temporary_in(folder)?;
        fill(temporary.as_file_mut())?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        // Without this a power cut could undo the rename.
        File::open(folder)?.sync_all()
    })();
    result.map_err(|error| Error::file(path, "write", error))
}

#[cfg(unix)]
fn temporary_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // What other programs would give a new file; the umask still applies.
    tempfile::Builder::new().prefix(".fngd-").permissions(std::fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".fngd-").tempfile_in(folder)
}

/// The folder that holds `path`.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether both exist and are the same.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The input stays as it is.
pub(super) fn refuse_input(input: &Path, output: &Path) -> Result<()> {
    if same(input, output) {
        let path = output.display();
        return Err(Error::mismatch(format!("{path} is the file that the model was read from; choose another output")));
    }
    Ok(())
}
