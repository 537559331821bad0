//! `template/`, made into a project of its own outside the workspace, builds, runs, and goes on where it stopped.
//!
//! It fills in the placeholders as cargo-generate does, and shares the workspace's target folder and versions, so that
//! libtorch's bindings are not compiled again. What it shows: the manifest, `build.rs` (the program finds libtorch
//! without LD_LIBRARY_PATH) and the code are whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    // OK because the package is a folder of the workspace.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

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

/// A command without what `cargo test` says to its tests, and without help in finding libtorch at run time.
fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_remove("LD_LIBRARY_PATH");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST") || text.starts_with("DEP_") {
            command.env_remove(name);
        }
    }
    command
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !stderr.contains("warning"), "{command:?}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Every run has another folder, which is another package to Cargo: what the last one left in `target` is of no use.
fn remove_leftovers(target: &Path) {
    for folder in ["deps", "build", ".fingerprint"] {
        let Ok(entries) = fs::read_dir(target.join("debug").join(folder)) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().replace('_', "-");
            if name.starts_with("my-training-") {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.unwrap();
            }
        }
    }
}

#[test]
fn a_generated_project_builds_trains_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("my-training");
    generate(&workspace().join("template"), &project);
    fs::copy(workspace().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    // OK because Cargo makes this folder inside the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    succeeds(command(env!("CARGO"), &project).args(["fmt", "--check"]));
    remove_leftovers(target);
    let mut build = command(env!("CARGO"), &project);
    succeeds(build.args(["build", "--offline", "--quiet", "--target-dir"]).arg(target).env("CARGO_INCREMENTAL", "0"));

    let program = target.join("debug/my-training");
    let first = succeeds(&mut command(&program, &project));
    let accuracy = first.lines().last().and_then(|line| line.strip_prefix("accuracy ")).unwrap();
    assert!(accuracy.parse::<f64>().unwrap() > 0.9, "{first}");
    assert!(first.starts_with("step 32 (epoch 0, batch 32): learning rate 1.000e-1"), "{first}");
    // The run is over: the next one reads it back and has no batch left to train on.
    let over = format!("step 160 (epoch 4, batch 32): learning rate 1.000e-1\naccuracy {accuracy}\n");
    assert_eq!(succeeds(&mut command(&program, &project)), over);
}
