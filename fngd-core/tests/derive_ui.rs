//! What the compiler says about wrong uses of `#[derive(FngdModule)]`, word for word, and that unusual right ones compile.
//!
//! Each file of `tests/ui/fail` is compiled against the library that this test was built with, and what the compiler reports is
//! compared with the `.txt` beside it. `FNGD_BLESS=1` writes these anew. `trybuild` would do the same, but builds all dependencies, tch
//! and torch-sys among them, a second time.

use serde_json::Value;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

#[test]
fn wrong_uses_are_compile_errors() {
    for case in cases("fail") {
        let (succeeded, found) = compile(&case, "fngd_core");
        assert!(!succeeded, "{} compiles", case.display());
        let file = case.with_extension("txt");
        if std::env::var_os("FNGD_BLESS").is_some() {
            fs::write(&file, &found).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == expected, "{} is not what the compiler says:\n{found}", file.display());
    }
}

#[test]
fn right_uses_compile_without_warnings() {
    for case in cases("pass") {
        // One crate has it under another name, and only under that.
        let name = if case.file_stem() == Some(OsStr::new("renamed_crate")) { "natural_gradient" } else { "fngd_core" };
        let (succeeded, found) = compile(&case, name);
        assert!(succeeded && found.is_empty(), "{}:\n{found}", case.display());
    }
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui").join(kind);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.extension() == Some(OsStr::new("rs"))).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// Whether `case` compiles with this crate called `name`, and what the compiler says.
fn compile(case: &Path, name: &str) -> (bool, String) {
    let executable = std::env::current_exe().unwrap();
    let dependencies = executable.parent().unwrap();
    let output_folder = tempfile::tempdir().unwrap();
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    compiler.args(["--edition=2024", "--crate-type=lib", "--error-format=json", "--emit=metadata", "--out-dir"]);
    compiler.arg(output_folder.path()).arg("--extern").arg(format!("{name}={}", library(dependencies).display()));
    compiler.arg("-L").arg(format!("dependency={}", dependencies.display())).arg(case);
    let output = compiler.output().expect("rustc runs");
    let messages = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), messages.lines().map(report).collect())
}

/// The library as it was built last. Others may be there, of other sets of features.
fn library(dependencies: &Path) -> PathBuf {
    let files = fs::read_dir(dependencies).unwrap().map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with("libfngd_core-") && name.ends_with(".rlib")
    };
    let modified =
        |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    files.filter(is_library).max_by_key(modified).expect("this test needs the library, so it has been built")
}

/// One message of the compiler: what, where, and the notes that are ours.
fn report(line: &str) -> String {
    let message: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut report = String::new();
    let spans = message["spans"].as_array().map_or(&[][..], Vec::as_slice);
    // The summary at the end has no place.
    let Some(span) = spans.iter().find(|span| span["is_primary"] == true) else { return report };
    let _ = writeln!(report, "{}: {}", text(&message["level"]), text(&message["message"]));
    let number = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    let (from, to) = (number(&span["column_start"]), number(&span["column_end"]));
    let source = text(&span["text"][0]["text"]);
    let _ = write!(report, "  at {}:{from} `{}`", span["line_start"], &source[from - 1..to - 1]);
    let label = text(&span["label"]);
    let _ = writeln!(report, "{}", if label.is_empty() { label } else { format!(": {label}") });
    for note in message["children"].as_array().into_iter().flatten() {
        let content = text(&note["message"]);
        if note["level"] == "note" && !content.starts_with("required") && !content.contains("redundant") {
            let _ = writeln!(report, "  note: {content}");
        }
    }
    report + "\n"
}
