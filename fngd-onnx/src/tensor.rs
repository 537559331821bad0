//! Reading a tensor's elements as Rust numbers.

use crate::external::Reader;
use crate::graph::{ElementType, TensorData};
use crate::proto_generated::TensorProto;
use crate::{Error, read};
use half::{bf16, f16};
use prost::Message;
use std::path::Path;

impl TensorData {
    /// The tensor in `bytes`, one encoded `TensorProto`: how the test data of models is kept, as `input_0.pb`.
    ///
    /// # Errors
    /// `is_malformed()` if it is none; `is_unsupported()` for an element type that the importer does not read;
    /// `is_limit()` or `is_external_data()` for one whose elements are in another file.
    pub fn from_proto(bytes: &[u8]) -> crate::Result<Self> {
        let proto =
            TensorProto::decode(bytes).map_err(|error| Error::malformed("not an ONNX tensor").caused_by(error))?;
        Ok(read::tensor(&proto, &mut Reader::new(Path::new(""), 0))?.0)
    }

    /// A float32 tensor.
    pub fn from_floats(dims: Vec<u64>, values: &[f32]) -> Self {
        Self {
            element_type: ElementType::Float32,
            dims,
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// An int64 tensor.
    pub fn from_integers(dims: Vec<u64>, values: &[i64]) -> Self {
        Self {
            element_type: ElementType::Int64,
            dims,
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.element_type.size()
    }

    /// The elements as float32, if they are floats. Float64 is rounded.
    pub fn floats(&self) -> Option<Vec<f32>> {
        Some(match self.element_type {
            ElementType::Float32 => self.map(f32::from_le_bytes),
            ElementType::Float64 => self.map(|bytes| f64::from_le_bytes(bytes) as f32),
            ElementType::Float16 => self.map(|bytes| f16::from_le_bytes(bytes).to_f32()),
            ElementType::Bfloat16 => self.map(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            _ => return None,
        })
    }

    /// The elements as int64, if they are integers or booleans. Uint64 above `i64::MAX` gives `None`.
    pub fn integers(&self) -> Option<Vec<i64>> {
        Some(match self.element_type {
            ElementType::Int8 => self.map(|bytes| i64::from(i8::from_le_bytes(bytes))),
            ElementType::Int16 => self.map(|bytes| i64::from(i16::from_le_bytes(bytes))),
            ElementType::Int32 => self.map(|bytes| i64::from(i32::from_le_bytes(bytes))),
            ElementType::Int64 => self.map(i64::from_le_bytes),
            ElementType::Uint8 | ElementType::Bool => self.map(|bytes| i64::from(u8::from_le_bytes(bytes))),
            ElementType::Uint16 => self.map(|bytes| i64::from(u16::from_le_bytes(bytes))),
            ElementType::Uint32 => self.map(|bytes| i64::from(u32::from_le_bytes(bytes))),
            ElementType::Uint64 => {
                let numbers = self.map(|bytes| i64::try_from(u64::from_le_bytes(bytes)));
                numbers.into_iter().collect::<Result<_, _>>().ok()?
            }
            _ => return None,
        })
    }

    /// The transpose of a matrix; `None` unless there are two dimensions.
    pub fn transposed(&self) -> Option<Self> {
        let [rows, columns] = self.dims.as_slice() else { return None };
        let (height, width) = (usize::try_from(*rows).ok()?, usize::try_from(*columns).ok()?);
        let size = self.element_type.size();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        // Of `[0, 2^40]` there is nothing to visit, 2^40 times.
        let width = if self.bytes.is_empty() { 0 } else { width };
        for column in 0..width {
            for row in 0..height {
                let start = (row * width + column) * size;
                bytes.extend_from_slice(self.bytes.get(start..start + size)?);
            }
        }
        Some(Self { element_type: self.element_type, dims: vec![*columns, *rows], bytes })
    }

    fn map<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
    }
}

impl ElementType {
    /// Number in `TensorProto.DataType`.
    pub fn number(self) -> i32 {
        match self {
            Self::Float32 => 1,
            Self::Uint8 => 2,
            Self::Int8 => 3,
            Self::Uint16 => 4,
            Self::Int16 => 5,
            Self::Int32 => 6,
            Self::Int64 => 7,
            Self::Bool => 9,
            Self::Float16 => 10,
            Self::Float64 => 11,
            Self::Uint32 => 12,
            Self::Uint64 => 13,
            Self::Bfloat16 => 16,
        }
    }

    /// The type with this number in `TensorProto.DataType`, if it is one that the importer reads.
    pub fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Float32,
            2 => Self::Uint8,
            3 => Self::Int8,
            4 => Self::Uint16,
            5 => Self::Int16,
            6 => Self::Int32,
            7 => Self::Int64,
            9 => Self::Bool,
            10 => Self::Float16,
            11 => Self::Float64,
            12 => Self::Uint32,
            13 => Self::Uint64,
            16 => Self::Bfloat16,
            _ => return None,
        })
    }

    /// How messages and JSON name it: `float32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Bool => "bool",
        }
    }
}
