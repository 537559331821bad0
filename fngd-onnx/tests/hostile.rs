//! Bytes that are no model, or that ask for too much.

mod common;

use common::{field, small, varint};
use fngd_onnx::{ImportOptions, Limits, OnnxModel};
use std::fs;
use std::path::Path;

fn open(folder: &Path, bytes: &[u8]) -> Result<OnnxModel, fngd_onnx::Error> {
    OnnxModel::from_bytes(bytes.to_vec(), &folder.join("model.onnx"), &ImportOptions::default())
}

fn message(folder: &Path, bytes: &[u8]) -> String {
    let error = open(folder, bytes).unwrap_err();
    assert!(error.is_limit() || error.is_malformed() || error.is_unsupported(), "{error}");
    error.to_string().replace(&format!("{}/", folder.display()), "")
}

/// A model with this graph.
fn model(graph: &[u8]) -> Vec<u8> {
    let opset = [field(1, b""), vec![2 << 3, 20]].concat();
    [vec![1 << 3, 10], field(8, &opset), field(7, graph)].concat()
}

#[test]
fn small_files_that_would_need_much_memory() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let graph = |number, count| model(&field(number, b"").repeat(count));
    assert_eq!(message(folder, &graph(1, 300_000)), "model.onnx: byte 400012: more than 200000 nodes");
    assert_eq!(message(folder, &graph(5, 500_000)), "model.onnx: byte 800012: more than 400000 tensors");
    assert_eq!(message(folder, &graph(11, 600_000)), "model.onnx: byte 1000012: more than 500000 declared values");
    let attributes = model(&field(1, &field(5, b"").repeat(400_000)));
    assert!(message(folder, &attributes).ends_with("more than 536870912 bytes of memory for the decoded model"));
    let functions = [model(b""), field(25, b"").repeat(2_000)].concat();
    assert_eq!(message(folder, &functions), "model.onnx: byte 3010: more than 1000 local functions");
    let unknown = model(&field(90, &vec![0; 2 << 20]));
    assert_eq!(
        message(folder, &unknown),
        "model.onnx: byte 13: more than 1048576 bytes in fields that onnx.proto does not have"
    );
    let text = model(&field(2, &vec![b'x'; 2 << 20]));
    assert_eq!(message(folder, &text), "model.onnx: byte 13: more than 1048576 bytes in one string");
    // One byte each on the wire, eight in memory.
    let integers = model(&field(5, &field(7, &vec![1; 50 << 20])));
    assert!(message(folder, &integers).contains("bytes of memory for the decoded model"));
}

#[test]
fn deep_nesting() {
    let folder = tempfile::tempdir().unwrap();
    let mut graph = Vec::new();
    for _ in 0..2_000 {
        // node { attribute { g { ... } } }
        graph = field(1, &field(5, &field(6, &graph)));
    }
    assert!(message(folder.path(), &model(&graph)).ends_with("more than 96 nested messages"));
    let mut kind = Vec::new();
    for _ in 0..2_000 {
        kind = field(4, &field(1, &kind));
    }
    assert!(message(folder.path(), &model(&field(11, &field(2, &kind)))).ends_with("more than 96 nested messages"));
}

#[test]
fn dims_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = |dims: &[u64], more: &[u8]| {
        let dims: Vec<u8> = dims.iter().flat_map(|dim| [vec![1 << 3], varint(*dim)].concat()).collect();
        model(&field(5, &[dims, vec![2 << 3, 1], field(8, b"w"), more.to_vec()].concat()))
    };
    let of =
        |dims: &[u64], more: &[u8]| message(folder.path(), &tensor(dims, more)).replace("model.onnx: tensor `w`: ", "");
    assert_eq!(
        of(&[1 << 40, 1 << 40], b""),
        "dims [1099511627776, 1099511627776] have more elements than 64 bits count"
    );
    assert_eq!(of(&[u64::MAX], b""), "dimension -1 is negative");
    assert_eq!(
        of(&[1 << 50], &field(9, &[0; 4])),
        "raw_data has 4 bytes, float32 [1125899906842624] needs 4503599627370496"
    );
    assert_eq!(of(&[3], &field(4, &[0; 4])), "float_data has 1 elements, dims [3] need 3");
    assert_eq!(of(&[1; 65], b""), "65 dimensions, at most 64 are accepted");
    let twice = [field(9, &[0; 4]), field(9, &[0; 4])].concat();
    assert!(message(folder.path(), &tensor(&[1], &twice)).ends_with("field `raw_data` is there twice, expected once"));
}

/// A tensor without elements, of a size that would keep a loop over its columns busy for hours.
#[test]
fn an_empty_weight_of_many_columns() {
    let folder = tempfile::tempdir().unwrap();
    let dims = [vec![1 << 3, 0, 1 << 3], varint(1 << 40), vec![2 << 3, 1]].concat();
    let weight = field(5, &[dims, field(8, b"w"), field(9, b"")].concat());
    let node = field(1, &[field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"MatMul")].concat());
    let graph = [node, weight, field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    let model = open(folder.path(), &model(&graph)).unwrap();
    assert_eq!(model.classes(), Some(1 << 40));
    assert_eq!(common::tensors(&model)["w"].dims, [1 << 40, 0]);
}

#[test]
fn other_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(message(folder, b""), "model.onnx: there is no graph in it: is it an ONNX model?");
    assert_eq!(message(folder, b"# hello"), "model.onnx: byte 0: field 4 has wire type 3, expected 0, 1, 2 or 5");
    assert_eq!(message(folder, b"\x89PNG\r\n\x1a\n"), "model.onnx: byte 2: the file ends in the middle of a field");
    assert_eq!(message(folder, &model(b"")), "model.onnx: the graph has no outputs");
    let twice = [model(b""), field(7, b"")].concat();
    assert_eq!(message(folder, &twice), "model.onnx: byte 10: field `graph` is there twice, expected once");
    let error = OnnxModel::open(&folder.join("absent.onnx"), &ImportOptions::default()).unwrap_err();
    assert!(error.is_file());
    let error = OnnxModel::open(folder, &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("is not a regular file"));
}

#[test]
fn graphs_that_do_not_hold_together() {
    let folder = tempfile::tempdir().unwrap();
    let of = |graph: &[Vec<u8>]| message(folder.path(), &model(&graph.concat())).replace("model.onnx: ", "");
    let node = |inputs: &[&str], output: &str, name: &str| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
        field(1, &[inputs, field(2, output.as_bytes()), field(3, name.as_bytes()), field(4, b"Relu")].concat())
    };
    let input = |name: &str| field(11, &field(1, name.as_bytes()));
    let output = |name: &str| field(12, &field(1, name.as_bytes()));
    assert_eq!(of(&[input("x"), output("y")]), "graph output `y` is not computed by any node");
    assert_eq!(
        of(&[input("x"), node(&["z"], "y", "a"), output("y")]),
        "node `a` (Relu) reads `z`, which no input, initializer or node defines"
    );
    assert_eq!(
        of(&[input("x"), node(&["z"], "y", "a"), node(&["x"], "z", "b"), output("y")]),
        "node `a` (Relu) reads `z`, which only the later node `b` (Relu) computes; nodes must be in topological order"
    );
    assert_eq!(
        of(&[input("x"), node(&["x"], "y", "a"), node(&["x"], "y", ""), output("y")]),
        "node `Relu_1` (Relu, opset 20): value `y` is defined twice"
    );
    assert_eq!(of(&[input("x"), input("x"), output("x")]), "graph input `x` is listed twice");
    let hostile = of(&[input("x"), node(&["\u{1b}[31m\n"], "y", &"n".repeat(500)), output("y")]);
    assert_eq!(
        hostile,
        format!(
            "node `{}…` (Relu) reads `\\u{{1b}}[31m\\n`, which no input, initializer or node defines",
            "n".repeat(120)
        )
    );
}

/// Each of these would take hours if some step of the analysis were quadratic.
#[test]
fn graphs_of_many_equal_parts() {
    const COUNT: usize = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let node = |op_type: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
        field(1, &[inputs, field(2, output.as_bytes()), field(3, b"n"), field(4, op_type.as_bytes())].concat())
    };
    let tensor = |name: &str, value: f32| {
        let data = field(9, &value.to_le_bytes().repeat(4));
        field(5, &[vec![1 << 3, 2, 1 << 3, 2, 2 << 3, 1], field(8, name.as_bytes()), data].concat())
    };
    let ends = |output: &str| [field(11, &field(1, b"x0")), field(12, &field(1, output.as_bytes()))].concat();
    let parts = |part: &dyn Fn(usize) -> Vec<u8>| (0..COUNT).flat_map(part).collect::<Vec<u8>>();
    let last = format!("x{COUNT}");
    let x = |position: usize| format!("x{position}");
    // One weight for all layers; a uniform tensor that each of them could want for its own; a chain that each layer hangs on.
    let shared = parts(&|i| node("MatMul", &[&x(i), "w"], &x(i + 1)));
    let uniform = parts(&|i| node("Add", &[&x(i), "w"], &x(i + 1)));
    let chain =
        parts(&|i| node("Identity", &[&if i == 0 { "w".into() } else { format!("i{i}") }], &format!("i{}", i + 1)));
    let hanging = parts(&|i| node("MatMul", &[&x(i), &format!("i{COUNT}")], &x(i + 1)));
    let constants = parts(&|i| tensor(&format!("c{i}"), 0.5));
    let products = parts(&|i| node("Mul", &[&x(i), &format!("c{i}")], &x(i + 1)));
    for graph in [
        [shared, tensor("w", 1.0)].concat(),
        [uniform, tensor("w", 1.0)].concat(),
        [chain, hanging, tensor("w", 1.0)].concat(),
        [products, constants].concat(),
    ] {
        let model = open(folder.path(), &model(&[graph, ends(&last)].concat())).unwrap();
        assert!(!model.parameters().is_empty());
    }
}

#[test]
fn unsupported_operators_are_listed_at_once() {
    let error = OnnxModel::open(&small("unsupported"), &ImportOptions::default()).unwrap_err();
    assert!(error.is_unsupported());
    assert_eq!(
        error.to_string(),
        format!(
            "{}: 5 of 6 nodes use operators that are not supported:\n  operator `RegexFullMatch` (opset 20), 1 nodes: \
             `match`\n  operator `StringNormalizer` (opset 20), 4 nodes: `norm1`, `norm2`, `norm3`, ...",
            small("unsupported").display()
        )
    );
}

#[test]
fn a_file_above_the_limit_is_not_read() {
    let limits = Limits { file_bytes: 100, ..Limits::default() };
    let error = OnnxModel::open(&small("linear"), &ImportOptions { limits, ..ImportOptions::default() }).unwrap_err();
    assert!(error.is_limit());
    assert!(error.to_string().ends_with("linear.onnx has 2480 bytes, the limit is 100"));
}

/// Both copies would be read, and only one could be written.
#[test]
fn a_constant_whose_elements_are_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let data = field(9, &1f32.to_le_bytes());
    let tensor = [vec![1 << 3, 1, 2 << 3, 1], data.clone(), data].concat();
    let attribute = field(5, &[field(1, b"value"), field(5, &tensor), vec![0xa0, 1, 4]].concat());
    let constant = field(1, &[field(2, b"c"), field(4, b"Constant"), attribute].concat());
    let node = field(1, &[field(1, b"x"), field(1, b"c"), field(2, b"y"), field(4, b"Add")].concat());
    let ends = [field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    let said = message(folder.path(), &model(&[constant, node, ends].concat()));
    assert_eq!(said, "model.onnx: byte 46: field `raw_data` is there twice, expected once");
}

#[test]
fn messages_have_no_control_characters() {
    let error = fngd_onnx::Error::malformed("attribute `a` is `\u{1b}[2J`").at("x\u{202e}y\n");
    assert_eq!(error.to_string(), "x\\u{202e}y\n: attribute `a` is `\\u{1b}[2J`");
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn truncated_and_mutated_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.onnx");
    let (mut opened, mut state) = (0, 0);
    for name in ["linear", "convolution", "merged", "storage", "training", "old"] {
        let bytes = fs::read(small(name)).unwrap();
        for length in 0..bytes.len() {
            opened += usize::from(open(folder.path(), &bytes[..length]).is_ok());
        }
        for _ in 0..3_500 {
            let mut mutant = bytes.clone();
            for _ in 0..1 + next(&mut state) % 4 {
                let position = next(&mut state) as usize % mutant.len();
                mutant[position] = if next(&mut state).is_multiple_of(2) {
                    next(&mut state) as u8
                } else {
                    mutant[position] ^ 1 << (next(&mut state) % 8)
                };
            }
            // What is still a model must also survive being changed and written.
            if let Ok(mut model) = open(folder.path(), &mutant) {
                opened += 1;
                let _ = model.replace_head(7, 0);
                if opened % 200 == 0 {
                    let _ = model.write(&out, &common::tensors(&model));
                }
            }
        }
    }
    // Otherwise the mutants would test the first check only.
    assert!(opened > 1_000, "{opened}");
}
