//! What several test programs share.
#![allow(dead_code)]

use fngd_onnx::graph::TensorData;
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model from `tests/small`.
pub fn small(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small").join(format!("{name}.onnx"))
}

/// All of them that can be imported.
pub fn all_small() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(small("x").parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let is_refused = path.file_name().unwrap().to_string_lossy().starts_with("unsupported");
            path.extension().is_some_and(|extension| extension == "onnx") && !is_refused
        })
        .collect();
    paths.sort();
    assert!(paths.len() >= 15);
    paths
}

pub fn open(path: &Path) -> OnnxModel {
    OnnxModel::open(path, &ImportOptions::default()).unwrap()
}

/// With the parameters that the file stores, and no others: nothing is folded, tied or added.
pub fn open_as_stored(path: &Path) -> OnnxModel {
    let repairs =
        [Repair::BatchNorm, Repair::Retie, Repair::Bias].into_iter().fold(Repairs::default(), Repairs::without);
    OnnxModel::open(path, &ImportOptions { repairs, ..ImportOptions::default() }).unwrap()
}

/// Every parameter as the module keeps it.
pub fn tensors(model: &OnnxModel) -> BTreeMap<String, TensorData> {
    let value =
        |(id, info): (&_, &fngd_onnx::analysis::ParameterInfo)| (info.name.clone(), model.initial(*id).unwrap());
    model.analysis().parameters.iter().map(value).collect()
}

/// What the report says was repaired.
pub fn repairs_of(model: &OnnxModel) -> Vec<String> {
    model.report().repairs.iter().map(|made| made.what.clone()).collect()
}

/// The same, every element changed, and differently for each parameter.
pub fn trained(model: &OnnxModel) -> BTreeMap<String, TensorData> {
    let change = |(position, (name, tensor)): (usize, (String, TensorData))| {
        let values: Vec<f32> =
            tensor.floats().unwrap().iter().map(|value| value * 1.5 + 0.25 * (position as f32 + 1.0)).collect();
        (name, TensorData::from_floats(tensor.dims.clone(), &values))
    };
    tensors(model).into_iter().enumerate().map(change).collect()
}

/// The varint of protobuf.
pub fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A length-delimited protobuf field.
pub fn field(number: u64, contents: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(contents.len() as u64), contents.to_vec()].concat()
}
