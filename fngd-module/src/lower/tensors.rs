//! Stored tensors as libtorch tensors, and back.

use crate::{Error, Result};
use fngd_onnx::graph::{ElementType, TensorData};
use tch::{Device, Kind, Tensor};

/// The kind that a stored element type has while training: every float is of kind `float`, unsigned integers widen.
pub(crate) fn kind_of(element_type: ElementType, float: Kind) -> Kind {
    match element_type {
        ElementType::Float32 | ElementType::Float64 | ElementType::Float16 | ElementType::Bfloat16 => float,
        ElementType::Int8 => Kind::Int8,
        ElementType::Int16 => Kind::Int16,
        ElementType::Int32 | ElementType::Uint16 => Kind::Int,
        ElementType::Int64 | ElementType::Uint32 | ElementType::Uint64 => Kind::Int64,
        ElementType::Uint8 => Kind::Uint8,
        ElementType::Bool => Kind::Bool,
    }
}

/// The kind for the number that ONNX gives an element type (`Cast`'s `to`).
pub(crate) fn kind_of_number(number: i64, float: Kind) -> Option<Kind> {
    Some(match number {
        1 | 10 | 11 | 16 => float,
        2 => Kind::Uint8,
        3 => Kind::Int8,
        4 | 6 => Kind::Int,
        5 => Kind::Int16,
        7 | 12 | 13 => Kind::Int64,
        9 => Kind::Bool,
        _ => return None,
    })
}

/// A host tensor with the contents of `data`, as modules compute with it: floats are float32, unsigned integers wider than 8 bits
/// take the next wider signed type.
///
/// # Errors
/// `is_malformed()` if the bytes are not as many as the dimensions say; `is_limit()` for dimensions beyond 63 bits; `is_torch()`
/// where libtorch has no memory for it.
///
/// ```
/// use fngd_onnx::graph::TensorData;
/// let tensor = fngd_module::tensor(&TensorData::from_floats(vec![2], &[1.0, 2.0]))?;
/// assert_eq!(Vec::<f32>::try_from(&tensor)?, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_data(data: &TensorData) -> Result<Tensor> {
    from_data_as(data, Kind::Float)
}

/// The same with floats of kind `float`.
pub(crate) fn from_data_as(data: &TensorData, float: Kind) -> Result<Tensor> {
    let dims = data.dims.iter().map(|&dim| i64::try_from(dim)).collect::<std::result::Result<Vec<_>, _>>();
    let dims = dims.map_err(|_| Error::limit(format!("a tensor of size {:?} is too large", data.dims)))?;
    let elements = data.dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let bytes = elements.and_then(|elements| elements.checked_mul(data.element_type.size() as u64));
    // libtorch copies as many bytes as the dimensions say.
    if bytes != Some(data.bytes.len() as u64) {
        let message =
            format!("a tensor of size {:?} has {} bytes of {:?}", data.dims, data.bytes.len(), data.element_type);
        return Err(Error::malformed(message));
    }
    let flat = match data.element_type {
        ElementType::Uint16 => Tensor::f_from_slice(&numbers(&data.bytes, |b| i32::from(u16::from_le_bytes(b))))?,
        ElementType::Uint32 => Tensor::f_from_slice(&numbers(&data.bytes, |b| i64::from(u32::from_le_bytes(b))))?,
        stored => {
            let stored_kind = match stored {
                ElementType::Float32 => Kind::Float,
                ElementType::Float64 => Kind::Double,
                ElementType::Float16 => Kind::Half,
                ElementType::Bfloat16 => Kind::BFloat16,
                other => kind_of(other, float),
            };
            let size =
                if data.bytes.is_empty() { 0 } else { (data.bytes.len() / stored_kind.elt_size_in_bytes()) as i64 };
            Tensor::f_from_data_size(&data.bytes, &[size], stored_kind)?
        }
    };
    Ok(flat.f_reshape(&dims[..])?.f_to_kind(kind_of(data.element_type, float))?)
}

/// Whether gradients can flow through tensors of this kind.
pub(crate) fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

/// `tensor`, or integers and truth values as float32.
pub(crate) fn as_float(tensor: &Tensor) -> Result<Tensor> {
    if is_float(tensor.kind()) { Ok(tensor.shallow_clone()) } else { Ok(tensor.f_to_kind(Kind::Float)?) }
}

/// The contents of a float tensor as float32, contiguous.
pub(crate) fn to_data(tensor: &Tensor) -> Result<TensorData> {
    let values = Vec::<f32>::try_from(&tensor.f_detach()?.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let dims = tensor.size().iter().map(|&dim| dim as u64).collect();
    Ok(TensorData { element_type: ElementType::Float32, dims, bytes })
}

/// A copy of `tensor` whose memory is ordered `[N, H, W, C]` while its dimensions stay `[N, C, H, W]`.
///
/// Convolutions in this order are faster on most CPUs and GPUs. tch has no call for it, so the strides are written out.
pub(crate) fn to_channels_last(tensor: &Tensor) -> Result<Tensor> {
    let Ok((_, channels, height, width)) = tensor.size4() else { return Ok(tensor.shallow_clone()) };
    let strides = [channels * height * width, 1, width * channels, channels];
    if tensor.stride() == strides {
        return Ok(tensor.shallow_clone());
    }
    let mut result = Tensor::f_empty_strided(tensor.size(), strides, (tensor.kind(), tensor.device()))?;
    result.f_copy_(tensor)?;
    Ok(result)
}

fn numbers<const SIZE: usize, T>(bytes: &[u8], read: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
    // OK because `chunks_exact` gives chunks of this size only.
    bytes.chunks_exact(SIZE).map(|chunk| read(chunk.try_into().unwrap())).collect()
}
