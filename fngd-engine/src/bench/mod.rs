//! `bench step`: steps of several optimizers in turn, in one process, so that the machine's moods hit all of them alike.

mod contender;
mod footprint;
mod paper;
mod period;
mod statistics;
mod trainee;

use super::failure::{Failure, Result};
use super::jobs::{Context, done};
use super::memory;
use crate::checkpoint::RunState;
use contender::{Contender, Times};
use fngd_cli::protocol::{BenchStep, Event, Status};
use serde_json::{Value, json};
use statistics::{Ratios, median};
pub use trainee::labels;

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
    let rows = contenders.iter().map(|contender| row(contender, &contenders[0], job)).collect::<Result<Vec<_>>>()?;
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
fn row(contender: &Contender, reference: &Contender, job: &BenchStep) -> Result<Value> {
    let missing = || Failure::internal("bench step: no steps were timed");
    let described = |times: &Times| -> Result<(f64, f64, Value)> {
        let summary = times.summary(job.batch).ok_or_else(missing)?;
        let ratios = times.ratios(&reference.ordinary).ok_or_else(missing)?;
        let (milliseconds, ratio) = (summary.median_seconds * 1e3, ratios.paired_median);
        Ok((milliseconds, ratio, json!({ "summary": summary, "ratios": ratios, "phases_ms": times.phases() })))
    };
    let (step, ratio, steady) = described(&contender.ordinary)?;
    let by_round =
        |contender: &Contender| -> Vec<Vec<f64>> { contender.means().iter().map(|mean| vec![*mean]).collect() };
    let means = Ratios::of(&by_round(contender), &by_round(reference)).ok_or_else(missing)?;
    let mut row = json!({
        "name": contender.name,
        "step_ms": step,
        "ratio": ratio,
        "mean_ms": median(&contender.means()).ok_or_else(missing)? * 1e3,
        "mean_ratio": means.paired_median,
        "mean_ratios": means,
        "images_per_s": job.batch as f64 * 1e3 / step,
        "paper_ratio": paper::ratio(&job.model, &contender.name),
        "steady": steady,
    });
    let kinds = contender.refreshes.iter().rev().zip(["refresh", "statistics"]);
    for (refresh, name) in kinds {
        let (step, ratio, times) = described(&refresh.times)?;
        (row[format!("{name}_ms")], row[format!("{name}_ratio")]) = (step.into(), ratio.into());
        (row[format!("{name}_every")], row[name]) = (refresh.every.into(), times);
    }
    if let Some(first_epoch) = &contender.first_epoch {
        let (step, ratio, times) = described(first_epoch)?;
        (row["first_epoch_ms"], row["first_epoch_ratio"], row["first_epoch"]) = (step.into(), ratio.into(), times);
    }
    Ok(row)
}
