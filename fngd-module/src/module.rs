//! A model file as a libtorch module that can be trained.

use crate::calibrate::{self, Observed};
use crate::lower::batch_axis::{self, LayerBatchAxis};
use crate::lower::form::Form;
use crate::lower::layers::Layers;
use crate::lower::operator::Run;
use crate::lower::parameters::{Parameters, Stored};
use crate::lower::plan::Plan;
use crate::lower::program::{GraphInput, Program};
use crate::lower::{self, builder, example};
use crate::{Error, Result};
use fngd_core::{FngdModule, Parameter, Path, Role, Visitor};
use fngd_onnx::analysis::{Analysis, ParameterRole};
use fngd_onnx::graph::{Graph, ValueId};
use fngd_onnx::{OnnxModel, RestoredNormalisation, WriteReport};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor, no_grad_guard};

/// How to build a module.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Where the parameters live and the work is done.
    pub device: Device,
    /// Keep images and convolution weights in channels-last order, which most convolutions prefer. The numbers are the same
    /// up to rounding; [`TrainableModule::tensors`] and exports are in the usual order.
    pub channels_last: bool,
    /// Sizes for named dimensions of the inputs other than the batch, used when the model is probed: `("height", 224)`.
    pub dims: Vec<(String, i64)>,
    /// What parameters are and arithmetic is done in, whatever the file stores.
    pub precision: Precision,
}

/// The floating-point numbers of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits, for training.
    #[default]
    Float32,
    /// 64 bits, to compare with something exact. Files are written from float32 nevertheless.
    Float64,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, channels_last: false, dims: Vec::new(), precision: Precision::Float32 }
    }
}

/// A model file, ready to be trained.
///
/// Parameters are float32 ([`Precision`]) whatever the file stores, and so is all arithmetic on floating-point numbers. Starts
/// in evaluation mode.
pub struct TrainableModule {
    parameters: Parameters,
    layers: Layers,
    program: Program,
    batch_axes: Vec<LayerBatchAxis>,
    restored: Vec<RestoredNormalisation>,
    training: bool,
    dropout: bool,
}

impl TrainableModule {
    /// The module of `model`, with the file's values.
    ///
    /// # Errors
    /// `is_unsupported()` with every operator that cannot be run, or `is_malformed()` naming the node that breaks the
    /// specification.
    pub fn build(model: &OnnxModel, options: &BuildOptions) -> Result<Self> {
        let mut module = Self::from_graph(model.graph(), model.analysis(), options)?;
        module.restored = model.restored().to_vec();
        Ok(module)
    }

    /// The module of a graph that did not come from a file.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn from_graph(graph: &Graph, analysis: &Analysis, options: &BuildOptions) -> Result<Self> {
        let mut module = Self::without_probing(graph, analysis, options)?;
        module.batch_axes = batch_axis::find(&module.program, &module.parameters, &module.layers, &options.dims);
        Ok(module)
    }

    /// The same for forward passes only: where layers have the samples is not looked for.
    pub(crate) fn without_probing(graph: &Graph, analysis: &Analysis, options: &BuildOptions) -> Result<Self> {
        let float = match options.precision {
            Precision::Float32 => Kind::Float,
            Precision::Float64 => Kind::Double,
        };
        let form = Form { device: options.device, channels_last: options.channels_last, float };
        let parameters = Parameters::build(graph, analysis, form)?;
        let (program, layers) = builder::build(graph, analysis, &parameters, form)?;
        let (restored, batch_axes) = (Vec::new(), Vec::new());
        Ok(Self { parameters, layers, program, batch_axes, restored, training: false, dropout: false })
    }

    /// Switches between training (BatchNormalization uses and updates statistics, Dropout and stochastic depth drop) and evaluation.
    pub fn set_training(&mut self, training: bool) {
        (self.training, self.dropout) = (training, training);
    }

    /// Switches Dropout and stochastic depth alone, until the next [`set_training`](Self::set_training).
    pub fn set_dropout(&mut self, dropout: bool) {
        self.dropout = dropout;
    }

    /// What the file computes: one tensor per graph output.
    ///
    /// Dropout draws from libtorch's generator: `tch::manual_seed` before a pass makes it repeatable.
    ///
    /// # Errors
    /// `is_mismatch()` if the inputs do not fit the file, naming the input or the node; `is_torch()` for what libtorch refuses.
    pub fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run(&self.program.outputs, inputs)
    }

    /// What the loss reads: the first output, before a final Softmax, LogSoftmax or Sigmoid. Nothing behind it is computed.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); `is_unsupported()` if the file has no output that can be trained on.
    pub fn logits(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let plan = self.program.logits.as_ref().ok_or_else(|| Error::unsupported("the model has no logits"))?;
        // OK because a plan gives one tensor per result, and this one has one.
        Ok(self.run(plan, inputs)?.pop().unwrap())
    }

    /// Those outputs that can be computed, and what stopped the others.
    pub(crate) fn forward_as_far_as_possible(&self, inputs: &[Tensor]) -> (Vec<Option<Tensor>>, Result<()>) {
        let (program, run) = (&self.program, self.pass(inputs));
        program.run_as_far_as_possible(&program.outputs, &self.parameters, inputs, &run)
    }

    fn run(&self, plan: &Plan, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.program.run(plan, &self.parameters, inputs, &self.pass(inputs))
    }

    fn pass(&self, inputs: &[Tensor]) -> Run<'_> {
        let batch = example::batch_size(&self.program.inputs, inputs);
        Run { training: self.training, dropout: self.dropout, batch, ..Run::evaluation(self.program.form.device) }
    }

    /// Every parameter and running statistic by name, in the file's order and contiguous.
    ///
    /// They share memory with the module, except for convolution weights in channels-last order, which are copies. Linear
    /// weights are `[out, in]`, whatever the file's orientation.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let tensor = |stored: &Stored| {
            let tensor = stored.tensor.detach();
            // Where memory for a copy is missing, the tensor in its own order serves as well.
            tensor.f_contiguous().unwrap_or(tensor)
        };
        self.parameters.iter().map(|stored| (stored.info.name.clone(), tensor(stored))).collect()
    }

    /// Replaces the value of every parameter and running statistic by that of the same name.
    ///
    /// # Errors
    /// `is_mismatch()` if a name, element type or size differs, or one is missing or too many. Nothing is changed then.
    pub fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<()> {
        let mut pairs = Vec::new();
        for stored in self.parameters.iter() {
            let name = &stored.info.name;
            let mut found = tensors.iter().filter(|(given, _)| given == name);
            let (Some((_, tensor)), None) = (found.next(), found.next()) else {
                return Err(Error::mismatch(format!("tensor `{name}` is not there exactly once")));
            };
            let (expected, given) = ((stored.tensor.kind(), stored.tensor.size()), (tensor.kind(), tensor.size()));
            if expected != given {
                let message = format!(
                    "tensor `{name}`: expected {:?} {:?}, found {:?} {:?}",
                    expected.0, expected.1, given.0, given.1
                );
                return Err(Error::mismatch(message));
            }
            pairs.push((stored.tensor.shallow_clone(), tensor));
        }
        if let Some((name, _)) =
            tensors.iter().find(|(name, _)| self.parameters.iter().all(|stored| stored.info.name != *name))
        {
            return Err(Error::mismatch(format!("tensor `{name}` is not one of the model's")));
        }
        let _guard = no_grad_guard();
        for (mut own, tensor) in pairs {
            own.f_copy_(tensor)?;
        }
        Ok(())
    }

    /// Writes `model`'s file to `path` with this module's values in place of the stored ones.
    ///
    /// # Errors
    /// Those of [`OnnxModel::write`]; `is_mismatch()` if `model` is not the one that this module was built from.
    pub fn export(&self, model: &OnnxModel, path: &std::path::Path) -> Result<WriteReport> {
        let mut tensors = BTreeMap::new();
        for stored in self.parameters.iter() {
            let data = lower::tensors::to_data(&stored.tensor)
                .map_err(|error| error.at(format!("parameter `{}`", stored.info.name)))?;
            tensors.insert(stored.info.name.clone(), data);
        }
        Ok(model.write(path, &tensors)?)
    }

    /// Gives the BatchNormalizations that the importer restored the mean and variance of real data, and the scale and shift
    /// with which evaluation computes the same as before; returns how many there are.
    ///
    /// Call it once before training, with a few batches of training data, and not when training is resumed. Frozen ones are
    /// left alone. Without any to calibrate, `batches` is not touched.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); `is_mismatch()` if there is no batch, or an activation is not finite. Nothing is changed
    /// then.
    pub fn calibrate(&mut self, batches: impl IntoIterator<Item = Vec<Tensor>>) -> Result<usize> {
        let stored = |value: ValueId| self.parameters.of_value(value);
        let learns =
            |restored: &&RestoredNormalisation| stored(restored.scale).is_some_and(|scale| scale.info.trainable);
        let restored: Vec<_> = self.restored.iter().filter(learns).collect();
        if restored.is_empty() {
            return Ok(0);
        }
        let _guard = no_grad_guard();
        let observed = Observed::default();
        let plan = self.program.logits.as_ref().unwrap_or(&self.program.outputs);
        let mut seen = 0;
        for inputs in batches {
            seen += 1;
            let batch = example::batch_size(&self.program.inputs, &inputs);
            let run = Run { batch, observed: Some(&observed), ..Run::evaluation(self.program.form.device) };
            self.program.run(plan, &self.parameters, &inputs, &run)?;
        }
        if seen == 0 {
            return Err(Error::mismatch("calibration needs at least one batch"));
        }
        let moments = observed.into_moments();
        let (mut changes, mut count) = (Vec::new(), 0);
        for restored in &restored {
            let ids = [restored.scale, restored.shift, restored.mean, restored.variance];
            let [Some(scale), Some(shift), Some(mean), Some(variance)] = ids.map(stored) else { continue };
            let at = |error: Error| error.at(format!("BatchNormalization with scale `{}`", scale.info.name));
            // What the logits do not need is not trained either.
            let Some(moments) = moments.get(&restored.scale) else { continue };
            moments.check().map_err(at)?;
            let old = [scale, shift, mean, variance].map(|stored| &stored.tensor);
            let (new_scale, new_shift) = calibrate::same_function(old, moments, f64::from(restored.epsilon))?;
            let new = [new_scale, new_shift, moments.mean.shallow_clone(), moments.variance.shallow_clone()];
            changes.extend(old.map(Tensor::shallow_clone).into_iter().zip(new));
            count += 1;
        }
        for (mut own, new) in changes {
            own.f_copy_(&new)?;
        }
        Ok(count)
    }

    /// Where each layer keeps the samples of the batch, and why it is not known where it is not.
    pub fn layer_batch_axes(&self) -> &[LayerBatchAxis] {
        &self.batch_axes
    }

    /// Names of the layers whose gradient is preconditioned.
    pub fn preconditioned_layers(&self) -> Vec<&str> {
        self.preconditioned().map(|entry| entry.layer.name()).collect()
    }

    /// Inputs made up for this model: normal floats, integers and booleans of 0 and 1, equal for equal `seed`.
    ///
    /// - `batch`: size of the batch dimension, unless the file fixes it
    /// - `dims`: sizes of other named dimensions; 64 for images and 8 elsewhere if not given
    ///
    /// # Errors
    /// `is_unsupported()` if an input declares no dimensions.
    pub fn example_inputs(&self, batch: i64, dims: &[(String, i64)], seed: u64) -> Result<Vec<Tensor>> {
        let inputs = example::inputs(&self.program.inputs, batch, dims, seed, example::MOST_ELEMENTS)?;
        inputs.iter().map(|tensor| Ok(tensor.f_to_device(self.program.form.device)?)).collect()
    }

    /// What the caller supplies.
    pub(crate) fn inputs(&self) -> &[GraphInput] {
        &self.program.inputs
    }

    /// Names of the parameters that training changes.
    pub(crate) fn trainable_names(&self) -> BTreeSet<String> {
        self.parameters.iter().filter(|stored| stored.info.trainable).map(|stored| stored.info.name.clone()).collect()
    }

    /// Whether some BatchNormalization updates its statistics.
    pub(crate) fn has_running_statistics(&self) -> bool {
        self.parameters.iter().any(|stored| stored.info.role == ParameterRole::RunningStatistic)
    }

    fn preconditioned(&self) -> impl Iterator<Item = &crate::lower::layers::Entry> {
        self.layers.iter().filter(|entry| entry.plain_because.is_none() && entry.layer.weight().requires_grad())
    }
}

impl FngdModule for TrainableModule {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        for stored in self.parameters.iter().filter(|stored| stored.info.trainable) {
            visitor.parameter(Parameter {
                name: path.child(&stored.info.name).to_string(),
                tensor: stored.tensor.shallow_clone(),
                role: role(stored.info.role),
            });
        }
        for entry in self.preconditioned() {
            visitor.layer(entry.layer.clone());
        }
    }
}

impl std::fmt::Debug for TrainableModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (parameters, layers) = (self.parameters.iter().count(), self.layers.iter().count());
        f.debug_struct("TrainableModule")
            .field("parameters", &parameters)
            .field("layers", &layers)
            .field("steps", &self.program.steps.len())
            .field("training", &self.training)
            .finish_non_exhaustive()
    }
}

fn role(role: ParameterRole) -> Role {
    match role {
        ParameterRole::LinearWeight | ParameterRole::ConvolutionWeight | ParameterRole::RecurrentWeight => Role::Weight,
        ParameterRole::Bias => Role::Bias,
        ParameterRole::NormalisationScale | ParameterRole::NormalisationShift => Role::Normalisation,
        ParameterRole::Embedding => Role::Embedding,
        ParameterRole::RunningStatistic | ParameterRole::Other => Role::Other,
    }
}
