//! NaN in training and a full disk: nothing good is lost, and the message says where to look.

mod engine_support;

use engine_support::{Recorder, SmallNetwork, digits};
use fngd_cli::protocol::{Event, Status};
use fngd_cli::settings::{StopSettings, TrainSettings};
use fngd_core::optimizer::{self, Batch, Groups, Inner, Method, Optimizer, SgdConfig, StepOptions, StepReport};
use fngd_core::{FngdConfig, Schedule};
use fngd_engine::checkpoint::{Disk, Fingerprint, Identity, Output, RealDisk, RunState, Store, tensors};
use fngd_engine::failure::Failure;
use fngd_engine::guard;
use fngd_engine::loss::Rows;
use fngd_engine::network::Network;
use fngd_engine::saver::Saver;
use fngd_engine::signals::Requests;
use fngd_engine::stop::StopRule;
use fngd_engine::train::{Parts, Trainer};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use tch::Tensor;
use tempfile::TempDir;

fn parts(network: SmallNetwork, method: &Method) -> Parts<SmallNetwork> {
    let optimizer = optimizer::build(&network, method, &Groups::default(), &StepOptions::default()).unwrap();
    let (train, val) = (Rc::new(digits(50, 8, true)), digits(16, 16, false));
    Parts { network, optimizer, schedule: Schedule::constant(0.1), train, val }
}

fn sgd() -> Method {
    Method::Sgd(SgdConfig::default())
}

fn train(
    parts: &mut Parts<SmallNetwork>,
    settings: &TrainSettings,
    disk: &dyn Disk,
    folder: &Path,
) -> (Result<(Status, RunState), Failure>, Vec<Event>) {
    let identity = Identity { settings: "s".to_owned(), model: "m".to_owned(), data: "d".to_owned() };
    let store = Store::open(disk, folder.to_owned(), identity, Fingerprint::default()).unwrap();
    let recorder = Recorder::new(|_| {});
    let saver = Saver::new(store, recorder.stream.clone(), None);
    let stop = StopRule::build(&StopSettings::default()).unwrap();
    let io = (recorder.stream, Requests::default());
    let outcome = Trainer::new(parts, settings, stop, saver, io, RunState::default()).unwrap().run();
    let events = recorder.events.lock().unwrap().clone();
    (outcome, events)
}

fn settings(epochs: u64) -> TrainSettings {
    TrainSettings { epochs, batch: 8, log_every_steps: 1, ..TrainSettings::default() }
}

fn help(failure: &Failure) -> String {
    match failure.to_event() {
        Event::Failed { help: Some(help), .. } => help,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_step_changes_neither_weights_nor_running_statistics() {
    let fngd = Method::Fngd { config: FngdConfig::default(), inner: Inner::default() };
    for method in [sgd(), fngd] {
        let mut network = SmallNetwork::new(2);
        network.bad_passes = 0..1;
        let before = tensors::to_bytes(&network.tensors()).unwrap();
        let mut parts = parts(network, &method);
        let folder = TempDir::new().unwrap();
        let settings = TrainSettings { max_steps: Some(1), ..settings(1) };
        let (outcome, events) = train(&mut parts, &settings, &RealDisk, folder.path());
        assert_eq!(outcome.unwrap().1.sums.skipped, 1);
        assert_eq!(tensors::to_bytes(&parts.network.tensors()).unwrap(), before);
        assert!(
            events.iter().any(|event| matches!(event, Event::Step(step) if step.skipped == 1 && step.loss.is_nan()))
        );
    }
}

#[test]
fn training_goes_on_after_a_few_bad_steps() {
    let mut network = SmallNetwork::new(2);
    network.bad_passes = 3..5;
    let folder = TempDir::new().unwrap();
    let (outcome, _) = train(&mut parts(network, &sgd()), &settings(2), &RealDisk, folder.path());
    let (status, state) = outcome.unwrap();
    assert_eq!((status, state.step, state.epoch), (Status::Finished, 14, 2));
}

#[test]
fn too_many_bad_steps_end_the_run_and_name_step_samples_layer_and_checkpoint() {
    let mut network = SmallNetwork::new(2);
    // Epoch 1 has 7 steps; the trouble starts in epoch 2 and fills it.
    network.bad_passes = 9..1000;
    let folder = TempDir::new().unwrap();
    let (outcome, _) = train(&mut parts(network, &sgd()), &settings(9), &RealDisk, folder.path());
    let failure = outcome.unwrap_err();
    assert_eq!(failure.cause().code(), 6);
    let text = failure.to_string();
    let start = "training diverged at step 13: 4 of the 7 steps of this epoch had a loss or gradient that is not finite (samples ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.ends_with("; first found in layer `conv`"), "{text}");
    let good = folder.path().join("step-0000000007");
    let expected = format!("the last good checkpoint is {}; a smaller --lr or --clip-norm may help", good.display());
    assert_eq!(help(&failure), expected);
    assert!(good.exists());
}

#[test]
fn a_search_that_fails_does_not_hide_that_training_diverged() {
    let mut network = SmallNetwork::new(2);
    network.bad_passes = 0..1000;
    network.is_hard_to_search = true;
    let folder = TempDir::new().unwrap();
    let (outcome, _) = train(&mut parts(network, &sgd()), &settings(1), &RealDisk, folder.path());
    let failure = outcome.unwrap_err();
    assert_eq!(failure.cause().code(), 6, "{failure}");
    assert!(failure.to_string().ends_with(")"), "{failure}");
}

/// Trains nothing, writes down the losses that it is given, and reports the same of every step.
#[derive(Clone, Default)]
struct Listener {
    losses: Rc<RefCell<Vec<f64>>>,
    report: StepReport,
}

impl Optimizer for Listener {
    fn begin(&mut self, _: &Batch) -> fngd_core::Result<()> {
        Ok(())
    }
    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> fngd_core::Result<()> {
        self.losses.borrow_mut().push(f64::try_from(loss)? / accumulation as f64);
        Ok(())
    }
    fn step(&mut self, _: f64) -> fngd_core::Result<StepReport> {
        Ok(self.report.clone())
    }
    fn state(&self) -> fngd_core::Result<Vec<(String, Tensor)>> {
        Ok(Vec::new())
    }
    fn load_state(&mut self, _: &[(String, Tensor)]) -> fngd_core::Result<()> {
        Ok(())
    }
    fn state_bytes(&self) -> u64 {
        0
    }
}

#[test]
fn a_factorisation_that_fails_is_counted_at_every_step_and_told_once() {
    let mut parts = parts(SmallNetwork::new(2), &sgd());
    let report = StepReport { solved: 1, retried: 2, trouble: "conv".to_owned(), ..Default::default() };
    parts.optimizer = Box::new(Listener { report, ..Listener::default() });
    let folder = TempDir::new().unwrap();
    let (outcome, events) = train(&mut parts, &settings(1), &RealDisk, folder.path());
    outcome.unwrap();
    let counts = events.iter().filter_map(|event| match event {
        Event::Step(step) => Some((step.solved, step.retried, step.fallbacks)),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 2, 0); 7]);
    let warnings: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::Warning { .. })).collect();
    let message = "step 1: a factorisation failed in layer `conv` and succeeded in float64; from now on only counted, as `retried`";
    assert_eq!(warnings, [&Event::Warning { message: message.to_owned() }]);
}

#[test]
fn every_sample_of_an_accumulated_step_counts_alike() {
    // Tests share libtorch's generator, which draws weights and dropout: one drawing for all runs, and no dropout.
    let weights = SmallNetwork::new(2).tensors();
    let losses = |accumulation| {
        let listener = Listener::default();
        let heard = Rc::clone(&listener.losses);
        let mut network = SmallNetwork::new(2);
        network.load_tensors(&weights).unwrap();
        network.dropout = 0.0;
        let mut parts = parts(network, &sgd());
        parts.optimizer = Box::new(listener);
        let settings = TrainSettings { accumulation, ..settings(1) };
        let folder = TempDir::new().unwrap();
        train(&mut parts, &settings, &RealDisk, folder.path()).0.unwrap();
        heard.take()
    };
    // 50 samples: six micro-batches of 8 and one of 2.
    let (alone, together) = (losses(1), losses(7));
    assert_eq!((alone.len(), together.len()), (7, 7));
    for (slot, (alone, weighted)) in alone.iter().zip(&together).enumerate() {
        let expected = alone * if slot == 6 { 2.0 } else { 8.0 } / 50.0;
        assert!((weighted - expected).abs() < 1e-6 * expected, "slot {slot}: {weighted}, expected {expected}");
    }
    // Equal ones are not touched.
    let threes = losses(3);
    for slot in 0..6 {
        assert_eq!(threes[slot], alone[slot] / 3.0, "slot {slot}");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_refused_even_if_its_gradient_is() {
    let network = SmallNetwork::new(2);
    let before = tensors::to_bytes(&network.tensors()).unwrap();
    let mut parts = parts(network, &sgd());
    let batch = parts.train.epoch(0).batch(0).unwrap();
    parts.network.set_training(false);
    let rows = Rows::of(&parts.network.logits(&batch.images).unwrap(), &batch.labels).unwrap();
    parts.optimizer.backward(&rows.cross_entropy(0.0).unwrap(), 1).unwrap();
    guard::spoil_gradient(&parts.network).unwrap();
    assert!(parts.optimizer.step(0.1).unwrap().skipped);
    assert_eq!(tensors::to_bytes(&parts.network.tensors()).unwrap(), before);
}

/// A real disk that is full for so many checkpoints.
struct FullDisk {
    refuse: Cell<u32>,
}

impl Disk for FullDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.create_folder(folder)
    }
    fn create(&self, file: &Path) -> io::Result<Box<dyn Output>> {
        // The folder and the first file go through; the second file of a checkpoint finds the disk full.
        if self.refuse.get() > 0 && file.file_name().is_some_and(|name| name == "optimizer.safetensors") {
            self.refuse.set(self.refuse.get() - 1);
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        RealDisk.create(file)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.remove_folder(folder)
    }
    fn remove_file(&self, file: &Path) -> io::Result<()> {
        RealDisk.remove_file(file)
    }
    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        RealDisk.read(file, limit)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }
}

#[test]
fn a_full_disk_is_a_warning_twice_and_the_end_the_third_time() {
    let settings = TrainSettings { save_every_steps: Some(1), ..settings(1) };
    let folder = TempDir::new().unwrap();
    let disk = FullDisk { refuse: Cell::new(2) };
    let (outcome, events) = train(&mut parts(SmallNetwork::new(2), &sgd()), &settings, &disk, folder.path());
    assert_eq!(outcome.unwrap().0, Status::Finished);
    let warnings: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::Warning { .. })).collect();
    let message =
        "no checkpoint at step 2: No space left on device (os error 28); there is no checkpoint yet; training goes on";
    assert_eq!(warnings.len(), 2);
    assert_eq!(warnings[1], &Event::Warning { message: message.to_owned() });

    let folder = TempDir::new().unwrap();
    let disk = FullDisk { refuse: Cell::new(1000) };
    let (outcome, _) = train(&mut parts(SmallNetwork::new(2), &sgd()), &settings, &disk, folder.path());
    let failure = outcome.unwrap_err();
    let expected = "no checkpoint at step 3: No space left on device (os error 28); there is no checkpoint yet";
    assert_eq!((failure.to_string().as_str(), failure.cause().code()), (expected, 5));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "what was begun is removed");
}
