//! Node after node: what each becomes, and what is known of what it gives.

use super::batch::FreeBatch;
use super::facts::Fact;
use super::rearrangement::Rearrangement;
use super::sizes::Expression;
use super::steps::{Call, Draft, Step};
use super::{affine, fold, table};
use crate::operation::{Argument, Kind, Parameter, Size};
use crate::{Error, Result};
use fngd_onnx::OnnxModel;
use fngd_onnx::analysis::LayerInfo;
use fngd_onnx::graph::{ElementType, Graph, Node, TensorData, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The state of reading a graph.
pub(super) struct Reader<'a> {
    pub model: &'a OnnxModel,
    pub graph: &'a Graph,
    pub draft: Draft,
    /// The batch size, if the file insists on one.
    pub batch: Option<FreeBatch>,
    /// Index of the node that is read.
    pub index: usize,
    /// Adds that are part of a layer.
    pub absorbed: BTreeSet<usize>,
    pub producers: BTreeMap<ValueId, usize>,
    /// Values that are another one under a new name.
    pub aliases: BTreeMap<ValueId, ValueId>,
    /// Values that a call gives, and inputs.
    pub computed: BTreeSet<ValueId>,
    pub depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(model: &'a OnnxModel) -> Result<Self> {
        let graph = model.graph();
        let mut reader = Self {
            model,
            graph,
            draft: Draft::new(graph.values.len(), graph.inputs.clone()),
            batch: None,
            index: 0,
            absorbed: BTreeSet::new(),
            producers: BTreeMap::new(),
            aliases: BTreeMap::new(),
            computed: graph.inputs.iter().copied().collect(),
            depth: 0,
        };
        for (index, node) in graph.nodes.iter().enumerate() {
            reader.producers.extend(node.outputs.iter().flatten().map(|output| (*output, index)));
        }
        reader.inputs()?;
        Ok(reader)
    }

    /// Reads all nodes.
    pub fn read(mut self) -> Result<Draft> {
        let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
        // What follows from a refused node is not looked at: it would be refused for that reason only.
        let mut unread: BTreeSet<ValueId> = BTreeSet::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            self.index = index;
            if self.absorbed.contains(&index) {
                continue;
            }
            if node.inputs.iter().flatten().any(|input| unread.contains(input)) {
                unread.extend(node.outputs.iter().flatten());
                continue;
            }
            if let Some(fact) = fold::fold(&self, node) {
                self.draft.facts.extend(node.output(0).map(|output| (output, fact)));
            } else if let Err(error) = self.compute(node) {
                refused.entry(node.op_type.clone()).or_default().push(error.at(node.describe()).to_string());
                unread.extend(node.outputs.iter().flatten());
                continue;
            }
            if let (Some(affine), Some(output)) = (affine::of(&self, node), node.output(0))
                && let Some(fact) = self.draft.facts.get_mut(&output)
            {
                fact.affine = Some(affine);
            }
        }
        if !refused.is_empty() {
            return Err(refusal(&refused, self.graph.nodes.len()));
        }
        let outputs = self.graph.outputs.clone();
        self.draft.outputs = outputs.into_iter().map(|output| self.tensor_of(output)).collect::<Result<_>>()?;
        Ok(self.draft)
    }

    /// Input `position`, as a value that is no other's second name.
    pub fn input(&self, node: &Node, position: usize) -> Result<ValueId> {
        self.optional(node, position).ok_or_else(|| Error::unsupported(format!("input {position} is missing")))
    }

    /// Input `position`, if it is there.
    pub fn optional(&self, node: &Node, position: usize) -> Option<ValueId> {
        node.input(position).map(|id| self.resolve(id))
    }

    /// What is known of input `position`.
    pub fn fact(&self, node: &Node, position: usize) -> Result<&Fact> {
        let id = self.input(node, position)?;
        self.draft.facts.get(&id).ok_or_else(|| unknown(self.graph, id))
    }

    /// What is known of input `position`, if it is there.
    pub fn optional_fact(&self, node: &Node, position: usize) -> Option<&Fact> {
        self.draft.facts.get(&self.optional(node, position)?)
    }

    /// The dimensions of input `position`.
    pub fn dims(&self, node: &Node, position: usize) -> Result<Vec<Expression>> {
        Ok(self.fact(node, position)?.dims.clone())
    }

    /// Input `position` as a tensor that calls can have as an operand.
    pub fn tensor(&mut self, node: &Node, position: usize) -> Result<ValueId> {
        let id = self.input(node, position)?;
        self.tensor_of(id)
    }

    /// Input `position` as a number, if it is one, else as a tensor.
    pub fn operand(&mut self, node: &Node, position: usize) -> Result<Argument> {
        let fact = self.fact(node, position)?;
        match fact.uniform().filter(|_| fact.dims.iter().all(|dim| dim.is(1))) {
            Some(number) if fact.element.is_float() => Ok(Argument::Float(number)),
            Some(number) if fact.element != ElementType::Bool => Ok(Argument::Integer(Size::Known(number as i64))),
            _ => Ok(Argument::Tensor(self.tensor(node, position)?)),
        }
    }

    /// Known integers of input `position`.
    pub fn integers(&self, node: &Node, position: usize) -> Result<Vec<Expression>> {
        let all = self.fact(node, position)?.as_integers();
        all.map(<[_]>::to_vec).ok_or_else(|| {
            Error::unsupported(format!("input {position} is known only when the model runs; make it a constant"))
        })
    }

    /// Known numbers of input `position`, none of them a size.
    pub fn numbers(&self, node: &Node, position: usize) -> Result<Vec<i64>> {
        let numbers = self.integers(node, position)?.iter().map(Expression::known).collect::<Option<_>>();
        numbers.ok_or_else(|| Error::unsupported(format!("input {position} depends on a size of the model's input")))
    }

    /// The node that computes `id`.
    pub fn producer(&self, id: ValueId) -> Option<&'a Node> {
        self.graph.nodes.get(*self.producers.get(&id)?)
    }

    /// The layer that `node` is. None if the generated model holds its weight the other way round, for another use of the same weight.
    pub fn layer(&self) -> Option<LayerInfo> {
        let layer = self.model.analysis().layers.get(&self.index)?;
        let weight = self.model.analysis().parameters.get(&layer.weight)?;
        let node = self.graph.nodes.get(self.index)?;
        let is_linear = matches!(node.op_type.as_str(), "MatMul" | "Gemm");
        (!is_linear || self.wants_transposed(node, layer.weight)? == weight.transposed).then(|| layer.clone())
    }

    /// Whether a linear layer that computes `node` holds the transpose of the constant `weight`, from which input 1 comes.
    fn wants_transposed(&self, node: &Node, weight: ValueId) -> Option<bool> {
        let (mut value, mut is_turned) = (node.input(1)?, node.int("transB", 0) != 0);
        while value != weight {
            let producer = self.producer(value)?;
            is_turned ^= producer.op_type == "Transpose";
            value = producer.input(0)?;
        }
        Some(!is_turned)
    }

    /// The constant behind input `position`, if it is one that the model holds as it is.
    pub fn constant(&self, node: &Node, position: usize) -> Option<(ValueId, &'a TensorData)> {
        let id = self.optional(node, position)?;
        let data = self.graph.initializers.get(&id)?;
        let is_turned = self.model.analysis().parameters.get(&id).is_some_and(|info| info.transposed);
        (!is_turned).then_some((id, data))
    }

    /// The parameter `id`, which a layer calls `role`.
    pub fn parameter(&self, id: ValueId, role: &str) -> Option<Parameter> {
        let data = self.graph.initializers.get(&id)?;
        let info = self.model.analysis().parameters.get(&id);
        let mut dims: Vec<i64> = data.dims.iter().map(|dim| i64::try_from(*dim).ok()).collect::<Option<_>>()?;
        let transposed = info.is_some_and(|info| info.transposed);
        if transposed {
            dims.reverse();
        }
        Some(Parameter {
            name: role.to_owned(),
            source: id,
            dims,
            transposed,
            trainable: info.is_some_and(|info| info.trainable),
        })
    }

    /// `node` gives output `position` by this call.
    pub fn give(&mut self, node: &Node, position: usize, kind: Kind, element: ElementType, dims: Vec<Expression>) {
        if let Some(result) = node.output(position) {
            self.draft.steps.push(Step { call: Call::Kind(kind), results: vec![result], nodes: vec![self.index] });
            self.know(result, element, dims);
        }
    }

    /// `node` gives its first output by `receiver.name(arguments)`, of the same type and dimensions as the receiver.
    pub fn map(&mut self, node: &Node, name: &'static str, arguments: Vec<Argument>) -> Result<()> {
        let fact = self.fact(node, 0)?.clone();
        let receiver = self.tensor(node, 0)?;
        self.give(node, 0, Kind::Method { receiver, name, arguments }, fact.element, fact.dims);
        Ok(())
    }

    /// Another step of this node, whose result has these dimensions.
    pub fn push(&mut self, mut step: Step, dims: Vec<Expression>) {
        step.nodes = vec![self.index];
        for result in step.results.clone() {
            self.know(result, ElementType::Float32, dims.clone());
        }
        self.draft.steps.push(step);
    }

    /// An intermediate result.
    pub fn between(&mut self, kind: Kind, element: ElementType, dims: Vec<Expression>) -> ValueId {
        let result = self.draft.new_value();
        self.draft.steps.push(Step { call: Call::Kind(kind), results: vec![result], nodes: vec![self.index] });
        self.know(result, element, dims);
        result
    }

    /// `node` gives several outputs by one call.
    pub fn give_all(&mut self, node: &Node, kind: Kind, element: ElementType, dims: Vec<Vec<Expression>>) {
        let results: Vec<ValueId> = dims
            .into_iter()
            .enumerate()
            .map(|(position, dims)| {
                let result = node.output(position).unwrap_or_else(|| self.draft.new_value());
                self.know(result, element, dims);
                result
            })
            .collect();
        self.draft.steps.push(Step { call: Call::Kind(kind), results, nodes: vec![self.index] });
    }

    /// `node` gives the elements of its input 0 in another order.
    pub fn rearrange(&mut self, node: &Node, how: Rearrangement, dims: Vec<Expression>) -> Result<()> {
        let element = self.fact(node, 0)?.element;
        let input = self.tensor(node, 0)?;
        if let Some(result) = node.output(0) {
            let call = Call::Rearrange { input, how };
            self.draft.steps.push(Step { call, results: vec![result], nodes: vec![self.index] });
            self.know(result, element, dims);
        }
        Ok(())
    }

    /// `node` gives `value` under another name.
    pub fn rename(&mut self, node: &Node, value: ValueId) {
        self.aliases.extend(node.output(0).map(|output| (output, value)));
    }

    /// `id`, or what it is another name of.
    pub fn resolve(&self, id: ValueId) -> ValueId {
        self.aliases.get(&id).copied().unwrap_or(id)
    }

    pub fn compute(&mut self, node: &Node) -> Result<()> {
        let rule =
            table::rule(node).ok_or_else(|| Error::unsupported("no Rust can be written for this operator yet"))?;
        rule(self, node)
    }

    pub fn know(&mut self, id: ValueId, element: ElementType, dims: Vec<Expression>) {
        self.computed.insert(id);
        self.draft.facts.insert(id, Fact::of(element, dims));
    }
}

pub(super) fn unknown(graph: &Graph, id: ValueId) -> Error {
    let name = graph.values.get(id.0).map_or("", |info| info.name.as_str());
    Error::unsupported(format!("the dimensions of value `{name}` are not known"))
}

/// All that is refused, an operator a line.
fn refusal(refused: &BTreeMap<String, Vec<String>>, nodes: usize) -> Error {
    let total: usize = refused.values().map(Vec::len).sum();
    let mut text = format!("{total} of {nodes} nodes have no form in generated code:");
    for all in refused.values() {
        let more =
            if all.len() > 1 { format!(" (and {} more of this operator)", all.len() - 1) } else { String::new() };
        text.push_str(&format!("\n  {}{more}", all.first().map_or("", String::as_str)));
    }
    text.push_str("\nThe model can be trained all the same, from its file: `fngd-cli train`.");
    Error::unsupported(text)
}
