//! From the graph to a program: operators are built, constants are folded, values get their places.

use super::drafts::{self, Draft};
use super::drop_path;
use super::folding;
use super::form::Form;
use super::guarded;
use super::layers::Layers;
use super::operator::{BuildContext, Inputs, Operator, Run};
use super::parameters::Parameters;
use super::plan::{Plan, Source};
use super::program::{Constant, GraphInput, Program, Step};
use super::scalars;
use super::table;
use super::tensors;
use crate::{Error, Result, running};
use fngd_onnx::analysis::Analysis;
use fngd_onnx::analysis::drop_path::{divided_branches, mask_values};
use fngd_onnx::graph::{Graph, Node, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor, no_grad_guard};

/// Builds the program of `graph` and its layers.
///
/// # Errors
/// One that lists every operator that is not supported, or what is wrong with one node.
pub(crate) fn build(
    graph: &Graph,
    analysis: &Analysis,
    parameters: &Parameters,
    form: Form,
) -> Result<(Program, Layers)> {
    let mut layers = Layers::of(graph, analysis);
    let drafts = drafts::of(graph, analysis, parameters, &mut layers)?;
    drafts::refuse_unsupported(&drafts)?;
    let mut builder = Builder::new(graph, analysis, parameters, form, &drafts)?;
    for draft in drafts {
        let place = draft.node.describe();
        builder.add(draft).map_err(|error| error.at(place))?;
    }
    Ok((builder.finish(graph, analysis)?, layers))
}

struct Builder<'a> {
    parameters: &'a Parameters,
    frozen: &'a BTreeSet<ValueId>,
    form: Form,
    /// How many readers each value has; a result counts as one.
    readers: BTreeMap<usize, usize>,
    /// Values that somebody besides DequantizeLinear reads.
    read_as_they_are: BTreeSet<usize>,
    guarded: BTreeSet<ValueId>,
    /// Values known now.
    known: BTreeMap<usize, Tensor>,
    /// Parameters and their rearrangements as the file has them: enough where only dimensions or element type matter.
    metadata: BTreeMap<usize, Tensor>,
    overwritable: BTreeSet<usize>,
    always_one_in_evaluation: BTreeSet<ValueId>,
    undivided_in_evaluation: BTreeSet<ValueId>,
    sources: BTreeMap<usize, Source>,
    constants: Vec<Constant>,
    steps: Vec<Step>,
    slots: usize,
    /// Elements that folding may still make.
    foldable: i64,
}

impl<'a> Builder<'a> {
    fn new(
        graph: &Graph,
        analysis: &'a Analysis,
        parameters: &'a Parameters,
        form: Form,
        drafts: &[Draft],
    ) -> Result<Self> {
        let mut readers = BTreeMap::new();
        let inputs = drafts.iter().flat_map(|draft| draft.inputs().iter().flatten().copied());
        for value in inputs.chain(results_of(graph, analysis)) {
            *readers.entry(value.0).or_default() += 1;
        }
        let is_dequantised = |node: &Node, slot: usize| node.op_type == "DequantizeLinear" && slot == 0;
        let read = drafts.iter().flat_map(|draft| {
            let inputs = draft.inputs().iter().enumerate();
            inputs.filter_map(|(slot, input)| input.filter(|_| !is_dequantised(&draft.node, slot)))
        });
        let read_as_they_are = read.chain(results_of(graph, analysis)).map(|value| value.0).collect();
        let (mut known, mut metadata) = (BTreeMap::new(), BTreeMap::new());
        for (value, data) in &graph.initializers {
            if parameters.of_value(*value).is_none() && readers.contains_key(&value.0) {
                let place = || format!("initializer `{}`", graph.values[value.0].name);
                known.insert(value.0, tensors::from_data_as(data, form.float).map_err(|error| error.at(place()))?);
            }
        }
        for &value in analysis.parameters.keys() {
            if let Some(stored) = parameters.of_value(value) {
                let tensor = stored.tensor.f_detach()?;
                metadata.insert(value.0, if stored.info.transposed { tensor.f_transpose(0, 1)? } else { tensor });
            }
        }
        Ok(Self {
            parameters,
            frozen: &analysis.frozen,
            form,
            always_one_in_evaluation: mask_values(graph),
            undivided_in_evaluation: divided_branches(graph),
            readers,
            read_as_they_are,
            guarded: guarded::values(graph),
            known,
            metadata,
            overwritable: BTreeSet::new(),
            sources: BTreeMap::new(),
            constants: Vec::new(),
            steps: Vec::new(),
            slots: graph.values.len(),
            foldable: folding::MOST_ELEMENTS,
        })
    }

    fn add(&mut self, draft: Draft) -> Result<()> {
        let (inputs, outputs) = (draft.inputs().to_vec(), draft.outputs());
        let node = draft.node;
        let is_layer = draft.layer.is_some();
        let _pass = running::Pass;
        running::note(&node.describe());
        let operator = match draft.layer {
            Some(layer) => Box::new(layer.operator),
            None => self.operator(&node)?,
        };
        // A layer's weight is not among its inputs: what it computes is never the same in all passes.
        if !is_layer && self.fold(&node, &*operator, &inputs, &outputs)? {
            return Ok(());
        }
        self.note_metadata(&node, &*operator, &inputs, &outputs);
        if operator.output_may_be_overwritten() {
            let lone = outputs.first().copied().flatten().filter(|output| self.readers.get(&output.0) == Some(&1));
            self.overwritable.extend(lone.map(|output| output.0));
        }
        let inputs = inputs.iter().map(|&input| self.source(input)).collect::<Result<Vec<_>>>()?;
        let outputs = outputs.iter().map(|output| output.map(|value| value.0)).collect();
        self.steps.push(Step { place: node.describe(), operator, inputs, outputs });
        Ok(())
    }

    fn operator(&self, node: &Node) -> Result<Box<dyn Operator>> {
        // OK because unsupported nodes were refused before.
        let entry = table::find(node).unwrap();
        let present = node.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if !entry.inputs.contains(&present) {
            let (least, most) = (entry.inputs.start(), entry.inputs.end());
            let range = if *most == usize::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
            return Err(Error::malformed(format!("has {present} inputs, expected {range}")));
        }
        let overwritable = |value: usize| self.overwritable.contains(&value);
        let context = BuildContext {
            node,
            constants: &self.known,
            parameters: self.parameters,
            frozen: self.frozen,
            overwritable: &overwritable,
            read_as_they_are: &self.read_as_they_are,
            guarded: &self.guarded,
            float: self.form.float,
        };
        let operator = (entry.build)(node, &context)?;
        Ok(match node.output(0) {
            Some(output) if self.always_one_in_evaluation.contains(&output) => {
                Box::new(drop_path::OneInEvaluation(operator))
            }
            Some(output) if self.undivided_in_evaluation.contains(&output) => {
                Box::new(drop_path::UndividedInEvaluation(operator))
            }
            _ => operator,
        })
    }

    /// Computes the node now, if everything that it depends on is known.
    fn fold(
        &mut self,
        node: &Node,
        operator: &dyn Operator,
        inputs: &[Option<ValueId>],
        outputs: &[Option<ValueId>],
    ) -> Result<bool> {
        if !operator.is_deterministic() || folding::is_unbounded(node) {
            return Ok(false);
        }
        let by_metadata = operator.metadata_inputs();
        let (mut values, mut sizes) = (Inputs::default(), Vec::new());
        for (position, input) in inputs.iter().enumerate() {
            let Some(input) = input else {
                values.0.push(None);
                continue;
            };
            let from_metadata = self.metadata.get(&input.0).filter(|_| by_metadata.contains(&position));
            let Some(tensor) = self.known.get(&input.0).or(from_metadata) else { return Ok(false) };
            if !by_metadata.contains(&position) {
                sizes.push(tensor.size());
            }
            values.0.push(Some(tensor.shallow_clone()));
        }
        if folding::largest_result(&sizes) > self.foldable {
            return Ok(false);
        }
        let _guard = no_grad_guard();
        let results = match scalars::run(operator, &mut values, &Run::folding(self.foldable)) {
            // Each pass may afford more, or says so itself.
            Err(error) if error.is_limit() => return Ok(false),
            results => results?,
        };
        if results.len() < outputs.len() && outputs[results.len()..].iter().any(Option::is_some) {
            return Err(Error::unsupported(format!(
                "computes {} outputs, found {}",
                results.len(),
                node.outputs.len()
            )));
        }
        for (tensor, output) in results.into_iter().zip(outputs) {
            if let Some(output) = output {
                self.foldable -= i64::try_from(tensor.numel()).unwrap_or(i64::MAX).min(self.foldable);
                self.known.insert(output.0, tensor);
            }
        }
        Ok(true)
    }

    /// Follows a parameter through nodes that only rearrange it, for those who ask for the result's shape.
    fn note_metadata(
        &mut self,
        node: &Node,
        operator: &dyn Operator,
        inputs: &[Option<ValueId>],
        outputs: &[Option<ValueId>],
    ) {
        let rearranges = ["Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"];
        let (Some(Some(input)), Some(Some(output))) = (inputs.first(), outputs.first()) else { return };
        if !rearranges.contains(&node.op_type.as_str()) {
            return;
        }
        let value = |value: &Option<ValueId>| {
            let value = value.as_ref()?;
            self.known.get(&value.0).or_else(|| self.metadata.get(&value.0)).map(Tensor::shallow_clone)
        };
        if self.metadata.contains_key(&input.0) {
            let _guard = no_grad_guard();
            let mut values = Inputs(inputs.iter().map(value).collect());
            // A failure here shows itself when the step runs.
            let result = scalars::run(operator, &mut values, &Run::evaluation(Device::Cpu));
            if let Some(tensor) = result.ok().and_then(|results| results.into_iter().next()) {
                self.metadata.insert(output.0, tensor);
            }
        }
    }

    fn source(&mut self, value: Option<ValueId>) -> Result<Source> {
        let Some(value) = value else { return Ok(Source::Absent) };
        if let Some(&source) = self.sources.get(&value.0) {
            return Ok(source);
        }
        let source = if let Some(index) = self.parameters.index_of(value) {
            if self.parameters.at(index).info.transposed {
                // Somebody besides the layer reads it: in the file's orientation.
                self.slots += 1;
                let (inputs, outputs) = (vec![Source::Parameter(index)], vec![Some(self.slots - 1)]);
                let place = format!("parameter `{}`", self.parameters.at(index).info.name);
                self.steps.push(Step { place, operator: Box::new(Transposed), inputs, outputs });
                Source::Slot(self.slots - 1)
            } else {
                Source::Parameter(index)
            }
        } else if let Some(tensor) = self.known.get(&value.0) {
            let run = Run::evaluation(self.form.device);
            self.constants.push(Constant::new(run.place(tensor.shallow_clone())?));
            Source::Constant(self.constants.len() - 1)
        } else {
            Source::Slot(value.0)
        };
        self.sources.insert(value.0, source);
        Ok(source)
    }

    fn finish(mut self, graph: &Graph, analysis: &Analysis) -> Result<Program> {
        let outputs = graph.outputs.iter().map(|&value| self.source(Some(value))).collect::<Result<Vec<_>>>()?;
        let logits = analysis.logits.map(|value| self.source(Some(value))).transpose()?;
        let inputs = graph.inputs.iter().map(|value| {
            let info = &graph.values[value.0];
            let kind: Option<Kind> = info.element_type.map(|stored| tensors::kind_of(stored, self.form.float));
            GraphInput { name: info.name.clone(), slot: value.0, kind, dims: info.dims.clone() }
        });
        Ok(Program {
            inputs: inputs.collect(),
            slots: self.slots,
            outputs: Plan::new(&self.steps, outputs),
            logits: logits.map(|source| Plan::new(&self.steps, vec![source])),
            steps: self.steps,
            constants: self.constants,
            form: self.form,
        })
    }
}

/// What the program is asked for.
fn results_of(graph: &Graph, analysis: &Analysis) -> impl Iterator<Item = ValueId> {
    graph.outputs.iter().copied().chain(analysis.logits)
}

/// A parameter in the file's orientation.
struct Transposed;

impl Operator for Transposed {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.get(0)?.f_transpose(0, 1)?])
    }
}
