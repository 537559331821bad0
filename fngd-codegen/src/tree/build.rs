//! Making the tree, from the root down.

use super::calls::{Unit, units};
use super::program::Prepared;
use super::wrapper::dissolve;
use super::{Call, Module, Place, Statement, Tree};
use crate::operation::{Kind, Operation};
use crate::scope::{is_within, join};
use fngd_onnx::graph::ValueId;
use std::collections::{BTreeMap, BTreeSet};

/// The tree of a program. The modules at `lists` hold alike ones and nothing else: their parent calls those itself.
pub(crate) fn build(prepared: &Prepared, lists: &BTreeSet<String>) -> Tree {
    let mut builder = Builder::new(prepared, lists);
    let operations: Vec<usize> = (0..prepared.program.operations.len())
        .filter(|index| !is_parameter(&prepared.program.operations[*index]))
        .collect();
    builder.module("", &operations);
    let mut tree = Tree { modules: builder.modules };
    dissolve(&mut tree);
    tree
}

pub(super) fn is_parameter(operation: &Operation) -> bool {
    matches!(operation.kind, Kind::Parameter(_))
}

pub(super) struct Builder<'a> {
    pub prepared: &'a Prepared,
    pub lists: &'a BTreeSet<String>,
    /// Modules whose parent computes what they would.
    pub inlined: BTreeSet<String>,
    /// Parameters by value: the module that owns them, and keys within it.
    parameters: BTreeMap<ValueId, (String, Vec<String>)>,
    /// How many read a value, the caller included.
    readers: BTreeMap<ValueId, usize>,
    /// Modules made so far, by path.
    pub made: BTreeMap<String, usize>,
    pub modules: Vec<Module>,
}

impl<'a> Builder<'a> {
    fn new(prepared: &'a Prepared, lists: &'a BTreeSet<String>) -> Self {
        let mut parameters = prepared.shared.clone();
        let mut readers: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (index, operation) in prepared.program.operations.iter().enumerate() {
            if let (true, Some(value), Some(key)) =
                (is_parameter(operation), operation.results.first(), &prepared.scopes.keys[index])
            {
                parameters.insert(*value, (prepared.scopes.modules[index].clone(), vec![key.clone()]));
            }
            for operand in operation.operands() {
                *readers.entry(operand).or_default() += 1;
            }
        }
        for output in &prepared.program.outputs {
            *readers.entry(*output).or_default() += 1;
        }
        let inlined = prepared.bare.iter().cloned().collect();
        Self { prepared, lists, inlined, parameters, readers, made: BTreeMap::new(), modules: Vec::new() }
    }

    /// Makes the module at `path`, which computes `operations`, and all below it.
    fn module(&mut self, path: &str, operations: &[usize]) -> usize {
        let units = loop {
            let child = |index: usize| self.child(path, index);
            match units(&self.prepared.program, &self.prepared.scopes, operations, child) {
                Ok(units) => break units,
                // Its operations become those of this module, and its fields stay where they are.
                Err(child) => self.inlined.insert(child),
            };
        };
        let (inputs, outputs) = match path {
            "" => (self.prepared.program.inputs.clone(), self.prepared.program.outputs.clone()),
            _ => self.border(path, operations),
        };
        let mut module = Module {
            path: path.to_owned(),
            class: self.prepared.scopes.classes.get(path).cloned(),
            inputs,
            outputs,
            ..Default::default()
        };
        for unit in &units {
            let statement = self.statement(path, unit);
            module.body.push(statement);
        }
        module.parameters = self.places(path, &module.body, &module.outputs);
        module.fields = self.fields(path, operations);
        self.push(module)
    }

    pub fn push(&mut self, module: Module) -> usize {
        let index = self.modules.len();
        self.made.insert(module.path.clone(), index);
        self.modules.push(module);
        index
    }

    /// The child of `path` to which an operation belongs, if it is not the module's own.
    fn child(&self, path: &str, index: usize) -> Option<String> {
        let module = &self.prepared.scopes.modules[index];
        let mut child = path.to_owned();
        for part in rest(module, path).split('.').filter(|part| !part.is_empty()) {
            child = join(&child, part);
            if !self.is_transparent(&child) {
                return Some(child);
            }
        }
        None
    }

    pub fn is_transparent(&self, path: &str) -> bool {
        self.lists.contains(path) || self.inlined.contains(path)
    }

    /// What `operations` read from outside, and what others read of theirs, each in order.
    fn border(&self, path: &str, operations: &[usize]) -> (Vec<ValueId>, Vec<ValueId>) {
        let program = &self.prepared.program;
        let made: BTreeSet<ValueId> =
            operations.iter().flat_map(|index| program.operations[*index].results.iter().copied()).collect();
        let (mut inputs, mut read) = (Vec::new(), BTreeMap::<ValueId, usize>::new());
        for operand in operations.iter().flat_map(|index| program.operations[*index].operands()) {
            *read.entry(operand).or_default() += 1;
            let is_own = self.parameters.get(&operand).is_some_and(|(home, _)| is_within(home, path));
            if !made.contains(&operand) && !is_own && !inputs.contains(&operand) {
                inputs.push(operand);
            }
        }
        let results = operations.iter().flat_map(|index| program.operations[*index].results.iter().copied());
        let is_output =
            |value: &ValueId| self.readers.get(value).copied().unwrap_or(0) > read.get(value).copied().unwrap_or(0);
        (inputs, results.filter(is_output).collect())
    }

    fn statement(&mut self, path: &str, unit: &Unit) -> Statement {
        let program = &self.prepared.program;
        if let Some(child) = &unit.child {
            // A module that is called again is made once.
            let module = match self.made.get(child) {
                Some(module) => *module,
                None => self.module(child, &unit.operations),
            };
            let (inputs, results) = self.border(child, &unit.operations);
            let place = place(child, path);
            return Statement { call: Call::Module { place, module, inputs, optional: false }, results };
        }
        // OK because a unit without a child is one operation.
        let index = unit.operations[0];
        let operation = &program.operations[index];
        let call = match (&operation.kind, &self.prepared.scopes.keys[index]) {
            (Kind::Layer { layer, input, .. }, Some(key)) => {
                let place = place(&join(&self.prepared.scopes.modules[index], key), path);
                Call::Layer { place, layer: layer.clone(), input: *input, optional: false }
            }
            (kind, _) => Call::Operation(kind.clone()),
        };
        Statement { call, results: operation.results.clone() }
    }

    /// The parameters that a body reads, and where they are.
    fn places(&self, path: &str, body: &[Statement], outputs: &[ValueId]) -> BTreeMap<ValueId, Place> {
        let read = body.iter().flat_map(|statement| statement.call.operands()).chain(outputs.iter().copied());
        let found = read.filter_map(|value| {
            let (home, keys) = self.parameters.get(&value).filter(|(home, _)| is_within(home, path))?;
            let mut place = place(home, path);
            place.extend(keys.iter().cloned());
            Some((value, place))
        });
        found.collect()
    }
}

impl Call {
    /// All tensors that are read, in order.
    pub(crate) fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Layer { input, .. } => vec![*input],
            Self::Module { inputs, .. } => inputs.clone(),
            Self::Operation(kind) => crate::parts::uses(kind).into_iter().map(|(value, _)| value).collect(),
        }
    }
}

/// What `path` has behind `ancestor`.
pub(super) fn rest<'p>(path: &'p str, ancestor: &str) -> &'p str {
    path.strip_prefix(ancestor).unwrap_or(path).trim_start_matches('.')
}

/// The keys from the module at `ancestor` to `path`.
fn place(path: &str, ancestor: &str) -> Place {
    rest(path, ancestor).split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
