//! Data sets: finding them, checking them, reading them into memory. Pure Rust; no libtorch.
//!
//! [`locate`] turns what the user wrote into a [`DataSource`] (the launcher's half), [`load`] reads it (the engine's half).

mod archive;
mod catalog;
mod cifar;
mod digits;
mod error;
pub mod fetch;
mod folder;
mod http;
mod idx;
pub mod memory;
mod normalization;
mod npy;
mod npz;
mod picture;
pub mod random;
pub mod record;
mod spec;
mod split;
mod zip;

pub use error::{DataError, Result};
pub use normalization::Normalization;
pub use spec::{Named, Spec};
pub use split::{Images, Split};

use crate::protocol::DataSource;
use std::path::Path;

/// A data set in memory.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Short name, as in `cifar10`, or the path.
    pub name: String,
    /// Name of each class.
    pub classes: Vec<String>,
    /// What to train on.
    pub train: Split,
    /// What to choose by; `None` until [`Dataset::split_validation`] or where the set brings none.
    pub val: Option<Split>,
    /// What to report at the end.
    pub test: Option<Split>,
    /// How stored numbers become inputs.
    pub normalization: Normalization,
    /// True if a mirrored image still shows its class; false for digits and letters.
    pub mirror_images: bool,
    /// What the user should know about this copy of the set, one sentence each.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Moves `share` of the training split, stratified by class and chosen by `seed`, to the validation split.
    ///
    /// A set that brings its own validation split keeps it. A share of 0 leaves `val` empty: validate on the test split.
    ///
    /// # Errors
    /// A share outside [0, 1), one that leaves a side empty, or a share of 0 where there is nothing else to validate on.
    pub fn split_validation(&mut self, share: f64, seed: u64) -> Result<()> {
        if self.val.is_some() {
            return Ok(());
        }
        if share == 0.0 {
            return match self.test {
                Some(_) => Ok(()),
                None => {
                    Err(DataError::usage(format!("data set `{}` has no test split and no validation split", self.name))
                        .with_help("hold out a part of the training split, for example 0.1"))
                }
            };
        }
        let (train, val) = self.train.take_stratified(share, seed)?;
        (self.train, self.val) = (train, Some(val));
        Ok(())
    }
}

/// Finds the data that `spec` means. Named sets are looked for in `dir`, or else in the user's cache; nothing is downloaded.
///
/// # Errors
/// An unknown name, or data that is not there: says where it was looked for and how to get it.
pub fn locate(spec: &str, dir: Option<&Path>) -> Result<DataSource> {
    let path = match Spec::parse(spec)? {
        Spec::Digits => None,
        Spec::Named { path: Some(path), .. } | Spec::Folder { path, .. } | Spec::Npz { path } => Some(path),
        Spec::Named { set, path: None } => Some(set.find(dir)?),
    };
    if let Some(path) = &path
        && !path.exists()
    {
        return Err(DataError::missing(format!("data `{spec}`: {} does not exist", path.display())));
    }
    Ok(DataSource { spec: spec.to_owned(), path })
}

/// Reads and checks a data set.
///
/// # Errors
/// Files that are missing, cut off, or hold something else than expected: says which file, what was expected, what was found.
pub fn load(source: &DataSource) -> Result<Dataset> {
    match Spec::parse(&source.spec)? {
        Spec::Digits => Ok(digits::load()),
        Spec::Named { set, path } => {
            let path = match source.path.clone().or(path) {
                Some(path) => path,
                None => set.find(None)?,
            };
            match set {
                Named::Cifar10 => cifar::load(&cifar::CIFAR10, &path),
                Named::Cifar100 => cifar::load(&cifar::CIFAR100, &path),
                Named::Mnist | Named::FashionMnist => idx::load(set, &path),
            }
        }
        Spec::Npz { path } => npz::load(source.path.as_deref().unwrap_or(&path)),
        Spec::Folder { path, size } => folder::load(source.path.as_deref().unwrap_or(&path), size),
    }
}

#[cfg(test)]
mod tests {
    use super::{DataSource, load, locate};

    #[test]
    fn digits_are_always_there() {
        let source = locate("digits", None).unwrap();
        assert_eq!(source, DataSource { spec: "digits".to_owned(), path: None });
        let mut set = load(&source).unwrap();
        set.split_validation(0.1, 0).unwrap();
        assert_eq!((set.train.len(), set.val.as_ref().map(super::Split::len)), (1298, Some(144)));
        let before = set.train.clone();
        set.split_validation(0.1, 0).unwrap();
        assert_eq!(set.train, before, "a validation split is made once");
    }

    #[test]
    fn nothing_to_validate_on_is_an_error() {
        let mut set = load(&locate("digits", None).unwrap()).unwrap();
        set.split_validation(0.0, 0).unwrap();
        assert!(set.val.is_none());
        set.test = None;
        let error = set.split_validation(0.0, 0).unwrap_err();
        assert_eq!(error.to_string(), "data set `digits` has no test split and no validation split");
    }
}
