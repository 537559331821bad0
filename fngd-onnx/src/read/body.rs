//! Nodes, one after another: of the main graph, of a function or of a branch.

use super::functions::{self, Function};
use super::scope::{Kind, Scope};
use super::{Builder, Source, attribute};
use crate::error::quoted;
use crate::graph::{Dim, Node, TensorData, ValueId, ValueInfo};
use crate::names::UniqueNames;
use crate::proto_generated::NodeProto;
use crate::{Error, Result, library, supported};
use std::collections::BTreeMap;

/// What a node stands for.
enum Meaning<'p> {
    /// An operator in this version of its operator set, known or not.
    Operator(i64),
    /// The body of a function.
    Call(&'p Function<'p>),
}

impl<'p> Builder<'p> {
    /// Adds `nodes`, and what they stand for, to the graph.
    pub(super) fn body(&mut self, nodes: &'p [NodeProto], scope: &mut Scope<'p, '_>) -> Result<()> {
        for (index, node) in nodes.iter().enumerate() {
            if scope.kind != Kind::Main {
                self.budget.node(node, &scope.prefix)?;
            }
            self.node(index, node, nodes, scope)?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        index: usize,
        proto: &'p NodeProto,
        nodes: &'p [NodeProto],
        scope: &mut Scope<'p, '_>,
    ) -> Result<()> {
        let name = format!("{}{}", scope.prefix, node_name(index, proto));
        let at = |error: Error| error.at(describe(&name, proto));
        let opset = match self.meaning(proto, scope).map_err(at)? {
            Meaning::Operator(opset) => opset,
            Meaning::Call(function) => {
                let inputs = inputs(&name, proto, nodes, scope)?;
                return self.call(function, &name, proto, &inputs, scope);
            }
        };
        let is = |op_type: &str| proto.op_type() == op_type && functions::domain(proto.domain()).is_empty();
        if is("Constant") {
            let at = |error: Error| error.at(format!("node {} (Constant, opset {opset})", quoted(&name)));
            return self.constant_node(index, proto, scope).map_err(at);
        }
        let inputs = inputs(&name, proto, nodes, scope)?;
        if is("If") {
            let condition = inputs.first().copied().flatten();
            if let Some(condition) = condition.and_then(|id| self.small.truth(&self.graph, id)) {
                return self.branch(condition, &name, proto, scope);
            }
        }
        if is("OptionalHasElement") {
            // Types that are optional are refused: an input that is there has an element.
            let has = proto.input.is_empty() || inputs.iter().any(Option::is_some);
            let data =
                TensorData { element_type: crate::graph::ElementType::Bool, dims: vec![], bytes: vec![has.into()] };
            let [output] = proto.output.as_slice() else { return Err(at(one_output(proto))) };
            let id = self.constant(output, data, scope).map_err(at)?;
            self.graph.fixed.insert(id, "says whether an optional input is there");
            return Ok(());
        }
        let mut node = self.convert(index, name, opset, proto, scope)?;
        node.inputs = inputs;
        for name in &proto.output {
            let id = if name.is_empty() {
                None
            } else {
                Some(self.declare(name, "value", scope).map_err(|error| error.at(node.describe()))?)
            };
            node.outputs.push(id);
        }
        self.small.note(&self.graph, &node);
        self.graph.nodes.push(node);
        Ok(())
    }

    /// The operators of ai.onnx are what they are, where they are implemented. Else the file's own definition counts, and last the
    /// one that the specification gives.
    fn meaning(&self, proto: &'p NodeProto, scope: &Scope<'p, '_>) -> Result<Meaning<'p>> {
        let (domain, op_type) = (functions::domain(proto.domain()), proto.op_type());
        let opset = scope.opsets.get(domain).or_else(|| self.header.opsets.get(domain)).copied();
        if let Some(opset) = opset.filter(|opset| domain.is_empty() && supported::implements(domain, op_type, *opset)) {
            return Ok(Meaning::Operator(opset));
        }
        if let Some(function) = self.functions.find(proto) {
            return Ok(Meaning::Call(function));
        }
        let opset = opset
            .ok_or_else(|| Error::malformed(format!("opset_import has no version for domain {}", quoted(domain))))?;
        if domain.is_empty() && library::knows(op_type) {
            let mut attributes = Vec::new();
            for given in &proto.attribute {
                attributes.extend(scope.attribute(given)?.map(|bound| (given.name(), bound)));
            }
            let present = |name: &String| scope.find(name).flatten().is_some();
            let inputs = proto.input.iter().rposition(present).map_or(0, |last| last + 1);
            if let Some(function) = library::find(op_type, opset, inputs, &attributes) {
                return Ok(Meaning::Call(function));
            }
        }
        Ok(Meaning::Operator(opset))
    }

    fn constant_node(&mut self, index: usize, proto: &'p NodeProto, scope: &mut Scope<'p, '_>) -> Result<()> {
        let [output] = proto.output.as_slice() else { return Err(one_output(proto)) };
        let mut attributes = Vec::new();
        for given in &proto.attribute {
            attributes.extend(scope.attribute(given)?.map(|bound| (given.name(), bound)));
        }
        let (data, external) = attribute::constant(&attributes, &mut self.reader)?;
        let id = self.constant(output, data, scope)?;
        if scope.why_fixed().is_none() {
            self.sources.insert(id, Source::Constant { position: index, external });
        }
        Ok(())
    }

    fn convert(
        &mut self,
        index: usize,
        name: String,
        opset: i64,
        proto: &'p NodeProto,
        scope: &Scope<'p, '_>,
    ) -> Result<Node> {
        let mut attributes = BTreeMap::new();
        for given in &proto.attribute {
            let at = |error: Error| error.at(format!("attribute {}", quoted(given.name()))).at(describe(&name, proto));
            let Some(bound) = scope.attribute(given).map_err(at)? else { continue };
            let value = attribute::read(bound, &mut self.reader).map_err(at)?;
            if attributes.insert(given.name().to_owned(), value).is_some() {
                let twice = Error::malformed(format!("attribute {} is there twice", quoted(given.name())));
                return Err(twice.at(describe(&name, proto)));
            }
        }
        let metadata = &proto.metadata_props;
        Ok(Node {
            index: (scope.kind == Kind::Main).then_some(index),
            name,
            op_type: proto.op_type().to_owned(),
            domain: functions::domain(proto.domain()).to_owned(),
            opset,
            inputs: Vec::new(),
            outputs: Vec::with_capacity(proto.output.len()),
            attributes,
            metadata: metadata.iter().map(|entry| (entry.key().to_owned(), entry.value().to_owned())).collect(),
        })
    }

    /// Adds a constant that is called `name` in `scope`.
    pub(super) fn constant(&mut self, name: &'p str, data: TensorData, scope: &mut Scope<'p, '_>) -> Result<ValueId> {
        let id = self.declare(name, "initializer", scope)?;
        if let Some(info) = self.graph.values.get_mut(id.0) {
            info.element_type = Some(data.element_type);
            info.dims = Some(data.dims.iter().map(|dim| Dim::Known(*dim)).collect());
        }
        if let Some(why) = scope.why_fixed() {
            self.budget.bytes(data.bytes.len())?;
            self.graph.fixed.insert(id, why);
        }
        self.graph.initializers.insert(id, data);
        Ok(id)
    }

    /// Adds a value that is called `name` in `scope`.
    pub(super) fn declare(&mut self, name: &'p str, what: &str, scope: &mut Scope<'p, '_>) -> Result<ValueId> {
        let full = self.full_name(name, what, scope)?;
        let id = self.value(full);
        scope.values.insert(name, Some(id));
        Ok(id)
    }

    /// Adds a value with this name in the graph.
    pub(super) fn value(&mut self, name: String) -> ValueId {
        self.graph.values.push(ValueInfo { name, ..ValueInfo::default() });
        ValueId(self.graph.values.len() - 1)
    }

    /// The name in the graph of what will be called `name` in `scope`.
    pub(super) fn full_name(&mut self, name: &'p str, what: &str, scope: &mut Scope<'p, '_>) -> Result<String> {
        const LONGEST_NAME: usize = 4096;
        if name.is_empty() {
            return Err(Error::malformed(format!("a {what} has no name")));
        }
        let length = if scope.kind == Kind::Main { name.len() } else { name.len() + scope.prefix.len() };
        if length > LONGEST_NAME {
            return Err(Error::limit(format!(
                "the name {} has {length} bytes, the limit is {LONGEST_NAME}",
                quoted(&format!("{}{name}", scope.prefix))
            )));
        }
        if scope.values.contains_key(name) {
            return Err(Error::malformed(format!("{what} {} is defined twice", quoted(name))));
        }
        if scope.kind == Kind::Main {
            return Ok(name.to_owned());
        }
        self.budget.bytes(length)?;
        if let Some(result) = scope.results.remove(name) {
            return Ok(result);
        }
        let main = self.main;
        let names = self.names.get_or_insert_with(|| {
            let values = main.input.iter().map(|value| value.name());
            let constants = main.initializer.iter().map(|tensor| tensor.name());
            let outputs = main.node.iter().flat_map(|node| &node.output).map(String::as_str);
            UniqueNames::avoiding(values.chain(constants).chain(outputs).map(str::to_owned))
        });
        Ok(names.unique(format!("{}{name}", scope.prefix)))
    }
}

/// The values that `proto` reads.
fn inputs(name: &str, proto: &NodeProto, nodes: &[NodeProto], scope: &Scope<'_, '_>) -> Result<Vec<Option<ValueId>>> {
    let mut inputs = Vec::with_capacity(proto.input.len());
    for input in &proto.input {
        inputs.push(if input.is_empty() {
            None
        } else {
            scope.find(input).ok_or_else(|| unknown_input(name, proto, input, nodes, scope))?
        });
    }
    Ok(inputs)
}

fn unknown_input(name: &str, node: &NodeProto, input: &str, nodes: &[NodeProto], scope: &Scope<'_, '_>) -> Error {
    let makes = |(_, other): &(usize, &NodeProto)| other.output.iter().any(|output| output == input);
    let what = match nodes.iter().enumerate().find(makes) {
        Some((later, other)) => format!(
            "reads {}, which only the later {} computes; nodes must be in topological order",
            quoted(input),
            describe(&format!("{}{}", scope.prefix, node_name(later, other)), other)
        ),
        None if scope.kind == Kind::Function => {
            format!("reads {}, which no input or node of its function defines", quoted(input))
        }
        None => format!("reads {}, which no input, initializer or node defines", quoted(input)),
    };
    Error::malformed(format!("{} {what}", describe(name, node)))
}

/// How messages name a node that is not converted yet.
pub(super) fn describe(name: &str, node: &NodeProto) -> String {
    format!("node {} ({})", quoted(name), node.op_type())
}

fn node_name(index: usize, node: &NodeProto) -> String {
    if node.name().is_empty() { format!("{}_{index}", node.op_type()) } else { node.name().to_owned() }
}

fn one_output(node: &NodeProto) -> Error {
    Error::malformed(format!("{} outputs, expected 1", node.output.len()))
}
