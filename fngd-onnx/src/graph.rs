//! The graph as the rest of the crate sees it: checked once, then only read.
//!
//! Values have numbers instead of names, nodes are in topological order, every attribute has one Rust type. Making one from
//! bytes is `read`'s work; nothing here knows protobuf, and nothing here knows libtorch.

use serde::Serialize;
use std::collections::BTreeMap;

/// Number of a value: an input, an initializer or a node's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub usize);

/// A model's main graph.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Name and, where the file says so, type of every value.
    pub values: Vec<ValueInfo>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// What the caller supplies (initializers that an old file lists as inputs are not here).
    pub inputs: Vec<ValueId>,
    /// What the graph computes.
    pub outputs: Vec<ValueId>,
    /// Constants: initializers of the file.
    pub initializers: BTreeMap<ValueId, TensorData>,
    /// Those of them that lie where the writer changes nothing, and where that is: they cannot be trained.
    pub fixed: BTreeMap<ValueId, &'static str>,
}

/// Name and type of a value.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ValueInfo {
    /// The file's name for it.
    pub name: String,
    /// Element type, if declared.
    pub element_type: Option<ElementType>,
    /// Dimensions, if declared.
    pub dims: Option<Vec<Dim>>,
}

/// One declared dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dim {
    /// A number.
    Known(u64),
    /// A name such as `batch`.
    Symbol(String),
    /// Left open.
    Unknown,
}

impl From<u64> for Dim {
    fn from(size: u64) -> Self {
        Self::Known(size)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::Symbol(name.to_owned())
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    /// Position in the main graph's list of nodes, by which an edit finds it; `None` for a node from the body of a function or the
    /// branch of an If, which the writer leaves alone, and for one that repair added.
    pub index: Option<usize>,
    /// The file's name for it, or `Conv_17` where the file has none; in a body, behind the name of the call: `call/inner`.
    pub name: String,
    /// `Conv`.
    pub op_type: String,
    /// Empty for ai.onnx.
    pub domain: String,
    /// Operator set version that the file imports for `domain`.
    pub opset: i64,
    /// Inputs; `None` for an optional one that is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs; `None` for one that nobody wants.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// Exporters leave hints here: module scopes, rewriter rules.
    pub metadata: BTreeMap<String, String>,
}

/// A node's attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// One integer.
    Int(i64),
    /// One float.
    Float(f32),
    /// A string (invalid UTF-8 is replaced).
    String(String),
    /// A constant tensor.
    Tensor(TensorData),
    /// Several integers.
    Ints(Vec<i64>),
    /// Several floats.
    Floats(Vec<f32>),
    /// Several strings.
    Strings(Vec<String>),
    /// Anything else (subgraphs, sparse tensors, types): named, never used.
    Unsupported(&'static str),
}

/// A tensor's contents, little-endian and contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Element type of `bytes`.
    pub element_type: ElementType,
    /// Dimensions; their product times the element size is `bytes.len()`.
    pub dims: Vec<u64>,
    /// The elements.
    pub bytes: Vec<u8>,
}

/// Element types that the importer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ElementType {
    Float32,
    Float64,
    Float16,
    Bfloat16,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Bool,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 | Self::Bool => 1,
            Self::Float16 | Self::Bfloat16 | Self::Int16 | Self::Uint16 => 2,
            Self::Float32 | Self::Int32 | Self::Uint32 => 4,
            Self::Float64 | Self::Int64 | Self::Uint64 => 8,
        }
    }

    /// Whether gradients can flow through it.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float32 | Self::Float64 | Self::Float16 | Self::Bfloat16)
    }
}

impl Node {
    /// Attribute `name` as an integer, or `default` where the file leaves it out.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        if let Some(Attribute::Int(value)) = self.attributes.get(name) { *value } else { default }
    }

    /// Attribute `name` as a float, or `default` where the file leaves it out.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        if let Some(Attribute::Float(value)) = self.attributes.get(name) { *value } else { default }
    }

    /// The same as the number that was meant: the shortest decimal that float32 rounds to what is stored. An exporter that was told
    /// 1e-5 stores 9.9999997e-6, and this gives 1e-5.
    pub fn decimal(&self, name: &str, default: f32) -> f64 {
        let stored = self.float(name, default);
        // Rust prints the shortest decimal.
        stored.to_string().parse().unwrap_or_else(|_| stored.into())
    }

    /// Attribute `name` as a list of integers, if the file has it.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        if let Some(Attribute::Ints(values)) = self.attributes.get(name) { Some(values) } else { None }
    }

    /// Attribute `name` as a string, or `default` where the file leaves it out.
    pub fn string<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        if let Some(Attribute::String(value)) = self.attributes.get(name) { value } else { default }
    }

    /// Input `position`, if it is there.
    pub fn input(&self, position: usize) -> Option<ValueId> {
        self.inputs.get(position).copied().flatten()
    }

    /// Output `position`, if somebody wants it.
    pub fn output(&self, position: usize) -> Option<ValueId> {
        self.outputs.get(position).copied().flatten()
    }

    /// How messages name this node: ``node `/conv1/Conv` (Conv, opset 17)``.
    pub fn describe(&self) -> String {
        format!("node `{}` ({}, opset {})", self.name, self.op_type, self.opset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_what_the_exporter_was_told() {
        let attributes = BTreeMap::from([("epsilon".to_owned(), Attribute::Float(1e-5))]);
        let (name, op_type, domain) = (String::new(), "BatchNormalization".to_owned(), String::new());
        let (inputs, outputs, metadata) = (Vec::new(), Vec::new(), BTreeMap::new());
        let node = Node { index: None, name, op_type, domain, opset: 20, inputs, outputs, attributes, metadata };
        assert_eq!(node.decimal("epsilon", 0.0), 1e-5);
        assert_eq!(f64::from(node.float("epsilon", 0.0)), 9.999999747378752e-6);
        assert_eq!(node.decimal("momentum", 0.9), 0.9);
    }
}
