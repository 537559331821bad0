//! The models of `tests/generated`: graphs of large networks, with weights from a formula (`tests/generated/make.py`).

use fngd_onnx::{ImportOptions, OnnxModel};
use std::io::Read;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// A model whose weights have been made again, and what onnxruntime computed with it.
pub struct Fixture {
    /// The opened model.
    pub model: OnnxModel,
    /// The input that was given to onnxruntime.
    pub input: Tensor,
    /// The first eight outputs of each sample.
    pub output: Vec<f64>,
    /// Where the model's files are, until this is dropped.
    folder: tempfile::TempDir,
}

#[derive(serde::Deserialize)]
struct Facts {
    input: Vec<i64>,
    /// Position, count and scale of each tensor that lies in `weights.bin`.
    tensors: Vec<(u32, u32, f32)>,
    output: Vec<f64>,
}

impl Fixture {
    /// The fixture called `name`, as a file called `name.onnx`.
    ///
    /// # Panics
    /// If it is not there, or cannot be opened: then the test that asks for it has failed.
    pub fn open(name: &str) -> Self {
        let read = |suffix: &str| {
            let path = folder().join(format!("{name}{suffix}"));
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let facts: Facts = serde_json::from_slice(&read(".json")).unwrap();
        let mut file = Vec::new();
        flate2::read::GzDecoder::new(read(".onnx.gz").as_slice()).read_to_end(&mut file).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{name}.onnx"));
        std::fs::write(&path, file).unwrap();
        let mut weights = Vec::new();
        for (position, count, scale) in facts.tensors {
            assert_eq!(weights.len(), 4 * position as usize);
            weights.extend(mixed(position, count).flat_map(|number| (number * scale).to_le_bytes()));
        }
        std::fs::write(folder.path().join("weights.bin"), weights).unwrap();
        let model = OnnxModel::open(&path, &ImportOptions::default()).unwrap();
        let count = facts.input.iter().product::<i64>() as u32;
        let input = Tensor::from_slice(&mixed(0, count).collect::<Vec<f32>>()).view(facts.input.as_slice());
        Self { model, input: input.to_device(Device::Cpu), output: facts.output, folder }
    }

    /// A path in the fixture's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Where fixtures and generated files are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("generated")
}

/// `count` numbers in [-1, 1) from the positions `first`, `first + 1`, ...
fn mixed(first: u32, count: u32) -> impl Iterator<Item = f32> {
    (first..first + count).map(|position| {
        let x = position ^ (position >> 16);
        let x = x.wrapping_mul(0x7feb_352d);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        let x = x ^ (x >> 16);
        (x >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    })
}
