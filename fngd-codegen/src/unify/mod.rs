//! Alike modules become one type: what differs in numbers becomes arguments of its `new`, what some lack becomes an `Option`.

mod align;
mod arguments;
mod design;
mod layout;
mod list;
mod skeleton;

pub(crate) use arguments::{Expression, NewArgument, Value};
pub(crate) use design::design;

use crate::operation::Layer;
use crate::tree::{Place, Statement};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;

/// All types of the generated file, those of fields before those that have the fields; the last one is the root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Design {
    pub types: Vec<Type>,
    /// Type by module of the tree.
    pub type_of: Vec<usize>,
    /// Functions that make lists, by the type of their elements.
    pub stages: BTreeMap<usize, Stage>,
}

/// A struct of the generated file.
///
/// Numbers in members and body are indices into `slots`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Type {
    pub name: String,
    /// Paths of the modules that are of this type.
    pub paths: Vec<String>,
    pub class: Option<String>,
    /// Elements of parameters in the smallest and the largest of them.
    pub sizes: (i64, i64),
    /// Arguments of `new`, behind the path.
    pub arguments: Vec<NewArgument>,
    pub members: Vec<Entry>,
    pub slots: Vec<Expression>,
    /// Numbers that differ and that the body needs: slots.
    pub constants: Vec<usize>,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    pub body: Vec<Statement>,
    pub parameters: BTreeMap<ValueId, Place>,
    /// Its forward pass depends on whether the model is training.
    pub trains: bool,
    /// It has parameters.
    pub has_parameters: bool,
}

/// A field.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its name in paths.
    pub key: String,
    pub member: Member,
    /// The slot that says whether it is there, if it is an `Option`.
    pub presence: Option<usize>,
}

/// A field's value.
#[derive(Debug, Clone)]
pub(crate) enum Member {
    Layer(Layer),
    Tensor {
        dims: Vec<i64>,
        trainable: bool,
    },
    Module {
        type_: usize,
        arguments: Vec<usize>,
    },
    /// `begin` and `start`: the first element is called `encoder_layer_0`.
    List {
        type_: usize,
        begin: String,
        start: u64,
        count: usize,
        columns: Vec<Column>,
    },
    /// The same, made by the function that [`Design::stages`] has for the type.
    Stage {
        type_: usize,
        arguments: Vec<usize>,
    },
}

/// An argument of a list's elements, as slots.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Column {
    Same(usize),
    FirstAndRest(usize, usize),
    Each(usize),
}

/// A function that makes a list.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub arguments: Vec<NewArgument>,
    pub slots: Vec<Expression>,
    pub begin: String,
    pub start: u64,
    pub count: usize,
    pub columns: Vec<Column>,
}
