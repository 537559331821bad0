//! What exporters folded, tied apart, deleted or computed: found, and put back into the file's own form.

mod common;

use common::{open, open_as_stored, repairs_of, small, tensors, trained};
use fngd_onnx::graph::TensorData;
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use std::collections::BTreeMap;
use std::fs;

fn nodes(model: &OnnxModel) -> Vec<String> {
    let name = |id: &Option<fngd_onnx::graph::ValueId>| id.map_or("-", |id| model.graph().values[id.0].name.as_str());
    let line = |node: &fngd_onnx::graph::Node| {
        let inputs: Vec<_> = node.inputs.iter().map(name).collect();
        format!("{} {} -> {}", node.op_type, inputs.join(" "), name(&node.outputs[0]))
    };
    model.graph().nodes.iter().map(line).collect()
}

fn with(options: ImportOptions, name: &str) -> OnnxModel {
    OnnxModel::open(&small(name), &options).unwrap()
}

fn only(repair: Repair) -> ImportOptions {
    ImportOptions { repairs: Repairs::only([repair]), ..ImportOptions::default() }
}

#[test]
fn folded_normalisations_stand_behind_their_layers() {
    let model = with(only(Repair::BatchNorm), "folded");
    assert_eq!(
        repairs_of(&model),
        [
            "3 BatchNormalization that the exporter folded into layers are there while training, and folded again in the \
          written file: `body.norm1`, `up.bn`, `norm3`"
        ]
    );
    assert_eq!(
        nodes(&model)[..3],
        [
            "Conv x stem.weight -> body.norm1.input",
            "BatchNormalization body.norm1.input body.norm1.weight body.norm1.bias body.norm1.running_mean \
             body.norm1.running_var -> c1",
            "Relu c1 -> r1",
        ]
    );
    let values = tensors(&model);
    let stem = tensors(&open_as_stored(&small("folded")))["stem.weight_bias"].clone();
    assert_eq!(values["body.norm1.bias"], stem);
    assert_eq!(values["up.bn.weight"].floats().unwrap(), [1.0; 6]);
    // The operation that was folded tells both numbers.
    assert_eq!(values["body.norm1.running_var"].floats().unwrap(), [1.0 - 0.001; 4]);
    assert_eq!(model.graph().nodes[1].float("momentum", 0.0), 0.8);
    assert!(!values.contains_key("norm4.weight") && !values.contains_key("stem.weight_bias"));
    let preconditioned = model.parameters().iter().filter(|row| row.preconditioned).map(|row| row.name.as_str());
    assert_eq!(
        preconditioned.collect::<Vec<_>>(),
        ["stem.weight", "up.weight", "hidden.weight", "shared.weight", "head.weight", "head.bias"]
    );
    assert_eq!(
        model.report().warnings[0],
        "4 BatchNormalization were folded into layers by the exporter; 3 were restored, 1 cannot train as such"
    );
}

/// The slow, obvious version: `W·s` and `(b - μ)·s + β` for one element, with b = 0 because the shift holds it.
fn folded(values: &BTreeMap<String, TensorData>, norm: &str, channel: usize, weight: f32) -> (f32, f32) {
    let of = |name: &str| f64::from(values[&format!("{norm}.{name}")].floats().unwrap()[channel]);
    let epsilon = if norm == "up.bn" { 1e-5f32 } else { 1e-3f32 };
    let factor = of("weight") / (of("running_var") + f64::from(epsilon)).sqrt();
    ((f64::from(weight) * factor) as f32, (of("bias") - of("running_mean") * factor) as f32)
}

#[test]
fn normalisations_are_folded_into_every_layout() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("folded"));
    let new = trained(&model);
    let report = model.write(&target, &new).unwrap();
    assert_eq!(report.edits, ["bias `up.bias` added: it is no longer zero"]);
    let back = tensors(&open_as_stored(&target));
    let floats = |tensor: &TensorData| tensor.floats().unwrap();
    // [out, in, 3, 3]
    for (element, (weight, found)) in floats(&new["stem.weight"]).iter().zip(floats(&back["stem.weight"])).enumerate() {
        let channel = element / 27;
        let (expected, bias) = folded(&new, "body.norm1", channel, *weight);
        assert_eq!((found, floats(&back["stem.weight_bias"])[channel]), (expected, bias));
    }
    // [in, out / groups, 2, 2] with 2 groups of 2 inputs and 3 outputs
    for (element, (weight, found)) in floats(&new["up.weight"]).iter().zip(floats(&back["up.weight"])).enumerate() {
        let (input, of_group) = (element / 12, element % 12 / 4);
        let channel = input / 2 * 3 + of_group;
        let (expected, bias) = folded(&new, "up.bn", channel, *weight);
        assert_eq!((found, floats(&back["up.bias"])[channel]), (expected, bias));
    }
    // The file has [in, out], the module [out, in].
    for (element, (weight, found)) in
        floats(&new["hidden.weight"]).iter().zip(floats(&back["hidden.weight"])).enumerate()
    {
        let channel = element / 6;
        let (expected, bias) = folded(&new, "norm3", channel, *weight);
        assert_eq!((found, floats(&back["hidden.bias"])[channel]), (expected, bias));
    }
    let unknown = BTreeMap::from([("norm3.running_var".to_owned(), TensorData::from_floats(vec![5], &[-1.0; 5]))]);
    let error = model.write(&target, &unknown).unwrap_err();
    assert_eq!(error.to_string(), "tensor `norm3.running_var`: element 0 is -1, expected ≥ 0");
    let short = BTreeMap::from([("norm3.bias".to_owned(), TensorData::from_floats(vec![4], &[0.0; 4]))]);
    assert_eq!(model.write(&target, &short).unwrap_err().to_string(), "tensor `norm3.bias`: dims [4], expected [5]");
}

#[test]
fn what_is_frozen_stays_in_the_file() {
    let frozen = ImportOptions { freeze: vec!["^stem".into()], ..only(Repair::BatchNorm) };
    let model = with(frozen, "folded");
    assert_eq!(model.restored().len(), 2);
    assert_eq!(nodes(&model)[0], "Conv x stem.weight stem.weight_bias -> c1");
    let frozen = ImportOptions { freeze: vec!["^head$".into()], ..only(Repair::Retie) };
    assert_eq!(repairs_of(&with(frozen, "untied")), Vec::<String>::new());
}

#[test]
fn options_restore_what_the_file_does_not_tell() {
    let restored = |restore_batch_norm: bool| {
        let options = ImportOptions { restore_batch_norm, ..ImportOptions::default() };
        let model = with(options, "convolution");
        let rows = model.parameters().iter().filter(|row| row.name.ends_with(".bn.weight"));
        rows.map(|row| row.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(restored(false), Vec::<String>::new());
    // Not where there is one, the weight is shared, or the bias is computed.
    assert_eq!(restored(true), ["up.bn.weight"]);
    let options = ImportOptions { restore_bias: true, ..ImportOptions::default() };
    let model = with(options.clone(), "zero_bias");
    assert!(model.parameters().iter().any(|row| row.name == "never.bias"));
    let off = ImportOptions { repairs: Repairs::default().without(Repair::Bias), ..options };
    assert!(!with(off, "zero_bias").parameters().iter().any(|row| row.name == "never.bias"));
}

#[test]
fn deleted_biases_are_parameters() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("zero_bias"));
    assert_eq!(
        repairs_of(&model),
        ["3 biases of zeros that the exporter deleted are parameters again: `had.bias`, `up.bias`, `fc.bias`"]
    );
    assert_eq!(model.report().warnings[0], "3 biases of zeros were deleted by the exporter; all were restored");
    assert!(model.parameters().iter().all(|row| row.preconditioned));
    assert_eq!(model.write(&target, &tensors(&model)).unwrap().sha256, model.sha256());
    // Only what is no longer zero is added.
    let one = BTreeMap::from([("fc.bias".to_owned(), TensorData::from_floats(vec![2], &[1.0, -2.0]))]);
    let report = model.write(&target, &one).unwrap();
    assert_eq!(
        (report.changed, report.edits),
        (vec!["fc.bias".to_owned()], vec!["bias `fc.bias` added: it is no longer zero".to_owned()])
    );
    let back = open(&target);
    assert_eq!(tensors(&back)["fc.bias"], one["fc.bias"]);
    assert!(nodes(&back).contains(&"Gemm f val_7 fc.bias -> y".to_owned()));
    let all = trained(&model);
    assert_eq!(model.write(&target, &all).unwrap().edits.len(), 3);
    assert_eq!(tensors(&open(&target)), all);
}

#[test]
fn a_new_head_has_a_bias_too() {
    let out = tempfile::tempdir().unwrap();
    let mut model = open(&small("zero_bias"));
    model.replace_head(5, 0).unwrap();
    let mut values = tensors(&model);
    assert_eq!(values["fc.bias"].floats().unwrap(), [0.0; 5]);
    values.insert("fc.bias".into(), TensorData::from_floats(vec![5], &[1.0; 5]));
    model.write(&out.path().join("out.onnx"), &values).unwrap();
    assert_eq!(tensors(&open(&out.path().join("out.onnx"))), values);
}

#[test]
fn copies_of_the_embedding_are_one_parameter() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("untied"));
    assert_eq!(
        repairs_of(&model),
        [
            "`head` of the output layer is the transpose of the embedding `table`: they are one parameter again, written to both"
        ]
    );
    assert_eq!(nodes(&model)[3..5], ["Transpose table -> table.transposed", "MatMul m table.transposed -> h"]);
    let names: Vec<_> = model.parameters().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["table", "ones", "head.bias"]);
    assert_eq!(model.write(&target, &tensors(&model)).unwrap().sha256, model.sha256());
    let new = trained(&model);
    let report = model.write(&target, &new).unwrap();
    assert_eq!((report.changed.len(), report.edits.len()), (4, 0));
    let back = tensors(&open_as_stored(&target));
    // As the module has it: the stored transpose turned back.
    assert_eq!((&back["table"], &back["head"]), (&new["table"], &new["table"]));
    // Equal still, so tied still.
    assert_eq!(tensors(&open(&target)), new);
}

#[test]
fn a_new_head_is_no_embedding() {
    let out = tempfile::tempdir().unwrap();
    let mut model = open(&small("untied"));
    model.replace_head(3, 0).unwrap();
    let values = tensors(&model);
    assert_eq!((&values["head"].dims, &values["table"].dims), (&vec![3, 4], &vec![8, 4]));
    model.write(&out.path().join("out.onnx"), &BTreeMap::new()).unwrap();
    assert_eq!(tensors(&open(&out.path().join("out.onnx"))), values);
}

#[test]
fn weights_made_from_shapes_are_parameters() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("made"));
    assert_eq!(
        repairs_of(&model),
        ["4 weights that the file makes with ConstantOfShape are parameters: `conv.weight`, `conv.bias`, `scale`, ..."]
    );
    let values = tensors(&model);
    let names: Vec<_> = values.keys().map(String::as_str).collect();
    assert_eq!(names, ["conv.bias", "conv.weight", "fc.weight", "scale"]);
    assert_eq!(values["fc.weight"], TensorData::from_floats(vec![2, 3], &[0.3; 6]));
    assert!(nodes(&model).contains(&"ConstantOfShape data.shape -> data".to_owned()));
    assert_eq!(model.write(&target, &values).unwrap().sha256, model.sha256());
    let new = trained(&model);
    let report = model.write(&target, &new).unwrap();
    assert_eq!(report.edits[0], "`conv.weight` is a Constant: its elements are no longer equal");
    assert_eq!(report.edits.len(), 4);
    let back = open(&target);
    assert_eq!(tensors(&back), new);
    assert_eq!(repairs_of(&back), Vec::<String>::new());
    // One that changed; the others stay as they are.
    let one = BTreeMap::from([("scale".to_owned(), new["scale"].clone())]);
    assert_eq!(model.write(&target, &one).unwrap().edits.len(), 1);
    assert_eq!(
        repairs_of(&open(&target)),
        ["3 weights that the file makes with ConstantOfShape are parameters: `conv.weight`, `conv.bias`, `fc.weight`"]
    );
}

#[test]
fn each_repair_has_its_switch() {
    for (name, repair) in [
        ("folded", Repair::BatchNorm),
        ("zero_bias", Repair::Bias),
        ("untied", Repair::Retie),
        ("made", Repair::Constant),
        ("merged", Repair::Unmerge),
        ("merged", Repair::Identity),
        ("training", Repair::Mode),
    ] {
        let made = |options: ImportOptions| {
            with(options, name).report().repairs.iter().filter(|made| made.repair == repair).count()
        };
        assert!(made(ImportOptions::default()) > 0, "{name}: {repair:?}");
        assert!(made(only(repair)) > 0, "{name}: {repair:?}");
        let repairs = Repairs::default().without(repair);
        assert_eq!(made(ImportOptions { repairs, ..ImportOptions::default() }), 0, "{name}: {repair:?}");
    }
}

#[test]
fn structural_edits_keep_every_other_byte() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("zero_bias"));
    let one = BTreeMap::from([("had.bias".to_owned(), TensorData::from_floats(vec![3], &[1.0, 2.0, 3.0]))]);
    model.write(&target, &one).unwrap();
    let (before, after) = (fs::read(small("zero_bias")).unwrap(), fs::read(&target).unwrap());
    // An input of 8 letters, and an initializer: 4 fields of 2, 2, 10 and 14 bytes, each with its key and length outside.
    assert_eq!(after.len() - before.len(), 10 + (2 + 2 + 2 + 10 + 14));
    // The end of the file is the same: metadata, other initializers, inputs, outputs, operator sets.
    let tail = 400;
    assert_eq!(before[before.len() - tail..], after[after.len() - tail..]);
}

#[test]
fn one_node_gets_a_weight_and_a_bias_of_its_own() {
    let model = open(&small("twins"));
    let names: Vec<_> = model.parameters().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("twins.onnx");
    let values = trained(&model);
    assert_eq!(model.write(&target, &values).unwrap().edits.len(), 3);
    let back = open(&target);
    let kept: BTreeMap<String, TensorData> = tensors(&back);
    assert_eq!(kept, values);
}

#[test]
fn a_layer_that_is_called_twice_keeps_its_one_bias() -> fngd_onnx::Result<()> {
    use fngd_onnx::author::GraphBuilder;
    use fngd_onnx::graph::ElementType::Float32;
    let repairs_of_two_calls = |weights: [&str; 2]| -> fngd_onnx::Result<Vec<String>> {
        let graph = GraphBuilder::new("Twice");
        let input = graph.input("input", Float32, &["batch".into(), 5.into(), 2.into()]);
        let hidden = weights.into_iter().fold(input, |xs, name| {
            let weight =
                graph.shared_parameter(name, || Ok(TensorData::from_floats(vec![2, 2], &[1.0, 2.0, 3.0, 4.0])));
            let bias = graph.shared_parameter("bias", || Ok(TensorData::from_floats(vec![2], &[0.0, 0.0])));
            (xs.matmul(weight.transpose(&[1, 0])) + bias).relu()
        });
        graph.output("output", hidden, Float32, &["batch".into(), 5.into(), 2.into()]);
        let model = OnnxModel::from_bytes(graph.build()?, "twice.onnx".as_ref(), &ImportOptions::default())?;
        Ok(repairs_of(&model))
    };
    // Zeros are equal by accident where two layers read them, but not in one layer.
    assert_eq!(repairs_of_two_calls(["weight", "weight"])?, [""; 0]);
    let expected = "`bias` held 2 equal parameters merged by the exporter; each is a parameter of its own again";
    assert_eq!(repairs_of_two_calls(["first", "second"])?, [expected]);
    Ok(())
}
