//! Tensors kept outside the model file.

mod common;

use common::{field, open, small, tensors, trained};
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

/// Four bytes of data must not become gigabytes of tensors.
#[test]
fn one_region_is_read_a_few_times_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("w"), 1f32.to_le_bytes()).unwrap();
    let tensor = |number: usize| {
        let location = field(13, &[field(1, b"location"), field(2, b"w")].concat());
        let header = [vec![1 << 3, 1, 2 << 3, 1], field(8, format!("w{number}").as_bytes())].concat();
        field(5, &[header, location, vec![14 << 3, 1]].concat())
    };
    let file = |tensors: usize| {
        let node = field(1, &[field(1, b"x"), field(1, b"w0"), field(2, b"y"), field(4, b"Add")].concat());
        let ends = [field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
        let graph = [node, (0..tensors).flat_map(tensor).collect(), ends].concat();
        let opset = [field(1, b""), vec![2 << 3, 20]].concat();
        [vec![1 << 3, 10], field(8, &opset), field(7, &graph)].concat()
    };
    let open =
        |tensors| OnnxModel::from_bytes(file(tensors), &folder.path().join("model.onnx"), &ImportOptions::default());
    open(4).unwrap();
    let error = open(5).unwrap_err();
    assert!(error.is_limit());
    assert!(error.to_string().ends_with("tensor `w4`: tensors read `w` more than 4 times over"), "{error}");
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

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn writing_again_replaces_the_model_before_its_data_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path());
    let model = open(&path);
    let out = folder.path().join("out");
    let target = out.join("best.onnx");
    model.write(&target, &trained(&model)).unwrap();
    assert_eq!(names(&out), ["best.onnx", "best.onnx.data"]);
    // A stranger's file keeps its place, whatever it is called.
    fs::write(out.join("best.onnx.0123456789abcdef.data"), "mine").unwrap();
    let report = model.write(&target, &tensors(&model)).unwrap();
    let [data] = report.data_files.as_slice() else { panic!("{report:?}") };
    let name = data.file_name().unwrap().to_str().unwrap();
    assert_eq!(names(&out), ["best.onnx", "best.onnx.0123456789abcdef.data", name]);
    assert_eq!(tensors(&open(&target)), tensors(&model));
    // The model that is there until the very end is whole: its data is not touched before.
    fs::remove_file(&target).unwrap();
    fs::create_dir(&target).unwrap();
    let before = fs::read(data).unwrap();
    assert!(model.write(&target, &trained(&model)).unwrap_err().is_file());
    assert_eq!(fs::read(data).unwrap(), before);
    assert_eq!(names(&out), ["best.onnx", "best.onnx.0123456789abcdef.data", name]);
}

#[test]
fn the_input_data_is_never_written() {
    // The input's data file has the name that the output's would get.
    let folder = tempfile::tempdir().unwrap();
    let path = relocated(folder.path(), "exported.onnx.data");
    let data = folder.path().join("exported.onnx.data");
    fs::copy(small("external").with_extension("onnx.data"), &data).unwrap();
    let before = fs::read(&data).unwrap();
    let model = open(&path);
    let report = model.write(&folder.path().join("exported.onnx"), &trained(&model)).unwrap();
    assert_ne!(report.data_files.first(), Some(&data));
    assert_eq!(tensors(&open(&folder.path().join("exported.onnx"))), trained(&model));
    model.write(&folder.path().join("exported.onnx"), &tensors(&model)).unwrap();
    assert_eq!(fs::read(&data).unwrap(), before);
    let error = model.write(&data, &trained(&model)).unwrap_err();
    assert!(error.is_mismatch());
    assert_eq!(
        error.to_string(),
        format!("{} is the file that the model was read from; choose another output", data.display())
    );
    assert_eq!(fs::read(&data).unwrap(), before);
}

#[test]
fn the_name_of_a_written_file_does_not_come_from_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = relocated(folder.path(), ".bash_profile.copy");
    fs::copy(small("external").with_extension("onnx.data"), folder.path().join(".bash_profile.copy")).unwrap();
    let model = open(&path);
    let out = folder.path().join("out");
    model.write(&out.join("external.onnx"), &tensors(&model)).unwrap();
    assert_eq!(names(&out), ["external.onnx", "external.onnx.data"]);
}

#[test]
fn data_that_changed_since_it_was_read_is_not_mixed_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path());
    let model = open(&path);
    let data = folder.path().join("external.onnx.data");
    let mut bytes = fs::read(&data).unwrap();
    bytes.push(0);
    fs::write(&data, bytes).unwrap();
    let error = model.write(&folder.path().join("out/external.onnx"), &trained(&model)).unwrap_err();
    assert!(error.is_external_data());
    let place = data.display();
    assert_eq!(
        error.to_string(),
        format!("data file {place} has changed since the model was read; nothing was written")
    );
    assert!(!folder.path().join("out").exists());
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
    fs::write(out.join("external.onnx.data"), "mine too").unwrap();
    let report = model.write(&out.join("external.onnx"), &trained(&model)).unwrap();
    assert_eq!(report.data_files.len(), 1);
    assert_eq!(fs::read(out.join("external.onnx.data")).unwrap(), b"mine too");
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

/// A model whose only tensor, of two floats, is where `entries` say.
fn elsewhere(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let entry = |(key, value): &(&[u8], &[u8])| field(13, &[field(1, key), field(2, value)].concat());
    let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
    let tensor = field(5, &[vec![1 << 3, 2, 2 << 3, 1], field(8, b"w"), entries, vec![14 << 3, 1]].concat());
    let node = field(1, &[field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"Add")].concat());
    let graph = [node, tensor, field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    let opset = [field(1, b""), vec![2 << 3, 20]].concat();
    [vec![1 << 3, 10], field(8, &opset), field(7, &graph)].concat()
}

#[cfg(unix)]
#[test]
fn every_way_out_of_the_folder_is_closed() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("data"), [0; 8]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("data"), [0; 8]).unwrap();
    fs::create_dir(path("inner")).unwrap();
    fs::write(path("inner/data"), [0; 8]).unwrap();
    symlink(outside.path().join("data"), path("final")).unwrap();
    symlink(outside.path(), path("parent")).unwrap();
    symlink("nobody", path("dangling")).unwrap();
    symlink("loop", path("loop")).unwrap();
    symlink("/dev/zero", path("device")).unwrap();
    symlink("/proc/self/mem", path("memory")).unwrap();
    symlink("inner/../../..", path("up")).unwrap();
    fs::hard_link(outside.path().join("data"), path("hard")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let absolute = outside.path().join("data").to_str().unwrap().to_owned();
    let open = |entries: &[(&[u8], &[u8])]| {
        OnnxModel::from_bytes(elsewhere(entries), &path("model.onnx"), &ImportOptions::default())
    };
    let long = "x/".repeat(600) + "data";
    let locations = [
        "..",
        "../data",
        "inner/../../data",
        "inner/../data",
        "/",
        absolute.as_str(),
        "final",
        "parent/data",
        "dangling",
        "loop",
        "device",
        "memory",
        "up/etc/hostname",
        "socket",
        "inner",
        ".",
        "",
        "nobody",
        "data\0",
        "\0",
        "inner\\data",
        "C:data",
        long.as_str(),
        "data/x",
    ];
    for location in locations {
        let error = open(&[(b"location", location.as_bytes())]).unwrap_err();
        assert!(error.is_external_data(), "{location:?}: {error}");
    }
    // Bytes that are no text are no location, and no protobuf string.
    assert!(open(&[(b"location", b"\xff\xfe")]).unwrap_err().is_malformed());
    for (key, value) in [
        ("offset", "1"),
        ("offset", "-1"),
        ("offset", "18446744073709551615"),
        ("offset", "18446744073709551616"),
        ("offset", "0x0"),
        ("length", "9"),
        ("length", "0"),
        ("length", "-8"),
        ("length", "18446744073709551615"),
        ("length", "1e1"),
    ] {
        let error = open(&[(b"location", b"data"), (key.as_bytes(), value.as_bytes())]).unwrap_err();
        assert!(error.is_external_data(), "{key} {value}: {error}");
    }
    // What is in the folder is read; a hard link is as good as a file, because caches of models are made of them.
    for location in ["data", "./data", "inner/data", "hard"] {
        open(&[(b"location", location.as_bytes()), (b"offset", b"0"), (b"length", b"8")]).unwrap();
    }
}

/// While somebody swaps the file for a link that leads out, it is read from inside or refused.
#[cfg(unix)]
#[test]
fn a_file_that_is_swapped_while_it_is_opened() {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), [0xff; 8]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("inside"), [0; 8]).unwrap();
    fs::write(path("data"), [0; 8]).unwrap();
    let file = elsewhere(&[(b"location", b"data")]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for target in [outside.path().join("secret"), path("inside")] {
                    symlink(target, path("next")).unwrap();
                    fs::rename(path("next"), path("data")).unwrap();
                }
            }
        });
        for _ in 0..1_000 {
            match OnnxModel::from_bytes(file.clone(), &path("model.onnx"), &ImportOptions::default()) {
                Ok(model) => {
                    let stored = model.graph().initializers.values().next().unwrap();
                    assert_eq!(stored.bytes, [0; 8]);
                }
                Err(error) => assert!(error.is_external_data() || error.is_file(), "{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
