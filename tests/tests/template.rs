//! `template/`, made into a project of its own outside the workspace, builds, runs, and goes on where it stopped.
//!
//! It fills in the placeholders as cargo-generate does, and shares the workspace's target folder and versions, so that
//! libtorch's bindings are not compiled again. What it shows: the manifest, `build.rs` (the program finds libtorch
//! without LD_LIBRARY_PATH) and the code are whole.

use fngd_tests::outside::{build, command, succeeds, workspace};
use std::fs;
use std::path::Path;

/// Copies `from` to `to`, with the placeholders filled in and `.liquid` taken off the names.
fn generate(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "cargo-generate.toml" {
            continue;
        }
        let target = to.join(name.strip_suffix(".liquid").unwrap_or(&name));
        if entry.file_type().unwrap().is_dir() {
            generate(&entry.path(), &target);
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        let text = text.replace("{{project-name}}", "my-training").replace("{{fngd}}", workspace().to_str().unwrap());
        assert!(!text.contains("{{") && !text.contains("{%"), "{name} has a placeholder that nothing fills in");
        fs::write(target, text).unwrap();
    }
}

#[test]
fn a_generated_project_builds_trains_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("my-training");
    generate(&workspace().join("template"), &project);
    succeeds(command("cargo", &project).args(["fmt", "--check"]));
    // OK because Cargo makes this folder inside the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = build(&project, "my-training", target);

    let first = succeeds(&mut command(&program, &project));
    let accuracy = first.lines().last().and_then(|line| line.strip_prefix("accuracy ")).unwrap();
    assert!(accuracy.parse::<f64>().unwrap() > 0.9, "{first}");
    assert!(first.starts_with("step 32 (epoch 0, batch 32): learning rate 1.000e-1"), "{first}");
    // The run is over: the next one reads it back and has no batch left to train on.
    let over = format!("step 160 (epoch 4, batch 32): learning rate 1.000e-1\naccuracy {accuracy}\n");
    assert_eq!(succeeds(&mut command(&program, &project)), over);
}
