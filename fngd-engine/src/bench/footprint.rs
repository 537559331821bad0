//! Peak memory of each optimizer, each measured in a process of its own.

use super::trainee::{Trainee, method_of};
use crate::events::EVENTS_FD;
use crate::failure::{Failure, Result};
use crate::jobs::Context;
use crate::memory::{self, MIB};
use fngd_cli::protocol::{BenchStep, Event, Job};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use tch::Device;

/// Steps of each kind: the second already reuses the memory of the first.
const STEPS: usize = 3;

/// Measures the one optimizer of `job` in this process.
///
/// The engine's allocator keeps what it was given, so the steady state includes what the first epoch needed: as in a real run.
pub fn measure(context: &Context, job: &BenchStep) -> Result<Value> {
    let name = &job.optimizers[0];
    let mut trainee = Trainee::build(name, &method_of(name)?, job, context.device)?;
    memory::reset_peak();
    trainee.block(0, STEPS)?;
    let first_epoch = memory::peak_bytes();
    let has_reset = memory::reset_peak();
    trainee.block(1, STEPS)?;
    let steady = if has_reset { memory::peak_bytes() } else { 0 };
    Ok(json!({ "first_epoch": first_epoch as f64 / MIB, "steady": steady as f64 / MIB }))
}

/// Adds `peak_mib` and, for FNGD, `first_epoch_peak_mib` to each row; nothing where the work is on a GPU.
pub fn add_to(rows: &mut [Value], job: &BenchStep, device: Device) -> Result<()> {
    // What the kernel counts for a process is not what it holds on a GPU.
    if device.is_cuda() {
        return Ok(());
    }
    for (row, name) in rows.iter_mut().zip(&job.optimizers) {
        let alone = BenchStep { optimizers: vec![name.clone()], rounds: 0, ..job.clone() };
        let measured = in_child(&alone).map_err(|failure| failure.at(format!("memory of `{name}`")))?;
        let [first, steady] = ["first_epoch", "steady"].map(|when| measured[when].as_f64());
        if row.get("first_epoch").is_some() {
            (row["peak_mib"], row["first_epoch_peak_mib"]) = (steady.into(), first.into());
        } else {
            // The first step of all refreshes, and so do later ones.
            row["peak_mib"] = first.zip(steady).map(|(first, steady)| first.max(steady)).into();
        }
    }
    let reference = rows.first().and_then(|row| row["peak_mib"].as_f64());
    for row in rows {
        let ratio = |key: &str| Some(row[key].as_f64()? / reference.filter(|reference| *reference > 0.0)?);
        let (steady, first) = (ratio("peak_mib"), ratio("first_epoch_peak_mib"));
        row["peak_ratio"] = steady.into();
        if first.is_some() {
            row["first_epoch_peak_ratio"] = first.into();
        }
    }
    Ok(())
}

/// Does `job` in a new engine process and returns its result.
fn in_child(job: &BenchStep) -> Result<Value> {
    let cannot = |error: std::io::Error| Failure::environment(format!("cannot run the engine again: {error}"));
    // Standard output is where an engine without a descriptor for events sends them; -1 is none.
    let mut child = Command::new(std::env::current_exe().map_err(cannot)?)
        .env(EVENTS_FD, "-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    // OK because both were asked for above.
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // OK because a job holds strings and numbers.
    let line = serde_json::to_string(&Job::BenchStep(job.clone())).expect("a job is JSON");
    // A child that died before it read its job is found out below.
    let _ = writeln!(input, "{line}");
    let mut result = Err(Failure::internal("the engine died without a result"));
    for line in BufReader::new(output).lines() {
        match serde_json::from_str(&line.map_err(cannot)?) {
            Ok(Event::Bench(value)) => result = Ok(value),
            Ok(Event::Failed { message, .. }) => result = Err(Failure::internal(message)),
            _ => {}
        }
    }
    drop(input);
    child.wait().map_err(cannot)?;
    result
}
