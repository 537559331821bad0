//! Small files of the large corpus: what PyTorch trains is trained, and computes what PyTorch computes.

use fngd_tests::parity::shortcomings;
use std::path::Path;

#[test]
fn outputs_and_gradients_are_pytorchs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/small");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the files are checked in").map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    assert!(files.len() >= 12, "found {} files", files.len());
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            match shortcomings(path) {
                Ok(wrong) if wrong.is_empty() => None,
                Ok(wrong) => Some(format!("{name}: {}", wrong.join("; "))),
                Err(error) => Some(format!("{name}: {error}")),
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
