//! Tensors kept outside the model file.

mod common;

use common::{open, small, tensors, trained};
use fngd_onnx::{ImportOptions, Limits, OnnxModel};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn copy_to(folder: &Path) -> PathBuf {
    let path = folder.join("external.onnx");
    fs::copy(small("external"), &path).unwrap();
    fs::copy(small("external").with_extension("onnx.data"), folder.join("external.onnx.data")).unwrap();
    path
}

/// The model file with another location of the same length.
fn relocated(folder: &Path, location: &str) -> PathBuf {
    let bytes = fs::read(small("external")).unwrap();
    let old = b"external.onnx.data";
    assert_eq!(old.len(), location.len());
    let mut new = bytes.clone();
    for start in 0..bytes.len() - old.len() {
        if bytes[start..].starts_with(old) {
            new[start..start + old.len()].copy_from_slice(location.as_bytes());
        }
    }
    let path = folder.join("external.onnx");
    fs::write(&path, new).unwrap();
    path
}

fn refused(path: &Path) -> String {
    let error = OnnxModel::open(path, &ImportOptions::default()).unwrap_err();
    assert!(error.is_external_data(), "{error}");
    error.to_string().replace(path.parent().unwrap().to_str().unwrap(), "DIR")
}

#[test]
fn data_is_read_from_its_place() {
    let model = open(&small("external"));
    let data = fs::read(small("external").with_extension("onnx.data")).unwrap();
    let values = tensors(&model);
    assert_eq!(values["fc.weight"].bytes, data[6..54]);
    assert_eq!(values["fc.bias"].bytes, data[61..73]);
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path());
    fs::remove_file(folder.path().join("external.onnx.data")).unwrap();
    assert_eq!(
        refused(&path),
        "DIR/external.onnx: tensor `fc.weight`: cannot open data file DIR/external.onnx.data: \
         No such file or directory (os error 2); copy it beside the model file"
    );
}

#[test]
fn a_short_file_is_refused_before_allocating() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path());
    fs::write(folder.path().join("external.onnx.data"), [0; 60]).unwrap();
    assert_eq!(
        refused(&path),
        "DIR/external.onnx: tensor `fc.bias`: external data takes 12 bytes from 61 on, but `external.onnx.data` has 60 bytes; \
         copy the data file again"
    );
}

#[test]
fn locations_stay_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let outside = "leads out of the model's folder, expected a relative path without `..`";
    for location in ["../../etc/passwd..", "/etc/passwd.......", "a/../../../etc/pwd"] {
        let path = relocated(folder.path(), location);
        assert_eq!(
            refused(&path),
            format!("DIR/external.onnx: tensor `fc.weight`: external data location `{location}` {outside}")
        );
    }
    let path = relocated(folder.path(), "C:\\windows\\system3");
    assert_eq!(
        refused(&path),
        "DIR/external.onnx: tensor `fc.weight`: external data location `C:\\windows\\system3` has a character that file names \
         may not have here (NUL, `\\` or `:`)"
    );
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_and_special_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path());
    let data = folder.path().join("external.onnx.data");
    let moved = elsewhere.path().canonicalize().unwrap().join("weights");
    fs::rename(&data, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &data).unwrap();
    assert_eq!(
        refused(&path),
        format!(
            "DIR/external.onnx: tensor `fc.weight`: data file DIR/external.onnx.data leads out of the model's folder to {}; \
             put a copy in its place",
            moved.display()
        )
    );
    // A link that stays inside is fine.
    fs::remove_file(&data).unwrap();
    fs::rename(&moved, folder.path().join("inside")).unwrap();
    std::os::unix::fs::symlink("inside", &data).unwrap();
    open(&path);
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    assert!(refused(&path).ends_with("is not a regular file"));
    fs::remove_dir(&data).unwrap();
    // Opening a pipe would wait for ever.
    assert!(std::process::Command::new("mkfifo").arg(&data).status().unwrap().success());
    assert!(refused(&path).ends_with("is not a regular file"));
}

#[test]
fn the_limit_for_external_data_holds() {
    let limits = Limits { external_bytes: 50, ..Limits::default() };
    let error = OnnxModel::open(&small("external"), &ImportOptions { limits, ..ImportOptions::default() }).unwrap_err();
    assert!(error.is_limit());
    assert!(error.to_string().ends_with(
        "tensor `fc.bias`: external data up to byte 73 of `external.onnx.data` exceeds the limit for external data"
    ));
}

#[test]
fn training_changes_a_copy_beside_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path());
    let model = open(&path);
    let before = fs::read(folder.path().join("external.onnx.data")).unwrap();
    // Another folder, same name: the data keeps its name, and the model its bytes.
    let target = folder.path().join("out/external.onnx");
    let report = model.write(&target, &trained(&model)).unwrap();
    assert_eq!(report.data_files, [folder.path().join("out/external.onnx.data")]);
    assert_eq!(fs::read(&target).unwrap(), fs::read(&path).unwrap());
    let after = fs::read(&report.data_files[0]).unwrap();
    for (position, (before, after)) in before.iter().zip(&after).enumerate() {
        let trained = (6..54).contains(&position) || (61..73).contains(&position);
        assert!(trained || before == after, "byte {position}");
    }
    assert_eq!(tensors(&open(&target)), trained(&model));
    // Twice is no different.
    assert_eq!(model.write(&target, &trained(&model)).unwrap(), report);
    // The same folder, another name: the data gets a name of its own, and the input's is left alone.
    let target = folder.path().join("best.onnx");
    let report = model.write(&target, &trained(&model)).unwrap();
    assert_eq!(report.data_files, [folder.path().join("best.onnx.data")]);
    assert_eq!(report.edits, ["external data is in `best.onnx.data` instead of `external.onnx.data`"]);
    assert_eq!(tensors(&open(&target)), trained(&model));
    assert_eq!(fs::read(folder.path().join("external.onnx.data")).unwrap(), before);
    // Nothing trained: the data that is there serves both.
    let target = folder.path().join("same.onnx");
    let report = model.write(&target, &BTreeMap::new()).unwrap();
    assert_eq!(report.data_files, Vec::<PathBuf>::new());
    assert_eq!(fs::read(&target).unwrap(), fs::read(&path).unwrap());
}

#[test]
fn files_that_are_in_the_way_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = relocated(folder.path(), "precious-notes.txt");
    let data = small("external").with_extension("onnx.data");
    fs::copy(&data, folder.path().join("precious-notes.txt")).unwrap();
    let model = open(&path);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("precious-notes.txt"), "mine").unwrap();
    let report = model.write(&out.join("external.onnx"), &trained(&model)).unwrap();
    assert_eq!(report.data_files, [out.join("external.onnx.data")]);
    assert_eq!(fs::read(out.join("precious-notes.txt")).unwrap(), b"mine");
    assert_eq!(tensors(&open(&out.join("external.onnx"))), trained(&model));
}

#[test]
fn tensors_on_the_same_bytes_must_stay_equal() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path());
    // The bias moves onto the first row of the weight: offset 61 becomes 06.
    let mut bytes = fs::read(&path).unwrap();
    let offset = bytes.windows(2).rposition(|window| window == b"61").unwrap();
    bytes[offset..offset + 2].copy_from_slice(b"06");
    fs::write(&path, bytes).unwrap();
    let model = open(&path);
    let target = folder.path().join("out/external.onnx");
    model.write(&target, &tensors(&model)).unwrap();
    let error = model.write(&target, &trained(&model)).unwrap_err();
    assert!(error.is_unsupported());
    assert_eq!(
        error.to_string(),
        "tensors `fc.bias` and `fc.weight` share bytes of `external.onnx.data`, but have different values now; \
         save the model again with onnx.save"
    );
}
