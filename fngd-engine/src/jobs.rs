//! The jobs other than benchmarks: train, evaluate, export.

use super::checkpoint::tensors::Tensors;
use super::checkpoint::{self, Checkpoint, Fingerprint, RealDisk, RunState, Store};
use super::evaluate::evaluate;
use super::events::Events;
use super::export::{self, evaluation_batches};
use super::failure::{Failure, Result};
use super::memory;
use super::network::Network;
use super::onnx_network::{HeadRule, OnnxNetwork, check_batches, check_input, fit_head};
use super::saver::Saver;
use super::session::Session;
use super::signals::Requests;
use super::stop::StopRule;
use super::train::Trainer;
use fngd_cli::data::record::{self, Record};
use fngd_cli::data::{self, Dataset};
use fngd_cli::protocol::{DataSource, Event, Status};
use fngd_cli::settings::{ImportSettings, Settings};
use fngd_module::BuildOptions;
use fngd_onnx::OnnxModel;
use std::path::Path;
use std::time::Instant;
use tch::Device;

/// Where and with what a job runs.
pub struct Context {
    pub events: Events,
    pub requests: Requests,
    pub device: Device,
    pub fingerprint: Fingerprint,
    pub start: Instant,
}

/// How a run is trained.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// From the run's newest checkpoint.
    pub resume: bool,
    /// One step, and nothing is written.
    pub dry_run: bool,
    /// With ONNX files at the end.
    pub export: bool,
}

/// Trains a run.
pub fn train(
    context: Context,
    settings: &Settings,
    source: &DataSource,
    run: &Path,
    Manner { resume, dry_run, export }: Manner,
) -> Result<Status> {
    let Context { events, requests, device, fingerprint, start } = context;
    let stop = StopRule::build(&settings.stop)?;
    let mut session = Session::build(settings, source, device, &events)?;
    let mut state = session.first_state(settings);
    if dry_run {
        events.emit(&Event::Plan(session.plan(settings, 0)));
        let io = (events.clone(), requests);
        let saver = Saver::none(events.clone());
        Trainer::new(&mut session.parts, &settings.train, stop, saver, io, state.clone())?.try_step()?;
        return Ok(done(&events, Status::Finished, &state, start));
    }
    let root = run.join("ckpt");
    session.require_space(settings, run)?;
    let store = Store::open(&RealDisk, root.clone(), session.identity.clone(), fingerprint.clone());
    let store = store.map_err(|error| Failure::io("use", &root, &error))?;
    let mut last = None;
    if resume {
        let (checkpoint, remarks) = store.newest()?.ok_or_else(|| {
            Failure::data(format!("there is no checkpoint in {}", root.display()))
                .help("start a new run with `fngd-cli train`")
        })?;
        remarks.into_iter().for_each(|remark| events.warn(remark));
        warn_if_inexact(&checkpoint, &fingerprint, &events);
        state = session.go_on_from(&checkpoint)?;
        last = Some(checkpoint.path);
    } else {
        session.calibrate(&events)?;
    }
    if !resume {
        let record = run.join(record::FILE_NAME);
        std::fs::write(&record, session.record.to_json()).map_err(|error| Failure::io("write", &record, &error))?;
    }
    events.emit(&Event::Plan(session.plan(settings, state.step)));
    let saver = Saver::new(store, events.clone(), last);
    let io = (events.clone(), requests);
    let (status, state) = Trainer::new(&mut session.parts, &settings.train, stop, saver, io, state)?.run()?;
    if !matches!(status, Status::Interrupted | Status::Terminated) {
        let best = best_weights(&state, &root, &events);
        export::finish(&mut session, export.then_some(run), &state, best.as_deref(), &events)?;
    }
    let peak = (!device.is_cuda()).then(|| memory::peak_bytes() as f64 / memory::MIB);
    events.emit(&Event::Peak { memory_mib: peak.filter(|mib| *mib > 0.0) });
    Ok(done(&events, status, &state, start))
}

/// The weights of the best checkpoint, if they are others than those in memory. Whatever is wrong with it, the run has an end: then
/// `None`, and the user is told what is exported instead.
fn best_weights(state: &RunState, root: &Path, events: &Events) -> Option<Tensors> {
    let best = state.best.as_ref().filter(|best| best.step != state.step)?;
    match checkpoint::read(&RealDisk, &root.join("best")) {
        Ok(found) => {
            if found.state.step != best.step {
                let (epoch, step) = (best.epoch, found.state.step);
                events.warn(format!(
                    "the best weights, of epoch {epoch}, were not saved; best.onnx has those of step {step}"
                ));
            }
            Some(found.model)
        }
        Err(failure) => {
            events.warn(format!("the best checkpoint cannot be used: {failure}; best.onnx has the last weights"));
            None
        }
    }
}

/// Evaluates a model file, or a run's weights in it. `record`: what the run remembers of its data.
pub fn evaluate_model(
    context: &Context,
    (model, import): (&Path, &ImportSettings),
    (from, record): (Option<&Path>, Option<&Path>),
    source: &DataSource,
    split: &str,
    batch: usize,
) -> Result<Status> {
    let from = from.map(|path| checkpoint::read(&RealDisk, path)).transpose()?;
    let mut data = data::load(source)?;
    if let Some(path) = record {
        Record::read(path)?.apply(&mut data)?;
    }
    if let Some(Checkpoint { state: RunState { validation: Some((share, seed)), .. }, .. }) = &from {
        data.split_validation(*share, *seed)?;
    }
    let samples = match split {
        "train" => Some(&data.train),
        "val" => data.val.as_ref(),
        "test" => data.test.as_ref(),
        other => return Err(Failure::usage(format!("split must be train, val or test, found `{other}`"))),
    };
    let samples = samples.ok_or_else(|| Failure::data(format!("data set `{}` has no {split} split", data.name)))?;
    let model = OnnxNetwork::open(model, import, None)?;
    let mut network = network_at(model, from.as_ref(), &data, context.device)?;
    network.tell(&context.events);
    let batches = evaluation_batches(samples, &data, batch, context.device)?;
    check_batches(&network.model, &[(split, &batches)])?;
    context.events.emit(&evaluate(&mut network, &batches)?.to_event(split));
    let state = from.map_or_else(RunState::default, |from| from.state);
    Ok(done(&context.events, Status::Finished, &state, context.start))
}

/// Writes a run's checkpoint into its ONNX file.
pub fn export_checkpoint(
    context: &Context,
    settings: &Settings,
    source: &DataSource,
    from: &Path,
    output: &Path,
    reference: Option<&Path>,
) -> Result<Status> {
    let from = checkpoint::read(&RealDisk, from)?;
    let data = data::load(source)?;
    let model = OnnxNetwork::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    if model.sha256() != from.manifest.identity.model {
        let message = format!("{} changed since {} was written", settings.model.display(), from.path.display());
        return Err(Failure::data(message).help("put the file back that the run began with"));
    }
    let mut network = network_at(model, Some(&from), &data, context.device)?;
    network.tell(&context.events);
    let split = data.test.as_ref().unwrap_or(&data.train);
    let batches = evaluation_batches(split, &data, settings.train.batch, context.device)?;
    let sample = export::sample(&batches, &network)?;
    export::export(&mut network, output, reference.map(|file| (file, &sample)), &context.events)?;
    Ok(done(&context.events, Status::Finished, &from.state, context.start))
}

/// The network of a model file, with the head and the weights of a checkpoint.
fn network_at(mut model: OnnxModel, from: Option<&Checkpoint>, data: &Dataset, device: Device) -> Result<OnnxNetwork> {
    check_input(&model, &data.train.shape)?;
    if let Some(classes) = from.and_then(|from| from.state.replaced_head) {
        // The values come from the checkpoint: any seed will do.
        model.replace_head(classes, 0)?;
    }
    fit_head(&mut model, data.classes.len(), HeadRule::Keep)?;
    let options = BuildOptions { device, channels_last: true, ..BuildOptions::default() };
    let mut network = OnnxNetwork::build(model, &options)?;
    if let Some(from) = from {
        network.load_tensors(&from.model).map_err(|failure| failure.at(from.path.display()))?;
    }
    Ok(network)
}

fn warn_if_inexact(checkpoint: &Checkpoint, now: &Fingerprint, events: &Events) {
    let differences = checkpoint.manifest.fingerprint.differences(now);
    if !differences.is_empty() {
        events.warn(format!("going on is not exact to the last bit, because of: {}", differences.join(", ")));
    }
}

/// Says how it ended.
pub fn done(events: &Events, status: Status, state: &RunState, start: Instant) -> Status {
    events.emit(&Event::Done {
        status,
        epochs: state.epoch,
        steps: state.step,
        train_seconds: state.train_seconds,
        wall_seconds: state.wall_seconds.max(start.elapsed().as_secs_f64()),
    });
    status
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Best;
    use super::*;

    #[test]
    fn a_best_checkpoint_that_is_gone_does_not_take_the_export_with_it() {
        let (mut said, stream) = std::io::pipe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let best = Some(Best { accuracy: 0.5, epoch: 1, step: 5 });
        let state = RunState { step: 9, best, ..RunState::default() };
        assert!(best_weights(&state, folder.path(), &Events::to(stream)).is_none());
        let mut line = String::new();
        std::io::Read::read_to_string(&mut said, &mut line).unwrap();
        let start = "{\"event\":\"warning\",\"message\":\"the best checkpoint cannot be used: ";
        assert!(line.starts_with(start) && line.ends_with("; best.onnx has the last weights\"}\n"), "{line}");
    }
}
