//! `diff` with tract on one side, and on the other a shell script in the place of the engine.

use safetensors::{Dtype, tensor::TensorView};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const LAUNCHER: &str = env!("CARGO_BIN_EXE_fngd-cli");
const MODEL: &[u8] = include_bytes!("../../models/digits-cnn.onnx");

/// A file of tensors: for each name its dims and its elements.
fn save(path: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) {
    let view = |dims: &[usize], bytes| TensorView::new(Dtype::F32, dims.to_vec(), bytes).unwrap();
    let views: BTreeMap<&str, _> =
        tensors.iter().map(|(name, dims, bytes)| (name.as_str(), view(dims, bytes))).collect();
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A folder with the model, and an engine that answers with what tract computed.
fn bench() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("m.onnx"), MODEL).unwrap();
    std::fs::create_dir_all(path("torch/lib")).unwrap();
    std::fs::write(path("torch/lib/libtorch_cpu.so"), "").unwrap();
    std::fs::write(path("torch/build-version"), "2.11.0\n").unwrap();
    let input: Vec<u8> = (0..64).flat_map(|index| (index as f32 / 64.0).to_le_bytes()).collect();
    let input = ("input.input".to_owned(), vec![1, 1, 8, 8], input);
    save(&path("input"), std::slice::from_ref(&input));
    let status = Command::new(LAUNCHER)
        .args(["__reference", "--every-value", "m.onnx", "input", "values"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let values = std::fs::read(path("values")).unwrap();
    let values = safetensors::SafeTensors::deserialize(&values).unwrap();
    let mut all: Vec<_> =
        values.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec(), view.data().to_vec())).collect();
    // What nodes compute, and one constant.
    assert_eq!(all.len(), 12);
    all.push(input);
    save(&path("ours"), &all);
    let engine = r#"#!/bin/bash
read -r job
say() { echo "$1" >&"$FNGD_EVENTS_FD"; }
say '{"event":"hello","protocol":1,"libtorch":"2.11.0","device":"cpu","device_reason":"asked for","threads":2,"cuda_devices":[]}'
cp ours "$(echo "$job" | sed 's/.*"output":"\([^"]*\)".*/\1/')"
say '{"event":"traced","values":11,"failure":null}'
say '{"event":"done","status":"finished","epochs":0,"steps":0,"train_seconds":0.0,"wall_seconds":0.0}'
"#;
    std::fs::write(path("engine"), engine).unwrap();
    std::fs::set_permissions(path("engine"), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn diff(folder: &Path, more: &[&str]) -> Output {
    Command::new(LAUNCHER)
        .args([&["diff", "m.onnx", "-q"], more].concat())
        .current_dir(folder)
        .env("FNGD_ENGINE", folder.join("engine"))
        .env("FNGD_LIBTORCH", folder.join("torch"))
        .env_remove("LIBTORCH")
        .output()
        .unwrap()
}

#[test]
fn equal_graphs_agree() {
    let folder = bench();
    let said = diff(folder.path(), &[]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "  m.onnx against tract: 11 values\n  11 values agree\n");
}

/// The file that tract reads has a Selu where the engine computed a Relu, as if we misunderstood that operator.
#[test]
fn the_node_that_is_understood_otherwise_is_named() {
    let folder = bench();
    let mut bytes = MODEL.to_vec();
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(b"Relu")).collect();
    bytes[places[1]..places[1] + 4].copy_from_slice(b"Selu");
    std::fs::write(folder.path().join("m.onnx"), bytes).unwrap();
    let said = diff(folder.path(), &[]);
    assert_eq!(said.status.code(), Some(9), "{said:?}");
    let out = String::from_utf8(said.stdout).unwrap();
    assert!(
        out.contains("first difference: `relu_1`, of node `node_relu_1` (Selu)\n    reads `getitem_5` [1, "),
        "{out}"
    );
    let verdicts: Vec<&str> = out.lines().skip(2).take(7).map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(verdicts, ["agrees", "agrees", "agrees", "differs", "differs", "differs", "differs"], "{out}");
    let said = diff(folder.path(), &["--json"]);
    let document: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(document["first_difference"]["value"], "relu_1");
    assert_eq!(document["values"].as_array().unwrap().len(), 11);
}

/// Where tract cannot go on, what comes before is compared all the same.
#[test]
fn what_tract_cannot_run_is_said() {
    let folder = bench();
    let mut bytes = MODEL.to_vec();
    // The head's weight is read in another orientation, which libtorch would refuse too: its attribute transB is called otherwise.
    let place = (0..bytes.len() - 6).find(|&at| bytes[at..].starts_with(b"transB")).unwrap();
    bytes[place..place + 6].copy_from_slice(b"tranXB");
    std::fs::write(folder.path().join("m.onnx"), bytes).unwrap();
    let said = diff(folder.path(), &[]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let out = String::from_utf8(said.stdout).unwrap();
    assert!(out.contains("\n  not everything was compared: tract cannot compute `logits`: "), "{out}");
    assert!(out.ends_with("\n  10 values agree, 1 are not in tract\n"), "{out}");
}
