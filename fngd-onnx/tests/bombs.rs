//! Small files that ask for much. One test in a process of its own, because it measures the process's memory.

mod common;

use common::{field, varint};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;

/// What refusing a bomb may take, beside the file itself.
const MOST_MIB: u64 = 64;

fn model(graph: &[u8], more: &[u8]) -> Vec<u8> {
    let opset = [field(1, b""), vec![2 << 3, 20]].concat();
    [vec![1 << 3, 10], field(8, &opset), field(7, graph), more.to_vec()].concat()
}

/// A tensor that says it has these dims, with one float in it.
fn tensor(dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| [vec![1 << 3], varint(*dim)].concat()).collect();
    [dims, vec![2 << 3, 1], field(8, b"w"), field(9, &[0; 4])].concat()
}

/// `count` functions, each of two calls of the next one.
fn chain_of_functions(count: usize) -> Vec<u8> {
    let call = |name: &str| {
        field(7, &[field(1, b"x"), field(2, b"y"), field(4, name.as_bytes()), field(7, b"local")].concat())
    };
    let function = |number: usize| {
        let next = call(&format!("f{}", number + 1)).repeat(2);
        field(
            25,
            &[field(1, format!("f{number}").as_bytes()), field(4, b"x"), field(5, b"y"), next, field(10, b"local")]
                .concat(),
        )
    };
    let node = field(1, &[field(1, b"x"), field(2, b"y"), field(4, b"f0"), field(7, b"local")].concat());
    let graph = [node, field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    let domain = field(8, &[field(1, b"local"), vec![2 << 3, 1]].concat());
    model(&graph, &[domain, (0..count).flat_map(function).collect()].concat())
}

fn nested(depth: usize) -> Vec<u8> {
    let mut graph = Vec::new();
    for _ in 0..depth {
        graph = field(1, &field(5, &field(6, &graph)));
    }
    model(&graph, b"")
}

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn bombs_are_refused_without_the_memory_that_they_ask_for() {
    let empty = |number, count| model(&field(number, b"").repeat(count), b"");
    let attributes = model(&field(1, &field(5, b"").repeat(2_000_000)), b"");
    let bombs = [
        ("20 MB of empty nodes", empty(1, 10_000_000)),
        ("4 MB of empty attributes", attributes),
        ("20 MB of empty initializers", empty(5, 10_000_000)),
        ("20 MB of empty inputs", empty(11, 10_000_000)),
        ("functions without end", model(b"", &field(25, b"").repeat(1_000_000))),
        ("metadata without end", model(b"", &field(14, b"").repeat(8_000_000))),
        ("a string of 20 MB", model(&field(2, &vec![b'x'; 20 << 20]), b"")),
        ("unknown fields of 20 MB", model(&field(90, &vec![0; 20 << 20]), b"")),
        ("integers that take eight times their place", model(&field(5, &field(7, &vec![1; 50 << 20])), b"")),
        ("a tensor of 2^60 elements", model(&field(5, &tensor(&[1 << 30, 1 << 30])), b"")),
        ("graphs in graphs", nested(20_000)),
        ("functions that call each other 2^60 times", chain_of_functions(60)),
    ];
    for (name, bomb) in bombs {
        // Writing 5 makes the kernel forget the most that there was.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS");
        let error = OnnxModel::from_bytes(bomb, Path::new("bomb.onnx"), &ImportOptions::default()).unwrap_err();
        let grown = status("VmHWM").saturating_sub(before);
        assert!(error.is_limit() || error.is_malformed() || error.is_unsupported(), "{name}: {error}");
        assert!(grown < MOST_MIB, "{name}: {grown} MiB: {error}");
    }
}
