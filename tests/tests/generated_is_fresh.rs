//! The checked-in Rust of `tests/generated` is what the generator writes now. (`tests/generated.rs` compiles and runs it.)
//!
//! `FNGD_WRITE=1 cargo test -p fngd-tests --test generated_is_fresh` writes it anew.

use fngd_codegen::Options;
use fngd_codegen::stamp::{self, State};
use fngd_onnx::OnnxModel;
use fngd_tests::fixture::{self, Fixture};
use fngd_tests::open_model;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

fn check(name: &str, model: &OnnxModel) -> usize {
    let generated =
        fngd_codegen::generate(model, &Default::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = generated.source;
    let path = fixture::folder().join(format!("{name}.rs"));
    if std::env::var_os("FNGD_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let formatted = formatted(&text);
    assert_eq!(
        stamp::state(&formatted, &text),
        State::Current,
        "{name}: a formatter is taken for an editor\n{formatted}"
    );
    assert!(
        found == text,
        "{} is not what is generated now: write it anew with FNGD_WRITE=1, and read it",
        path.display()
    );
    text.lines().count()
}

/// What `cargo fmt` makes of it in a project of its own.
fn formatted(text: &str) -> String {
    let mut rustfmt = Command::new("rustfmt");
    // Where no rustfmt.toml is.
    rustfmt.args(["--edition", "2024"]).current_dir(std::env::temp_dir()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut rustfmt = rustfmt.spawn().unwrap();
    rustfmt.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = rustfmt.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn small_models_are_fresh() {
    check("digits_cnn", &open_model("digits-cnn.onnx"));
    check("resnet20", &open_model("resnet20-cifar10.onnx"));
}

/// Lines of the whole file, its stamp and comments too.
#[test]
fn large_models_are_fresh_and_short() {
    for (name, budget) in [
        ("resnet18", 150),
        ("resnet18_default", 150),
        ("resnet18_torchscript", 150),
        ("resnet110", 150),
        ("resnet50", 160),
        ("mobilenet_v2", 320),
        ("mobilenet_v3_small", 520),
        ("vit_b_16", 200),
        ("vit_b_16_default", 200),
        ("vit_b_16_torchscript", 200),
    ] {
        let lines = check(name, &Fixture::open(name).model);
        assert!(lines <= budget, "{name} has {lines} lines, {budget} are allowed");
    }
}

#[test]
fn two_exports_of_one_network_are_one_text() {
    let mut texts = BTreeSet::new();
    for name in ["resnet18", "resnet18_default", "resnet18_torchscript"] {
        let options = Options { name: Some("ResNet".to_owned()) };
        let source = fngd_codegen::generate(&Fixture::open(name).model, &options).unwrap().source;
        // The header and comments say where it comes from, and TorchScript does not name the classes of blocks.
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let text =
            lines.collect::<Vec<_>>().join("\n").replace("BasicBlock", "Layer").replace("basic_blocks", "layers");
        texts.insert(text.replace("for block in", "for layer in").replace("apply_t(block,", "apply_t(layer,"));
    }
    assert_eq!(texts.len(), 1, "{texts:#?}");
}

#[test]
fn variables_are_called_as_in_the_file() {
    let model = Fixture::open("resnet18").model;
    let generated = fngd_codegen::generate(&model, &Default::default()).unwrap();
    let variables: BTreeSet<String> = generated.variables.into_iter().map(|variable| variable.path).collect();
    let parameters: BTreeSet<String> = model.parameters().iter().map(|row| row.name.clone()).collect();
    assert_eq!(variables, parameters);
}

#[test]
fn joined_projections_are_one_layer() {
    let generated = fngd_codegen::generate(&Fixture::open("vit_b_16_default").model, &Default::default()).unwrap();
    let paths: BTreeSet<String> = generated.variables.into_iter().map(|variable| variable.path).collect();
    let attention = "encoder.layers.encoder_layer_0.self_attention";
    for name in ["in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias"] {
        assert!(paths.contains(&format!("{attention}.{name}")), "{name} is not in {paths:#?}");
    }
}

/// What the documentation shows is what is generated.
#[test]
fn the_documentation_shows_real_code() {
    let file = |path: &str| {
        let path = fixture::folder().join("../..").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let generated = file("tests/generated/resnet18.rs");
    for (page, blocks) in [("docs/generated-code.md", 2), ("README.md", 1)] {
        let text = file(page);
        let shown: Vec<&str> = text
            .split("```rust,ignore\n")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once("```")?.0))
            .filter(|block| block.contains("BasicBlock"))
            .collect();
        assert_eq!(shown.len(), blocks, "{page}");
        for block in shown {
            assert!(generated.contains(block), "{page} shows what is not generated:\n{block}");
        }
    }
}
