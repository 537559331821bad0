//! What `golden/make.py` also computes: weights and inputs from integers; and what it wrote.

use fngd_core::nn::VarStore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-10;

fn golden(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of `names/NAME.txt`.
pub fn names(name: &str) -> Vec<String> {
    golden(&format!("names/{name}.txt")).lines().map(str::to_owned).collect()
}

/// Each variable's name and sizes, sorted.
pub fn variable_rows(variables: &VarStore) -> Vec<String> {
    let row = |(name, tensor): (String, Tensor)| {
        let sizes = tensor.size().into_iter().map(|size| size.to_string());
        std::iter::once(name).chain(sizes).collect::<Vec<_>>().join(" ")
    };
    let mut rows: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
    rows.sort_by(|(left, _), (right, _)| left.cmp(right));
    rows.into_iter().map(row).collect()
}

/// make.py's `fill`: entries spread over [-1, 1), exact in float64.
fn fill(index: i64, size: &[i64]) -> Tensor {
    let count = size.iter().product::<i64>();
    let position = Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(65521);
    let steps: Tensor = (&position * &position * 12345 + &position * 6789 + index * 1009).remainder(65521);
    (steps.to_kind(Kind::Double) * (2.0 / 65521.0) - 1.0).reshape(size)
}

/// make.py's `fill_variable`, on every variable in the order of names.
pub fn fill_variables(variables: &VarStore) {
    let variables: BTreeMap<String, Tensor> = variables.variables().into_iter().collect();
    for (index, (name, mut tensor)) in variables.into_iter().enumerate() {
        let size = tensor.size();
        let values = fill(index as i64, &size);
        let values = if size.len() > 1 {
            values * (3.0 * size[0] as f64 / tensor.numel() as f64).sqrt()
        } else if name.ends_with("weight") || name.ends_with("running_var") {
            values * 0.5 + 1.0
        } else {
            values * 0.1
        };
        tch::no_grad(|| tensor.copy_(&values));
    }
}

/// make.py's first input, of numbers.
pub fn fill_image(size: &[i64]) -> Tensor {
    fill(1000, size)
}

/// make.py's input `index`, of tokens: some are 0, the last of each row among them.
pub fn fill_tokens(index: i64, size: [i64; 2]) -> Tensor {
    let tokens = Tensor::arange(size[0] * size[1], (Kind::Int64, Device::Cpu)) * 7 + 3 + index;
    let tokens = tokens.remainder(10).reshape(size);
    let _ = tokens.select(1, -1).fill_(0);
    tokens
}

/// Compares with the logits of `mode` in values.json; those of a network without BatchNorm are the same in every mode.
pub fn assert_equals(name: &str, mode: &str, found: &Tensor) {
    let values: Value = serde_json::from_str(&golden("values.json")).unwrap();
    let modes = &values[name];
    let expected = modes.get(mode).unwrap_or(&modes["evaluation"]);
    let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    let found = Vec::<f64>::try_from(found.flatten(0, -1)).unwrap();
    assert_eq!(found.len(), expected.len(), "{name}, {mode}");
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= TOLERANCE, "{name}, {mode}, logit {index}: found {found}, expected {expected}");
    }
}
