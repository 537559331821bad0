//! Layers and parameters, in every form that exporters write.

mod common;

use common::{field, open, small, varint};
use fngd_onnx::analysis::{LayerInfo, ParameterRole as Role};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};

/// `(node, layer, weight, transposed, bias, bias_add, why plain)` of each layer.
fn layers(model: &OnnxModel) -> Vec<String> {
    let (graph, analysis) = (model.graph(), model.analysis());
    let name = |id: fngd_onnx::graph::ValueId| graph.values[id.0].name.as_str();
    let line = |(index, layer): (&usize, &LayerInfo)| {
        let node = &graph.nodes[*index].name;
        let turned = if analysis.parameters[&layer.weight].transposed { "ᵀ" } else { "" };
        let bias = layer.bias.map_or("none", name);
        let add = layer.bias_add.map_or(String::new(), |add| format!(" by {}", graph.nodes[add].name));
        let why = layer.plain_because.as_ref().map_or(String::new(), |why| format!(": {why}"));
        format!("{node} {} {}{turned} {bias}{add} -> {}{why}", layer.name, name(layer.weight), name(layer.output))
    };
    analysis.layers.iter().map(line).collect()
}

#[test]
fn linear_layers_in_every_form() {
    assert_eq!(
        layers(&open(&small("linear"))),
        [
            "gemm gemm gemm.weight gemm.bias -> y0",
            "conv1d conv1d conv1d.weightᵀ conv1d.bias -> y1",
            "left left left.weightᵀ left.bias by left_add -> y2",
            "right right right.weightᵀ right.bias by right_add -> y3",
            "turned_matmul stored stored stored.bias by turned_add -> y4",
            "cast_matmul cast cast.weightᵀ none -> y5",
            "identity_gemm named named none -> y6",
            "scaled scaled scaled.weightᵀ scaled.bias -> y7: alpha is 0.5",
            "twice transposed_twice transposed_twice.weightᵀ none -> y8",
            "tied1 tied tied.weightᵀ none -> m9",
            "tied2 tied tied.weightᵀ none -> m10",
            "bare bare bare.weightᵀ none -> y11",
            "matrix_bias matrix_bias matrix_bias.weightᵀ none -> y12: its bias has dims [1, 4], expected [4]",
        ]
    );
}

#[test]
fn quantised_weights_train_where_the_file_has_them_as_floats() {
    let model = open(&small("quantised"));
    let (graph, analysis) = (model.graph(), model.analysis());
    let rows: Vec<_> = model.parameters().iter().map(|row| format!("{} {:?}", row.name, row.role)).collect();
    assert_eq!(rows, ["fc1.weight LinearWeight", "fc1.bias Bias"]);
    assert!(model.parameters().iter().all(|row| row.trainable && !row.preconditioned));
    let constants: Vec<_> =
        analysis.constants.iter().map(|(id, reason)| format!("{}: {reason}", graph.values[id.0].name)).collect();
    assert_eq!(constants, ["w_scale: scale of a quantisation", "fc2.integers: quantised: integers have no gradient"]);
    assert_eq!(
        model.report().warnings,
        [
            "1 weights are stored as integers and keep their value: `fc2.integers`; train the model before it is quantised"
        ]
    );
}

#[test]
fn every_parameter_has_a_role() {
    let model = open(&small("linear"));
    assert_eq!(model.parameters().len(), 21);
    for row in model.parameters() {
        let is_weight = row.dims == [4, 4];
        assert_eq!(row.role == Role::LinearWeight, is_weight, "{}", row.name);
        let plain = ["scaled.weight", "scaled.bias", "matrix_bias.weight", "row", "tied.bias1", "tied.bias2"];
        assert_eq!(row.preconditioned, !plain.contains(&row.name.as_str()), "{}", row.name);
        assert!(row.trainable);
        assert!(!row.reason.is_empty());
    }
    let row = |name: &str| model.parameters().iter().find(|row| row.name == name).unwrap();
    assert_eq!(row("scaled.weight").reason, "linear layer `scaled`, plain gradient: alpha is 0.5");
    assert_eq!(row("left.bias").layer.as_deref(), Some("left"));
    // The two biases of a tied weight are no part of its layer.
    assert_eq!(row("tied.bias1").layer, None);
    assert_eq!(serde_json::to_value(row("gemm.weight")).unwrap()["role"], "linear-weight");
}

#[test]
fn initial_values_are_out_by_in() {
    let model = open(&small("linear"));
    let id = |name: &str| *model.analysis().parameters.iter().find(|(_, info)| info.name == name).unwrap().0;
    let stored = model.graph().initializers[&id("conv1d.weight")].floats().unwrap();
    let kept = model.initial(id("conv1d.weight")).unwrap().floats().unwrap();
    for row in 0..4 {
        for column in 0..4 {
            assert_eq!(kept[row * 4 + column], stored[column * 4 + row]);
        }
    }
    let same = id("gemm.weight");
    assert_eq!(model.initial(same).unwrap(), model.graph().initializers[&same]);
}

#[test]
fn an_embedding_that_is_the_head_too() {
    let model = open(&small("tied"));
    assert_eq!(layers(&model), ["head table table none -> logits: tied with an embedding"]);
    assert_eq!(model.classes(), Some(8));
    assert_eq!(model.parameters()[0].reason, "linear layer `table`, plain gradient: tied with an embedding");
}

#[test]
fn convolutions() {
    let model = open(&small("convolution"));
    assert_eq!(
        layers(&model),
        [
            "plain plain plain.weight plain.bias -> c0",
            "zero_conv zero zero.weight none -> c1",
            "same1 same same.weight none -> c2",
            "same2 same same.weight none -> c3",
            "different1 different different.weight none -> c4: its weight is used with different geometry",
            "different2 different different.weight none -> c5: its weight is used with different geometry",
            "up up up.weight up.bias -> c6",
            "fc fc fc.weight fc.bias -> y",
        ]
    );
    let role = |name: &str| model.parameters().iter().find(|row| row.name == name).map(|row| (row.role, row.trainable));
    assert_eq!(role("bn.weight"), Some((Role::NormalisationScale, true)));
    assert_eq!(role("bn.bias"), Some((Role::NormalisationShift, true)));
    assert_eq!(role("bn.mean"), Some((Role::RunningStatistic, false)));
    assert_eq!(role("bn.var"), Some((Role::RunningStatistic, false)));
    assert_eq!(role("slope"), Some((Role::Other, true)));
    assert_eq!(role("zero"), None);
}

#[test]
fn constants_stay_constants() {
    let model = open(&small("constants"));
    let graph = model.graph();
    let mut found: Vec<_> =
        model.analysis().constants.iter().map(|(id, why)| (graph.values[id.0].name.as_str(), *why)).collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("cosines", "cosine and sine table"),
            ("frequencies", "frequencies of sines and cosines"),
            ("mask", "mask"),
            ("mean", "normalises an input"),
            ("range", "evenly spaced numbers"),
            ("sines", "cosine and sine table"),
            ("std", "normalises an input"),
        ]
    );
    let names: Vec<_> = model.parameters().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["position", "scale"]);
}

#[test]
fn ones_and_zeros_inside_a_group_norm() {
    let model = open(&small("group_norm"));
    let names: Vec<_> = model.parameters().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["gn.weight", "gn.bias"]);
}

#[test]
fn frozen_parameters_and_their_statistics() {
    let options = ImportOptions { freeze: vec!["^bn\\.weight$".into(), "^up".into()], ..ImportOptions::default() };
    let model = OnnxModel::open(&small("convolution"), &options).unwrap();
    let frozen: Vec<_> = model.analysis().frozen.iter().map(|id| model.graph().values[id.0].name.as_str()).collect();
    assert_eq!(frozen, ["bn.weight", "bn.mean", "bn.var", "up.weight", "up.bias"]);
    let row = |name: &str| model.parameters().iter().find(|row| row.name == name).unwrap();
    assert!(!row("up.weight").trainable && !row("up.weight").preconditioned);
    assert_eq!(row("up.weight").reason, "frozen");
    assert!(row("bn.bias").trainable);
    let options = ImportOptions { freeze: vec!["(".into()], ..ImportOptions::default() };
    assert!(OnnxModel::open(&small("convolution"), &options).unwrap_err().is_mismatch());
}

#[test]
fn torch_exports_train_completely() {
    // Repair undoes what the exporters did: folding a BatchNormalization, which takes the bias of the convolution, and a second copy
    // of the embedding.
    for (name, parameters, preconditioned) in [
        ("net_script", 9, 5),
        ("net_script_train", 10, 6),
        ("net_dynamo", 9, 5),
        ("net_dynamo_train", 10, 6),
        ("encoder_script", 15, 8),
        ("encoder_script_train", 15, 8),
        ("encoder_dynamo", 15, 8),
        ("encoder_dynamo_train", 15, 8),
    ] {
        let model = open(&small(name));
        let rows = model.parameters();
        let listed: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(rows.iter().filter(|row| row.trainable).count(), parameters, "{name}: {listed:?}");
        assert_eq!(rows.iter().filter(|row| row.preconditioned).count(), preconditioned, "{name}: {listed:?}");
        assert_eq!(model.classes(), Some(if name.starts_with("net") { 3 } else { 20 }), "{name}");
    }
}

#[test]
fn layers_have_the_names_of_the_modules() {
    for name in ["encoder_script", "encoder_dynamo", "encoder_dynamo_train"] {
        let names: Vec<_> = open(&small(name)).analysis().layers.values().map(|layer| layer.name.clone()).collect();
        let head = if name == "encoder_dynamo_train" { "head" } else { names.last().unwrap().as_str() };
        assert_eq!(
            names,
            ["layer.self_attn.in_proj", "layer.self_attn.out_proj", "layer.linear1", "layer.linear2", head],
            "{name}"
        );
    }
}

#[test]
fn the_loss_reads_what_goes_into_a_final_softmax() {
    for (name, logits) in [("linear", "y13"), ("convolution", "y"), ("tied", "logits")] {
        assert_eq!(open(&small(name)).report().logits.as_deref(), Some(logits));
    }
}

#[test]
fn warnings() {
    let model = open(&small("net_dynamo"));
    let again = format!("to keep what the exporter took away, export again with: {}", fngd_onnx::EXPORT_AGAIN);
    assert_eq!(
        model.report().warnings,
        [
            "batch size 2 is fixed in the file: the first dimension of input `x` is 2",
            "1 BatchNormalization were folded into layers by the exporter; all were restored",
            "2 parameters lost their name, such as `val_29`",
            again.as_str(),
        ]
    );
    let repairs = Repairs::default().without(Repair::BatchNorm);
    let options = ImportOptions { repairs, ..ImportOptions::default() };
    let folded = OnnxModel::open(&small("net_dynamo"), &options).unwrap();
    assert_eq!(
        folded.report().warnings[1],
        "1 BatchNormalization were folded into layers by the exporter and cannot train as such"
    );
    let script = open(&small("net_script"));
    assert_eq!(script.report().warnings.len(), 3);
    assert_eq!(open(&small("net_dynamo_train")).report().warnings, Vec::<String>::new());
    let report = open(&small("old"));
    let report = report.report();
    assert_eq!((report.ir_version, report.opset, report.producer.as_str()), (3, 9, "make_small"));
    assert_eq!(
        report.operators.iter().map(|(name, count)| (name.as_str(), *count)).collect::<Vec<_>>(),
        [("Gemm", 1), ("Softmax", 1)]
    );
}

/// A model of operator set 20 around these nodes and initializers, with `x` going in and `y` coming out.
fn model_of(nodes: &[Vec<u8>], tensors: &[(&str, &[f32])]) -> OnnxModel {
    let tensor = |(name, values): &(&str, &[f32])| {
        let dims: Vec<u8> =
            if values.len() == 1 { Vec::new() } else { [vec![1 << 3], varint(values.len() as u64)].concat() };
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        field(5, &[dims, vec![2 << 3, 1], field(8, name.as_bytes()), field(9, &bytes)].concat())
    };
    let ends = [field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    let graph = [nodes.concat(), tensors.iter().flat_map(tensor).collect(), ends].concat();
    let opset = [field(1, b""), vec![2 << 3, 20]].concat();
    let file = [vec![1 << 3, 10], field(8, &opset), field(7, &graph)].concat();
    OnnxModel::from_bytes(file, std::path::Path::new("model.onnx"), &ImportOptions::default()).unwrap()
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    field(1, &[inputs, field(2, output.as_bytes()), field(3, output.as_bytes()), field(4, op_type.as_bytes())].concat())
}

#[test]
fn small_tensors_that_may_have_been_merged_are_told() {
    let nodes = [
        node("LayerNormalization", &["x", "scale", "shift"], "a"),
        node("LayerNormalization", &["a", "scale", "other"], "y"),
    ];
    let warnings = |scale: &[f32]| {
        let tensors: [(&str, &[f32]); 3] = [("scale", scale), ("shift", &[1.0, 2.0]), ("other", &[3.0, 4.0])];
        model_of(&nodes, &tensors).report().warnings.clone()
    };
    let told =
        "`scale` is scale, shift or bias of 2 nodes and kept tied; if that is not meant, export with optimize=False";
    assert_eq!(warnings(&[1.0, 2.0]), [told]);
    // Ones are taken apart, and the exporter merges no more than 1024 elements.
    assert_eq!(warnings(&[1.0, 1.0]), Vec::<String>::new());
    let many: Vec<f32> = (0..1025u16).map(f32::from).collect();
    assert_eq!(warnings(&many), Vec::<String>::new());
}

#[test]
fn numbers_behind_an_identity_are_no_parameters() {
    let nodes = [node("Identity", &["epsilon"], "same"), node("Add", &["x", "same"], "y")];
    assert_eq!(model_of(&nodes, &[("epsilon", &[1e-5])]).report().repairs, []);
    let nodes =
        [node("Identity", &["ones"], "same"), node("Add", &["x", "ones"], "a"), node("Mul", &["a", "same"], "y")];
    assert_eq!(
        model_of(&nodes, &[("ones", &[1.0, 1.0])])
            .report()
            .repairs
            .iter()
            .map(|made| made.what.as_str())
            .collect::<Vec<_>>(),
        ["`same` was merged with `ones` by the exporter; it is a parameter of its own again"]
    );
}
