//! Tensors as safetensors bytes and back, with everything checked that a damaged or foreign file could get wrong.

use crate::engine::failure::{Failure, Result};
use safetensors::{Dtype, SafeTensors, tensor::View};
use std::borrow::Cow;
use tch::{Device, Kind, Tensor};

/// Named tensors.
pub type Tensors = Vec<(String, Tensor)>;

/// A copy of `tensors` in safetensors form: whatever happens to them afterwards, these bytes stay.
///
/// # Errors
/// A tensor that is not finite, by name: such a checkpoint must not exist.
pub fn to_bytes(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let views = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), Snapshot::of(name, tensor)?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(|error| Failure::internal(format!("cannot write tensors: {error}")))
}

/// The tensors in `bytes`, on the processor, in the order of their names.
///
/// # Errors
/// Bytes that are not safetensors, and tensors that are not finite.
pub fn from_bytes(bytes: &[u8]) -> Result<Tensors> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Failure::data(format!("not safetensors: {error}")))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let kind = kind_of(view.dtype())
            .ok_or_else(|| Failure::data(format!("tensor `{name}` has an unexpected type {:?}", view.dtype())))?;
        // OK because safetensors bounds every dimension by the length of the file.
        let size: Vec<i64> = view.shape().iter().map(|&dim| i64::try_from(dim).expect("fits")).collect();
        // OK because safetensors checked that the slice has exactly the length that dtype and shape need.
        let tensor = Tensor::f_from_data_size(view.data(), &size, kind)?;
        require_finite(&name, &tensor)?;
        tensors.push((name, tensor));
    }
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(tensors)
}

/// True if every element is finite. Integers always are.
pub fn is_finite(tensor: &Tensor) -> Result<bool> {
    if !matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
        return Ok(true);
    }
    Ok(bool::try_from(tensor.f_isfinite()?.f_all()?)?)
}

fn require_finite(name: &str, tensor: &Tensor) -> Result<()> {
    if is_finite(tensor)? { Ok(()) } else { Err(Failure::diverged(format!("tensor `{name}` holds NaN or infinity"))) }
}

/// A tensor's bytes on the processor.
struct Snapshot {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Snapshot {
    fn of(name: &str, tensor: &Tensor) -> Result<Self> {
        require_finite(name, tensor)?;
        let kind = tensor.kind();
        let dtype = dtype_of(kind).ok_or_else(|| Failure::internal(format!("tensor `{name}` has kind {kind:?}")))?;
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        // OK because libtorch's sizes are never negative.
        let shape = tensor.size().iter().map(|&dim| usize::try_from(dim).expect("not negative")).collect();
        let mut data = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut data, tensor.numel())?;
        Ok(Self { dtype, shape, data })
    }
}

impl View for Snapshot {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

const KINDS: [(Kind, Dtype); 8] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

fn dtype_of(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(tch, _)| *tch == kind).map(|(_, dtype)| *dtype)
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(_, file)| *file == dtype).map(|(tch, _)| *tch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_every_kind_come_back_equal() {
        let options = (Kind::Float, Device::Cpu);
        for (kind, _) in KINDS {
            // A transposed view: the bytes must be in the order of the indices all the same.
            let tensor = Tensor::arange(6, options).view([2, 3]).transpose(0, 1).to_kind(kind);
            let read = from_bytes(&to_bytes(&[("x".to_owned(), tensor.shallow_clone())]).unwrap()).unwrap();
            assert_eq!((read[0].0.as_str(), read[0].1.kind(), read[0].1.size()), ("x", kind, vec![3, 2]));
            assert_eq!(read[0].1, tensor, "{kind:?}");
        }
    }

    #[test]
    fn scalars_and_empty_tensors_come_back() {
        let tensors = [
            ("empty".to_owned(), Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
            ("scalar".to_owned(), Tensor::from(2.5f64)),
        ];
        let read = from_bytes(&to_bytes(&tensors).unwrap()).unwrap();
        assert_eq!(read[0].1.size(), [0, 3]);
        assert_eq!(f64::try_from(&read[1].1).unwrap(), 2.5);
    }

    #[test]
    fn what_is_not_finite_is_not_written() {
        let tensor = Tensor::from_slice(&[1f32, f32::NAN]);
        let failure = to_bytes(&[("fc.weight".to_owned(), tensor)]).unwrap_err();
        assert_eq!(failure.to_string(), "tensor `fc.weight` holds NaN or infinity");
        assert_eq!(failure.cause().code(), 6);
    }
}
