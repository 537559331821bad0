//! Functions and branches in place of the nodes that stand for them.

mod common;

use common::{field, open, small, tensors, trained, varint};
use fngd_onnx::graph::{Graph, ValueId};
use fngd_onnx::{ImportOptions, Limits, OnnxModel};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn name(graph: &Graph, id: ValueId) -> &str {
    &graph.values[id.0].name
}

/// Each node as ``name: Operator(inputs) outputs``.
fn nodes(model: &OnnxModel) -> Vec<String> {
    let graph = model.graph();
    let names = |ids: &[Option<ValueId>]| {
        ids.iter().map(|id| id.map_or("-", |id| name(graph, id))).collect::<Vec<_>>().join(" ")
    };
    let line = |node: &fngd_onnx::graph::Node| {
        format!("{}: {}({}) {}", node.name, node.op_type, names(&node.inputs), names(&node.outputs))
    };
    graph.nodes.iter().map(line).collect()
}

#[test]
fn nested_functions_with_attributes_and_things_left_out() {
    let model = open(&small("functions"));
    assert_eq!(
        nodes(&model),
        [
            "first/linear/gemm: Gemm(x first.weight first.bias) first/hidden",
            "first/leaky/leaky: LeakyRelu(first/hidden) first/active",
            "first/mul: Mul(first/active first/scale) a",
            "first/concat: Concat(first/hidden first/hidden) first/again",
            "first/Identity_5: Identity(first/hidden) first/kept",
            "clash: Relu(a) second/hidden",
            // A value of the main graph has the first name.
            "second/linear/gemm: Gemm(second/hidden second.weight -) second/hidden_2",
            "second/leaky/leaky: LeakyRelu(second/hidden_2) second/active",
            "second/mul: Mul(second/active second/scale) b",
            "second/concat: Concat(second/hidden_2 second/hidden_2) c",
            "second/Identity_5: Identity(second/hidden_2) second/kept",
            "reshape: Reshape(c shape) f",
            "older/Softmax_0: Softmax(f) g",
        ]
    );
    let nodes = &model.graph().nodes;
    // Given by the call, or the default of the function.
    assert_eq!((nodes[1].float("alpha", 0.0), nodes[7].float("alpha", 0.0)), (0.5, 0.25));
    assert_eq!((nodes[3].int("axis", -9), nodes[9].int("axis", -9)), (0, 1));
    // Left out, so that the operator's own default counts.
    assert!(!nodes[0].attributes.contains_key("beta"));
    assert_eq!((nodes[0].opset, nodes[12].opset), (20, 18));
    // Only what the main graph holds has a place in the file.
    let places: Vec<_> = nodes.iter().filter_map(|node| node.index).collect();
    assert_eq!(places, [1, 3]);
    let calls = [("mine::Block", 2), ("mine::Leaky", 2), ("mine::Linear", 2), ("mine::Older", 1)];
    assert_eq!(model.report().functions, calls.map(|(name, count)| (name.to_owned(), count)).into());
    assert_eq!(
        model.report().warnings,
        ["2 tensors keep their value, since each lies in the body of a function: `first/scale`, `second/scale`; \
          initializers of the main graph can be trained"]
    );
}

#[test]
fn weights_that_are_given_to_functions_are_trained() {
    let model = open(&small("functions"));
    let rows: Vec<_> = model.parameters().iter().map(|row| (row.name.as_str(), row.preconditioned)).collect();
    assert_eq!(rows, [("first.weight", true), ("first.bias", true), ("second.weight", true)]);
    let model = open(&small("net_functions"));
    // The exporter has merged the two normalisations, which were equal.
    let names: Vec<_> = model.parameters().iter().map(|row| row.name.as_str()).collect();
    let blocks =
        ["0.fc.weight", "0.fc.bias", "0.norm.weight", "0.norm.bias", "1.fc.weight", "1.fc.bias", "2.weight", "2.bias"];
    assert_eq!(names, [&blocks[..], &["1.norm.bias", "1.norm.weight"]].concat());
    assert!(model.parameters().iter().all(|row| row.trainable));
    assert_eq!(model.analysis().layers.len(), 3);
    assert!(model.analysis().layers.values().all(|layer| layer.plain_because.is_none()));
}

#[test]
fn what_one_call_trains_is_written_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.onnx");
    for file in ["functions", "branches", "definitions"] {
        let model = open(&small(file));
        model.write(&out, &trained(&model)).unwrap();
        let (before, after) = (fs::read(small(file)).unwrap(), fs::read(&out).unwrap());
        assert_eq!(before.len(), after.len(), "{file}");
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let parameters: usize =
            model.parameters().iter().map(|row| row.dims.iter().product::<u64>() as usize * 4).sum();
        assert!(changed > 0 && changed <= parameters, "{file}: {changed} of {parameters}");
        assert_eq!(tensors(&open(&out)), trained(&model), "{file}");
    }
}

#[test]
fn branches_are_chosen_when_their_condition_is_known() {
    let model = open(&small("branches"));
    assert_eq!(
        nodes(&model),
        [
            "outer/gemm: Gemm(x weight) outer/h",
            "outer/inner/add: Add(outer/h outer/inner/shift) a",
            "shape: Shape(weight) shape",
            "gather: Gather(shape first) rows",
            "equal: Equal(rows four) is_four",
            "not: Not(is_four) is_other",
            "mul: Mul(a b) y",
        ]
    );
    let constants: BTreeMap<_, _> =
        model.analysis().constants.iter().map(|(id, why)| (name(model.graph(), *id), *why)).collect();
    let why = "lies in a branch of an If";
    assert_eq!(constants, [("outer/inner/shift", why), ("b", why)].into());
    let names: Vec<_> = model.parameters().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["weight"]);
    let error = OnnxModel::open(&small("unsupported_if"), &ImportOptions::default()).unwrap_err();
    assert!(error.is_unsupported());
    assert_eq!(
        error.to_string(),
        format!(
            "{}: 1 of 1 nodes use operators that are not supported:\n  operator `If` (opset 20), 1 nodes: `either`; its condition \
             is known only when the model runs, and only constant ones can be imported",
            small("unsupported_if").display()
        )
    );
}

#[test]
fn operators_that_onnx_defines_by_others() {
    let model = open(&small("definitions"));
    assert_eq!(model.report().functions.get("HannWindow"), Some(&1));
    let inner: Vec<_> = model.graph().nodes.iter().filter(|node| node.name.starts_with("hann/")).collect();
    assert!(inner.len() > 10 && inner.iter().all(|node| node.index.is_none() && node.opset == 17));
    assert_eq!(model.parameters().len(), 1);
}

/// A field that holds a number.
fn number(key: u64, value: u64) -> Vec<u8> {
    [varint(key << 3), varint(value)].concat()
}

fn attribute(name: &str, contents: Vec<u8>) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), contents].concat())
}

fn node(call: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<u8>) -> Vec<u8> {
    let (domain, op_type) = call.split_once("::").unwrap_or(("", call));
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    let outputs: Vec<u8> = outputs.iter().flat_map(|output| field(2, output.as_bytes())).collect();
    [inputs, outputs, field(4, op_type.as_bytes()), field(7, domain.as_bytes()), attributes].concat()
}

fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: &[Vec<u8>], more: Vec<u8>) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(4, input.as_bytes())).collect();
    let outputs: Vec<u8> = outputs.iter().flat_map(|output| field(5, output.as_bytes())).collect();
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| field(7, node)).collect();
    field(25, &[field(1, name.as_bytes()), inputs, outputs, nodes, field(10, b"m"), more].concat())
}

/// A model of opset 20 that computes `y` from `x`.
fn model(nodes: &[Vec<u8>], functions: &[Vec<u8>]) -> Vec<u8> {
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| field(1, node)).collect();
    let graph = [nodes, field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    [number(1, 10), field(8, &number(2, 20)), field(7, &graph), functions.concat()].concat()
}

fn read(bytes: &[u8], limits: Limits) -> Result<OnnxModel, fngd_onnx::Error> {
    OnnxModel::from_bytes(bytes.to_vec(), Path::new("m"), &ImportOptions { limits, ..ImportOptions::default() })
}

fn message(nodes: &[Vec<u8>], functions: &[Vec<u8>]) -> String {
    read(&model(nodes, functions), Limits::default()).unwrap_err().to_string()
}

#[test]
fn values_that_only_pass_through_get_a_node() {
    let through =
        function("Through", &["a", "b"], &["a", "c", "c", "b"], &[node("Relu", &["a"], &["c"], vec![])], vec![]);
    let call = node("m::Through", &["x"], &["p", "q", "y", "r"], vec![]);
    // `b` is left out, and so is `r`.
    let last = node("Clip", &["p", "r"], &["z"], vec![]);
    let model = read(&model(&[call, last], &[through]), Limits::default()).unwrap();
    assert_eq!(
        nodes(&model),
        [
            "Through_0/Relu_0: Relu(x) q",
            "Through_0/p: Identity(x) p",
            "Through_0/y: Identity(q) y",
            "Clip_1: Clip(p -) z"
        ]
    );
}

#[test]
fn functions_are_written_in_their_own_operator_set() {
    let old = function("Old", &["a"], &["b"], &[node("Softmax", &["a"], &["b"], vec![])], field(9, &number(2, 12)));
    let model = read(&model(&[node("m::Old", &["x"], &["y"], vec![])], &[old]), Limits::default()).unwrap();
    assert_eq!(model.graph().nodes[0].opset, 12);
}

#[test]
fn operators_of_onnx_are_not_redefined() {
    let local = |name: &str| {
        let body = [node("Neg", &["a"], &["b"], vec![])];
        // Domain `` instead of `m`.
        function(name, &["a"], &["b"], &body, field(10, b""))
    };
    let chain = [node("Relu", &["x"], &["h"], vec![]), node("Elephant", &["h"], &["y"], vec![])];
    let model = read(&model(&chain, &[local("Relu"), local("Elephant")]), Limits::default()).unwrap();
    assert_eq!(nodes(&model), ["Relu_0: Relu(x) h", "Elephant_1/Neg_0: Neg(h) y"]);
}

#[test]
fn calls_that_do_not_fit() {
    let one = |body: Vec<u8>| function("F", &["a"], &["b"], &[body], vec![]);
    let relu = || node("Relu", &["a"], &["b"], vec![]);
    let call = || node("m::F", &["x"], &["y"], vec![]);
    let unknown = "m: node `F_0` (F): opset_import has no version for domain `m`";
    assert_eq!(message(&[call()], &[]), unknown);
    assert_eq!(message(&[call()], &[one(relu()), one(relu())]), "m: local function `m::F`: it is defined twice");
    assert_eq!(
        message(&[node("m::F", &["x", "x"], &["y"], vec![])], &[one(relu())]),
        "m: node `F_0` (F) calls function `m::F`: 2 inputs and 1 outputs, it has 1 and 1"
    );
    assert_eq!(
        message(&[call()], &[one(node("Relu", &["x"], &["b"], vec![]))]),
        "m: node `F_0/Relu_0` (Relu) reads `x`, which no input or node of its function defines"
    );
    assert_eq!(
        message(&[call()], &[one(node("Relu", &["a"], &["c"], vec![]))]),
        "m: node `F_0` (F) calls function `m::F`: its output `b` is not computed by any of its nodes"
    );
    let reference = attribute("alpha", field(21, b"slope"));
    assert_eq!(
        message(&[call()], &[one(node("LeakyRelu", &["a"], &["b"], reference.clone()))]),
        "m: node `F_0/LeakyRelu_0` (LeakyRelu): attribute `alpha`: it refers to attribute `slope` of its function, but the \
         function has none such"
    );
    assert_eq!(
        message(&[node("LeakyRelu", &["x"], &["y"], reference)], &[]),
        "m: node `LeakyRelu_0` (LeakyRelu): attribute `alpha`: it refers to attribute `slope` of its function, but no \
         function is around it"
    );
    let twice = [call(), node("Relu", &["x"], &["y"], vec![])];
    assert_eq!(message(&twice, &[one(relu())]), "m: node `Relu_1` (Relu, opset 20): value `y` is defined twice");
    let training = one(node("Dropout", &["a", "", "a"], &["b"], vec![]));
    assert_eq!(
        message(&[call()], &[training]),
        "m: node `F_0/Dropout_0` (Dropout, opset 20): it is in training mode inside a function or branch; export the model in \
         evaluation mode, or inline its functions with onnx.inliner.inline_local_functions"
    );
}

#[test]
fn functions_that_call_themselves() {
    let calls = |from: &str, to: &str| function(from, &["a"], &["b"], &[node(to, &["a"], &["b"], vec![])], vec![]);
    let functions = [calls("F", "m::G"), calls("G", "m::H"), calls("H", "m::G")];
    assert_eq!(
        message(&[node("m::F", &["x"], &["y"], vec![])], &functions),
        "m: node `F_0/G_0/H_0/G_0` (G): a function calls itself: `m::G` → `m::H` → `m::G`"
    );
    // Nobody calls it: nothing is wrong.
    assert!(read(&model(&[node("Relu", &["x"], &["y"], vec![])], &functions), Limits::default()).is_ok());
}

#[test]
fn small_files_that_expand_to_large_graphs() {
    let name = |level: usize| format!("F{level}");
    let level = |level: usize, width: usize| {
        let to = format!("m::F{}", level + 1);
        let body = |part: usize| node(&to, &["a"], &[&format!("b{part}")], vec![]);
        function(&name(level), &["a"], &["b0"], &(0..width).map(body).collect::<Vec<_>>(), vec![])
    };
    let call = || [node("m::F0", &["x"], &["y"], vec![])];
    let wide: Vec<_> = (0..40).map(|number| level(number, 10)).collect();
    let last = |contents: Vec<Vec<u8>>| function("F40", &["a"], &["b0"], &contents, vec![]);
    let relu = || node("Relu", &["a"], &["b0"], vec![]);
    assert_eq!(
        message(&call(), &[wide.concat(), last(vec![relu()])]),
        "m: more than 200000 nodes when functions and branches are put in place of their calls"
    );
    let deep: Vec<_> = (0..100).map(|number| level(number, 1)).collect();
    assert!(message(&call(), &deep).ends_with(": more than 64 functions and branches inside each other"));
    // A megabyte of constant for each of a thousand calls.
    let value = [number(1, 250_000), number(2, 1), field(9, &vec![0; 1_000_000])].concat();
    let constant = node("Constant", &[], &["c"], attribute("value", [field(5, &value), number(20, 4)].concat()));
    let wide: Vec<_> = (0..3).map(|number| level(number, 10)).collect();
    let last = function("F3", &["a"], &["b0"], &[constant, relu()], vec![]);
    assert_eq!(
        message(&call(), &[wide.concat(), last]),
        "m: more than 536870912 bytes when functions and branches are put in place of their calls"
    );
    // The limit on nodes counts the main graph too.
    let two = [node("m::F", &["x"], &["h"], vec![]), node("m::F", &["h"], &["y"], vec![])];
    let file = model(&two, &[function("F", &["a"], &["b"], &[node("Relu", &["a"], &["b"], vec![])], vec![])]);
    assert!(read(&file, Limits { nodes: 4, ..Limits::default() }).is_ok());
    let error = read(&file, Limits { nodes: 3, ..Limits::default() }).unwrap_err();
    assert!(error.is_limit(), "{error}");
}

/// A tensor of 4 floats in `data`.
fn outside(name: &str, location: &str, offset: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let entries = [entry("location", location), entry("offset", offset), entry("length", "16")].concat();
    [number(1, 4), number(2, 1), field(8, name.as_bytes()), entries, number(14, 1)].concat()
}

/// A model with an initializer, a constant of a function, and a branch that is not taken in data files.
fn model_with_data(initializer: &str, not_taken: [&str; 2]) -> Vec<u8> {
    let tensor = |data: &[u8]| attribute("value", [field(5, data), number(20, 4)].concat());
    let graph = |name: &str, contents: Vec<u8>| attribute(name, [field(6, &contents), number(20, 5)].concat());
    let constant = node("Constant", &[], &["c"], tensor(&outside("", "data", "16")));
    let add = function("F", &["a"], &["b"], &[constant, node("Add", &["a", "c"], &["b"], vec![])], vec![]);
    let taken = [field(1, &node("Relu", &["h"], &["r"], vec![])), field(12, &field(1, b"r"))].concat();
    let other = [field(5, &outside("r", not_taken[0], not_taken[1])), field(12, &field(1, b"r"))].concat();
    let branches = [graph("then_branch", taken), graph("else_branch", other)].concat();
    let yes = [number(2, 9), field(9, &[1])].concat();
    let nodes = [
        node("Constant", &[], &["yes"], tensor(&yes)),
        node("m::F", &["x"], &["f"], vec![]),
        node("Mul", &["f", "w"], &["h"], vec![]),
        node("If", &["yes"], &["y"], branches),
    ];
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| field(1, node)).collect();
    let ends = [field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    let graph = [nodes, field(5, &outside("w", "data", initializer)), ends].concat();
    [number(1, 10), field(8, &number(2, 20)), field(7, &graph), add].concat()
}

#[test]
fn data_of_functions_and_branches_goes_where_the_model_goes() {
    let folder = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..12).flat_map(|value| ((value * value) as f32).to_le_bytes()).collect();
    fs::write(folder.path().join("data"), data).unwrap();
    let path = folder.path().join("m.onnx");
    let opened = |initializer: &str, not_taken: [&str; 2]| {
        fs::write(&path, model_with_data(initializer, not_taken)).unwrap();
        open(&path)
    };
    let out = folder.path().join("out/m.onnx");
    let model = opened("0", ["data", "32"]);
    assert_eq!(model.report().warnings.len(), 1, "{:?}", model.report().warnings);
    let report = model.write(&out, &trained(&model)).unwrap();
    assert_eq!((report.changed, report.data_files.len()), (vec!["w".to_owned()], 1));
    // All three tensors are in the new file: the old one is no longer needed.
    let written = fs::read(&out).unwrap();
    assert_eq!(written.windows(11).filter(|window| window == b"m.onnx.data").count(), 3);
    let back = open(&out);
    assert_eq!(tensors(&back), trained(&model));
    let constants = |model: &OnnxModel| {
        let graph = model.graph();
        graph.fixed.keys().map(|id| graph.initializers[id].floats().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(constants(&back), [[16.0, 25.0, 36.0, 49.0]]);
    // In the same folder, without any change, the data that is there serves both.
    assert!(model.write(&folder.path().join("same.onnx"), &tensors(&model)).unwrap().data_files.is_empty());

    let error = |model: OnnxModel| model.write(&out, &trained(&model)).unwrap_err().to_string();
    assert_eq!(
        error(opened("0", ["data", "12"])),
        "tensor `r` of a function or branch is on bytes of `data` that training has changed; save the model again with onnx.save"
    );
    assert_eq!(
        error(opened("16", ["data", "32"])),
        "tensor `` of a function or branch is on bytes of `data` that training has changed; save the model again with onnx.save"
    );
    assert_eq!(
        error(opened("0", ["more", "0"])),
        "tensor `r` is in data file `more`, which only a part of the model needs that is not imported; write to the folder of the \
         model, or save it again with onnx.save"
    );
}
