//! Making the nodes of an expansion.

use crate::graph::{Attribute, Graph, Node, TensorData, ValueId, ValueInfo};
use std::collections::{BTreeMap, BTreeSet};

/// Operator set in whose meaning the parts are written.
const OPSET: i64 = 23;

/// The parts of one node, in order.
pub(super) struct Parts<'a> {
    graph: &'a mut Graph,
    of: &'a Node,
    products: &'a BTreeSet<ValueId>,
    made: Vec<Node>,
}

/// Outputs of matrix products: a bias belongs to them.
pub(super) fn products(nodes: &[Node]) -> BTreeSet<ValueId> {
    let multiplies = |node: &&Node| matches!(node.op_type.as_str(), "MatMul" | "FusedMatMul");
    nodes.iter().filter(multiplies).filter_map(|node| node.output(0)).collect()
}

/// Attributes of a node, from pairs.
pub(super) fn attributes<const COUNT: usize>(pairs: [(&str, Attribute); COUNT]) -> BTreeMap<String, Attribute> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl<'a> Parts<'a> {
    pub fn new(graph: &'a mut Graph, of: &'a Node, products: &'a BTreeSet<ValueId>) -> Self {
        Self { graph, of, products, made: Vec::new() }
    }

    /// The nodes made.
    pub fn finish(self) -> Vec<Node> {
        self.made
    }

    /// Dimensions of a constant.
    pub fn constant_dims(&self, value: Option<ValueId>) -> Option<&[u64]> {
        self.graph.initializers.get(&value?).map(|data| data.dims.as_slice())
    }

    /// Whether a matrix product makes `value`.
    pub fn is_product(&self, value: ValueId) -> bool {
        self.products.contains(&value)
    }

    /// A new node of ai.onnx with one new output.
    pub fn node(
        &mut self,
        op_type: &str,
        inputs: &[Option<ValueId>],
        attributes: BTreeMap<String, Attribute>,
    ) -> ValueId {
        let output = self.value(op_type);
        self.node_to(op_type, inputs, attributes, vec![Some(output)]);
        output
    }

    /// A new node of ai.onnx that writes `outputs`.
    pub fn node_to(
        &mut self,
        op_type: &str,
        inputs: &[Option<ValueId>],
        attributes: BTreeMap<String, Attribute>,
        outputs: Vec<Option<ValueId>>,
    ) {
        self.made.push(Node {
            index: None,
            name: format!("{}/{op_type}_{}", self.of.name, self.made.len()),
            op_type: op_type.to_owned(),
            domain: String::new(),
            opset: OPSET,
            inputs: inputs.to_vec(),
            outputs,
            attributes,
            metadata: self.of.metadata.clone(),
        });
    }

    /// The node made last is one of `domain`.
    pub fn last_is(&mut self, domain: &str) {
        if let Some(node) = self.made.last_mut() {
            domain.clone_into(&mut node.domain);
        }
    }

    /// The node itself with other inputs.
    pub fn same(&mut self, inputs: Vec<Option<ValueId>>) {
        self.made.push(Node { index: None, inputs, ..self.of.clone() });
    }

    /// Sum of two values.
    pub fn add(&mut self, left: ValueId, right: ValueId) -> ValueId {
        self.node("Add", &[Some(left), Some(right)], BTreeMap::new())
    }

    /// A number.
    pub fn number(&mut self, number: f32) -> ValueId {
        self.constant(TensorData::from_floats(Vec::new(), &[number]))
    }

    /// A list of integers.
    pub fn integers(&mut self, values: &[i64]) -> ValueId {
        self.constant(TensorData::from_integers(vec![values.len() as u64], values))
    }

    /// A value without a producer yet.
    pub fn value(&mut self, what: &str) -> ValueId {
        let name = format!("{}/{what}_{}", self.of.name, self.graph.values.len());
        self.graph.values.push(ValueInfo { name, ..ValueInfo::default() });
        ValueId(self.graph.values.len() - 1)
    }

    fn constant(&mut self, data: TensorData) -> ValueId {
        let value = self.value("constant");
        self.graph.initializers.insert(value, data);
        value
    }
}
