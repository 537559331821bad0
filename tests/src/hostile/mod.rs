//! Broken and hostile model files: made from good ones, and given to import, build, evaluation and training.
//!
//! A mutant is known by its seed file and its number: [`mutate::mutant`] makes the same bytes from them on every machine.
//! A [`worker`] process tries mutants one by one; the [`supervisor`] outlives it, and what kills a worker is a failure of the
//! mutant that it was at.

pub mod mutate;
mod random;
mod report;
pub mod supervisor;
mod wire;
pub mod worker;

pub use report::Report;

use std::path::{Path, PathBuf};

/// The files that mutants are made of, relative to the repository: small ones in which every field matters, and real exports
/// of each kind of network.
pub const SEEDS: [&str; 10] = [
    "fngd-onnx/tests/small/convolution.onnx",
    "fngd-onnx/tests/small/external.onnx",
    "fngd-onnx/tests/small/storage.onnx",
    "fngd-onnx/tests/small/training.onnx",
    "fngd-onnx/tests/small/encoder_script_train.onnx",
    "fngd-onnx/tests/corpus/convnext.ts.onnx",
    "fngd-onnx/tests/corpus/gpt2.dyn.onnx",
    "fngd-onnx/tests/corpus/mlp.dyn.onnx",
    "fngd-onnx/tests/corpus/mobilenet.tstrain.onnx",
    "models/digits-cnn.onnx",
];

/// Where the repository is.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    /// Index in [`SEEDS`].
    pub seed: usize,
    /// Number of the mutant among those of its seed file.
    pub number: u64,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", SEEDS[self.seed], self.number)
    }
}
