//! `bench step`: steps of several optimizers in turn, in one process, so that the machine's moods hit all of them alike.

mod contender;
mod footprint;
mod statistics;

use super::failure::{Failure, Result};
use super::jobs::{Context, done};
use super::memory;
use crate::checkpoint::RunState;
use contender::Contender;
use fngd_cli::protocol::{BenchStep, Event, Status};
use serde_json::{Value, json};
use statistics::{Ratios, Summary, mean};

/// Runs the benchmark and reports it. With no rounds, measures the memory of one optimizer in this process.
pub fn run(context: &Context, job: &BenchStep) -> Result<Status> {
    check(job)?;
    let result = if job.rounds == 0 { footprint::measure(context, job)? } else { compare(context, job)? };
    context.events.emit(&Event::Bench(result));
    Ok(done(&context.events, Status::Finished, &RunState::default(), context.start))
}

fn check(job: &BenchStep) -> Result<()> {
    for (name, value) in [("batch", job.batch), ("steps", job.steps_per_round), ("optimizers", job.optimizers.len())] {
        if value == 0 {
            return Err(Failure::usage(format!("bench step: {name} must be > 0, found 0")));
        }
    }
    Ok(())
}

fn compare(context: &Context, job: &BenchStep) -> Result<Value> {
    let mut contenders =
        job.optimizers.iter().map(|name| Contender::build(name, job, context.device)).collect::<Result<Vec<_>>>()?;
    for contender in &mut contenders {
        contender.warm_up(job.steps_per_round)?;
    }
    let faults = memory::minor_faults();
    for round in 0..job.rounds {
        // Every other round backwards: none is always the one that comes after the slowest.
        let order: Vec<usize> =
            if round % 2 == 0 { (0..contenders.len()).collect() } else { (0..contenders.len()).rev().collect() };
        for index in order {
            contenders[index].round(job.steps_per_round)?;
        }
    }
    let steps: usize = contenders.iter().map(Contender::steps).sum();
    let faults_per_step = (memory::minor_faults() - faults) as f64 / steps as f64;
    let reference = contenders[0].steady.clone();
    let rows = contenders.iter().map(|contender| row(contender, &reference, job)).collect::<Result<Vec<_>>>()?;
    drop(contenders);
    let mut rows = rows;
    // Each in a process of its own: what one has touched stays with a process.
    footprint::add_to(&mut rows, job, context.device)?;
    Ok(json!({
        "model": job.model,
        "batch": job.batch,
        "rounds": job.rounds,
        "steps_per_round": job.steps_per_round,
        "channels_last": job.channels_last,
        "device": context.fingerprint.device,
        "threads": context.fingerprint.threads,
        "libtorch": context.fingerprint.libtorch,
        "processor": context.fingerprint.processor,
        "minor_faults_per_step": faults_per_step,
        "reference": job.optimizers[0],
        "optimizers": rows,
    }))
}

/// Numbers to read at the top, everything else below.
fn row(contender: &Contender, reference: &[Vec<f64>], job: &BenchStep) -> Result<Value> {
    let missing = || Failure::internal("bench step: no steps were timed");
    let steady = Summary::of(&contender.steady.concat(), job.batch).ok_or_else(missing)?;
    let ratios = Ratios::of(&contender.steady, reference).ok_or_else(missing)?;
    let mut row = json!({
        "name": contender.name,
        "step_ms": steady.median_seconds * 1e3,
        "ratio": ratios.paired_median,
        "images_per_s": steady.images_per_second,
        "steady": { "summary": steady, "ratios": ratios, "phases_ms": contender.steady_phases() },
    });
    if contender.uneven {
        let reference = mean(&reference.concat()).ok_or_else(missing)?;
        let mean = mean(&contender.steady.concat()).ok_or_else(missing)?;
        row["mean_ms"] = (mean * 1e3).into();
        row["mean_ratio"] = (mean / reference).into();
    }
    if let Some(first) = Summary::of(&contender.first_epoch.concat(), job.batch) {
        let ratios = Ratios::of(&contender.first_epoch, reference).ok_or_else(missing)?;
        row["first_epoch_ms"] = (first.median_seconds * 1e3).into();
        row["first_epoch_ratio"] = ratios.paired_median.into();
        row["first_epoch"] = json!({ "summary": first, "ratios": ratios, "phases_ms": contender.first_epoch_phases() });
    }
    Ok(row)
}
