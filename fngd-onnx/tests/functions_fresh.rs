//! The checked-in bodies of operators are the ones that ONNX gives.

use std::path::Path;
use std::process::Command;

/// Asks Python's onnx package, if it is there in the right version; says so if it is not. `FNGD_PYTHON` names another interpreter.
#[test]
fn bodies_are_fresh() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/dump_functions.py");
    let python = std::env::var("FNGD_PYTHON").unwrap_or_else(|_| "python3".into());
    match Command::new(&python).arg("-c").arg("import onnx").output() {
        Ok(output) if output.status.success() => (),
        _ => return eprintln!("not compared: {python} has no package onnx"),
    }
    let output = Command::new(&python).arg(script).arg("--check").output().unwrap();
    if output.status.code() == Some(77) {
        return eprintln!("not compared: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(output.status.success(), "{output:?}");
}
