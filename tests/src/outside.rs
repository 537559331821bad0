//! Building projects outside the workspace, with its target folder and versions, so that libtorch's bindings are not compiled again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    // OK because this package is a folder of the workspace.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Builds `project`, whose package is called `package`, offline, and gives the path of its program.
///
/// # Panics
/// If it does not build, or not without warnings: that fails the test.
pub fn build(project: &Path, package: &str, target: &Path) -> PathBuf {
    fs::copy(workspace().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    remove_leftovers(target, package);
    let mut build = command("cargo", project);
    build.args(["build", "--offline", "--quiet", "--target-dir"]).arg(target);
    // The workspace's profile, so that what it has compiled is found.
    build.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    succeeds(build.env("CARGO_INCREMENTAL", "0"));
    target.join("debug").join(package)
}

/// A command without what `cargo test` says to its tests, and without help in finding libtorch at run time.
pub fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
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

/// Runs it, and gives what it printed.
///
/// # Panics
/// If it fails, or warns: that fails the test.
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !stderr.contains("warning"), "{command:?}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Every run has another folder, which is another package to Cargo: what the last one left in `target` is of no use.
fn remove_leftovers(target: &Path, package: &str) {
    for folder in ["deps", "build", ".fingerprint"] {
        let Ok(entries) = fs::read_dir(target.join("debug").join(folder)) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().replace('_', "-");
            if name.starts_with(&format!("{package}-")) {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.unwrap();
            }
        }
    }
}
