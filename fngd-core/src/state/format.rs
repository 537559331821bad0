//! Tensors to and from the bytes of a safetensors file.

use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use tch::{Device, Kind, Tensor};

/// Largest header that is read, in bytes.
const HEADER_BYTES: usize = 16 << 20;
/// Most tensors that are read.
const TENSORS: usize = 100_000;
/// Most dimensions of a tensor that is read.
const RANK: usize = 16;
/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

/// The bytes of a safetensors file with these tensors. The same tensors give the same bytes, in whatever order they come.
///
/// # Errors
/// `is_state()` if two tensors have the same name, or one has a kind other than f32, f64, f16, bf16, i64, u8, bool.
pub fn to_bytes(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let mut names = HashSet::new();
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        if !names.insert(name) {
            return Err(Error::state(format!("two tensors are named `{name}`")));
        }
        views.push((name, HostTensor::new(tensor).map_err(|error| error.at(format!("tensor `{name}`")))?));
    }
    // The writer sorts by alignment and name.
    Ok(safetensors::serialize(views, None)?)
}

/// The tensors of a safetensors file, in order of their names, on the CPU.
///
/// # Errors
/// `is_state()` if the bytes are not a safetensors file, if a name comes twice, or if a bound is exceeded: 16 MiB of header,
/// 100,000 tensors, 16 dimensions.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<(String, Tensor)>> {
    check_header(bytes)?;
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        let tensor = tensor_of(view.dtype(), view.shape(), view.data());
        tensors.push((name.to_owned(), tensor.map_err(|error| error.at(format!("tensor `{name}`")))?));
    }
    tensors.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(tensors)
}

/// A contiguous tensor on the CPU, whose bytes are copied only when the writer asks for them: one tensor at a time.
struct HostTensor {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl HostTensor {
    fn new(tensor: &Tensor) -> Result<Self> {
        if !tensor.defined() {
            return Err(Error::state("is not defined"));
        }
        let kind = tensor.f_kind()?;
        let Some((_, dtype)) = KINDS.iter().find(|pair| pair.0 == kind) else {
            return Err(Error::state(format!("kind {kind:?} cannot be saved")));
        };
        let tensor = tensor.f_detach()?.f_to(Device::Cpu)?.f_contiguous()?;
        // OK because sizes are not negative.
        let shape = tensor.size().iter().map(|&size| usize::try_from(size).unwrap()).collect();
        Ok(Self { tensor, dtype: *dtype, shape })
    }
}

impl View for HostTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        // OK because `bytes` has the length of this contiguous tensor on the CPU.
        self.tensor.f_copy_data_u8(&mut bytes, self.shape.iter().product()).unwrap();
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * (self.dtype.bitsize() / 8)
    }
}

const KINDS: [(Kind, Dtype); 7] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

fn tensor_of(dtype: Dtype, shape: &[usize], data: &[u8]) -> Result<Tensor> {
    let Some((kind, _)) = KINDS.iter().find(|pair| pair.1 == dtype) else {
        return Err(Error::state(format!("type {dtype} cannot be loaded")));
    };
    if shape.len() > RANK {
        return Err(Error::state(format!("expected at most {RANK} dimensions, found {}", shape.len())));
    }
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let expected = elements.and_then(|elements| elements.checked_mul(kind.elt_size_in_bytes()));
    if expected != Some(data.len()) {
        return Err(Error::state(format!("{kind:?} {shape:?} does not fit {} bytes", data.len())));
    }
    if *kind == Kind::Bool && data.iter().any(|&byte| byte > 1) {
        return Err(Error::state("a bool must be 0 or 1"));
    }
    let shape = shape.iter().map(|&size| i64::try_from(size)).collect::<std::result::Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Error::state("a dimension does not fit 63 bits"))?;
    // The length was checked above: libtorch copies as many bytes as the size asks for.
    Ok(Tensor::f_from_data_size(data, &shape, *kind)?)
}

/// Checks what the safetensors crate leaves open: our bounds, and that no name comes twice (it keeps the last one).
fn check_header(bytes: &[u8]) -> Result<()> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Error::state(format!("expected at least {LENGTH_BYTES} bytes, found {}", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let Some(header) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
        return Err(Error::state(format!("a header of {length} bytes does not fit a file of {} bytes", bytes.len())));
    };
    if header.len() > HEADER_BYTES {
        return Err(Error::state(format!("expected a header of at most {HEADER_BYTES} bytes, found {length}")));
    }
    let mut json = serde_json::Deserializer::from_slice(header);
    json.deserialize_map(UniqueKeys).map_err(|error| Error::state(format!("header: {error}")))
}

struct UniqueKeys;

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if names.len() == TENSORS {
                return Err(serde::de::Error::custom(format_args!("more than {TENSORS} tensors")));
            }
            if names.contains(&name) {
                return Err(serde::de::Error::custom(format_args!("two tensors are named `{name}`")));
            }
            names.insert(name);
        }
        Ok(())
    }
}
