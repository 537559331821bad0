//! What is changed in a program before it becomes a tree: weights that two layers share, sizes of tensors that are far away.

use crate::operation::{Argument, Kind, Layer, Operation, Parameter, Program, Size};
use crate::scope::{Scopes, join, split};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;

/// A program whose layers share no weights, and the fields that stand for shared ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    pub program: Program,
    pub scopes: Scopes,
    /// Values that are fields of layers, `wte.ws`: the path of the layer's module, and keys within it.
    pub shared: BTreeMap<ValueId, (String, Vec<String>)>,
    /// Modules without a body of their own.
    pub bare: Vec<String>,
}

/// Makes each weight belong to one layer: another one that has it becomes a call of `linear` with the first one's.
pub(crate) fn prepare(program: &Program, scopes: &Scopes) -> Prepared {
    let mut prepared = Prepared { scopes: scopes.clone(), ..Default::default() };
    let mut owners: BTreeMap<(ValueId, bool), String> = BTreeMap::new();
    let layers = weights_of_layers(program, scopes);
    let mut next = largest(program) + 1;
    let (mut operations, mut modules, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (index, operation) in program.operations.iter().enumerate() {
        // A matrix that a layer has, used by itself, too: a field of the layer.
        if let (Kind::Parameter(parameter), [value]) = (&operation.kind, operation.results.as_slice())
            && let Some(owner) = layers.get(&(parameter.source, parameter.transposed))
        {
            let (home, name) = split(owner);
            prepared.shared.insert(*value, (home.to_owned(), vec![name.to_owned(), "ws".to_owned()]));
            continue;
        }
        let mut operation = operation.clone();
        let (mut module, mut key) = (scopes.modules[index].clone(), scopes.keys[index].clone());
        if let Kind::Layer { layer: Layer::Linear { .. }, input, parameters } = &operation.kind {
            let path = join(&module, key.as_deref().unwrap_or_default());
            let weight = parameters.iter().find(|parameter| parameter.name == "weight");
            let owner = weight.and_then(|weight| owners.get(&(weight.source, weight.transposed)));
            if let Some(owner) = owner.filter(|owner| **owner != path) {
                let (home, name) = split(owner);
                let shared = ValueId(next);
                prepared.shared.insert(shared, (home.to_owned(), vec![name.to_owned(), "ws".to_owned()]));
                next += 1;
                let mut bias = Argument::NoTensor;
                if let Some(own) = parameters.iter().find(|parameter| parameter.name == "bias") {
                    let value = ValueId(next);
                    next += 1;
                    operations.push(bias_of(own, value, &operation.nodes));
                    modules.push(path.clone());
                    keys.push(Some("bias".to_owned()));
                    prepared.bare.push(path.clone());
                    bias = Argument::SomeTensor(value);
                }
                operation.kind =
                    Kind::Method { receiver: *input, name: "linear", arguments: vec![Argument::Tensor(shared), bias] };
                (module, key) = (common(&module, home), None);
            }
        }
        if let (Kind::Layer { parameters, .. }, Some(key)) = (&operation.kind, &key) {
            for parameter in parameters {
                owners.entry((parameter.source, parameter.transposed)).or_insert_with(|| join(&module, key));
            }
        }
        operations.push(operation);
        modules.push(module);
        keys.push(key);
    }
    prepared.program = Program { operations, ..program.clone() };
    prepared.scopes.modules = modules;
    prepared.scopes.keys = keys;
    infer_sizes(&mut prepared.program);
    super::joins::hoist_shared(&prepared.program, &mut prepared.scopes);
    super::joins::hoist(&prepared.program, &mut prepared.scopes);
    super::joins::share(&mut prepared.program, &prepared.scopes);
    prepared
}

/// The layers that come first with their weights, whose field `ws` holds them.
fn weights_of_layers(program: &Program, scopes: &Scopes) -> BTreeMap<(ValueId, bool), String> {
    let mut found = BTreeMap::new();
    for (index, operation) in program.operations.iter().enumerate() {
        let Kind::Layer { layer, parameters, .. } = &operation.kind else { continue };
        let has_matrix = matches!(layer, Layer::Linear { .. } | Layer::Convolution { .. } | Layer::Embedding { .. });
        let weight = parameters.iter().find(|parameter| has_matrix && parameter.name == "weight");
        if let (Some(weight), Some(key)) = (weight, &scopes.keys[index]) {
            let path = join(&scopes.modules[index], key);
            found.entry((weight.source, weight.transposed)).or_insert(path);
        }
    }
    found
}

fn bias_of(own: &Parameter, value: ValueId, nodes: &[usize]) -> Operation {
    Operation { kind: Kind::Parameter(own.clone()), results: vec![value], nodes: nodes.to_vec() }
}

fn largest(program: &Program) -> usize {
    let made = program.operations.iter().flat_map(|operation| operation.results.iter().copied());
    let read = program.operations.iter().flat_map(Operation::operands);
    made.chain(read).chain(program.inputs.iter().copied()).map(|value| value.0).max().unwrap_or(0)
}

/// The deepest module around both.
pub(super) fn common(left: &str, right: &str) -> String {
    let same = left.split('.').zip(right.split('.')).take_while(|(left, right)| left == right);
    same.map(|(part, _)| part).collect::<Vec<_>>().join(".")
}

/// A `view` with one open size infers it, so that it need not ask another tensor for its batch size.
fn infer_sizes(program: &mut Program) {
    for operation in &mut program.operations {
        let Kind::Method { name: "view" | "reshape", arguments, .. } = &mut operation.kind else { continue };
        let Some(Argument::Integers(sizes)) = arguments.first_mut() else { continue };
        let is_open = |size: &Size| !matches!(size, Size::Known(number) if *number >= 0);
        let mut open = sizes.iter_mut().filter(|size| is_open(size));
        if let (Some(size), None) = (open.next(), open.next()) {
            *size = Size::Known(-1);
        }
    }
}
