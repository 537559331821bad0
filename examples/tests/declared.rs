//! Every numbered file is an example that `cargo test` runs, and fits a screen.

use std::collections::BTreeSet;
use std::fs;

/// 08 has a model with seven layers; the others stay within 55.
const LINES: usize = 70;

#[test]
fn every_numbered_example_is_run_by_cargo_test() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".rs") && name != "build.rs" {
            let lines = fs::read_to_string(format!("{folder}/{name}")).unwrap().lines().count();
            assert!(lines <= LINES, "{name} has {lines} lines, more than a screen");
            files.insert(name);
        }
    }
    let manifest: toml::Table = fs::read_to_string(format!("{folder}/Cargo.toml")).unwrap().parse().unwrap();
    let mut declared = BTreeSet::new();
    for example in manifest["example"].as_array().unwrap() {
        let name = example["name"].as_str().unwrap();
        assert_eq!(example["path"].as_str(), Some(format!("{name}.rs").as_str()));
        // With the default harness a `main` would not be run at all.
        assert_eq!((example["test"].as_bool(), example["harness"].as_bool()), (Some(true), Some(false)), "{name}");
        declared.insert(format!("{name}.rs"));
    }
    assert_eq!(files, declared);
    assert!(files.len() >= 8, "{files:?}");
}
