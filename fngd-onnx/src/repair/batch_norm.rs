//! R5: a BatchNormalization that the exporter multiplied into a layer is there again while training.
//!
//! Behind the layer comes a node that is the identity at first: mean 0, variance 1 - ε, scale 1, and the layer's bias as shift.
//! Calibration (`TrainableModule::calibrate`) later gives it the statistics of real data, with the scale and shift that keep it
//! the identity. Export multiplies it into the layer again (`export/fold.rs`): the file's structure stays.

use super::{Wanted, hints};
use crate::analysis::Uses;
use crate::error::quoted;
use crate::graph::{Attribute, Graph, Node, TensorData, ValueId, ValueInfo};
use crate::names::UniqueNames;
use crate::read::Imported;
use std::collections::BTreeMap;

/// A BatchNormalization that repair put behind a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredNormalisation {
    /// Weight of the layer.
    pub weight: ValueId,
    /// Bias of the layer in the file; while training the shift does its work.
    pub bias: Option<ValueId>,
    /// γ.
    pub scale: ValueId,
    /// β.
    pub shift: ValueId,
    /// Running mean μ.
    pub mean: ValueId,
    /// Running variance σ².
    pub variance: ValueId,
    /// ε.
    pub epsilon: f32,
    /// Position of the layer's node in the file.
    pub(crate) position: usize,
    /// How the layer would call its bias.
    pub(crate) bias_name: String,
    pub(crate) channels: Channels,
}

/// Where a weight, as the module keeps it, has its output channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    /// First dimension: Conv, and linear layers.
    First,
    /// `[in, out / groups, ...]`: ConvTranspose.
    Second { groups: usize },
}

pub(super) fn restore(imported: &mut Imported, wanted: &Wanted) -> Vec<String> {
    let graph = &mut imported.graph;
    let uses = Uses::of(graph);
    let found: Vec<Layer> =
        (0..graph.nodes.len()).filter_map(|index| Layer::find(graph, &uses, wanted, index)).collect();
    let mut names = UniqueNames::avoiding(graph.values.iter().map(|info| info.name.clone()));
    let (mut behind, mut places) = (BTreeMap::new(), Vec::new());
    for layer in found {
        let Some((node, restored)) = layer.restore(graph, &mut names) else { continue };
        behind.insert(layer.index, node);
        places.push(quoted(&layer.place));
        imported.restored.push(restored);
    }
    let nodes = std::mem::take(&mut graph.nodes);
    for (index, node) in nodes.into_iter().enumerate() {
        graph.nodes.push(node);
        graph.nodes.extend(behind.remove(&index));
    }
    if places.is_empty() {
        return Vec::new();
    }
    let (count, more) = (places.len(), if places.len() > 3 { ", ..." } else { "" });
    places.truncate(3);
    vec![format!(
        "{count} BatchNormalization that the exporter folded into layers are there while training, and folded again in the \
         written file: {}{more}",
        places.join(", ")
    )]
}

/// Whether the exporter multiplied a BatchNormalization into this layer.
pub(crate) fn was_folded_into(graph: &Graph, node: &Node) -> bool {
    // TorchScript's exporter leaves no hint but the names of what it computed: both tensors are new.
    let made_up = |slot| {
        let name =
            node.input(slot).and_then(|id: ValueId| graph.values.get(id.0)).map_or("", |info| info.name.as_str());
        name.starts_with("onnx::Conv") && hints::is_made_up(name)
    };
    is_layer(node) && (hints::made_by(node, "FuseBatchNormInto") || (made_up(1) && made_up(2)))
}

fn is_layer(node: &Node) -> bool {
    node.domain.is_empty() && matches!(node.op_type.as_str(), "Conv" | "ConvTranspose" | "Gemm")
}

/// A layer that gets its BatchNormalization back.
struct Layer {
    /// In `Graph::nodes`.
    index: usize,
    weight: ValueId,
    bias: Option<ValueId>,
    output: ValueId,
    out_channels: u64,
    channels: Channels,
    /// What the BatchNormalization is called.
    place: String,
    bias_name: String,
    epsilon: f32,
    momentum: f32,
}

impl Layer {
    fn find(graph: &Graph, uses: &Uses, wanted: &Wanted, index: usize) -> Option<Self> {
        let node = graph.nodes.get(index)?;
        let (output, _) = (node.output(0)?, node.index?);
        let folded = was_folded_into(graph, node);
        let asked = wanted.options.restore_batch_norm && may_have_lost_one(graph, uses, node, output);
        if !(folded || asked) {
            return None;
        }
        let own = |id: ValueId| {
            let data = graph.initializers.get(&id).filter(|data| data.element_type.is_float())?;
            let is_fixed = graph.fixed.contains_key(&id) || wanted.is_frozen(graph, id);
            // What is frozen or read elsewhere must keep its value in the file.
            (uses.only_reader(id).is_some() && !is_fixed).then_some(data)
        };
        let weight = node.input(1)?;
        let dims = own(weight)?.dims.as_slice();
        let (out_channels, channels) = channels(node, dims)?;
        let bias = node.input(2);
        if let Some(bias) = bias
            && own(bias)?.dims != [out_channels]
        {
            return None;
        }
        let name = |id: ValueId| graph.values.get(id.0).map_or("", |info| info.name.as_str());
        let stem = crate::analysis::layer_name(node, name(weight), bias.map_or("", name));
        let module = hints::module(node).filter(|_| folded && hints::made_by(node, "FuseBatchNormInto"));
        let place = module.map_or_else(|| format!("{stem}.bn"), str::to_owned);
        let (epsilon, momentum) = numbers(node).unwrap_or((1e-5, 0.1));
        let bias_name = format!("{stem}.bias");
        Some(Self { index, weight, bias, output, out_channels, channels, place, bias_name, epsilon, momentum })
    }

    /// Takes the bias out of the layer; returns the node that follows it.
    fn restore(&self, graph: &mut Graph, names: &mut UniqueNames) -> Option<(Node, RestoredNormalisation)> {
        let size = usize::try_from(self.out_channels).ok()?;
        let bias = self.bias.and_then(|bias| graph.initializers.get(&bias)?.floats());
        let shift = bias.unwrap_or_else(|| vec![0.0; size]);
        let mut value = |graph: &mut Graph, name: String| {
            graph.values.push(ValueInfo { name: names.unique(name), ..ValueInfo::default() });
            ValueId(graph.values.len() - 1)
        };
        let mut parameter = |graph: &mut Graph, name: &str, values: &[f32]| {
            let id = value(graph, format!("{}.{name}", self.place));
            graph.initializers.insert(id, TensorData::from_floats(vec![self.out_channels], values));
            id
        };
        let scale = parameter(graph, "weight", &vec![1.0; size]);
        let shift = parameter(graph, "bias", &shift);
        let mean = parameter(graph, "running_mean", &vec![0.0; size]);
        let variance = parameter(graph, "running_var", &vec![1.0 - self.epsilon; size]);
        let between = value(graph, format!("{}.input", self.place));
        // A bias that is added to the file needs a name that no other value has.
        let bias_name = if self.bias.is_none() { names.unique(self.bias_name.clone()) } else { self.bias_name.clone() };
        let layer = graph.nodes.get_mut(self.index)?;
        let position = layer.index?;
        layer.inputs.truncate(2);
        *layer.outputs.first_mut()? = Some(between);
        let attributes = [("epsilon", self.epsilon), ("momentum", 1.0 - self.momentum)];
        let node = Node {
            index: None,
            name: self.place.clone(),
            op_type: "BatchNormalization".into(),
            domain: String::new(),
            opset: layer.opset,
            inputs: [between, scale, shift, mean, variance].map(Some).to_vec(),
            outputs: vec![Some(self.output)],
            attributes: attributes.map(|(name, value)| (name.to_owned(), Attribute::Float(value))).into(),
            metadata: BTreeMap::new(),
        };
        let restored = RestoredNormalisation {
            weight: self.weight,
            bias: self.bias,
            scale,
            shift,
            mean,
            variance,
            epsilon: self.epsilon,
            position,
            bias_name,
            channels: self.channels,
        };
        Some((node, restored))
    }
}

/// With the option, every convolution that no BatchNormalization follows and that is not the end of the model.
fn may_have_lost_one(graph: &Graph, uses: &Uses, node: &Node, output: ValueId) -> bool {
    let is_norm = |(index, _): &(usize, usize)| {
        graph.nodes.get(*index).is_some_and(|reader| reader.op_type == "BatchNormalization")
    };
    is_layer(node) && node.op_type != "Gemm" && !uses.is_output(output) && !uses.readers(output).iter().any(is_norm)
}

fn channels(node: &Node, dims: &[u64]) -> Option<(u64, Channels)> {
    match (node.op_type.as_str(), dims) {
        ("Conv", [out, _, _, ..]) => Some((*out, Channels::First)),
        ("ConvTranspose", [_, out, _, ..]) => {
            let groups = u64::try_from(node.int("group", 1)).ok().filter(|groups| *groups > 0)?;
            Some((out.checked_mul(groups)?, Channels::Second { groups: usize::try_from(groups).ok()? }))
        }
        // Other forms are not what a Linear becomes.
        ("Gemm", [rows, columns]) if node.float("alpha", 1.0) == 1.0 && node.float("beta", 1.0) == 1.0 => {
            Some((if node.int("transB", 0) == 0 { *columns } else { *rows }, Channels::First))
        }
        _ => None,
    }
}

/// ε and PyTorch's momentum, the last two arguments of the operation that was folded.
fn numbers(node: &Node) -> Option<(f32, f32)> {
    let (target, arguments) = hints::call(node)?;
    let [.., momentum, epsilon] = arguments.as_slice() else { return None };
    let (momentum, epsilon) = (momentum.parse().ok()?, epsilon.parse().ok()?);
    let sensible = (0.0..=1.0).contains(&momentum) && (1e-12..=0.1).contains(&epsilon);
    (target.contains("batch_norm") && sensible).then_some((epsilon, momentum))
}
