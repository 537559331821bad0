//! To which module each operation belongs: from the exporter's scopes, the names of nodes and parameters, or what repeats.
//!
//! A module is named by its path, `layer1.0`; the root by the empty one. Only modules with parameters somewhere below them count: a
//! `ReLU` or `Dropout` that an exporter lists is no module here, its operation belongs to the one around it.

mod mine;
mod node;
mod parameter;

use crate::operation::{Kind, Layer, Operation, Parameter, Program};
use fngd_onnx::graph::{Graph, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Where everything belongs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scopes {
    /// Per operation, the path of its module.
    pub modules: Vec<String>,
    /// Per operation that owns parameters, its name within its module.
    pub keys: Vec<Option<String>>,
    /// Class by path, where the exporter says it: `torchvision.models.resnet.BasicBlock`.
    pub classes: BTreeMap<String, String>,
}

impl Scopes {
    /// Finds them.
    pub(crate) fn of(graph: &Graph, program: &Program) -> Self {
        let mut classes = BTreeMap::new();
        let mut known: Vec<Option<String>> =
            program.operations.iter().map(|operation| scope(graph, operation, &mut classes)).collect();
        let mut owners = Owners::of(graph, program, &known, &classes);
        if owners.are_flat() && known.iter().flatten().all(String::is_empty) {
            for (index, path) in mine::blocks(program).into_iter().enumerate() {
                if !path.is_empty() {
                    owners.move_to(index, &path, program.operations[index].noun());
                    known[index] = Some(path);
                }
            }
        }
        let real = owners.modules();
        let mut modules: Vec<Option<String>> =
            known.iter().map(|path| Some(deepest(path.as_deref()?, &real))).collect();
        let mut keys = vec![None; modules.len()];
        for (index, path) in &owners.paths {
            let (module, key) = split(path);
            modules[*index] = Some(module.to_owned());
            keys[*index] = Some(key.to_owned());
        }
        Self { modules: settle(program, modules), keys, classes }
    }
}

/// The module and the last part of a path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// `key` within the module at `path`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether `path` is the module `ancestor` or below it.
pub(crate) fn is_within(path: &str, ancestor: &str) -> bool {
    ancestor.is_empty() || path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The module that the exporter gives for an operation; notes the classes on the way.
fn scope(graph: &Graph, operation: &Operation, classes: &mut BTreeMap<String, String>) -> Option<String> {
    let nodes = operation.nodes.iter().filter_map(|index| graph.nodes.get(*index));
    let found = nodes.filter_map(node::scope).next()?;
    classes.extend(found.classes);
    Some(found.path)
}

/// The longest beginning of `path` that is a module.
fn deepest(path: &str, modules: &BTreeSet<String>) -> String {
    let mut path = path;
    while !path.is_empty() && !modules.contains(path) {
        path = split(path).0;
    }
    path.to_owned()
}

/// Operations of unknown module belong where their latest operand was computed, else where their result is read.
fn settle(program: &Program, mut modules: Vec<Option<String>>) -> Vec<String> {
    let producer: BTreeMap<ValueId, usize> = (program.operations.iter().enumerate())
        .filter(|(_, operation)| !matches!(operation.kind, Kind::Parameter(_)))
        .flat_map(|(index, operation)| operation.results.iter().map(move |result| (*result, index)))
        .collect();
    for (index, operation) in program.operations.iter().enumerate() {
        if modules[index].is_none() {
            let latest = operation.operands().iter().filter_map(|operand| producer.get(operand)).max();
            modules[index] = latest.and_then(|latest| modules[*latest].clone());
        }
    }
    for (index, operation) in program.operations.iter().enumerate().rev() {
        for operand in operation.operands() {
            if let Some(operand) = producer.get(&operand).filter(|operand| modules[**operand].is_none()) {
                modules[*operand] = modules[index].clone();
            }
        }
    }
    modules.into_iter().map(Option::unwrap_or_default).collect()
}

/// The paths of what owns parameters.
struct Owners {
    paths: BTreeMap<usize, String>,
}

/// What makes two operations the same layer.
type Identity = (Option<Layer>, Vec<(String, ValueId)>);

impl Owners {
    fn of(graph: &Graph, program: &Program, scopes: &[Option<String>], classes: &BTreeMap<String, String>) -> Self {
        let names = graph.nodes.iter().filter_map(|node| node::spelling(&node.name)).collect();
        let mut owners = Self { paths: BTreeMap::new() };
        let mut known: BTreeMap<String, Identity> = BTreeMap::new();
        for (index, operation) in program.operations.iter().enumerate() {
            let Some(identity) = identity(operation) else { continue };
            if let Some((path, _)) = known.iter().find(|(_, other)| **other == identity) {
                owners.paths.insert(index, path.clone());
                continue;
            }
            let scope = scopes[index].as_deref();
            let same = known.iter().find(|(path, (_, sources))| {
                sources.iter().all(|(_, other)| parameter::is_same_buffer(graph, operation, *other))
                    && split(path).0 == scope.unwrap_or_default()
            });
            if let Some((path, _)) = same {
                owners.paths.insert(index, path.clone());
                continue;
            }
            if is_tied(operation, &known) {
                // It becomes a call with the other's weight, and needs a name that is in nobody's way.
                let (module, key) = split(scope.unwrap_or_default());
                let path = free(&known, &join(module, &format!("{key}_tied")));
                known.insert(path.clone(), identity);
                owners.paths.insert(index, path);
                continue;
            }
            let named = parameter::path(graph, operation).map(|path| parameter::respelled(path, &names));
            let path = (named.filter(|path| !known.contains_key(path)))
                .or_else(|| own_scope(program, scopes, classes, index).filter(|path| !known.contains_key(path)))
                .unwrap_or_else(|| free(&known, &join(scope.unwrap_or_default(), what(program, index))));
            known.insert(path.clone(), identity);
            owners.paths.insert(index, path);
        }
        owners.beside(program);
        owners.out_of_the_way(program);
        owners
    }

    /// The normalisation `conv1.bn` of a layer `conv1`, whose names an exporter lost and a repair made, is `conv1_bn`.
    fn beside(&mut self, program: &Program) {
        let layers: BTreeSet<String> = self.paths.values().cloned().collect();
        for (index, path) in &mut self.paths {
            let (layer, key) = split(path);
            let is_norm = matches!(program.operations[*index].kind, Kind::Layer { layer: Layer::BatchNorm { .. }, .. });
            let (module, name) = split(layer);
            let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
            let beside = join(module, &if is_number { format!("{key}{name}") } else { format!("{name}_{key}") });
            if is_norm && key == "bn" && layers.contains(layer) && !layers.contains(&beside) {
                *path = beside;
            }
        }
    }

    /// A layer cannot be called as a module is: it goes inside.
    fn out_of_the_way(&mut self, program: &Program) {
        let modules = self.modules();
        for (index, path) in &mut self.paths {
            if modules.contains(path) {
                *path = join(path, program.operations[*index].noun());
            }
        }
    }

    fn are_flat(&self) -> bool {
        self.paths.values().all(|path| !path.contains('.'))
    }

    /// Puts what an operation owns into a module that the file does not name: by what it is, unless it is used elsewhere too.
    fn move_to(&mut self, operation: usize, module: &str, noun: &str) {
        let Some(path) = self.paths.get(&operation) else { return };
        if self.paths.values().filter(|other| *other == path).count() > 1 {
            return;
        }
        let taken = |wanted: &String| self.paths.values().any(|other| other == wanted);
        let numbered = (2..).map(|number| join(module, &format!("{noun}{number}")));
        let free = std::iter::once(join(module, noun)).chain(numbered).find(|path| !taken(path));
        self.paths.extend(free.map(|path| (operation, path)));
    }

    fn modules(&self) -> BTreeSet<String> {
        let mut modules = BTreeSet::from([String::new()]);
        for path in self.paths.values() {
            let mut path = split(path).0;
            while !path.is_empty() && modules.insert(path.to_owned()) {
                path = split(path).0;
            }
        }
        modules
    }
}

/// Whether a linear layer has nothing but a weight that another layer has too.
fn is_tied(operation: &Operation, known: &BTreeMap<String, Identity>) -> bool {
    let Kind::Layer { layer: Layer::Linear { .. }, parameters, .. } = &operation.kind else { return false };
    let [Parameter { name, source, transposed: false, .. }] = parameters.as_slice() else { return false };
    known.values().any(|(layer, sources)| layer.is_some() && sources.contains(&(name.clone(), *source)))
}

/// A word for what has no name: for a buffer what is done with it.
fn what(program: &Program, index: usize) -> &'static str {
    let operation = &program.operations[index];
    let read = |value: &[ValueId]| {
        let first = value.first().copied();
        program.operations.iter().filter(move |reader| first.is_some_and(|value| reader.operands().contains(&value)))
    };
    let is_wave = |reader: &Operation| matches!(reader.kind, Kind::Method { name: "sin" | "cos", .. });
    let scaled = |reader: &&Operation| matches!(reader.kind, Kind::Operator { symbol: '*', .. });
    match &operation.kind {
        Kind::Parameter(parameter)
            if !parameter.trainable
                && read(&operation.results).filter(scaled).any(|product| read(&product.results).any(is_wave)) =>
        {
            "frequencies"
        }
        _ => operation.noun(),
    }
}

fn identity(operation: &Operation) -> Option<Identity> {
    let sources = |parameters: &[Parameter]| {
        parameters.iter().map(|parameter| (parameter.name.clone(), parameter.source)).collect::<Vec<_>>()
    };
    match &operation.kind {
        Kind::Layer { layer, parameters, .. } => Some((Some(layer.clone()), sources(parameters))),
        Kind::Parameter(parameter) => Some((None, sources(std::slice::from_ref(parameter)))),
        _ => None,
    }
}

/// The scope of a layer whose parameters have lost their name, if it is the layer's own and not that of a module around it.
fn own_scope(
    program: &Program,
    scopes: &[Option<String>],
    classes: &BTreeMap<String, String>,
    index: usize,
) -> Option<String> {
    let scope = scopes[index].as_deref().filter(|scope| !scope.is_empty())?;
    if !matches!(program.operations[index].kind, Kind::Layer { .. }) {
        return None;
    }
    let is_own = match classes.get(scope) {
        Some(class) => node::is_layer(class),
        None => {
            let others = program.operations.iter().zip(scopes).enumerate().filter(|(other, (operation, path))| {
                *other != index
                    && identity(operation).is_some()
                    && path.as_deref().is_some_and(|path| is_within(path, scope))
            });
            others.count() == 0
        }
    };
    is_own.then(|| scope.to_owned())
}

fn free(known: &BTreeMap<String, Identity>, wanted: &str) -> String {
    let numbered = (2..).map(|number| format!("{wanted}{number}"));
    let mut free = std::iter::once(wanted.to_owned()).chain(numbered).filter(|path| !known.contains_key(path));
    // OK because the numbers do not end, and the known paths do.
    free.next().unwrap_or_default()
}
