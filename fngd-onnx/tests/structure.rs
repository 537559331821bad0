//! Changes of the file's structure: merged parameters, inference mode, new heads.

mod common;

use common::{all_small, open, repairs_of, small, tensors, trained};
use fngd_onnx::graph::{Dim, TensorData};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

#[test]
fn merged_parameters_are_taken_apart() {
    let model = open(&small("merged"));
    let names: Vec<_> = model.parameters().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["ones", "zeros", "w", "fc.bias", "ones__norm2", "zeros__norm2"]);
    assert_eq!(
        repairs_of(&model),
        [
            "`fc.bias` was merged with `zeros` by the exporter; it is a parameter of its own again",
            "`ones` held 2 equal parameters merged by the exporter; each is a parameter of its own again",
            "`zeros` held 2 equal parameters merged by the exporter; each is a parameter of its own again",
        ]
    );
    // A weight that is not uniform is a tie: both layers share it, but only one has a bias.
    let layers: Vec<_> =
        model.analysis().layers.values().map(|layer| (layer.name.as_str(), layer.plain_because.as_deref())).collect();
    let why = Some("its weight is used with different biases");
    assert_eq!(layers, [("fc", why), ("fc", why)]);
}

#[test]
fn separated_parameters_are_added_only_if_they_differ() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("merged"));
    let one = BTreeMap::from([("ones__norm2".to_owned(), TensorData::from_floats(vec![4], &[1.0, 2.0, 3.0, 4.0]))]);
    let report = model.write(&target, &one).unwrap();
    assert_eq!(report.changed, ["ones__norm2"]);
    assert_eq!(
        report.edits,
        ["initializer `ones__norm2` added: it is no longer equal to the tensor it was merged with"]
    );
    let back = open(&target);
    let values = tensors(&back);
    assert_eq!(values["ones"].floats().unwrap(), [1.0; 4]);
    assert_eq!(values["ones__norm2"].floats().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    // The tensor that stays changes: its copies keep their value by becoming initializers.
    let zeros = BTreeMap::from([("zeros".to_owned(), TensorData::from_floats(vec![4], &[5.0; 4]))]);
    let report = model.write(&target, &zeros).unwrap();
    assert_eq!(report.edits.len(), 2);
    let back = tensors(&open(&target));
    assert_eq!(back["zeros"].floats().unwrap(), [5.0; 4]);
    assert_eq!(back["zeros__norm2"].floats().unwrap(), [0.0; 4]);
    assert_eq!(back["fc.bias"].floats().unwrap(), [0.0; 4]);
    // All of them equal again, with other numbers: nothing has to be added.
    let all: BTreeMap<_, _> = ["zeros", "zeros__norm2", "fc.bias"]
        .map(|name| (name.to_owned(), TensorData::from_floats(vec![4], &[2.0; 4])))
        .into();
    let report = model.write(&target, &all).unwrap();
    assert_eq!(report.changed, ["zeros"]);
    assert_eq!(report.edits, Vec::<String>::new());
}

#[test]
fn old_files_are_not_taken_apart() {
    let model = open(&small("old"));
    assert_eq!(model.inputs().len(), 1);
    assert_eq!(repairs_of(&model), ["Softmax `Softmax_1` stays in the file but not in the loss"]);
    assert_eq!(model.parameters().len(), 2);
}

#[test]
fn training_mode_becomes_inference_mode() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("training"));
    let repairs = ["BatchNormalization `bn` put in inference mode", "Dropout `drop` put in inference mode"];
    assert_eq!(repairs_of(&model), repairs);
    assert_eq!(model.write(&target, &BTreeMap::new()).unwrap().edits, repairs);
    let back = open(&target);
    assert_eq!(repairs_of(&back), Vec::<String>::new());
    let nodes = &back.graph().nodes;
    assert_eq!(nodes[0].int("training_mode", 0), 0);
    assert_eq!(nodes[0].float("momentum", 0.9), 0.8);
    assert_eq!((nodes[0].outputs.len(), nodes[1].inputs.len(), nodes[2].inputs.len()), (1, 2, 3));
    // 2 outputs (6 and 5 bytes with key and length), the attribute and an input are gone; lengths take as many bytes as before.
    let (before, after) = (fs::read(small("training")).unwrap(), fs::read(&target).unwrap());
    assert_eq!(before.len() - after.len(), 6 + 5 + 22 + 5);
}

#[test]
fn heads() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    for (name, layer, old) in [
        ("net_dynamo", "head", 3),
        ("net_dynamo_train", "head", 3),
        ("net_script", "head", 3),
        ("net_script_train", "head", 3),
        ("convolution", "fc", 5),
        ("old", "w", 3),
    ] {
        let mut model = open(&small(name));
        let before = tensors(&model);
        assert_eq!(model.classes(), Some(old));
        model.replace_head(7, 1).unwrap();
        assert_eq!(model.classes(), Some(7), "{name}");
        assert_eq!(model.outputs()[0].dims.as_ref().unwrap().last(), Some(&Dim::Known(7)));
        let after = tensors(&model);
        assert_eq!(after.len(), before.len());
        let mut resized = 0;
        for (name, tensor) in &after {
            if before[name] == *tensor {
                continue;
            }
            resized += 1;
            assert_eq!(tensor.dims[0], 7, "{name}");
            let values = tensor.floats().unwrap();
            let in_features = after
                .values()
                .filter(|other| other.dims.len() == 2 && other.dims[0] == 7)
                .map(|other| other.dims[1])
                .max()
                .unwrap();
            let bound = 1.0 / (in_features as f32).sqrt();
            assert!(values.iter().all(|value| value.abs() <= bound));
            assert!(values.iter().any(|value| value.abs() > bound / 2.0));
        }
        assert_eq!(resized, 2, "{name}");
        let edit = format!("head `{layer}`: {old} outputs became 7, values drawn anew (seed 1)");
        let report = model.write(&target, &BTreeMap::new()).unwrap();
        assert_eq!(report.edits.last(), Some(&edit));
        assert_eq!(tensors(&open(&target)), after);
        // The same seed draws the same values, another one others.
        let mut same = open(&small(name));
        same.replace_head(7, 1).unwrap();
        assert_eq!(tensors(&same), after);
        let mut other = open(&small(name));
        other.replace_head(7, 2).unwrap();
        assert_ne!(tensors(&other), after);
    }
}

#[test]
fn heads_that_are_more_than_a_linear_layer() {
    let refused = |name: &str| open(&small(name)).replace_head(7, 0).unwrap_err().to_string();
    assert_eq!(refused("tied"), "the head cannot be replaced: tied with an embedding");
    assert_eq!(refused("constants"), "the head cannot be replaced: the output `y` is not computed by a linear layer");
    assert_eq!(refused("linear"), "the head cannot be replaced: the output `y13` is not computed by a linear layer");
    assert_eq!(
        open(&small("old")).replace_head(0, 0).unwrap_err().to_string(),
        "a head needs at least 1 class, found 0"
    );
}

/// Asks Python's onnx package, if it is there; says so if it is not. `FNGD_PYTHON` names another interpreter.
fn check_with_onnx(paths: &[std::path::PathBuf]) {
    const SCRIPT: &str = "import sys\ntry: import onnx\nexcept ImportError: sys.exit(77)\n\
        for path in sys.argv[1:]: print(path); onnx.checker.check_model(path, full_check=True)";
    let python = std::env::var("FNGD_PYTHON").unwrap_or_else(|_| "python3".into());
    match Command::new(&python).arg("-c").arg(SCRIPT).args(paths).output() {
        Ok(output) if output.status.code() == Some(77) => {
            eprintln!("not checked by onnx.checker: {python} has no package onnx");
        }
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => eprintln!("not checked by onnx.checker: {python}: {error}"),
    }
}

#[test]
fn onnx_checker_accepts_what_is_written() {
    let out = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    for path in all_small() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut model = open(&path);
        written.push(out.path().join(name));
        model.write(written.last().unwrap(), &trained(&model)).unwrap();
        if model.replace_head(7, 0).is_ok() {
            written.push(out.path().join(format!("head-{name}")));
            model.write(written.last().unwrap(), &BTreeMap::new()).unwrap();
        }
    }
    check_with_onnx(&written);
}

#[test]
fn stochastic_depth_is_gone_from_the_written_file() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("drop_path"));
    let repairs = [
        "Mul `drop1` put in inference mode: it drops no branch",
        "Mul `drop2` put in inference mode: it drops no branch",
    ];
    assert_eq!(repairs_of(&model), repairs);
    assert_eq!(model.report().warnings, ["1 nodes draw random numbers in the written file too"]);
    // While training, the nodes are there.
    assert_eq!(model.report().operators["RandomUniformLike"], 3);
    assert_eq!(model.write(&target, &BTreeMap::new()).unwrap().edits, repairs);
    let back = open(&target);
    let nodes: Vec<_> = back.graph().nodes.iter().map(|node| format!("{} {}", node.op_type, node.name)).collect();
    assert_eq!(
        nodes,
        ["Gemm fc1", "Identity drop1", "Gemm fc2", "Identity drop2", "RandomUniformLike noise", "Add noisy"]
    );
}

#[test]
fn a_head_stays_where_its_repair_is_off() {
    let repairs = Repairs::default().without(Repair::Head);
    let options = ImportOptions { repairs, ..ImportOptions::default() };
    let mut model = OnnxModel::open(&small("folded"), &options).unwrap();
    let error = model.replace_head(3, 0).unwrap_err();
    assert_eq!(error.to_string(), "the head cannot be replaced: repair R8 is switched off");
    open(&small("folded")).replace_head(3, 0).unwrap();
}
