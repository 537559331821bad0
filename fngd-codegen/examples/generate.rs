//! Prints a model as Rust: `cargo run -p fngd-codegen --example generate MODEL.onnx`.

use fngd_codegen::{Options, generate};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let model = OnnxModel::open(Path::new(&path), &ImportOptions::default())?;
        print!("{}", generate(&model, &Options::default())?.source);
    }
    Ok(())
}
