//! A model file as a network of the training loop.

use super::batches::Batches;
use super::checkpoint::tensors::is_finite;
use super::events::Events;
use super::failure::{Failure, Result};
use super::network::Network;
use fngd_cli::settings::ImportSettings;
use fngd_core::{FngdModule, Path, Visitor};
use fngd_module::{BuildOptions, Rebatched, TrainableModule, rebatch};
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::graph::Dim;
use fngd_onnx::{EXPORT_AGAIN, OnnxModel, Repair};
use std::collections::{BTreeMap, HashSet};
use tch::Tensor;

/// A model file and the module built from it.
pub struct OnnxNetwork {
    pub model: OnnxModel,
    pub module: TrainableModule,
    /// What became of a batch size in the file.
    pub rebatched: Rebatched,
}

/// What a head does when the data has another number of classes than it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadRule {
    /// It is replaced by a fresh one, drawn from this seed.
    Replace { seed: u64 },
    /// The model is refused.
    Keep,
}

impl OnnxNetwork {
    /// Reads `path`. `freeze`: a regular expression for the names of parameters that keep their value.
    pub fn open(path: &std::path::Path, import: &ImportSettings, freeze: Option<&str>) -> Result<OnnxModel> {
        Ok(OnnxModel::open(path, &import.options(freeze).map_err(Failure::usage)?)?)
    }

    /// Builds the module, for any batch size if the file's own can be freed.
    pub fn build(mut model: OnnxModel, options: &BuildOptions) -> Result<Self> {
        let rebatched = rebatch(&mut model, options)?;
        let module = TrainableModule::build(&model, options)?;
        Ok(Self { model, module, rebatched })
    }

    /// Which layers FNGD leaves to the plain gradient because it is not known where they keep the samples: a sentence for each reason.
    pub fn layers_of_unknown_batch(&self) -> Vec<String> {
        let mut layers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for found in self.module.layer_batch_axes() {
            if let Some(why) = &found.unknown_because {
                layers.entry(why).or_default().push(&found.layer);
            }
        }
        let sentence = |(why, names): (&str, Vec<&str>)| {
            const NAMED: usize = 3;
            let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let more = if names.len() > NAMED { ", ..." } else { "" };
            let noun = if names.len() == 1 { "layer trains" } else { "layers train" };
            format!("{} {noun} with the plain gradient, because {why}: {}{more}", names.len(), named.join(", "))
        };
        layers.into_iter().map(sentence).collect()
    }

    /// Tells the user what became of a batch size in the file.
    pub fn tell(&self, events: &Events) {
        let (code, name) = (Repair::Rebatch.code(), Repair::Rebatch.name());
        match &self.rebatched {
            Rebatched::NotNeeded => (),
            Rebatched::Freed { what, .. } => events.warn(format!(
                "{code} {name}: {}; checked: every sample's outputs stay the same",
                what.join("; ")
            )),
            Rebatched::Kept { batch, why } => events.warn(format!(
                "{code} {name}: the batch size stays {batch}, as in the file: {why}; or export the model again with: {EXPORT_AGAIN}"
            )),
        }
    }
}

/// Makes the head of `model` as wide as the data has classes. Returns the width if it was replaced.
pub fn fit_head(model: &mut OnnxModel, classes: usize, rule: HeadRule) -> Result<Option<usize>> {
    let found = model.classes();
    if found == Some(classes) {
        return Ok(None);
    }
    let width = found.map_or_else(|| "an unknown number of".to_owned(), |found| found.to_string());
    match rule {
        HeadRule::Replace { seed } => {
            model.replace_head(classes, seed)?;
            Ok(Some(classes))
        }
        HeadRule::Keep => {
            let message = format!("the model's head has {width} outputs, the data has {classes} classes");
            Err(Failure::data(message).help("`train --classes auto` puts a fresh head in its place"))
        }
    }
}

/// Refuses data whose samples are not what the model takes.
pub fn check_input(model: &OnnxModel, sample: &[i64]) -> Result<()> {
    let [input] = model.inputs() else {
        let names: Vec<_> = model.inputs().iter().map(|input| format!("`{}`", input.name)).collect();
        let message = format!("the model has {} inputs ({}); data sets feed one", names.len(), names.join(", "));
        return Err(Failure::model(message));
    };
    let Some(dims) = &input.dims else { return Ok(()) };
    let fits = |(dim, &size): (&Dim, &i64)| !matches!(dim, Dim::Known(known) if i64::try_from(*known) != Ok(size));
    if dims.len() == sample.len() + 1 && dims[1..].iter().zip(sample).all(fits) {
        return Ok(());
    }
    let shown: Vec<String> = dims.iter().map(show).collect();
    let message =
        format!("the model's input `{}` is [{}], a sample of the data is {sample:?}", input.name, shown.join(", "));
    Err(Failure::data(message).help("choose data of this size, or export the model for inputs of the data's size"))
}

/// Refuses splits that are cut into batches of other sizes than the model's, if that fixes one: better now than at the last batch
/// of an epoch.
pub fn check_batches(model: &OnnxModel, splits: &[(&str, &Batches)]) -> Result<()> {
    let dims = model.inputs().first().and_then(|input| Some((input, input.dims.as_ref()?.first()?)));
    let Some((input, &Dim::Known(fixed))) = dims else { return Ok(()) };
    for (name, split) in splits {
        // All batches but the last are alike.
        let mut sizes = [0, split.slots() - 1].into_iter().map(|slot| split.size_of(slot));
        if let Some(size) = sizes.find(|&size| size as u64 != fixed) {
            let (input, samples) = (&input.name, split.samples());
            let message = format!(
                "the model's input `{input}` takes batches of {fixed}; the {samples} samples of the {name} split come with one of {size}"
            );
            return Err(Failure::data(message).help(format!(
                "export the model with a symbolic batch dimension; or --batch {fixed} and splits that it divides"
            )));
        }
    }
    Ok(())
}

fn show(dim: &Dim) -> String {
    match dim {
        Dim::Known(size) => size.to_string(),
        Dim::Symbol(name) => name.clone(),
        Dim::Unknown => "?".to_owned(),
    }
}

impl FngdModule for OnnxNetwork {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self.module.visit(path, visitor);
    }
}

impl Network for OnnxNetwork {
    fn set_training(&mut self, training: bool) {
        self.module.set_training(training);
    }

    fn logits(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.module.logits(std::slice::from_ref(input))?)
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        self.module.tensors()
    }

    fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<()> {
        Ok(self.module.load_tensors(tensors)?)
    }

    fn running_statistics(&self) -> Vec<Tensor> {
        let rows = self.model.parameters().iter().filter(|row| row.role == ParameterRole::RunningStatistic);
        let names: HashSet<&str> = rows.map(|row| row.name.as_str()).collect();
        let tensors = self.module.tensors().into_iter();
        tensors.filter(|(name, _)| names.contains(name.as_str())).map(|(_, tensor)| tensor).collect()
    }

    fn first_non_finite(&self, input: &Tensor) -> Result<Option<String>> {
        let _no_grad = tch::no_grad_guard();
        // The same graph once more, with every layer's output as an output of the graph, in the order of computation.
        let mut graph = self.model.graph().clone();
        let layers = &self.model.analysis().layers;
        graph.outputs = layers.values().map(|layer| layer.output).collect();
        let options = BuildOptions { device: input.device(), ..BuildOptions::default() };
        let mut probe = TrainableModule::from_graph(&graph, self.model.analysis(), &options)?;
        probe.load_tensors(&self.module.tensors())?;
        probe.set_training(true);
        let outputs = probe.forward(std::slice::from_ref(input))?;
        for (layer, output) in layers.values().zip(outputs) {
            if !is_finite(&output)? {
                return Ok(Some(format!("the output of layer `{}`", layer.name)));
            }
        }
        let is_finite = is_finite(&self.logits(input)?)?;
        Ok((!is_finite).then(|| "the logits, after every layer's output".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_behind_a_mixture_of_samples_are_named() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/small/mixed.onnx");
        let model = OnnxNetwork::open(&path, &ImportSettings::default(), None).unwrap();
        let network = OnnxNetwork::build(model, &BuildOptions::default()).unwrap();
        let told =
            "1 layer trains with the plain gradient, because its activations mix the samples of the batch: `fc2`";
        assert_eq!(network.layers_of_unknown_batch(), [told]);
    }
}
