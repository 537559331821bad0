//! A `TensorProto`, in any of its forms, as contiguous little-endian bytes.

use crate::error::quoted;
use crate::external::{Place, Reader};
use crate::graph::{ElementType, TensorData};
use crate::proto_generated::{TensorProto, tensor_proto::DataLocation, tensor_proto::DataType};
use crate::{Error, Result};

/// Most dimensions a tensor may have: libtorch's limit.
const HIGHEST_RANK: usize = 64;

/// Reads the tensor; says where it is if that is another file.
pub(crate) fn read(tensor: &TensorProto, reader: &mut Reader) -> Result<(TensorData, Option<Place>)> {
    read_unnamed(tensor, reader).map_err(|error| error.at(format!("tensor {}", quoted(tensor.name()))))
}

fn read_unnamed(tensor: &TensorProto, reader: &mut Reader) -> Result<(TensorData, Option<Place>)> {
    let number = tensor.data_type.unwrap_or_default();
    let element_type = ElementType::from_number(number).ok_or_else(|| {
        let name = DataType::try_from(number).map_or("unknown", |known| known.as_str_name());
        Error::unsupported(format!("element type {number} ({name}) cannot be imported"))
    })?;
    if tensor.segment.is_some() {
        return Err(Error::unsupported("the tensor is stored in segments"));
    }
    let dims = dims(tensor)?;
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
    let size = elements.and_then(|elements| elements.checked_mul(element_type.size() as u64));
    let (Some(elements), Some(size)) = (elements, size) else {
        return Err(Error::malformed(format!("dims {dims:?} have more elements than 64 bits count")));
    };
    let (bytes, place) = if tensor.data_location.unwrap_or_default() == DataLocation::External as i32 {
        let place = Place::of(tensor, size)?;
        (reader.read(&place)?, Some(place))
    } else if let Some(raw) = &tensor.raw_data {
        if raw.len() as u64 != size {
            let found = raw.len();
            return Err(Error::malformed(format!(
                "raw_data has {found} bytes, {} {dims:?} needs {size}",
                element_type.name()
            )));
        }
        (raw.to_vec(), None)
    } else {
        (typed(tensor, element_type, elements)?, None)
    };
    Ok((TensorData { element_type, dims, bytes }, place))
}

fn dims(tensor: &TensorProto) -> Result<Vec<u64>> {
    if tensor.dims.len() > HIGHEST_RANK {
        return Err(Error::limit(format!("{} dimensions, at most {HIGHEST_RANK} are accepted", tensor.dims.len())));
    }
    let dim = |dim: &i64| u64::try_from(*dim).map_err(|_| Error::malformed(format!("dimension {dim} is negative")));
    tensor.dims.iter().map(dim).collect()
}

/// The elements from the field that the specification names for the type.
fn typed(tensor: &TensorProto, element_type: ElementType, elements: u64) -> Result<Vec<u8>> {
    use ElementType as E;
    let (field, found) = match element_type {
        E::Float32 => ("float_data", tensor.float_data.len()),
        E::Float64 => ("double_data", tensor.double_data.len()),
        E::Int64 => ("int64_data", tensor.int64_data.len()),
        E::Uint32 | E::Uint64 => ("uint64_data", tensor.uint64_data.len()),
        _ => ("int32_data", tensor.int32_data.len()),
    };
    if found as u64 != elements {
        let dims = &tensor.dims;
        return Err(Error::malformed(format!("{field} has {found} elements, dims {dims:?} need {elements}")));
    }
    let outside = |value: String| Error::malformed(format!("{field} has {value}, which is no {}", element_type.name()));
    let narrow = |value: &i32| -> Result<Vec<u8>> {
        let refuse = |_| outside(value.to_string());
        Ok(match element_type {
            E::Int8 => i8::try_from(*value).map_err(refuse)?.to_le_bytes().to_vec(),
            E::Uint8 => u8::try_from(*value).map_err(refuse)?.to_le_bytes().to_vec(),
            E::Bool => vec![u8::from(*value != 0)],
            E::Int16 => i16::try_from(*value).map_err(refuse)?.to_le_bytes().to_vec(),
            // Float16 and bfloat16 are stored as the integer of their bits.
            E::Uint16 | E::Float16 | E::Bfloat16 => u16::try_from(*value).map_err(refuse)?.to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        })
    };
    Ok(match element_type {
        E::Float32 => tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Float64 => tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Int64 => tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint64 => tensor.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint32 => {
            let narrow = |value: &u64| u32::try_from(*value).map_err(|_| outside(value.to_string()));
            tensor
                .uint64_data
                .iter()
                .map(narrow)
                .collect::<Result<Vec<_>>>()?
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect()
        }
        _ => tensor.int32_data.iter().map(narrow).collect::<Result<Vec<_>>>()?.concat(),
    })
}
