//! The files that PyTorch's exporters write: nothing is lost on the way in, and nothing changes on the way out.

mod common;

use common::{open, open_as_stored, tensors, trained};
use fngd_onnx::analysis::ParameterRole;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect();
    files.sort();
    assert!(files.len() > 40);
    files
}

#[test]
fn every_pytorch_parameter_is_trained_and_nothing_else() {
    let mut wrong = Vec::new();
    for path in corpus() {
        let golden = fs::read(path.with_extension("golden.safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&golden).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        // Zero biases that several PyTorch parameters could claim: they are trained, but have no golden gradient.
        let unclaimed: BTreeSet<&str> = metadata.get("unmatched").into_iter().flat_map(|all| all.split(',')).collect();
        let golden = SafeTensors::deserialize(&golden).unwrap();
        let named = |prefixes: &[&str]| -> BTreeSet<String> {
            let strip = |name: &&str| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).map(str::to_owned);
            golden.names().iter().filter_map(|name| strip(&&**name)).collect()
        };
        let model = open_as_stored(&path);
        // Parameters that were merged have no PyTorch name: repair made one, or took that of an Identity.
        let alias = |name: &str| {
            model.report().repairs.iter().any(|line| line.what.starts_with(&format!("`{name}` was merged")))
        };
        let made = |name: &str| name.contains("__") || alias(name);
        let trainable: BTreeSet<String> = model
            .parameters()
            .iter()
            .filter(|row| row.trainable && !made(&row.name))
            .filter(|row| row.role != ParameterRole::Bias || !unclaimed.contains(row.name.as_str()))
            .map(|row| row.name.clone())
            .collect();
        let expected = named(&["grad.", "gradnorm."]);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for missing in expected.difference(&trainable) {
            wrong.push(format!("{name}: {missing} is not trained"));
        }
        for extra in trainable.difference(&expected) {
            wrong.push(format!("{name}: {extra} is trained"));
        }
        let statistics = named(&["running."]);
        let running = model.parameters().iter().filter(|row| row.role == ParameterRole::RunningStatistic);
        let found: BTreeSet<String> = running.filter(|row| !made(&row.name)).map(|row| row.name.clone()).collect();
        if !found.is_superset(&statistics) {
            wrong.push(format!("{name}: running statistics {found:?}, expected {statistics:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn unchanged_files_keep_their_bytes_and_changed_ones_are_read_again() {
    let out = tempfile::tempdir().unwrap();
    for path in corpus() {
        let model = open(&path);
        let target = out.path().join(path.file_name().unwrap());
        let report = model.write(&target, &tensors(&model)).unwrap();
        assert_eq!(report.changed, Vec::<String>::new());
        let same = fs::read(&path).unwrap() == fs::read(&target).unwrap();
        assert_eq!(same, report.edits.is_empty(), "{}: {:?}", path.display(), report.edits);
        let model = open_as_stored(&path);
        let wanted = trained(&model);
        model.write(&target, &wanted).unwrap();
        let found: BTreeMap<_, _> = tensors(&open_as_stored(&target));
        for (name, tensor) in wanted {
            assert!(found.get(&name) == Some(&tensor), "{}: {name}", path.display());
        }
    }
}
