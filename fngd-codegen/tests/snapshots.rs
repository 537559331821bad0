//! Whole models: the exact text of small ones, the length of large ones.
//!
//! `FNGD_REWRITE_SNAPSHOTS=1 cargo test -p fngd-codegen --test snapshots` writes the texts anew.

use fngd_codegen::{Generated, Options, generate};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn generated(path: &Path) -> Result<Generated, Box<dyn std::error::Error>> {
    let model = OnnxModel::open(path, &ImportOptions::default())?;
    let generated = generate(&model, &Options::default())?;
    syn::parse_file(&generated.source)?;
    Ok(generated)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with `tests/snapshots/{name}.rs`.
fn assert_snapshot(model: &Path, name: &str) -> Outcome {
    let found = generated(model)?.source;
    let path = root().join(format!("tests/snapshots/{name}.rs"));
    if std::env::var_os("FNGD_REWRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &found)?;
    }
    let expected = std::fs::read_to_string(&path)?;
    assert!(
        found == expected,
        "{} is not what is generated now; read the new text, then set FNGD_REWRITE_SNAPSHOTS=1",
        path.display()
    );
    Ok(())
}

/// The export `name`, beside a file of zeros that stands for its weights: a third of the largest, as the importer wants. It takes no room.
fn without_weights(name: &str) -> Result<(tempfile::TempDir, PathBuf), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(format!("{name}.onnx"));
    std::fs::copy(root().join(format!("tests/architectures/{name}.onnx")), &path)?;
    std::fs::File::create(folder.path().join("zeros.bin"))?.set_len(120 << 20)?;
    Ok((folder, path))
}

fn assert_lines(name: &str, most: usize) -> Outcome {
    let (_folder, path) = without_weights(name)?;
    let source = generated(&path)?.source;
    let lines = source.lines().count();
    assert!(lines <= most, "{name}: {lines} lines, at most {most} are wanted\n{source}");
    Ok(())
}

#[test]
fn digits_cnn_is_as_it_was() -> Outcome {
    assert_snapshot(&root().join("../models/digits-cnn.onnx"), "digits_cnn")
}

#[test]
fn resnet20_is_as_it_was() -> Outcome {
    assert_snapshot(&root().join("../models/resnet20-cifar10.onnx"), "resnet20")
}

#[test]
fn large_networks_are_as_they_were() -> Outcome {
    for name in ["resnet18-training", "resnet50-default", "vit_b_16-default"] {
        let (_folder, path) = without_weights(name)?;
        assert_snapshot(&path, name)?;
    }
    Ok(())
}

#[test]
fn resnet18_has_at_most_150_lines() -> Outcome {
    ["resnet18-default", "resnet18-training", "resnet18-torchscript"]
        .into_iter()
        .try_for_each(|name| assert_lines(name, 150))
}

#[test]
fn vit_b_has_at_most_200_lines() -> Outcome {
    assert_lines("vit_b_16-default", 200)
}

#[test]
fn mobilenet_has_a_struct_per_kind_of_block() -> Outcome {
    assert_lines("mobilenet_v2-default", 400)
}

#[test]
fn two_exports_of_one_network_are_one_text() -> Outcome {
    let mut texts = BTreeSet::new();
    for name in ["resnet18-training", "resnet18-torchscript"] {
        let (_folder, path) = without_weights(name)?;
        let options = Options { name: Some("ResNet".to_owned()) };
        let source = generate(&OnnxModel::open(&path, &ImportOptions::default())?, &options)?.source;
        // The header and comments say where it comes from, and TorchScript does not name the classes of blocks.
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let text =
            lines.collect::<Vec<_>>().join("\n").replace("BasicBlock", "Layer").replace("basic_blocks", "layers");
        texts.insert(text.replace("for block in", "for layer in").replace("apply_t(block,", "apply_t(layer,"));
    }
    assert_eq!(texts.len(), 1, "{texts:#?}");
    Ok(())
}

#[test]
fn variables_are_called_as_in_the_file() -> Outcome {
    let (_folder, path) = without_weights("resnet18-training")?;
    let model = OnnxModel::open(&path, &ImportOptions::default())?;
    let variables: BTreeSet<String> =
        generate(&model, &Options::default())?.variables.into_iter().map(|variable| variable.path).collect();
    let parameters: BTreeSet<String> = model.parameters().iter().map(|row| row.name.clone()).collect();
    assert_eq!(variables, parameters);
    Ok(())
}

#[test]
fn joined_projections_are_one_layer_whose_variables_have_a_dot() -> Outcome {
    let (_folder, path) = without_weights("vit_b_16-default")?;
    let model = OnnxModel::open(&path, &ImportOptions::default())?;
    let paths: BTreeSet<String> =
        generate(&model, &Options::default())?.variables.into_iter().map(|variable| variable.path).collect();
    let attention = "encoder.layers.encoder_layer_0.self_attention";
    for name in ["in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias"] {
        assert!(paths.contains(&format!("{attention}.{name}")), "{name} is not in {paths:#?}");
    }
    Ok(())
}
