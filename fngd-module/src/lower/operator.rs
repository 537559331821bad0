//! What an operator is to the program that runs it.

use super::tensors::is_float;
use crate::calibrate::Observed;
use crate::lower::arguments::{MOST_ELEMENTS, affordable};
use crate::lower::parameters::{Parameters, Stored};
use crate::{Error, Result};
use fngd_onnx::graph::{Node, ValueId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor};

/// One node of the graph, its attributes read and checked, ready to run.
pub(crate) trait Operator {
    /// Computes the node's outputs. Only fallible libtorch calls are allowed in here; the caller adds the node's name to errors.
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>>;

    /// Inputs that are read as numbers (shapes, axes, sizes) and therefore stay on the host.
    fn host_inputs(&self) -> &'static [usize] {
        &[]
    }

    /// Inputs of which only the dimensions or the element type matter.
    fn metadata_inputs(&self) -> &'static [usize] {
        &[]
    }

    /// Whether equal inputs give equal outputs, so that constant inputs make constant outputs.
    fn is_deterministic(&self) -> bool {
        true
    }

    /// Whether the output is a new tensor that backward does not read, so that a Relu may overwrite it.
    fn output_may_be_overwritten(&self) -> bool {
        false
    }
}

/// How a node becomes an operator.
pub(crate) type Build = fn(&Node, &BuildContext) -> Result<Box<dyn Operator>>;

/// What one forward pass is told.
pub(crate) struct Run<'a> {
    /// BatchNormalization uses the batch's statistics and updates the running ones.
    pub training: bool,
    /// Dropout and stochastic depth are active.
    pub dropout: bool,
    /// Where the parameters are.
    pub device: Device,
    /// Samples in the batch, if the inputs say.
    pub batch: Option<i64>,
    /// Collects the activations of every layer.
    pub record: Option<&'a Record>,
    /// Collects the statistics of what goes into every BatchNormalization.
    pub observed: Option<&'a Observed>,
    /// The largest result that a node may ask for by its arguments.
    pub most_elements: i64,
}

/// Layers' numbers and copies of their activations, in the order of use.
pub(crate) type Record = RefCell<Vec<(usize, Tensor)>>;

/// More elements than this are data, fewer may be a shape, which belongs on the host.
const MOST_SHAPE_ELEMENTS: usize = 16;

impl Run<'_> {
    /// A pass that changes nothing.
    pub fn evaluation(device: Device) -> Self {
        Self {
            training: false,
            dropout: false,
            device,
            batch: None,
            record: None,
            observed: None,
            most_elements: MOST_ELEMENTS,
        }
    }

    /// What constants are folded with: on the host, nothing larger than `most_elements`.
    pub fn folding(most_elements: i64) -> Self {
        Self { most_elements, ..Self::evaluation(Device::Cpu) }
    }

    /// Refuses a result of this size if it is too large for this pass.
    pub fn affordable(&self, size: &[i64]) -> Result<()> {
        affordable(size, self.most_elements)
    }

    /// A tensor made on the host, moved to where such tensors are used: small integer tensors stay.
    pub fn place(&self, tensor: Tensor) -> Result<Tensor> {
        if self.device == Device::Cpu || (!is_float(tensor.kind()) && tensor.numel() <= MOST_SHAPE_ELEMENTS) {
            return Ok(tensor);
        }
        Ok(tensor.f_to_device(self.device)?)
    }
}

/// A node's inputs, in the node's order. Those that nobody else reads are the last handle to their tensor.
#[derive(Default)]
pub(crate) struct Inputs(pub Vec<Option<Tensor>>);

impl Inputs {
    /// Input `position`.
    pub fn get(&self, position: usize) -> Result<&Tensor> {
        self.optional(position).ok_or_else(|| missing(position))
    }

    /// Input `position`, given away.
    pub fn take(&mut self, position: usize) -> Result<Tensor> {
        self.0.get_mut(position).and_then(Option::take).ok_or_else(|| missing(position))
    }

    /// Input `position`, if the node has it.
    pub fn optional(&self, position: usize) -> Option<&Tensor> {
        self.0.get(position).and_then(Option::as_ref)
    }

    /// Every input that is there.
    pub fn all(&self) -> Vec<&Tensor> {
        self.0.iter().flatten().collect()
    }
}

fn missing(position: usize) -> Error {
    Error::malformed(format!("input {position} is missing"))
}

/// What is known about a node's inputs before the program runs.
pub(crate) struct BuildContext<'a> {
    pub node: &'a Node,
    pub constants: &'a BTreeMap<usize, Tensor>,
    pub parameters: &'a Parameters,
    pub frozen: &'a BTreeSet<ValueId>,
    pub overwritable: &'a dyn Fn(usize) -> bool,
    /// Values that somebody besides DequantizeLinear reads.
    pub read_as_they_are: &'a BTreeSet<usize>,
    /// Values of which a Where replaces some elements.
    pub guarded: &'a BTreeSet<ValueId>,
    /// The kind of all floating-point numbers.
    pub float: Kind,
}

impl BuildContext<'_> {
    /// The value of input `position` if it is the same in every run and is not trained.
    pub fn constant(&self, position: usize) -> Option<&Tensor> {
        self.constants.get(&self.node.input(position)?.0)
    }

    /// The parameter that input `position` is.
    pub fn parameter(&self, position: usize) -> Option<&Stored> {
        self.parameters.of_value(self.node.input(position)?)
    }

    /// Whether input `position` must keep its value.
    pub fn is_frozen(&self, position: usize) -> bool {
        self.node.input(position).is_some_and(|value| self.frozen.contains(&value))
    }

    /// Whether this node is the only reader of input `position`, and backward does not need it.
    pub fn may_overwrite(&self, position: usize) -> bool {
        self.node.input(position).is_some_and(|value| (self.overwritable)(value.0))
    }

    /// Whether nobody needs output 0 in its integer type.
    pub fn is_only_dequantised(&self) -> bool {
        self.node.output(0).is_some_and(|value| !self.read_as_they_are.contains(&value.0))
    }

    /// Whether a Where may replace elements of output 0 that are not numbers.
    pub fn is_guarded(&self) -> bool {
        self.node.output(0).is_some_and(|value| self.guarded.contains(&value))
    }

    /// The error for something that the specification allows and this crate does not.
    pub fn unsupported(&self, what: impl std::fmt::Display) -> Error {
        Error::unsupported(what.to_string())
    }
}
