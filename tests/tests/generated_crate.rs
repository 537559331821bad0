//! `codegen --crate`: what it writes builds as it is, without warnings, and runs.

use fngd_tests::open_model;
use fngd_tests::outside::{build, command, succeeds, workspace};
use std::fs;
use std::path::Path;

#[test]
fn a_generated_crate_builds_and_computes_what_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let crate_folder = folder.path().join("my-digits");
    let model = open_model("digits-cnn.onnx");
    let generated = fngd_codegen::generate(&model, &Default::default()).unwrap();
    let sources = workspace();
    let project = fngd_codegen::project::Project {
        name: "my-digits",
        module: "digits_cnn",
        model: &generated.name,
        input: Some((vec![2, 1, 8, 8], false)),
        fngd: &sources,
        // The test's own environment says it.
        libtorch: None,
    };
    let mut files = project.files();
    files.push(("src/digits_cnn.rs", generated.source.clone()));
    for (path, content) in files {
        let path = crate_folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let weights = fngd_codegen::weights::file(&model, &generated.variables).unwrap();
    fs::write(crate_folder.join("digits_cnn.safetensors"), weights).unwrap();
    // OK because Cargo makes this folder inside the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = build(&crate_folder, "my-digits", target);
    let said = succeeds(&mut command(program, &crate_folder));
    assert!(said.ends_with("\n[2, 1, 8, 8] -> [2, 10]\n"), "{said}");
    // The table of what is trained: a line for each parameter, under the file's names.
    for row in model.parameters().iter().filter(|row| row.trainable) {
        assert!(said.contains(&row.name), "{} is missing in\n{said}", row.name);
    }
}
