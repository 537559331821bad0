//! Prints what an import finds in each file: `cargo run -p fngd-onnx --example inspect -- model.onnx`.

use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;

fn main() {
    for path in std::env::args().skip(1) {
        match OnnxModel::open(Path::new(&path), &ImportOptions::default()) {
            Ok(model) => print(&path, &model),
            Err(error) => println!("{path}: {error}"),
        }
    }
}

fn print(path: &str, model: &OnnxModel) {
    println!("{path}: {:?} classes, {:?}", model.classes(), model.report());
    for row in model.parameters() {
        let train = if row.trainable { "train" } else { "fixed" };
        println!("  {:<50} {:?} {:?} {train} {} -- {}", row.name, row.dims, row.role, row.preconditioned, row.reason);
    }
    for (id, reason) in &model.analysis().constants {
        println!("  constant {} -- {reason}", model.graph().values[id.0].name);
    }
}
