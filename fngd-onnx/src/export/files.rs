//! Files appear whole or not at all: written beside the target, synced, renamed.

use crate::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes `bytes` to `path`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_and(path, bytes, place)
}

/// The same, unless there is a file of this name.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    write_and(path, bytes, |temporary, path| {
        temporary.as_file().sync_all()?;
        temporary.persist_noclobber(path).map_err(|error| error.error)?;
        sync_folder_of(path)
    })
}

fn write_and(path: &Path, bytes: &[u8], place: fn(NamedTempFile, &Path) -> std::io::Result<()>) -> Result<()> {
    let result = (|| {
        let mut temporary = temporary_beside(path)?;
        temporary.write_all(bytes)?;
        place(temporary, path)
    })();
    result.map_err(|error| Error::file(path, "write", error))
}

/// A file in the folder of `path`, which is made if it is missing.
pub(super) fn temporary_beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder)?;
    temporary_in(folder)
}

/// Syncs `temporary` and gives it the name `path`.
pub(super) fn place(temporary: NamedTempFile, path: &Path) -> std::io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder_of(path)
}

/// Without this a power cut could undo a rename.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    File::open(folder_of(path))?.sync_all()
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
