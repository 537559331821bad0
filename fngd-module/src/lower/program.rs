//! The graph as a list of steps over value slots, and running it.

use super::form::Form;
use super::operator::{Inputs, Operator, Run};
use super::parameters::Parameters;
use super::plan::{Plan, Source, Wiring};
use super::scalars;
use super::tensors::{self, is_float};
use crate::{Error, Result, running};
use fngd_onnx::graph::Dim;
use std::cell::OnceCell;
use tch::{Device, Kind, Tensor};

/// A graph ready to run.
pub(crate) struct Program {
    pub steps: Vec<Step>,
    pub constants: Vec<Constant>,
    pub inputs: Vec<GraphInput>,
    /// How many values one pass may hold.
    pub slots: usize,
    pub outputs: Plan,
    /// Only what the logits need, if there are logits.
    pub logits: Option<Plan>,
    pub form: Form,
}

/// One operation with its wiring.
pub(crate) struct Step {
    pub place: String,
    pub operator: Box<dyn Operator>,
    pub inputs: Vec<Source>,
    pub outputs: Vec<Option<usize>>,
}

impl Wiring for Step {
    fn inputs(&self) -> &[Source] {
        &self.inputs
    }

    fn outputs(&self) -> &[Option<usize>] {
        &self.outputs
    }
}

/// A value that is the same in every pass.
pub(crate) struct Constant {
    /// Small integers are on the host: they are shapes more often than data.
    tensor: Tensor,
    /// Its copy for steps that compute with it on the device.
    on_device: OnceCell<Tensor>,
}

impl Constant {
    pub fn new(tensor: Tensor) -> Self {
        Self { tensor, on_device: OnceCell::new() }
    }
}

/// What the caller must supply.
#[derive(Debug, Clone)]
pub(crate) struct GraphInput {
    pub name: String,
    pub slot: usize,
    pub kind: Option<Kind>,
    pub dims: Option<Vec<Dim>>,
}

impl Program {
    /// Runs `plan` on `inputs`.
    pub fn run(&self, plan: &Plan, parameters: &Parameters, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>> {
        let (results, end) = self.run_as_far_as_possible(plan, parameters, inputs, run);
        end?;
        let results = results.into_iter().collect::<Option<Vec<_>>>();
        results.ok_or_else(|| Error::malformed("a graph output is not computed by any node"))
    }

    /// Runs `plan` on `inputs`: the results that there are, and why it went no further.
    pub fn run_as_far_as_possible(
        &self,
        plan: &Plan,
        parameters: &Parameters,
        inputs: &[Tensor],
        run: &Run,
    ) -> (Vec<Option<Tensor>>, Result<()>) {
        let mut slots: Vec<Option<Tensor>> = std::iter::repeat_with(|| None).take(self.slots).collect();
        let end = self.run_steps(plan, parameters, inputs, run, &mut slots);
        let result = |&source: &Source| self.value(source, &slots, parameters);
        (plan.results.iter().map(result).collect(), end)
    }

    fn run_steps(
        &self,
        plan: &Plan,
        parameters: &Parameters,
        inputs: &[Tensor],
        run: &Run,
        slots: &mut [Option<Tensor>],
    ) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            let names: Vec<_> = self.inputs.iter().map(|input| input.name.as_str()).collect();
            let message =
                format!("the model has {} inputs ({}), found {}", names.len(), names.join(", "), inputs.len());
            return Err(Error::mismatch(message));
        }
        for (input, tensor) in self.inputs.iter().zip(inputs) {
            slots[input.slot] =
                Some(self.prepared(input, tensor).map_err(|error| error.at(format!("input `{}`", input.name)))?);
        }
        let mut held = Inputs::default();
        let _pass = running::Pass;
        for scheduled in &plan.schedule {
            let step = &self.steps[scheduled.step];
            running::note(&step.place);
            held.0.clear();
            for (&source, &is_last) in step.inputs.iter().zip(&scheduled.is_last) {
                held.0.push(match source {
                    Source::Slot(slot) if is_last => slots[slot].take(),
                    source => self.value(source, slots, parameters),
                });
            }
            let outputs = self.run_step(step, &mut held, run).map_err(|error| error.at(&step.place))?;
            if outputs.len() < scheduled.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1) {
                let message =
                    format!("computes {} outputs, found {} in the file", outputs.len(), scheduled.outputs.len());
                return Err(Error::unsupported(message).at(&step.place));
            }
            for (tensor, slot) in outputs.into_iter().zip(&scheduled.outputs) {
                if let Some(slot) = slot {
                    slots[*slot] = Some(tensor);
                }
            }
        }
        Ok(())
    }

    fn value(&self, source: Source, slots: &[Option<Tensor>], parameters: &Parameters) -> Option<Tensor> {
        match source {
            Source::Absent => None,
            Source::Slot(slot) => slots[slot].as_ref().map(Tensor::shallow_clone),
            Source::Constant(index) => Some(self.constants[index].tensor.shallow_clone()),
            Source::Parameter(index) => Some(parameters.at(index).tensor.shallow_clone()),
        }
    }

    fn run_step(&self, step: &Step, held: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        if self.form.device != Device::Cpu {
            self.bring_together(step, held)?;
        }
        scalars::run(&*step.operator, held, run)
    }

    /// Shapes go to the host; what is computed with goes to the device as soon as one of it is there.
    fn bring_together(&self, step: &Step, held: &mut Inputs) -> Result<()> {
        let (host, metadata) = (step.operator.host_inputs(), step.operator.metadata_inputs());
        let is_data = |position: usize| !host.contains(&position) && !metadata.contains(&position);
        let on_host = |tensor: &Tensor| tensor.device() == Device::Cpu;
        let any_on_device = held
            .0
            .iter()
            .enumerate()
            .any(|(position, tensor)| is_data(position) && tensor.as_ref().is_some_and(|t| !on_host(t)));
        for (position, slot) in held.0.iter_mut().enumerate() {
            let Some(tensor) = slot else { continue };
            if host.contains(&position) && !on_host(tensor) {
                // This waits for the device.
                *tensor = tensor.f_to_device(Device::Cpu)?;
            } else if any_on_device && is_data(position) && on_host(tensor) {
                *tensor = match step.inputs[position] {
                    Source::Constant(index) => self.constants[index].on_device(self.form.device)?.shallow_clone(),
                    _ => tensor.f_to_device(self.form.device)?,
                };
            }
        }
        Ok(())
    }

    fn prepared(&self, input: &GraphInput, tensor: &Tensor) -> Result<Tensor> {
        if let Some(dims) = &input.dims {
            let size = tensor.size();
            let fits =
                |(dim, &size): (&Dim, &i64)| if let Dim::Known(known) = dim { *known as i64 == size } else { true };
            if dims.len() != size.len() || !dims.iter().zip(&size).all(fits) {
                return Err(Error::mismatch(format!("expected {}, found {size:?}", describe(dims))));
            }
        }
        let kind = input.kind.unwrap_or_else(|| if is_float(tensor.kind()) { self.form.float } else { tensor.kind() });
        let tensor = tensor.f_to_device(self.form.device)?.f_to_kind(kind)?;
        if self.form.channels_last && is_float(kind) { tensors::to_channels_last(&tensor) } else { Ok(tensor) }
    }
}

impl Constant {
    fn on_device(&self, device: Device) -> Result<&Tensor> {
        if self.on_device.get().is_none() {
            // OK to ignore: the cell is empty.
            let _ = self.on_device.set(self.tensor.f_to_device(device)?);
        }
        // OK because it was just filled.
        Ok(self.on_device.get().unwrap())
    }
}

fn describe(dims: &[Dim]) -> String {
    let names: Vec<_> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Known(size) => size.to_string(),
            Dim::Symbol(name) => name.clone(),
            Dim::Unknown => "?".into(),
        })
        .collect();
    format!("[{}]", names.join(", "))
}
