//! `profile`: where the time of a step goes, by phase and by layer, of a method and of those it is compared with.
//!
//! All of them are in one process and take turns, so that the machine's moods hit all alike. Times are those of spans
//! ([`fngd_core::timeline`]) without what happens in the spans inside them.

mod chrome;
pub mod recorded;
pub mod shares;
mod subject;

pub use subject::period;

use super::checkpoint::RunState;
use super::failure::{Failure, Result};
use super::jobs::{Context, done};
use fngd_cli::protocol::{Event, Profile, ProfileReport, Status};
use fngd_core::timeline::Timeline;
use subject::Subject;

/// Turns that the steps of a method are divided into.
const ROUNDS: usize = 6;

/// Steps of each kind that nobody counts: kernels are chosen, memory is taken.
const WARM_UP: usize = 3;

/// Does the job and reports it.
pub fn run(context: &Context, job: &Profile) -> Result<Status> {
    if job.steps == 0 {
        return Err(Failure::usage("profile: steps must be > 0, found 0"));
    }
    let timeline = Timeline::new(context.device);
    let mut subjects = subjects(context, job, &timeline)?;
    for subject in &mut subjects {
        subject.warm_up(WARM_UP)?;
    }
    for round in 0..ROUNDS {
        // Every other round backwards: none is always the one that comes after the slowest.
        let order: Vec<usize> =
            if round % 2 == 0 { (0..subjects.len()).collect() } else { (0..subjects.len()).rev().collect() };
        for index in order {
            subjects[index].round(round, ROUNDS)?;
        }
    }
    if let Some(path) = &job.trace {
        chrome::write(path, &subjects)?;
    }
    let reference = subjects.get(1).unwrap_or(&subjects[0]);
    let reference_name = reference.name.clone();
    let reference_milliseconds = shares::mean_milliseconds(&reference.recorded, reference.uneven).unwrap_or(f64::NAN);
    let methods = subjects.iter().map(|subject| shares::method(subject, reference_milliseconds)).collect();
    context.events.emit(&Event::Profile(ProfileReport {
        model: job.settings.model.clone(),
        data: job.data.as_ref().map(|data| data.spec.clone()),
        batch: job.settings.train.batch,
        device: context.fingerprint.device.clone(),
        processor: context.fingerprint.processor.clone(),
        threads: context.fingerprint.threads,
        libtorch: context.fingerprint.libtorch.clone(),
        reference: reference_name,
        methods,
    }));
    Ok(done(&context.events, Status::Finished, &RunState::default(), context.start))
}

/// The method that is asked about, then the others.
fn subjects(context: &Context, job: &Profile, timeline: &Timeline) -> Result<Vec<Subject>> {
    let methods = std::iter::once(&job.settings.optimizer).chain(&job.against);
    let mut subjects: Vec<Subject> = Vec::new();
    for (index, optimizer) in methods.enumerate() {
        let subject = Subject::build(context, job, optimizer, timeline, index == 0)?;
        subjects.push(subject);
    }
    Ok(subjects)
}
