//! One node.

use super::{Draft, GraphBuilder, NodeDraft, Value};
use crate::graph::{Attribute, TensorData};

/// A node that is being written: inputs in their order, then [`result`](Self::result).
#[derive(Debug)]
#[must_use = "a node is written by `result`"]
pub struct NodeBuilder<'g> {
    graph: &'g GraphBuilder,
    op_type: &'static str,
    inputs: Vec<Option<usize>>,
    attributes: Vec<(&'static str, Attribute)>,
}

impl GraphBuilder {
    /// A node of operator set 20: `Relu`. [`Value`] has the usual ones as methods.
    pub fn node(&self, op_type: &'static str) -> NodeBuilder<'_> {
        NodeBuilder { graph: self, op_type, inputs: Vec::new(), attributes: Vec::new() }
    }
}

impl<'g> NodeBuilder<'g> {
    /// The next input.
    pub fn input(mut self, value: Value<'_>) -> Self {
        if !std::ptr::eq(value.graph, self.graph) {
            self.graph.0.borrow_mut().fail(format!("{} reads a value of another graph", self.op_type));
        }
        self.inputs.push(Some(value.index));
        self
    }

    /// The next input, which may be left out.
    pub fn optional(mut self, value: Option<Value<'_>>) -> Self {
        match value {
            Some(value) => self.input(value),
            None => {
                self.inputs.push(None);
                self
            }
        }
    }

    /// An attribute. A wrong one is found by whoever opens the file.
    pub fn attribute(mut self, name: &'static str, value: impl Into<Attribute>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Writes the node; its one output has `rank` dimensions.
    pub fn result(self, rank: usize) -> Value<'g> {
        let [result] = self.results(rank);
        result
    }

    /// Writes the node; each of its outputs has `rank` dimensions.
    pub fn results<const COUNT: usize>(mut self, rank: usize) -> [Value<'g>; COUNT] {
        while self.inputs.last() == Some(&None) {
            self.inputs.pop();
        }
        let mut draft = self.graph.0.borrow_mut();
        let folder = draft.module_path().replace('.', "/");
        let separator = if folder.is_empty() { "" } else { "/" };
        let name = draft.node_names.unique(format!("/{folder}{separator}{}", self.op_type));
        let metadata = draft.scopes(name.rsplit('/').next().unwrap_or_default(), self.op_type);
        let first = draft.values.len();
        draft.values.resize(first + COUNT, None);
        let Self { graph, op_type, inputs, attributes } = self;
        let outputs = (first..first + COUNT).collect();
        let results = std::array::from_fn(|position| Value { graph, index: first + position, rank });
        draft.nodes.push(NodeDraft { name, op_type, inputs, outputs, attributes, metadata });
        results
    }
}

impl Draft {
    /// The modules around a node as PyTorch's exporter writes them: `['', 'layer1.0', 'layer1.0.conv1', 'Conv']`, and their classes.
    fn scopes(&self, call: &str, op_type: &str) -> [(&'static str, String); 2] {
        let list = |names: &mut dyn Iterator<Item = &str>| {
            let quoted: Vec<_> = names.map(|name| format!("'{name}'")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let classes = self.modules.iter().map(|module| module.class.as_str());
        let paths = self.modules.iter().map(|module| module.path.as_str());
        [
            ("pkg.torch.onnx.class_hierarchy", list(&mut classes.chain([op_type]))),
            ("pkg.torch.onnx.name_scopes", list(&mut paths.chain([call]))),
        ]
    }
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for Attribute {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<&[i64]> for Attribute {
    fn from(values: &[i64]) -> Self {
        Self::Ints(values.to_vec())
    }
}

impl<const N: usize> From<[i64; N]> for Attribute {
    fn from(values: [i64; N]) -> Self {
        Self::Ints(values.to_vec())
    }
}

impl From<TensorData> for Attribute {
    fn from(tensor: TensorData) -> Self {
        Self::Tensor(tensor)
    }
}
