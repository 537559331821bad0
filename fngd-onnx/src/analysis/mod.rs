//! What the graph means for training: which constants are parameters, and which nodes are layers.
//!
//! Pure facts about the graph. `fngd-module` builds what is found here; the parameter table prints it.

mod constants;
pub mod drop_path;
mod layers;
mod logits;
mod parameters;
mod ties;
mod uses;

pub(crate) use constants::QUANTISED;
pub(crate) use layers::layer_name;
pub(crate) use uses::Uses;

use crate::graph::{Graph, ValueId};
use regex::RegexSet;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What training needs to know of a graph.
#[derive(Debug, Clone, Default)]
pub struct Analysis {
    /// Every constant that is trained, or updated as a running statistic.
    pub parameters: BTreeMap<ValueId, ParameterInfo>,
    /// Linear and convolution layers, by the index **in `Graph::nodes`** of the node that carries the weight.
    pub layers: BTreeMap<usize, LayerInfo>,
    /// The value that the loss reads: before a final Softmax, LogSoftmax or Sigmoid.
    pub logits: Option<ValueId>,
    /// Constants of more than one element that are not trained, and why: masks, input statistics, rotary tables, quantised weights.
    pub constants: BTreeMap<ValueId, &'static str>,
    /// What `freeze` names, and the running statistics of each BatchNormalization whose scale is frozen: these must not be updated.
    pub frozen: BTreeSet<ValueId>,
}

impl Analysis {
    /// Finds the parameters and layers of `graph`. Parameters whose name matches `freeze` keep their value.
    /// With `skip_tail`, the loss reads what a final Softmax, LogSoftmax or Sigmoid reads.
    pub(crate) fn of(graph: &Graph, freeze: &RegexSet, skip_tail: bool) -> Self {
        let uses = Uses::of(graph);
        let constants = constants::find(graph, &uses);
        let mut found = layers::find(graph, &uses);
        let frozen = parameters::frozen(graph, freeze);
        ties::settle(graph, &uses, &mut found, &frozen);
        let (parameters, constants) = parameters::find(graph, &uses, &found, constants, &frozen);
        let layers = found.into_iter().map(|(node, layer)| (node, layer.info)).collect();
        Self { parameters, layers, logits: logits::find(graph, &uses, skip_tail), constants, frozen }
    }
}

/// The linear layer whose output the loss reads: the index of its node in `Graph::nodes`, and its weight.
pub(crate) fn output_layer(graph: &Graph, uses: &Uses) -> Option<(usize, ValueId)> {
    let logits = logits::find(graph, uses, true)?;
    let layers = layers::find(graph, uses);
    let is_output = |(_, layer): &(&usize, &layers::Found)| !layer.is_convolution && layer.info.output == logits;
    layers.iter().find(is_output).map(|(index, layer)| (*index, layer.info.weight))
}

/// The weights of layers, by the node that adds their bias.
pub(crate) fn weights_by_bias(graph: &Graph) -> BTreeMap<usize, ValueId> {
    let layers = layers::find(graph, &Uses::of(graph)).into_iter();
    layers.map(|(index, layer)| (layer.info.bias_add.unwrap_or(index), layer.info.weight)).collect()
}

/// Constants of more than one element that look like parameters and are none.
pub(crate) fn constants(graph: &Graph) -> BTreeMap<ValueId, &'static str> {
    constants::find(graph, &Uses::of(graph))
}

/// One parameter or running statistic.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterInfo {
    /// Unique name in the module: the file's name for the tensor.
    pub name: String,
    /// What it does.
    pub role: ParameterRole,
    /// False for running statistics and frozen parameters.
    pub trainable: bool,
    /// Part of a preconditioned layer.
    pub preconditioned: bool,
    /// Why (not), in a few words.
    pub reason: String,
    /// The module keeps the transpose of the stored matrix, so that every linear weight is `[out, in]`.
    pub transposed: bool,
}

/// What a parameter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterRole {
    /// Weight of a linear layer.
    LinearWeight,
    /// Weight of a convolution.
    ConvolutionWeight,
    /// Weight or peepholes of an LSTM, GRU or RNN.
    RecurrentWeight,
    /// Bias of any of them.
    Bias,
    /// Scale of a normalisation.
    NormalisationScale,
    /// Shift of a normalisation.
    NormalisationShift,
    /// Running mean or variance of a BatchNormalization: updated, not trained by gradient.
    RunningStatistic,
    /// Table read by Gather.
    Embedding,
    /// PRelu slopes, position tables, class tokens, layer scales.
    Other,
}

/// A layer found in the graph. Layers with the same weight are one layer with several uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Name without `.weight`.
    pub name: String,
    /// The parameter.
    pub weight: ValueId,
    /// The bias parameter, from the node itself or from an Add that follows.
    pub bias: Option<ValueId>,
    /// Index in `Graph::nodes` of the Add that holds the bias; its output is the layer's output.
    pub bias_add: Option<usize>,
    /// The layer's activations.
    pub activations: ValueId,
    /// The layer's output value.
    pub output: ValueId,
    /// `None`: preconditioned. Otherwise why its weight gradient stays plain.
    pub plain_because: Option<String>,
}
