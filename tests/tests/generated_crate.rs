//! `codegen --crate`: what it writes builds as it is, without warnings, and runs.

use fngd_tests::outside::{build, command, succeeds, workspace};
use fngd_tests::{open_model, programs};
use std::path::Path;

#[test]
fn a_generated_crate_builds_and_computes_what_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let model = workspace().join("models/digits-cnn.onnx");
    let codegen = ["codegen", model.to_str().unwrap(), "--crate", "-o", "my-digits"];
    succeeds(command(programs::launcher(), folder.path()).args(codegen));
    let project = folder.path().join("my-digits");
    // OK because Cargo makes this folder inside the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = build(&project, "my-digits", target);
    let said = succeeds(&mut command(program, &project));
    assert!(said.ends_with("\n[2, 1, 8, 8] -> [2, 10]\n"), "{said}");
    // The table of what is trained: a line for each parameter, under the file's names.
    for row in open_model("digits-cnn.onnx").parameters().iter().filter(|row| row.trainable) {
        assert!(said.contains(&row.name), "{} is missing in\n{said}", row.name);
    }
}
