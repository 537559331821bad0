//! Shows what a model is as calls to `tch`: `cargo run -p fngd-codegen --example lift MODEL.onnx`.

use fngd_codegen::lift;
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let model = OnnxModel::open(Path::new(&path), &ImportOptions::default())?;
        match lift(&model) {
            Ok(program) => println!("{path}: {} calls\n{program}", program.operations.len()),
            Err(error) => println!("{path}: {error}"),
        }
    }
    Ok(())
}
