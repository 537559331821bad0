//! Functions and branches in place of the nodes that stand for them.
//!
//! Ten nested functions that call the next one ten times are ten lines in a file and ten thousand million nodes in a graph: what an
//! expansion costs is counted before it is made.

use super::Builder;
use super::body::describe;
use super::functions::{Function, full_name};
use super::scope::{Kind, Scope};
use crate::census::Limits;
use crate::error::quoted;
use crate::graph::{Node, ValueId};
use crate::proto_generated::{FunctionProto, NodeProto};
use crate::{Error, Result};
use prost::Message;
use std::collections::BTreeMap;

/// Most functions and branches inside each other. Exporters nest modules ten deep.
const DEEPEST: usize = 64;

/// What expansions may still cost.
pub(super) struct Budget {
    nodes: u64,
    bytes: u64,
    limits: (u64, u64),
}

impl Budget {
    /// For a file of this length whose main graph has `nodes`.
    pub fn new(limits: &Limits, file: usize, nodes: usize) -> Self {
        let bytes = limits.decoded_bytes.max((file as u64).saturating_mul(4));
        Self { nodes: limits.nodes.saturating_sub(nodes as u64), bytes, limits: (limits.nodes, bytes) }
    }

    /// Takes a node of a body, whose names begin with `prefix`.
    pub fn node(&mut self, node: &NodeProto, prefix: &str) -> Result<()> {
        let limit = self.limits.0;
        self.nodes = self.nodes.checked_sub(1).ok_or_else(|| {
            Error::limit(format!("more than {limit} nodes when functions and branches are put in place of their calls"))
        })?;
        let parts = node.input.len() + node.output.len() + node.attribute.len() + node.metadata_props.len();
        self.bytes(node.encoded_len() + prefix.len() + 64 * parts)
    }

    /// Takes memory.
    pub fn bytes(&mut self, bytes: usize) -> Result<()> {
        let limit = self.limits.1;
        self.bytes = self.bytes.checked_sub(bytes as u64).ok_or_else(|| {
            Error::limit(format!("more than {limit} bytes when functions and branches are put in place of their calls"))
        })?;
        Ok(())
    }
}

/// An output of a body, under its name there and under the one that the call gives it.
struct Output<'p> {
    inner: &'p str,
    outer: &'p str,
    /// Its name in the graph, if no node of the body will give that name to it.
    passed: Option<String>,
}

impl<'p> Builder<'p> {
    /// Puts the body of `function` in place of `node`, which is called `name` in the graph.
    pub(super) fn call(
        &mut self,
        function: &'p Function<'p>,
        name: &str,
        node: &'p NodeProto,
        inputs: &[Option<ValueId>],
        scope: &mut Scope<'p, '_>,
    ) -> Result<()> {
        let proto = function.proto;
        let at =
            |error: Error| error.at(format!("{} calls function {}", describe(name, node), quoted(&full_name(proto))));
        self.enter(Some(proto)).map_err(|error| error.at(describe(name, node)))?;
        let names = proto.input.iter().chain(&proto.output).chain(&proto.attribute);
        self.budget.bytes(names.map(|name| 64 + name.len()).sum::<usize>() + 64 * proto.attribute_proto.len())?;
        let (found, most) = ([node.input.len(), node.output.len()], [proto.input.len(), proto.output.len()]);
        if found[0] > most[0] || found[1] > most[1] {
            let text = format!("{} inputs and {} outputs, it has {} and {}", found[0], found[1], most[0], most[1]);
            return Err(at(Error::malformed(text)));
        }
        let mut inner = Scope::inside(Kind::Function, name, &function.opsets);
        for (position, formal) in proto.input.iter().enumerate() {
            if inner.values.insert(formal, inputs.get(position).copied().flatten()).is_some() {
                return Err(at(Error::malformed(format!("two of its inputs are called {}", quoted(formal)))));
            }
        }
        inner.attributes.extend(proto.attribute.iter().map(|name| (name.as_str(), None)));
        inner.attributes.extend(proto.attribute_proto.iter().map(|default| (default.name(), Some(default))));
        for given in &node.attribute {
            let bound = scope.attribute(given).map_err(at)?;
            if let (Some(_), Some(place)) = (bound, inner.attributes.get_mut(given.name())) {
                *place = bound;
            }
        }
        let outputs = proto.output.iter().map(String::as_str).zip(node.output.iter().map(String::as_str));
        let outputs = self.plan(outputs, &mut inner, scope).map_err(at)?;
        self.body(&proto.node, &mut inner)?;
        let values = self.results(outputs, name, inner).map_err(at)?;
        *self.expanded.entry(full_name(proto)).or_default() += 1;
        self.leave(values, scope).map_err(at)
    }

    /// Puts a branch in place of the If `node`, which is called `name` in the graph.
    pub(super) fn branch(
        &mut self,
        condition: bool,
        name: &str,
        node: &'p NodeProto,
        scope: &mut Scope<'p, '_>,
    ) -> Result<()> {
        let wanted = if condition { "then_branch" } else { "else_branch" };
        let at = |error: Error| error.at(format!("{}, {wanted}", describe(name, node)));
        let given = node.attribute.iter().find(|attribute| attribute.name() == wanted);
        let bound = given.map(|given| scope.attribute(given)).transpose().map_err(at)?.flatten();
        let Some(graph) = bound.and_then(|bound| bound.g.as_ref()) else {
            return Err(at(Error::malformed("there is no such graph")));
        };
        let (inputs, found, expected) = (graph.input.len(), graph.output.len(), node.output.len());
        if inputs > 0 || found != expected {
            let text = format!("{inputs} inputs and {found} outputs, expected none and {expected}");
            return Err(at(Error::malformed(text)));
        }
        self.enter(None).map_err(at)?;
        let mut inner = Scope::inside(Kind::Branch, name, scope.opsets);
        let outputs = graph.output.iter().map(|output| output.name()).zip(node.output.iter().map(String::as_str));
        let outputs = self.plan(outputs, &mut inner, scope).map_err(at)?;
        let values = {
            let mut inner = Scope { outer: Some(&*scope), ..inner };
            self.initializers(graph, &mut inner)?;
            self.body(&graph.node, &mut inner)?;
            self.results(outputs, name, inner).map_err(at)?
        };
        self.leave(values, scope).map_err(at)
    }

    fn enter(&mut self, function: Option<&'p FunctionProto>) -> Result<()> {
        let same = |around: &Option<&FunctionProto>| match (around, function) {
            (Some(around), Some(function)) => std::ptr::eq(*around, function),
            _ => false,
        };
        if let Some(first) = self.around.iter().position(same) {
            let cycle = self.around.iter().skip(first).chain([&function]).flatten();
            let names: Vec<String> = cycle.map(|function| quoted(&full_name(function))).collect();
            return Err(Error::malformed(format!("a function calls itself: {}", names.join(" → "))));
        }
        if self.around.len() >= DEEPEST {
            return Err(Error::limit(format!("more than {DEEPEST} functions and branches inside each other")));
        }
        self.around.push(function);
        Ok(())
    }

    /// Binds the outputs of a body to the names that the call gives them.
    fn leave(&mut self, values: Vec<(&'p str, Option<ValueId>)>, scope: &mut Scope<'p, '_>) -> Result<()> {
        self.around.pop();
        for (name, value) in values {
            if scope.values.insert(name, value).is_some() {
                return Err(Error::malformed(format!("value {} is defined twice", quoted(name))));
            }
        }
        Ok(())
    }

    /// Tells `inner` which names in the graph its outputs get.
    fn plan(
        &mut self,
        outputs: impl Iterator<Item = (&'p str, &'p str)>,
        inner: &mut Scope<'p, '_>,
        scope: &mut Scope<'p, '_>,
    ) -> Result<Vec<Output<'p>>> {
        let mut planned = Vec::new();
        for (name, outer) in outputs.filter(|(_, outer)| !outer.is_empty()) {
            let full = self.full_name(outer, "value", scope)?;
            // An input that is also an output, or one value as two outputs.
            let is_passed = inner.values.contains_key(name) || inner.results.contains_key(name);
            let passed = if is_passed { Some(full) } else { inner.results.insert(name, full) };
            planned.push(Output { inner: name, outer, passed });
        }
        Ok(planned)
    }

    /// The values of the outputs of a body that has been read, by the names that the call gives them.
    fn results(
        &mut self,
        outputs: Vec<Output<'p>>,
        call: &str,
        mut inner: Scope<'p, '_>,
    ) -> Result<Vec<(&'p str, Option<ValueId>)>> {
        let mut values = Vec::with_capacity(outputs.len());
        for Output { inner: name, outer, passed } in outputs {
            let value = inner.find(name).ok_or_else(|| {
                Error::malformed(format!("its output {} is not computed by any of its nodes", quoted(name)))
            })?;
            // A name that is left over was for a value from outside.
            let passed = passed.or_else(|| inner.results.remove(name));
            let value = match (value, passed) {
                (Some(value), Some(full)) => Some(self.identity(value, full, call, &inner)),
                (value, _) => value,
            };
            values.push((outer, value));
        }
        Ok(values)
    }

    /// The same value under another name.
    fn identity(&mut self, of: ValueId, name: String, call: &str, scope: &Scope<'p, '_>) -> ValueId {
        let opset = scope.opsets.get("").or_else(|| self.header.opsets.get("")).copied().unwrap_or(1);
        let node_name = format!("{call}/{name}");
        let output = self.value(name);
        self.graph.nodes.push(Node {
            index: None,
            name: node_name,
            op_type: "Identity".into(),
            domain: String::new(),
            opset,
            inputs: vec![Some(of)],
            outputs: vec![Some(output)],
            attributes: BTreeMap::new(),
            metadata: BTreeMap::new(),
        });
        output
    }
}
