//! Stopping and going on gives, bit for bit, what not stopping gives.

mod engine_support;

use engine_support::{Recorder, SmallNetwork, digits};
use fngd_cli::protocol::{EpochEvent, Event, Status};
use fngd_cli::settings::{OptimizerSettings, ScheduleSettings, StopSettings, TrainSettings};
use fngd_core::optimizer::{self, StepOptions};
use fngd_engine::checkpoint::{Fingerprint, Identity, RealDisk, RunState, Store, sha256, tensors};
use fngd_engine::network::Network;
use fngd_engine::saver::Saver;
use fngd_engine::signals::Requests;
use fngd_engine::stop::StopRule;
use fngd_engine::train::{Parts, Trainer, total_steps};
use fngd_engine::{method, train};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// 50 samples in micro-batches of 8: seven slots, the last of them smaller.
fn parts(settings: &TrainSettings, chosen: &OptimizerSettings) -> Parts<SmallNetwork> {
    let (network, train) = (SmallNetwork::new(5), Rc::new(digits(50, settings.batch, true)));
    let groups = method::groups(chosen);
    let method = method::method(chosen, settings.seed).unwrap();
    let optimizer = optimizer::build(&network, &method, &groups, &StepOptions::default()).unwrap();
    let total = total_steps(settings, &train);
    let rate = method::learning_rate(chosen);
    let steps_per_epoch = train::steps_per_epoch(settings, &train);
    let schedule = method::schedule(&ScheduleSettings::default(), rate, steps_per_epoch, total).unwrap();
    Parts { network, optimizer, schedule, train, val: digits(40, 16, false) }
}

fn identity() -> Identity {
    Identity { settings: "s".to_owned(), model: "m".to_owned(), data: "d".to_owned() }
}

/// libtorch has one generator of random numbers for the whole process, which dropout draws from: one run at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Trains in `folder` from its newest checkpoint, and stops after `stop_at` if that comes. Returns what happened.
fn session(
    folder: &Path,
    settings: &TrainSettings,
    chosen: &OptimizerSettings,
    stop_at: Option<u64>,
) -> (Status, RunState, Vec<Event>, String) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let requests = Requests::default();
    let stopper = requests.clone();
    let recorder = Recorder::new(move |event| {
        if matches!(event, Event::Step(step) if Some(step.step) == stop_at) {
            stopper.stop(libc::SIGTERM);
        }
    });
    let store = Store::open(&RealDisk, folder.to_owned(), identity(), Fingerprint::default()).unwrap();
    let mut parts = parts(settings, chosen);
    let mut state = RunState::default();
    if let Some((checkpoint, remarks)) = store.newest().unwrap() {
        assert_eq!(remarks, Vec::<String>::new());
        parts.network.load_tensors(&checkpoint.model).unwrap();
        parts.optimizer.load_state(&checkpoint.optimizer).unwrap();
        state = checkpoint.state;
    }
    let stop = StopRule::build(&StopSettings::default()).unwrap();
    let saver = Saver::new(store, recorder.stream.clone(), None);
    let io = (recorder.stream, requests);
    let (status, state) = Trainer::new(&mut parts, settings, stop, saver, io, state).unwrap().run().unwrap();
    let everything =
        [parts.network.tensors(), parts.optimizer.state().unwrap()].map(|t| tensors::to_bytes(&t).unwrap());
    let events = recorder.events.lock().unwrap().clone();
    (status, state, events, sha256(&everything.concat()))
}

fn rows(events: &[Event]) -> Vec<EpochEvent> {
    let row = |event: &Event| match event {
        Event::Epoch(row) => Some(EpochEvent {
            train_seconds: 0.0,
            wall_seconds: 0.0,
            images_per_s: 0.0,
            data_pct: 0.0,
            precond_pct: 0.0,
            ..row.clone()
        }),
        _ => None,
    };
    events.iter().filter_map(row).collect()
}

/// Stops at each of `stops` in turn, going on in a new session each time, and compares with a run that never stops.
fn stopping_changes_nothing(chosen: &OptimizerSettings, accumulation: usize, stops: &[u64]) {
    let settings =
        TrainSettings { epochs: 3, batch: 8, accumulation, log_every_steps: 1, seed: 11, ..TrainSettings::default() };
    let (whole, parted) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (status, end, events, expected) = session(whole.path(), &settings, chosen, None);
    assert_eq!((status, end.epoch), (Status::Finished, 3));
    let mut parted_rows = Vec::new();
    for &stop in stops {
        let (status, state, events, _) = session(parted.path(), &settings, chosen, Some(stop));
        assert_eq!((status, state.step), (Status::Terminated, stop));
        let mut saved =
            events.iter().filter_map(|event| if let Event::Saved { step, .. } = event { Some(*step) } else { None });
        assert_eq!(saved.next_back(), Some(stop), "the last word of a stopped run is its checkpoint");
        parted_rows.extend(rows(&events));
    }
    let (_, state, last_events, found) = session(parted.path(), &settings, chosen, None);
    parted_rows.extend(rows(&last_events));
    assert_eq!(
        found, expected,
        "{}: weights, running statistics and optimizer state after stops at {stops:?}",
        chosen.name
    );
    assert_eq!((state.step, state.best), (end.step, end.best));
    assert_eq!(parted_rows, rows(&events), "{}: what the epochs report", chosen.name);
}

fn named(name: &str) -> OptimizerSettings {
    // FNGD solves again in epoch 2, so that a stop falls before, into and after a refresh.
    let refresh = (name == "fngd").then(|| "every-2-epochs".to_owned());
    OptimizerSettings { name: name.to_owned(), refresh, ..Default::default() }
}

#[test]
fn sgd() {
    // The first step, the middle of an epoch, its last step but one, its end, again, and the last step of all.
    stopping_changes_nothing(&named("sgd"), 1, &[1, 4, 6, 7, 15, 21]);
}

#[test]
fn layerwise() {
    // Steps 3 and 14 lie between two refreshes of each.
    for name in ["kfac", "eva", "skfac", "tengrad", "hylo", "mbf", "seng"] {
        stopping_changes_nothing(&named(name), 1, &[3, 14]);
    }
}

#[test]
fn adamw() {
    stopping_changes_nothing(&named("adamw"), 1, &[3, 14]);
}

#[test]
fn muon() {
    stopping_changes_nothing(&named("muon"), 1, &[3, 14]);
    let over = OptimizerSettings { inner: Some("muon".to_owned()), ..named("fngd") };
    stopping_changes_nothing(&over, 1, &[5, 15]);
}

#[test]
fn shampoo() {
    // Roots are taken in steps 1 and 11.
    stopping_changes_nothing(&named("shampoo"), 1, &[3, 11]);
    let adam = OptimizerSettings { graft: Some("adam".to_owned()), ..named("shampoo") };
    stopping_changes_nothing(&adam, 1, &[10]);
}

#[test]
fn soap() {
    stopping_changes_nothing(&named("soap"), 1, &[1, 10]);
}

#[test]
fn fngd() {
    stopping_changes_nothing(&named("fngd"), 1, &[1, 5, 7, 10, 15, 20]);
}

#[test]
fn fngd_with_accumulation() {
    stopping_changes_nothing(&named("fngd"), 3, &[1, 3, 5, 8, 9]);
}

#[test]
fn another_seed_is_another_run() {
    // Shows that the comparison above can fail.
    let run = |seed| {
        let folder = TempDir::new().unwrap();
        let settings = TrainSettings { epochs: 1, batch: 8, seed, ..TrainSettings::default() };
        session(folder.path(), &settings, &named("sgd"), None).3
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
