//! Declared types of values.

use crate::graph::{Dim, ElementType, ValueInfo};
use crate::proto_generated::{ValueInfoProto, tensor_shape_proto::dimension, type_proto};
use crate::{Error, Result};

/// Copies what `proto` declares into `info`.
pub(crate) fn describe(proto: &ValueInfoProto, info: Option<&mut ValueInfo>) -> Result<()> {
    let (Some(declared), Some(info)) = (proto.r#type.as_ref().and_then(|declared| declared.value.as_ref()), info)
    else {
        return Ok(());
    };
    let type_proto::Value::TensorType(tensor) = declared else {
        return Err(Error::unsupported("it is not a tensor"));
    };
    if let Some(number) = tensor.elem_type.filter(|number| *number != 0) {
        let element_type = ElementType::from_number(number);
        let known =
            element_type.ok_or_else(|| Error::unsupported(format!("element type {number} cannot be imported")))?;
        info.element_type = Some(known);
    }
    if let Some(shape) = &tensor.shape {
        let mut dims = Vec::with_capacity(shape.dim.len());
        for dim in &shape.dim {
            dims.push(match &dim.value {
                Some(dimension::Value::DimValue(size)) => Dim::Known(
                    u64::try_from(*size).map_err(|_| Error::malformed(format!("dimension {size} is negative")))?,
                ),
                Some(dimension::Value::DimParam(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
                _ => Dim::Unknown,
            });
        }
        info.dims = Some(dims);
    }
    Ok(())
}
