//! Every value of a graph, and the first one that another graph computes otherwise.

use fngd_cli::protocol::{Event, Job, Trace, TraceInputs};
use fngd_core::state;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tch::Tensor;

/// What the engine saved, and its last words.
fn trace(model: &Path, inputs: TraceInputs, output: &Path) -> (BTreeMap<String, Tensor>, Vec<Event>) {
    let (model, output, device) = (model.to_owned(), output.to_owned(), "cpu".to_owned());
    let job = Job::Trace(Trace { model, inputs, output: output.clone(), device, threads: Some(1) });
    let mut engine = Command::new(env!("CARGO_BIN_EXE_fngd-engine"))
        .env("FNGD_EVENTS_FD", "-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its end would tell the engine that the launcher is gone.
    let mut stdin = engine.stdin.take().unwrap();
    writeln!(stdin, "{}", serde_json::to_string(&job).unwrap()).unwrap();
    let said = engine.wait_with_output().unwrap();
    drop(stdin);
    let events =
        String::from_utf8(said.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (state::load(&output).unwrap_or_default().into_iter().collect(), events)
}

#[test]
fn the_first_value_that_differs_is_that_of_the_node_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits-cnn.onnx");
    // The second Relu becomes a Selu.
    let mut bytes = std::fs::read(&model).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(b"Relu")).collect();
    bytes[places[1]..places[1] + 4].copy_from_slice(b"Selu");
    let changed = folder.path().join("changed.onnx");
    std::fs::write(&changed, bytes).unwrap();
    let ours = folder.path().join("ours.safetensors");
    let (before, events) = trace(&model, TraceInputs::MadeUp { batch: 2, dims: Vec::new() }, &ours);
    assert!(events.contains(&Event::Traced { values: 11, failure: None }), "{events:?}");
    let (after, _) = trace(&changed, TraceInputs::File(ours), &folder.path().join("changed.safetensors"));
    assert!(before.keys().eq(after.keys()) && before.contains_key("input.input"));
    let order = ["conv2d", "getitem", "relu", "conv2d_1", "getitem_5", "relu_1", "conv2d_2", "mean", "logits"];
    let differs = |value: &&&str| before[&format!("value.{value}")] != after[&format!("value.{value}")];
    assert_eq!(order.iter().filter(differs).copied().collect::<Vec<_>>(), ["relu_1", "conv2d_2", "mean", "logits"]);
}

#[test]
fn inputs_of_another_name_are_refused_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inputs.safetensors");
    state::save(&file, &[("image".to_owned(), Tensor::from_slice(&[0.0f32]))]).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits-cnn.onnx");
    let (_, events) = trace(&model, TraceInputs::File(file.clone()), &folder.path().join("out"));
    let Some(Event::Failed { code, message, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(
        (*code, message.as_str()),
        (4, &*format!("{} has no tensor for input `input`; it has image", file.display()))
    );
}
