//! ONNX files from nothing: a graph is written value by value, in the order in which the model computes.

mod encode;
mod node;
mod operators;
mod save;

pub use node::NodeBuilder;
pub use operators::Window;
pub use save::{Existing, save};

use crate::error::quoted;
use crate::graph::{Attribute, Dim, ElementType, TensorData};
use crate::names::UniqueNames;
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A graph under construction.
///
/// [`Value`]s borrow it and have the operators as methods, so a model's `export` reads as its `forward`. Everything is written in
/// operator set 20 and IR version 10, with the module scopes that PyTorch's exporter keeps as metadata. Mistakes (two values of
/// one name, a value of another graph) are kept until [`build`](Self::build) returns the first of them.
///
/// ```
/// use fngd_onnx::author::GraphBuilder;
/// use fngd_onnx::graph::{ElementType::Float32, TensorData};
///
/// let graph = GraphBuilder::new("Perceptron");
/// let input = graph.input("input", Float32, &["batch".into(), 2.into()]);
/// let logits = graph.module("fc", "Linear", || {
///     let weight = graph.parameter("weight", || Ok(TensorData::from_floats(vec![3, 2], &[1.0; 6])));
///     let bias = graph.parameter("bias", || Ok(TensorData::from_floats(vec![3], &[0.0; 3])));
///     input.gemm(weight, Some(bias))
/// });
/// graph.output("logits", logits, Float32, &["batch".into(), 3.into()]);
/// let file: Vec<u8> = graph.build()?;
///
/// let model = fngd_onnx::OnnxModel::from_bytes(file, "perceptron.onnx".as_ref(), &Default::default())?;
/// let names: Vec<_> = model.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
/// assert_eq!(names, ["fc.weight", "fc.bias"]);
/// # Ok::<(), fngd_onnx::Error>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder(RefCell<Draft>);

/// What is written so far.
#[derive(Debug, Default)]
struct Draft {
    /// Names of values; the encoder names those that have none after their node.
    values: Vec<Option<String>>,
    by_name: BTreeMap<String, usize>,
    inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    initializers: Vec<(usize, TensorData)>,
    nodes: Vec<NodeDraft>,
    node_names: UniqueNames,
    /// From the model itself to the innermost module.
    modules: Vec<Module>,
    /// The first mistake.
    error: Option<Error>,
}

/// An input or output of the graph.
#[derive(Debug)]
struct Declared {
    value: usize,
    element_type: ElementType,
    dims: Vec<Dim>,
}

#[derive(Debug)]
struct NodeDraft {
    name: String,
    op_type: &'static str,
    inputs: Vec<Option<usize>>,
    outputs: Vec<usize>,
    attributes: Vec<(&'static str, Attribute)>,
    metadata: [(&'static str, String); 2],
}

/// A module of the model: `layer1.0`, a `BasicBlock`.
#[derive(Debug)]
struct Module {
    path: String,
    class: String,
}

/// A tensor of a graph under construction: an input, a parameter, a constant or what a node computes.
#[derive(Debug, Clone, Copy)]
pub struct Value<'g> {
    graph: &'g GraphBuilder,
    index: usize,
    rank: usize,
}

impl GraphBuilder {
    /// An empty graph of a model of this class.
    pub fn new(class: impl Into<String>) -> Self {
        let modules = vec![Module { path: String::new(), class: class.into() }];
        Self(RefCell::new(Draft { modules, ..Draft::default() }))
    }

    /// What the caller supplies. `dims` are numbers and symbols such as `batch`.
    pub fn input(&self, name: &str, element_type: ElementType, dims: &[Dim]) -> Value<'_> {
        let mut draft = self.0.borrow_mut();
        let value = draft.named(name);
        draft.inputs.push(Declared { value, element_type, dims: dims.to_vec() });
        Value { graph: self, index: value, rank: dims.len() }
    }

    /// What the model computes. The value takes this name.
    pub fn output(&self, name: &str, value: Value<'_>, element_type: ElementType, dims: &[Dim]) {
        let is_computed = |draft: &Draft| draft.values.get(value.index).is_some_and(Option::is_none);
        // Inputs, parameters and other outputs have their name already.
        let value =
            if is_computed(&self.0.borrow()) { value } else { self.node("Identity").input(value).result(value.rank) };
        let mut draft = self.0.borrow_mut();
        draft.name(value.index, name);
        draft.outputs.push(Declared { value: value.index, element_type, dims: dims.to_vec() });
    }

    /// A parameter or buffer of the module that is being written: `weight` in `layer1.0.conv1` is `layer1.0.conv1.weight`.
    /// Where `data` fails, so does [`build`](Self::build).
    pub fn parameter(&self, name: &str, data: impl FnOnce() -> Result<TensorData>) -> Value<'_> {
        let full_name = child(self.0.borrow().module_path(), name);
        self.shared_parameter(&full_name, data)
    }

    /// A parameter by its full name. One that is there already is that one, for tied weights.
    pub fn shared_parameter(&self, full_name: &str, data: impl FnOnce() -> Result<TensorData>) -> Value<'_> {
        let mut draft = self.0.borrow_mut();
        let known = draft.by_name.get(full_name).copied();
        let known = known.and_then(|value| draft.initializers.iter().find(|(other, _)| *other == value));
        if let Some((value, data)) = known {
            return Value { graph: self, index: *value, rank: data.dims.len() };
        }
        let data = data().unwrap_or_else(|error| {
            draft.error.get_or_insert(error.at(format!("parameter {}", quoted(full_name))));
            TensorData::from_floats(vec![0], &[])
        });
        let rank = data.dims.len();
        let index = draft.named(full_name);
        draft.initializers.push((index, data));
        Value { graph: self, index, rank }
    }

    /// A tensor that is part of the computation and never trained: the axes of a mean, a scale, a mask.
    pub fn constant(&self, data: TensorData) -> Value<'_> {
        let rank = data.dims.len();
        self.node("Constant").attribute("value", data).result(rank)
    }

    /// Writes a module: nodes and parameters added by `body` belong to `name` below the present one, `layers.0` in a list. `class` is
    /// its type.
    pub fn module<T>(&self, name: &str, class: &str, body: impl FnOnce() -> T) -> T {
        let mut draft = self.0.borrow_mut();
        let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !name.split('.').all(is_word) {
            draft.fail(format!(
                "module {} is named by something else than letters, digits, `_` and single dots",
                quoted(name)
            ));
        }
        let path = child(draft.module_path(), name);
        draft.modules.push(Module { path, class: class.to_owned() });
        drop(draft);
        let result = body();
        self.0.borrow_mut().modules.pop();
        result
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// `is_malformed()` with the first mistake that was made while writing; `is_limit()` beyond 2 GiB, where protobuf ends.
    pub fn build(self) -> Result<Vec<u8>> {
        let draft = self.0.into_inner();
        match draft.error {
            Some(error) => Err(error),
            None => encode::encode(draft),
        }
    }
}

impl Value<'_> {
    /// Number of dimensions.
    pub fn rank(self) -> usize {
        self.rank
    }
}

impl Draft {
    fn module_path(&self) -> &str {
        self.modules.last().map_or("", |module| &module.path)
    }

    /// A new value of this name.
    fn named(&mut self, name: &str) -> usize {
        self.values.push(None);
        let value = self.values.len() - 1;
        self.name(value, name);
        value
    }

    fn name(&mut self, value: usize, name: &str) {
        if let Some(slot) = self.values.get_mut(value) {
            *slot = Some(name.to_owned());
        }
        if self.by_name.insert(name.to_owned(), value).is_some() {
            self.fail(format!("two values are called {}", quoted(name)));
        }
    }

    fn fail(&mut self, message: String) {
        self.error.get_or_insert_with(|| Error::malformed(message));
    }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests;
