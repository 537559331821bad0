//! Nodes that become `fngd_core::Layer`s: linear maps and convolutions with a weight of their own.

use super::operator::{Inputs, Operator, Run};
use super::ops::convolution::ConvolutionPlan;
use super::parameters::Parameters;
use crate::{Error, Result};
use fngd_core::{Geometry, Layer};
use fngd_onnx::analysis::{Analysis, LayerInfo};
use fngd_onnx::graph::{Graph, Node, ValueId};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use tch::Tensor;

/// A module's layers. A weight that several nodes use is one layer.
#[derive(Default)]
pub(crate) struct Layers {
    uses: Vec<Entry>,
    by_weight: BTreeMap<ValueId, usize>,
    /// The node that computes each value.
    producers: HashMap<ValueId, usize>,
    /// Weights whose uses do not all add the same bias.
    with_many_biases: BTreeSet<ValueId>,
}

/// One layer.
pub(crate) struct Entry {
    pub layer: Layer,
    /// `None`: preconditioned.
    pub plain_because: Option<String>,
    /// Rows of activations are `[positions · B, in]`, the samples of one position side by side: what a Reshape makes of
    /// `[positions, B, in]`. The layer is then shown that.
    pub is_interleaved: Rc<Cell<bool>>,
}

/// A node as a layer: what it reads and what it writes.
pub(crate) struct LayerNode {
    pub operator: LayerOperator,
    /// The activations, and a bias that the layer itself cannot hold.
    pub inputs: Vec<Option<ValueId>>,
    pub output: ValueId,
    /// The Add that the layer replaces.
    pub replaces: Option<usize>,
}

impl Layers {
    /// No layers yet, but what is needed to find them in time that grows with the graph and no faster.
    pub fn of(graph: &Graph, analysis: &Analysis) -> Self {
        let mut layers = Self::default();
        for (index, node) in graph.nodes.iter().enumerate() {
            layers.producers.extend(node.outputs.iter().flatten().map(|output| (*output, index)));
        }
        let mut biases = BTreeMap::new();
        for info in analysis.layers.values() {
            if *biases.entry(info.weight).or_insert(info.bias) != info.bias {
                layers.with_many_biases.insert(info.weight);
            }
        }
        layers
    }

    /// Every layer, in the order of the graph.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.uses.iter()
    }

    /// Node number `index` as a layer; `None` if it has a form that only the plain operator computes.
    pub fn build(
        &mut self,
        graph: &Graph,
        analysis: &Analysis,
        parameters: &Parameters,
        index: usize,
    ) -> Result<Option<LayerNode>> {
        let (node, info) = (&graph.nodes[index], &analysis.layers[&index]);
        let Some(weight) = parameters.of_value(info.weight) else { return Ok(None) };
        let Some(form) = self.form(graph, node, info, weight.info.transposed) else { return Ok(None) };
        let bias = LayerBias::of(graph, parameters, node, info, self.with_many_biases.contains(&info.weight));
        let convolution = match form {
            Form::Linear => None,
            Form::Convolution => Some(ConvolutionPlan::read(node, &weight.tensor.size())?),
        };
        let number = match self.by_weight.get(&info.weight) {
            Some(&number) => number,
            None => {
                let (tensor, held) = (weight.tensor.shallow_clone(), bias.held.as_ref().map(Tensor::shallow_clone));
                let layer = match &convolution {
                    None => Layer::linear(&*info.name, tensor, held)?,
                    Some(plan) => Layer::convolution(&*info.name, tensor, held, plan.geometry())?,
                };
                self.uses.push(Entry { layer, plain_because: None, is_interleaved: Rc::default() });
                self.by_weight.insert(info.weight, self.uses.len() - 1);
                self.uses.len() - 1
            }
        };
        let entry = &mut self.uses[number];
        let geometry = convolution.as_ref().map_or(Geometry::Linear, |plan| Geometry::Convolution(plan.geometry()));
        if *entry.layer.geometry() != geometry {
            // One weight used in two ways: the second is computed plainly, and so is the gradient of the first.
            entry.plain_because = Some("another node uses the same weight with other attributes".into());
            return Ok(None);
        }
        if let Some(reason) = &info.plain_because {
            entry.plain_because = Some(reason.clone());
        }
        let (layer, is_interleaved) = (entry.layer.clone(), entry.is_interleaved.clone());
        Ok(Some(LayerNode {
            operator: LayerOperator { number, layer, convolution, is_interleaved },
            inputs: vec![Some(info.activations), bias.added],
            output: if bias.replaces.is_some() { info.output } else { node.output(0).unwrap_or(info.output) },
            replaces: bias.replaces,
        }))
    }
}

enum Form {
    Linear,
    Convolution,
}

impl Layers {
    fn form(&self, graph: &Graph, node: &Node, info: &LayerInfo, is_transposed: bool) -> Option<Form> {
        let swaps = self.swaps_between(graph, node.input(1)?, info.weight)?;
        if node.input(0)? != info.activations {
            return None;
        }
        let linear = |transposes: bool| (transposes == is_transposed).then_some(Form::Linear);
        match node.op_type.as_str() {
            "Conv" | "ConvTranspose" if swaps == 0 && !is_transposed => Some(Form::Convolution),
            // The node multiplies by `[in, out]`, the layer keeps `[out, in]`.
            "MatMul" => linear(swaps % 2 == 0),
            "Gemm" => {
                let plain = node.int("transA", 0) == 0 && node.float("alpha", 1.0) == 1.0;
                let bias_is_plain = node.input(2).is_none() || node.float("beta", 1.0) == 1.0;
                if !plain || !bias_is_plain {
                    return None;
                }
                linear((swaps + usize::from(node.int("transB", 0) != 0)) % 2 == 0)
            }
            _ => None,
        }
    }

    /// How many transpositions lie between a parameter and the value that a node reads, if nothing else does.
    fn swaps_between(&self, graph: &Graph, mut value: ValueId, parameter: ValueId) -> Option<usize> {
        let mut swaps = 0;
        while value != parameter {
            let node = &graph.nodes[*self.producers.get(&value)?];
            match node.op_type.as_str() {
                // Every floating-point type runs as float32, so a Cast of a parameter changes nothing.
                "Identity" | "Cast" => {}
                "Transpose" if node.ints("perm").is_none_or(|order| order == [1, 0]) => swaps += 1,
                _ => return None,
            }
            value = node.input(0)?;
        }
        Some(swaps)
    }
}

/// Where a layer's bias comes from.
struct LayerBias {
    /// Held by the layer.
    held: Option<Tensor>,
    /// Added behind the layer: not a trainable vector, or not the same in all uses of the weight.
    added: Option<ValueId>,
    replaces: Option<usize>,
}

impl LayerBias {
    fn of(graph: &Graph, parameters: &Parameters, node: &Node, info: &LayerInfo, varies: bool) -> Self {
        // The analysis leaves a bias out where it is proven to be zero.
        let is_zero = info.bias.is_none() && info.plain_because.is_none();
        let in_place = if node.op_type == "MatMul" || is_zero { None } else { node.input(2) };
        let replaces = info.bias_add.filter(|_| info.bias.is_some() && in_place.is_none());
        let value = match replaces {
            Some(add) => graph.nodes[add].inputs.iter().flatten().copied().find(|&value| Some(value) != node.output(0)),
            None => in_place,
        };
        let trainable = parameters.of_value(info.weight).map(|weight| weight.info.trainable);
        let bias = info.bias.and_then(|bias| parameters.of_value(bias)).filter(|bias| {
            !varies && value.is_some() && bias.tensor.dim() == 1 && Some(bias.info.trainable) == trainable
        });
        match bias {
            Some(bias) => Self { held: Some(bias.tensor.shallow_clone()), added: None, replaces },
            // The layer runs where its node is; what the Add adds may be computed only after that.
            None if replaces.is_some() && value.is_none_or(|value| !graph.initializers.contains_key(&value)) => {
                Self { held: None, added: None, replaces: None }
            }
            None => Self { held: None, added: value, replaces },
        }
    }
}

/// Calls a layer.
pub(crate) struct LayerOperator {
    number: usize,
    layer: Layer,
    convolution: Option<ConvolutionPlan>,
    is_interleaved: Rc<Cell<bool>>,
}

impl Operator for LayerOperator {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.take(0)?;
        let size = x.size();
        let activations = match &self.convolution {
            Some(plan) => plan.before(&x)?,
            None => as_rows(x, &size, run.batch.filter(|_| self.is_interleaved.get()))?,
        };
        if let Some(record) = run.record {
            // A later Relu may overwrite them.
            record.borrow_mut().push((self.number, activations.f_detach()?.copy()));
        }
        let mut output = self.layer.f_forward(&activations)?;
        output = match &self.convolution {
            Some(plan) => plan.after(output, &size)?,
            None => as_before(output, &size)?,
        };
        if let Some(bias) = inputs.optional(1) {
            output = match &self.convolution {
                Some(_) => output.f_add(&bias.f_reshape([&[-1], &vec![1; size.len() - 2][..]].concat())?)?,
                None => output.f_add(bias)?,
            };
        }
        Ok(vec![output])
    }

    fn output_may_be_overwritten(&self) -> bool {
        // A linear layer's output may be a view, and writing into a view costs backward more than it saves.
        self.convolution.is_some()
    }
}

/// A layer takes 2 to 4 dimensions: a single row becomes a batch of one, more dimensions merge in the middle. Rows that are
/// interleaved from `batch` samples become `[positions, batch, in]`.
fn as_rows(x: Tensor, size: &[i64], batch: Option<i64>) -> Result<Tensor> {
    Ok(match (size, batch) {
        ([rows, features], Some(batch)) if batch > 0 && rows % batch == 0 => {
            x.f_reshape([rows / batch, batch, *features])?
        }
        ([_, _] | [_, _, _] | [_, _, _, _], _) => x,
        ([], _) => return Err(Error::mismatch("a linear layer needs rows, found a single number")),
        ([_], _) => x.f_unsqueeze(0)?,
        ([first, .., last], _) => x.f_reshape([*first, -1, *last])?,
    })
}

/// The output for activations that had `size` before [`as_rows`].
fn as_before(y: Tensor, size: &[i64]) -> Result<Tensor> {
    if y.dim() == size.len() {
        return Ok(y);
    }
    let features = y.size().last().copied().unwrap_or(0);
    Ok(y.f_reshape([&size[..size.len() - 1], &[features]].concat())?)
}
