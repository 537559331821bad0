//! Float32 values in the element type, orientation and dims of the file.

use crate::error::quoted;
use crate::graph::{ElementType, TensorData, ValueId};
use crate::model::{self, OnnxModel};
use crate::{Error, Result};
use half::{bf16, f16};
use std::collections::BTreeMap;

/// The bytes that the file shall hold, for every constant float tensor that is a parameter.
pub(super) fn all(model: &OnnxModel, tensors: &BTreeMap<String, TensorData>) -> Result<BTreeMap<ValueId, Vec<u8>>> {
    let ids = model::by_name(model);
    let mut stored: BTreeMap<ValueId, Vec<u8>> = BTreeMap::new();
    for (id, data) in &model.imported.graph.initializers {
        if data.element_type.is_float() && model.analysis().parameters.contains_key(id) {
            stored.insert(*id, data.bytes.clone());
        }
    }
    for (name, tensor) in tensors {
        let at = |error: Error| error.at(format!("tensor {}", quoted(name)));
        let id =
            *ids.get(name.as_str()).ok_or_else(|| at(Error::mismatch("the model has no parameter of this name")))?;
        let bytes = one(model, id, tensor).map_err(at)?;
        stored.insert(id, bytes);
    }
    Ok(stored)
}

/// The bytes of one.
pub(super) fn one(model: &OnnxModel, id: ValueId, tensor: &TensorData) -> Result<Vec<u8>> {
    let info = model.analysis().parameters.get(&id);
    let old = model.imported.graph.initializers.get(&id).ok_or_else(|| Error::mismatch("it is no constant"))?;
    if tensor.element_type != ElementType::Float32 {
        return Err(Error::mismatch(format!("element type {}, expected float32", tensor.element_type.name())));
    }
    let transposed = info.is_some_and(|info| info.transposed);
    let mut expected = old.dims.clone();
    if transposed {
        expected.reverse();
    }
    let right_size = tensor.bytes.len() as u64 == expected.iter().product::<u64>().saturating_mul(4);
    if tensor.dims != expected || !right_size {
        return Err(Error::mismatch(format!("dims {:?}, expected {expected:?}", tensor.dims)));
    }
    let turned = if transposed { tensor.transposed() } else { None };
    convert(old, &turned.as_ref().unwrap_or(tensor).floats().unwrap_or_default())
}

/// `new` in the element type of `old`. An element that reads as before keeps its bits: float64 files lose nothing that was
/// not trained.
pub(super) fn convert(old: &TensorData, new: &[f32]) -> Result<Vec<u8>> {
    let before = old.floats().unwrap_or_default();
    let size = old.element_type.size();
    let mut bytes = Vec::with_capacity(old.bytes.len());
    for (position, ((value, before), kept)) in new.iter().zip(&before).zip(old.bytes.chunks(size)).enumerate() {
        if value.to_bits() == before.to_bits() {
            bytes.extend_from_slice(kept);
            continue;
        }
        let finite = match old.element_type {
            ElementType::Float16 => f16::from_f32(*value).is_finite(),
            ElementType::Bfloat16 => bf16::from_f32(*value).is_finite(),
            _ => value.is_finite(),
        };
        if !finite {
            let kind = old.element_type.name();
            return Err(Error::mismatch(format!(
                "element {position} is {value}, which is no finite {kind}; nothing was written"
            )));
        }
        match old.element_type {
            // Both round to nearest, ties to even.
            ElementType::Float16 => bytes.extend_from_slice(&f16::from_f32(*value).to_le_bytes()),
            ElementType::Bfloat16 => bytes.extend_from_slice(&bf16::from_f32(*value).to_le_bytes()),
            ElementType::Float64 => bytes.extend_from_slice(&f64::from(*value).to_le_bytes()),
            _ => bytes.extend_from_slice(&value.to_le_bytes()),
        }
    }
    Ok(bytes)
}
