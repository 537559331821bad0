//! The few file operations that a checkpoint is made of, behind a trait so that tests can make any of them fail.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file being written. Dropped without [`sync`](Self::sync), it may or may not reach the disk.
pub trait Output: Write {
    /// Waits until the content is on the disk. After an error the file must be thrown away: asking again proves nothing.
    fn sync(self: Box<Self>) -> io::Result<()>;
}

/// Where checkpoints live.
pub trait Disk {
    /// Creates a folder that must not exist yet.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Creates a file that must not exist yet.
    fn create(&self, file: &Path) -> io::Result<Box<dyn Output>>;
    /// Waits until the names in `folder` are on the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Renames; a file takes the place of another, a folder only of nothing.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a folder and what is in it.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, file: &Path) -> io::Result<()>;
    /// The whole content of a file, which must not be longer than `limit` bytes.
    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>>;
    /// Names in a folder, sorted.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
}

/// Writes a file whole and waits until it is on the disk.
pub fn write_durably(disk: &dyn Disk, file: &Path, content: &[u8]) -> io::Result<()> {
    let mut output = disk.create(file)?;
    output.write_all(content)?;
    output.sync()
}

/// Puts `content` in the place of `file`, old or new but never in between, and waits until that is on the disk.
pub fn replace_durably(disk: &dyn Disk, file: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(file);
    let written = write_durably(disk, &temporary, content).and_then(|()| disk.rename(&temporary, file));
    if written.is_err() {
        let _ = disk.remove_file(&temporary);
    }
    written?;
    // OK because a file that was just written has a folder.
    disk.sync_folder(file.parent().expect("a file lies in a folder"))
}

/// `.tmp-<name>-<process>` in the folder of `path`.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}-{}", std::process::id()))
}

/// Bytes that this user may still write where `path` is; `None` if the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path is a C string; the struct is plain numbers, zeroed here and filled by the call.
    let facts = unsafe {
        if libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) != 0 {
            return None;
        }
        facts.assume_init()
    };
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// What the name of everything unfinished starts with.
pub const TEMPORARY: &str = ".tmp-";

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Output for File {
    fn sync(self: Box<Self>) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for RealDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(folder)
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn Output>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        Ok(Box::new(file))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir_all(folder)
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut content = Vec::new();
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if file.take(limit + 1).read_to_end(&mut content)? as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
        }
        Ok(content)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}
