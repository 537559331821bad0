//! The job of `diff`: every value that a model computes for one batch.

use super::batches::Batches;
use super::checkpoint::RunState;
use super::export::evaluation_batches;
use super::failure::{Failure, Result};
use super::jobs::{self, Context};
use super::onnx_network::{OnnxNetwork, check_input};
use fngd_cli::data;
use fngd_cli::protocol::{Event, Status, Trace, TraceInputs};
use fngd_core::state;
use fngd_module::BuildOptions;
use fngd_onnx::OnnxModel;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Does the job.
pub fn run(context: &Context, job: &Trace) -> Result<Status> {
    let model = OnnxNetwork::open(&job.model, &Default::default(), None)?;
    let mut options = BuildOptions { device: context.device, ..BuildOptions::default() };
    let given = match &job.inputs {
        TraceInputs::MadeUp { dims, .. } => {
            options.dims.clone_from(dims);
            None
        }
        TraceInputs::File(path) => Some(from_file(&model, path)?),
        TraceInputs::Data { data, batch } => {
            let data = data::load(data)?;
            check_input(&model, &data.train.shape)?;
            let split = data.test.as_ref().unwrap_or(&data.train);
            Some(vec![first_batch(&evaluation_batches(split, &data, *batch, context.device)?)?])
        }
    };
    let (inputs, trace) = fngd_module::Trace::of(&model, &options, |module| match (given, &job.inputs) {
        (Some(given), _) => Ok(given),
        (None, TraceInputs::MadeUp { batch, dims }) => {
            module.example_inputs(i64::try_from(*batch).unwrap_or(i64::MAX), dims, 0)
        }
        (None, _) => Ok(Vec::new()),
    })?;
    let names = model.inputs().iter().map(|input| format!("input.{}", input.name));
    let mut tensors: BTreeMap<String, Tensor> = names.zip(inputs).collect();
    let values = trace.values.len() as u64;
    for (value, tensor) in trace.values {
        if let Some(info) = model.graph().values.get(value.0) {
            tensors.insert(format!("value.{}", info.name), tensor);
        }
    }
    let tensors: Vec<_> =
        tensors.into_iter().map(|(name, tensor)| Ok((name, storable(tensor)?))).collect::<Result<_>>()?;
    state::save(&job.output, &tensors).map_err(|error| Failure::environment(error.to_string()))?;
    let failure = trace.failure.map(|error| error.to_string());
    context.events.emit(&Event::Traced { values, failure });
    Ok(jobs::done(&context.events, Status::Finished, &RunState::default(), context.start))
}

fn first_batch(batches: &Batches) -> Result<Tensor> {
    Ok(batches.epoch(0).batch(0)?.images)
}

/// Each input by its name, with or without `input.` before it.
fn from_file(model: &OnnxModel, path: &Path) -> Result<Vec<Tensor>> {
    let tensors = state::load(path).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    let find = |name: &str| {
        let found = tensors.get(&format!("input.{name}")).or_else(|| tensors.get(name));
        found.map(Tensor::shallow_clone).ok_or_else(|| {
            let there: Vec<&str> = tensors.keys().take(8).map(String::as_str).collect();
            Failure::data(format!("{} has no tensor for input `{name}`; it has {}", path.display(), there.join(", ")))
        })
    };
    model.inputs().iter().map(|input| find(&input.name)).collect()
}

/// In a type that a file of tensors may have.
fn storable(tensor: Tensor) -> Result<Tensor> {
    match tensor.f_kind()? {
        Kind::Int | Kind::Int16 | Kind::Int8 => Ok(tensor.f_to_kind(Kind::Int64)?),
        _ => Ok(tensor),
    }
}
