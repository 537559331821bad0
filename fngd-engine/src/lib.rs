//! The engine: does one job with libtorch and reports what happens.

#![allow(missing_docs)] // The library serves this package's program and tests, and nobody else.

pub mod augment;
pub mod batches;
mod bench;
pub mod checkpoint;
mod complexity;
mod crash;
mod device;
pub mod evaluate;
pub mod events;
mod export;
pub mod failure;
pub mod guard;
mod jobs;
pub mod loss;
mod memory;
pub mod method;
mod models;
pub mod network;
mod onnx_network;
mod profile;
mod progress;
pub mod saver;
mod session;
pub mod signals;
pub mod stop;
mod study;
mod timing;
mod trace;
pub mod train;
mod trouble;

use checkpoint::Fingerprint;
use device::ChosenDevice;
use events::Events;
use failure::{Failure, Result};
use fngd_cli::protocol::{Event, Job, PROTOCOL, Status};
use jobs::{Context, Manner};
use signals::Requests;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// Reads a job from standard input, does it, and ends the process with the code that fits.
pub fn main() -> ExitCode {
    let stream = match events::claim_stream() {
        Ok(stream) => stream,
        Err(error) => {
            eprintln!("fngd-engine: there is no stream for events: {error}");
            return ExitCode::from(1);
        }
    };
    // Without it a crash is as much an error, only with less in its message.
    let _ = crash::announce_crashes();
    let events = Events::to(stream);
    let outcome = catch_unwind(AssertUnwindSafe(|| read_job().and_then(|job| run(job, &events))));
    let outcome = outcome.unwrap_or_else(|panic| Err(panicked(&*panic)));
    match outcome {
        Ok(Status::Interrupted) => ExitCode::from(130),
        Ok(Status::Terminated) => ExitCode::from(143),
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            events.emit(&failure.to_event());
            ExitCode::from(failure.cause().code())
        }
    }
}

fn read_job() -> Result<Job> {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| Failure::internal(format!("cannot read the job: {error}")))?;
    let help = "fngd-engine is started by fngd-cli; both must come from the same build";
    serde_json::from_str(&line).map_err(|error| Failure::internal(format!("not a job: {error}")).help(help))
}

fn run(job: Job, events: &Events) -> Result<Status> {
    let start = Instant::now();
    let graceful = matches!(job, Job::Train { .. } | Job::Observe(_));
    let requests =
        Requests::listen(graceful).map_err(|error| Failure::internal(format!("cannot listen to signals: {error}")))?;
    let (device, fingerprint) = set_up(&job, events)?;
    let context = Context { events: events.clone(), requests, device, fingerprint, start };
    match job {
        Job::Train { settings, data, run, resume, dry_run, export } => {
            jobs::train(context, &settings, &data, &run, Manner { resume, dry_run, export })
        }
        Job::Eval { model, import, checkpoint, record, data, split, batch, .. } => {
            let from = (checkpoint.as_deref(), record.as_deref());
            jobs::evaluate_model(&context, (&model, &import), from, &data, &split, batch)
        }
        Job::Export { settings, data, checkpoint, output, reference } => {
            jobs::export_checkpoint(&context, &settings, &data, &checkpoint, &output, reference.as_deref())
        }
        Job::BenchStep(job) => bench::run(&context, &job),
        Job::Complexity(job) => complexity::run(&context, &job),
        Job::Profile(job) => profile::run(&context, &job),
        Job::Trace(job) => trace::run(&context, &job),
        Job::Observe(job) => study::run(context, &job),
        Job::ListModels => Ok(models::list(&context)),
        Job::MakeModel(job) => models::make(&context, &job),
        Job::Probe => Ok(jobs::done(events, Status::Finished, &checkpoint::RunState::default(), start)),
    }
}

/// Chooses device and threads, and says so.
fn set_up(job: &Job, events: &Events) -> Result<(tch::Device, Fingerprint)> {
    let (wanted, threads) = match job {
        Job::Train { settings, .. } | Job::Export { settings, .. } => {
            (settings.train.device.as_str(), settings.train.threads)
        }
        Job::Eval { device, threads, .. } => (device.as_str(), *threads),
        Job::BenchStep(job) => (job.device.as_str(), job.threads),
        Job::Complexity(job) => (job.device.as_str(), job.threads),
        Job::Profile(job) => (job.settings.train.device.as_str(), job.settings.train.threads),
        Job::Trace(job) => (job.device.as_str(), job.threads),
        Job::Observe(job) => (job.settings.train.device.as_str(), job.settings.train.threads),
        Job::ListModels | Job::MakeModel(_) => ("cpu", None),
        Job::Probe => ("auto", None),
    };
    let threads = device::set_threads(threads)?;
    let ChosenDevice { device, reason, cuda_devices } = device::choose(wanted)?;
    let name = match device {
        tch::Device::Cuda(index) => cuda_devices.get(index).cloned().unwrap_or_else(|| format!("cuda:{index}")),
        _ => "cpu".to_owned(),
    };
    let libtorch = device::libtorch_version();
    let fingerprint = Fingerprint::of_this_process(&libtorch, &name, threads);
    events.emit(&Event::Hello {
        protocol: PROTOCOL,
        libtorch,
        device: name,
        device_reason: reason,
        threads,
        cuda_devices,
    });
    Ok((device, fingerprint))
}

/// A panic is a bug of ours, or an exception of libtorch that came through an infallible call.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no message");
    let first = text.split("Exception raised from").next().unwrap_or(text).trim();
    let failure = Failure::from(fngd_core::Error::torch(format!("internal error: {first}")));
    if failure.cause() == failure::Cause::OutOfMemory {
        return failure;
    }
    failure.help("this is a bug: please report it, with the model if you can")
}
