//! Trained weights back into the model's file, with something to check the file by.

use super::batches::{BatchOptions, Batches};
use super::checkpoint::RunState;
use super::evaluate::evaluate;
use super::events::Events;
use super::failure::{Failure, Result};
use super::network::Network;
use super::onnx_network::OnnxNetwork;
use super::session::Session;
use fngd_cli::protocol::Event;
use fngd_core::state;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Samples to check an exported file with: odd, and more than one, so that a fixed batch size shows.
const REFERENCE_SAMPLES: i64 = 7;

/// Reports the best weights on the test split, and writes ONNX files: in `run`, `last.onnx` from the network as it is and `best.onnx` from
/// the best checkpoint.
pub fn finish(
    session: &mut Session,
    run: Option<&Path>,
    state: &RunState,
    best: Option<&[(String, Tensor)]>,
    events: &Events,
) -> Result<()> {
    let sample = sample(&session.parts.val, &session.parts.network)?;
    let write = |network: &mut OnnxNetwork, name: &str| {
        let Some(run) = run else { return Ok(()) };
        let reference = run.join(format!("{name}.reference.safetensors"));
        export(network, &run.join(format!("{name}.onnx")), Some((reference.as_path(), &sample)), events)
    };
    write(&mut session.parts.network, "last")?;
    if let Some(best) = best {
        session.parts.network.load_tensors(best)?;
    }
    if state.best.is_none() {
        let metrics = evaluate(&mut session.parts.network, &session.parts.val)?;
        events.emit(&metrics.to_event("val"));
    }
    if let Some(test) = &session.test {
        let metrics = evaluate(&mut session.parts.network, test)?;
        events.emit(&metrics.to_event("test"));
    }
    write(&mut session.parts.network, "best")
}

/// Writes `network` to `path`. `reference`: where to save what the trained graph answers to a sample.
pub fn export(
    network: &mut OnnxNetwork,
    path: &Path,
    reference: Option<(&Path, &Tensor)>,
    events: &Events,
) -> Result<()> {
    let report = network.module.export(&network.model, path)?;
    let reference = match reference {
        Some((file, sample)) => {
            save_reference(network, file, sample)?;
            Some(file.to_owned())
        }
        None => None,
    };
    events.emit(&Event::Exported { path: path.to_owned(), edits: report.edits, reference });
    Ok(())
}

/// A few samples of a split in the order of the split: as many as the written file takes, the first of them again where there are too
/// few.
pub fn sample(split: &Batches, network: &OnnxNetwork) -> Result<Tensor> {
    let first = split.epoch(0).batch(0)?.images;
    let available = first.size()[0];
    let wanted = match network.model.written_batch() {
        Some(fixed) => fixed as i64,
        None => available.min(REFERENCE_SAMPLES),
    };
    let numbers = Tensor::f_arange(wanted, (Kind::Int64, first.device()))?.f_remainder(available)?;
    Ok(first.f_index_select(0, &numbers)?)
}

/// Batches to take a reference sample from, of `split` of a data set.
pub fn evaluation_batches(
    split: &fngd_cli::data::Split,
    data: &fngd_cli::data::Dataset,
    batch: usize,
    device: Device,
) -> Result<Batches> {
    Ok(Batches::build(split, &data.normalization, BatchOptions::evaluation(batch, device, true))?)
}

/// `input.<name>` and `output.<name>` of the trained graph in evaluation, as safetensors.
fn save_reference(network: &mut OnnxNetwork, file: &Path, sample: &Tensor) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    network.set_training(false);
    let outputs = network.module.forward(std::slice::from_ref(sample))?;
    let input = &network.model.inputs()[0];
    let mut tensors = vec![(format!("input.{}", input.name), sample.shallow_clone())];
    for (output, tensor) in network.model.outputs().iter().zip(outputs) {
        if tensor.f_kind()? == Kind::Float {
            tensors.push((format!("output.{}", output.name), tensor));
        }
    }
    state::save(file, &tensors).map_err(|error| Failure::environment(error.to_string()))
}
