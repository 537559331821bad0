//! Trained values go back into the bytes they came from.

mod common;

use common::{all_small, open, open_as_stored, repairs_of, small, tensors, trained};
use fngd_onnx::graph::{ElementType, TensorData};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn nothing_trained_gives_the_same_bytes() {
    let out = tempfile::tempdir().unwrap();
    for path in all_small() {
        let model = open(&path);
        let target = out.path().join(path.file_name().unwrap());
        for tensors in [BTreeMap::new(), tensors(&model)] {
            let report = model.write(&target, &tensors).unwrap();
            assert_eq!(report.changed, Vec::<String>::new(), "{}", path.display());
            let in_the_file = repairs_of(&model).into_iter().filter(|line| line.contains("in inference mode"));
            assert_eq!(report.edits, in_the_file.collect::<Vec<_>>());
            if report.edits.is_empty() {
                assert!(fs::read(&path).unwrap() == fs::read(&target).unwrap(), "{}", path.display());
                assert_eq!(report.sha256, model.sha256());
            }
            for data in report.data_files {
                assert_eq!(fs::read(path.with_file_name(data.file_name().unwrap())).unwrap(), fs::read(data).unwrap());
            }
        }
    }
}

#[test]
fn what_is_written_is_read_again() {
    let out = tempfile::tempdir().unwrap();
    for path in all_small() {
        let model = open_as_stored(&path);
        let target = out.path().join(path.file_name().unwrap());
        let wanted = trained(&model);
        let report = model.write(&target, &wanted).unwrap();
        assert_eq!(report.changed.len(), wanted.len(), "{}", path.display());
        let found = tensors(&open_as_stored(&target));
        for (name, tensor) in &wanted {
            let back = found.get(name).unwrap_or_else(|| panic!("{}: {name} is gone", path.display()));
            assert_eq!(back.dims, tensor.dims);
            // Stored with fewer bits: as near as those allow.
            let exact = !name.starts_with("half") && !name.starts_with("brain") && name != "cast.weight";
            for (back, wanted) in back.floats().unwrap().iter().zip(tensor.floats().unwrap()) {
                assert!(
                    if exact { *back == wanted } else { (back - wanted).abs() <= 0.01 * wanted.abs() },
                    "{name}: {back} {wanted}"
                );
            }
        }
        // Writing the same again changes nothing.
        let model = open_as_stored(&target);
        let again = out.path().join("again.onnx");
        assert_eq!(model.write(&again, &found).unwrap().changed, Vec::<String>::new());
    }
}

/// Where `tests/small/raw` style tensors lie, found by searching their old bytes.
fn place_of(file: &[u8], bytes: &[u8]) -> std::ops::Range<usize> {
    let starts: Vec<usize> =
        file.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes).map(|(start, _)| start).collect();
    assert_eq!(starts.len(), 1);
    starts[0]..starts[0] + bytes.len()
}

#[test]
fn only_the_bytes_of_the_tensor_change() {
    let out = tempfile::tempdir().unwrap();
    for (model_name, parameter) in [
        ("storage", "raw"),
        ("storage", "typed"),
        ("storage", "half_raw"),
        ("storage", "brain_raw"),
        ("storage", "double_typed"),
        ("storage", "constant"),
        ("linear", "left.weight"),
        ("linear", "gemm.weight"),
        ("net_dynamo_train", "conv.weight"),
        ("net_script", "hidden.bias"),
    ] {
        let model = open(&small(model_name));
        let target = out.path().join("out.onnx");
        let base = out.path().join("base.onnx");
        let all = trained(&model);
        let tensors = BTreeMap::from([(parameter.to_owned(), all[parameter].clone())]);
        // Both writes make the same edits for inference, if any.
        model.write(&base, &BTreeMap::new()).unwrap();
        assert_eq!(model.write(&target, &tensors).unwrap().changed, [parameter]);
        let (before, after) = (fs::read(&base).unwrap(), fs::read(&target).unwrap());
        let (id, _) = model.analysis().parameters.iter().find(|(_, info)| info.name == parameter).unwrap();
        let place = place_of(&before, &model.graph().initializers[id].bytes);
        assert_eq!(before.len(), after.len());
        for position in 0..before.len() {
            assert!(before[position] == after[position] || place.contains(&position), "{parameter}: byte {position}");
        }
        assert_ne!(before[place.clone()], after[place]);
    }
}

#[test]
fn sixteen_bits_round_to_nearest_even() {
    let out = tempfile::tempdir().unwrap();
    let model = open(&small("storage"));
    // Halfway between two float16 (steps of 2^-10), then just above; halfway between two bfloat16 (steps of 2^-7).
    let values = [1.0 + 2f32.powi(-11), 1.0 + 3.0 * 2f32.powi(-11), 1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)];
    let tensor = TensorData::from_floats(vec![4], &values);
    let wanted = ["half_int32", "half_raw", "brain_raw"].map(|name| (name.to_owned(), tensor.clone()));
    model.write(&out.path().join("rounded.onnx"), &BTreeMap::from(wanted)).unwrap();
    let found = tensors(&open(&out.path().join("rounded.onnx")));
    let half = [1.0, 1.0 + 2f32.powi(-9), 1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)];
    assert_eq!(found["half_int32"].floats().unwrap(), half);
    assert_eq!(found["half_raw"].floats().unwrap(), half);
    assert_eq!(found["brain_raw"].floats().unwrap(), [1.0, 1.0, 1.0, 1.0 + 2f32.powi(-6)]);
}

#[test]
fn untrained_float64_keeps_its_bits() {
    let out = tempfile::tempdir().unwrap();
    let model = open(&small("storage"));
    let mut values = tensors(&model)["double_typed"].floats().unwrap();
    values[2] = 7.0;
    let tensors = BTreeMap::from([("double_typed".to_owned(), TensorData::from_floats(vec![4], &values))]);
    model.write(&out.path().join("double.onnx"), &tensors).unwrap();
    let of = |model: &fngd_onnx::OnnxModel| {
        let (id, _) = model.analysis().parameters.iter().find(|(_, info)| info.name == "double_typed").unwrap();
        let data = model.graph().initializers[id].clone();
        assert_eq!(data.element_type, ElementType::Float64);
        data.bytes
    };
    let (before, after) = (of(&model), of(&open(&out.path().join("double.onnx"))));
    assert_eq!(before[..16], after[..16]);
    assert_eq!(after[16..24], 7f64.to_le_bytes());
    assert_eq!(before[24..], after[24..]);
}

#[test]
fn bad_tensors_are_refused_and_nothing_is_written() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out.onnx");
    let model = open(&small("linear"));
    let refused = |name: &str, tensor: TensorData| {
        let error = model.write(&target, &BTreeMap::from([(name.to_owned(), tensor)])).unwrap_err();
        assert!(error.is_mismatch());
        assert!(!target.exists());
        error.to_string()
    };
    let nan = TensorData::from_floats(vec![4], &[0.0, 1.0, f32::NAN, 2.0]);
    assert_eq!(
        refused("left.bias", nan),
        "tensor `left.bias`: element 2 is NaN, which is no finite float32; nothing was written"
    );
    let large = TensorData::from_floats(vec![4, 4], &[1e6; 16]);
    assert_eq!(
        refused("cast.weight", large),
        "tensor `cast.weight`: element 0 is 1000000, which is no finite float16; nothing was written"
    );
    let short = TensorData::from_floats(vec![3], &[0.0; 3]);
    assert_eq!(refused("left.bias", short), "tensor `left.bias`: dims [3], expected [4]");
    let integers = TensorData::from_integers(vec![4], &[0; 4]);
    assert_eq!(refused("left.bias", integers), "tensor `left.bias`: element type int64, expected float32");
    let unknown = TensorData::from_floats(vec![1], &[0.0]);
    assert_eq!(refused("lost", unknown), "tensor `lost`: the model has no parameter of this name");
}

#[test]
fn the_input_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::copy(small("linear"), &path).unwrap();
    let model = open(&path);
    let same = folder.path().join(".").join("model.onnx");
    let error = model.write(&same, &trained(&model)).unwrap_err();
    let place = same.display();
    assert_eq!(error.to_string(), format!("{place} is the file that the model was read from; choose another output"));
    assert_eq!(fs::read(&path).unwrap(), fs::read(small("linear")).unwrap());
    // Nothing is left behind either.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_unwritable_folder_is_an_error() {
    let model = open(&small("linear"));
    let error = model.write(Path::new("/dev/null/out.onnx"), &BTreeMap::new()).unwrap_err();
    assert!(error.is_file());
    assert!(error.to_string().starts_with("cannot write /dev/null/out.onnx: "), "{error}");
}
