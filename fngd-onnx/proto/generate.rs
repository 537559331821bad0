//! Makes `src/proto_generated.rs` from `proto/onnx-ml.proto`; shared by the example that writes it and the test that compares.

use std::path::{Path, PathBuf};

/// Where the generated file belongs.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto_generated.rs")
}

/// The text of the generated file.
pub fn generate() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut descriptors = protox::compile(["onnx-ml.proto"], [&folder]).expect("onnx-ml.proto compiles");
    // Comments in the .proto are not written for rustdoc; they would be taken for links and doc tests.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out = tempfile::tempdir().expect("a temporary directory");
    prost_build::Config::new()
        .out_dir(out.path())
        // Tensors share the bytes of the file instead of copying them.
        .bytes(["."])
        .compile_fds(descriptors)
        .expect("prost-build accepts what protox compiled");
    let code = std::fs::read_to_string(out.path().join("onnx.rs")).expect("prost-build wrote package onnx");
    format!(
        "// Made by `cargo run -p fngd-onnx --example generate_proto` from proto/onnx-ml.proto. Do not edit.\n\n{code}"
    )
}
