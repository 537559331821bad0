//! Saved state: round trips, and files that must be refused.

use crate::problems::assert_same;
use fngd_core::state::{TensorMap, from_bytes, load, save, to_bytes};
use fngd_core::{Error, Result};
use tch::{Device, Kind, Tensor};

fn named(name: &str, tensor: Tensor) -> (String, Tensor) {
    (name.to_owned(), tensor)
}

fn every_kind() -> Vec<(String, Tensor)> {
    let numbers = Tensor::arange(6, (Kind::Float, Device::Cpu)) - 2.5;
    vec![
        named("f32", numbers.reshape([2, 3])),
        named("f64", numbers.to_kind(Kind::Double) / 3.0),
        named("half", numbers.to_kind(Kind::Half)),
        named("bf16", numbers.to_kind(Kind::BFloat16)),
        named("i64", Tensor::from_slice(&[i64::MIN, -1, i64::MAX])),
        named("u8", Tensor::from_slice(&[0u8, 255])),
        named("bool", Tensor::from_slice(&[true, false, true])),
        named("scalar", Tensor::from(1.5f64)),
        named("empty", Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))),
        named("transposed", numbers.reshape([2, 3]).transpose(0, 1)),
        named("leaf", numbers.copy().set_requires_grad(true)),
    ]
}

#[test]
fn every_kind_comes_back() -> Result<()> {
    let mut saved = every_kind();
    let loaded = from_bytes(&to_bytes(&saved)?)?;
    saved.sort_by(|left, right| left.0.cmp(&right.0));
    assert!(loaded.iter().map(|(name, _)| name).eq(saved.iter().map(|(name, _)| name)));
    let tensors = |state: &[(String, Tensor)]| state.iter().map(|(_, tensor)| tensor.detach()).collect::<Vec<_>>();
    assert_same(&tensors(&loaded), &tensors(&saved));
    Ok(())
}

#[test]
fn order_does_not_show_in_the_bytes() -> Result<()> {
    let mut reversed = every_kind();
    reversed.reverse();
    assert_eq!(to_bytes(&reversed)?, to_bytes(&every_kind())?);
    Ok(())
}

#[test]
fn files_are_replaced_and_nothing_is_left_beside_them() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("optimizer.safetensors");
    save(&path, &every_kind())?;
    save(&path, &[named("only", Tensor::from(1i64))])?;
    assert_eq!(load(&path)?[0].0, "only");
    assert_eq!(std::fs::read_dir(directory.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_failed_save_leaves_the_old_file() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("optimizer.safetensors");
    save(&path, &[named("old", Tensor::from(1i64))])?;
    let twice = [named("a", Tensor::from(1i64)), named("a", Tensor::from(2i64))];
    let error = save(&path, &twice).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: two tensors are named `a`", path.display()));
    assert_eq!(load(&path)?[0].0, "old");

    // A directory in the way: the rename fails, and the temporary file goes.
    let blocked = directory.path().join("blocked");
    std::fs::create_dir_all(blocked.join("full"))?;
    assert!(save(&blocked, &[named("a", Tensor::from(1i64))]).unwrap_err().is_state());
    assert_eq!(std::fs::read_dir(directory.path())?.count(), 2);
    Ok(())
}

#[test]
fn what_cannot_be_saved_is_named() {
    let complex = Tensor::zeros([1], (Kind::ComplexFloat, Device::Cpu));
    let error = to_bytes(&[named("c", complex)]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `c`: kind ComplexFloat cannot be saved");
    let error = to_bytes(&[named("u", Tensor::new())]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `u`: is not defined");
}

/// A file with this header and so many bytes of zeros.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn refused(bytes: &[u8]) -> String {
    let error: Error = from_bytes(bytes).unwrap_err();
    assert!(error.is_state(), "{error}");
    error.to_string()
}

#[test]
fn damaged_files_are_refused() -> Result<()> {
    assert_eq!(refused(&[1, 2, 3]), "expected at least 8 bytes, found 3");
    assert_eq!(refused(&[255; 16]), format!("a header of {} bytes does not fit a file of 16 bytes", u64::MAX));
    let long = " ".repeat((16 << 20) + 1);
    assert_eq!(refused(&file(&long, 0)), "expected a header of at most 16777216 bytes, found 16777217");
    let entry = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let twice = refused(&file(&format!("{{{entry},{entry}}}"), 4));
    assert!(twice.starts_with("header: two tensors are named `a` at line 1"), "{twice}");
    let byte = r#"{"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#;
    let mut bytes = file(byte, 1);
    *bytes.last_mut().unwrap() = 2;
    assert_eq!(refused(&bytes), "tensor `b`: a bool must be 0 or 1");
    let kind = r#"{"c":{"dtype":"I16","shape":[1],"data_offsets":[0,2]}}"#;
    assert_eq!(refused(&file(kind, 2)), "tensor `c`: type I16 cannot be loaded");
    let shape = vec!["1"; 17].join(",");
    let rank = format!(r#"{{"d":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,1]}}}}"#);
    assert_eq!(refused(&file(&rank, 1)), "tensor `d`: expected at most 16 dimensions, found 17");

    // Cut anywhere, a good file is refused.
    let good = to_bytes(&every_kind())?;
    for length in 0..good.len() {
        assert!(from_bytes(&good[..length]).is_err(), "cut to {length} bytes");
    }
    Ok(())
}

#[test]
fn too_many_tensors_are_refused() {
    let entries: Vec<String> =
        (0..100_001).map(|index| format!(r#""{index}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    let message = refused(&file(&format!("{{{}}}", entries.join(",")), 0));
    assert!(message.starts_with("header: more than 100000 tensors"), "{message}");
}

#[test]
fn missing_files_name_their_path() {
    let error = load("does/not/exist.safetensors").unwrap_err();
    assert_eq!(error.to_string(), "does/not/exist.safetensors: No such file or directory (os error 2)");
}

#[test]
fn maps_are_taken_apart_exactly() -> Result<()> {
    let mut map = TensorMap::new(&[
        named("rule.steps", Tensor::from_slice(&[1i64])),
        named("ruler", Tensor::from(0i64)),
        named("rule.momentum.a", Tensor::from_slice(&[1.0f32, 2.0])),
    ])?;
    let mut rule = map.split("rule");
    assert!(map.names().eq(["ruler"]));
    assert!(rule.contains("steps"));
    let error = rule.take("momentum.a", Kind::Float, &[3]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `rule.momentum.a`: expected Float [3], found Float [2]");
    let error = rule.take("momentum.b", Kind::Float, &[]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `rule.momentum.b`: expected Float [], found none of this name");
    let _ = rule.take("momentum.a", Kind::Float, &[2])?;
    assert_eq!(rule.finish().unwrap_err().to_string(), "tensor `rule.steps` is not known here");
    let twice = [named("a", Tensor::from(1i64)), named("a", Tensor::from(2i64))];
    assert_eq!(TensorMap::new(&twice).unwrap_err().to_string(), "two tensors are named `a`");
    Ok(())
}
