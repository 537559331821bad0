//! Operations as nested modules: each with its fields, what crosses its border, and its body in order.

mod build;
mod calls;
mod fields;
mod joins;
mod program;
mod wrapper;

pub(crate) use build::build;
pub(crate) use fields::{number, possible_lists};
pub(crate) use program::{Prepared, prepare};

use crate::operation::{Kind, Layer};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;

/// All modules, children before the ones around them; the last one is the root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub modules: Vec<Module>,
}

/// A module: one struct, of which there may be several alike.
#[derive(Debug, Clone, Default)]
pub(crate) struct Module {
    /// `layer1.0`; empty for the root.
    pub path: String,
    /// The exporter's name for its class.
    pub class: Option<String>,
    /// What it owns, in the order of first use.
    pub fields: Vec<Field>,
    /// What its body reads from outside.
    pub inputs: Vec<ValueId>,
    /// What others read of its results.
    pub outputs: Vec<ValueId>,
    /// Its forward pass. Empty for a module whose operations are mixed with others': its parent computes them.
    pub body: Vec<Statement>,
    /// Parameters that the body reads, as fields.
    pub parameters: BTreeMap<ValueId, Place>,
}

/// What a module owns.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its name within the module, as in paths: `conv1`, `0`.
    pub key: String,
    pub content: Content,
    /// Whether this module has it, if not all of its kind do.
    pub presence: Option<bool>,
}

/// A field's value.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Layer(Layer),
    /// A parameter by itself, or a buffer.
    Tensor {
        dims: Vec<i64>,
        trainable: bool,
    },
    /// Index in [`Tree::modules`].
    Module(usize),
    /// Alike modules by key.
    List(Vec<(String, usize)>),
}

/// How a field is reached from `self`: keys, the number of an element among them.
pub(crate) type Place = Vec<String>;

/// One step of a body.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub call: Call,
    pub results: Vec<ValueId>,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// Applies a layer.
    Layer { place: Place, layer: Layer, input: ValueId, optional: bool },
    /// Applies a module.
    Module { place: Place, module: usize, inputs: Vec<ValueId>, optional: bool },
    /// Calls a method, a function or an operator.
    Operation(Kind),
}

impl Module {
    /// Whether it has a forward pass of its own.
    pub(crate) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }
}
