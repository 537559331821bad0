//! A finished file onto the disk.

use crate::{Result, export};
use std::path::Path;

/// What becomes of a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Keep,
    /// It is replaced.
    Replace,
}

/// Writes `bytes` to `path`: the whole file or none, also if the power fails. Folders are made as needed.
///
/// # Errors
/// `is_file()` if the operating system refuses, or `path` exists and is kept.
pub fn save(path: &Path, bytes: &[u8], existing: Existing) -> Result<()> {
    match existing {
        Existing::Replace => export::write_file(path, bytes),
        Existing::Keep => export::write_new_file(path, bytes),
    }
}
