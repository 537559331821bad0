//! Everything a run needs, built from its settings.

use super::augment::Augmentation;
use super::batches::{BatchOptions, Batches};
use super::checkpoint::{Checkpoint, Identity, RunState, free_bytes, sha256};
use super::failure::{Failure, Result};
use super::network::Network;
use super::onnx_network::{HeadRule, OnnxNetwork, check_batches, check_input, fit_head};
use super::train::{Parts, steps_per_epoch, total_steps};
use super::{events::Events, method};
use fngd_cli::data::record::Record;
use fngd_cli::data::{self, Dataset, Images};
use fngd_cli::methods::{self, has_inner};
use fngd_cli::protocol::{DataSource, Plan};
use fngd_cli::settings::{OptimizerSettings, Settings};
use fngd_cli::state_memory;
use fngd_core::Inventory;
use fngd_core::optimizer::{self, StepOptions};
use fngd_module::BuildOptions;
use fngd_onnx::Repair;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::rc::Rc;
use tch::Device;

/// Samples that restored BatchNormalizations are calibrated on: mean and variance of a channel are then known to a few percent even
/// where each sample has one value in it.
const CALIBRATION_SAMPLES: i64 = 1024;

/// A run that is ready to start.
pub struct Session {
    pub parts: Parts<OnnxNetwork>,
    /// What to report at the end; `None` if the data has no test split.
    pub test: Option<Batches>,
    pub identity: Identity,
    /// What to remember of the data.
    pub record: Record,
    /// Width of the new head, if the file's own was replaced.
    pub replaced_head: Option<usize>,
}

impl Session {
    /// Reads model and data and builds the rest. What the user should know is said by `events`.
    pub fn build(settings: &Settings, source: &DataSource, device: Device, events: &Events) -> Result<Self> {
        let mut data = load(source, settings, events)?;
        let record = Record::of(&data);
        let (network, replaced_head) = network(settings, &data, device, events)?;
        let train = Rc::new(batches(settings, &data, device)?);
        let options = BatchOptions::evaluation(settings.train.batch, device, settings.train.channels_last);
        let evaluation = |split: &data::Split| Batches::build(split, &data.normalization, options.clone());
        let test = data.test.as_ref().map(evaluation).transpose()?;
        let identity = identity(settings, &network, &data);
        let val = data.val.take().or_else(|| data.test.clone());
        let val = val.ok_or_else(|| Failure::data(format!("data set `{}` has nothing to validate on", data.name)))?;
        let val = Batches::build(&val, &data.normalization, options.clone())?;
        let splits = [("train", &*train), ("validation", &val)].into_iter();
        let splits: Vec<_> = splits.chain(test.as_ref().map(|test| ("test", test))).collect();
        check_batches(&network.model, &splits)?;

        let method = method::method(&settings.optimizer, settings.train.seed)?;
        if has_inner(&settings.optimizer.name) {
            network.layers_of_unknown_batch().into_iter().for_each(|sentence| events.warn(sentence));
        }
        let step_options = StepOptions { clip_norm: settings.train.clip_norm, ..StepOptions::default() };
        let optimizer = optimizer::build(&network, &method, &method::groups(&settings.optimizer), &step_options)?;
        let rate = method::learning_rate(&settings.optimizer);
        let steps = (steps_per_epoch(&settings.train, &train), total_steps(&settings.train, &train));
        let schedule = method::schedule(&settings.schedule, rate, steps.0, steps.1)?;
        let parts = Parts { network, optimizer, schedule, train, val };
        Ok(Self { parts, test, identity, record, replaced_head })
    }

    /// Where a new run starts.
    pub fn first_state(&self, settings: &Settings) -> RunState {
        let validation = Some((settings.data.val, settings.train.seed));
        RunState { replaced_head: self.replaced_head, validation, ..RunState::default() }
    }

    /// Refuses a run directory on a disk that cannot hold four checkpoints (the newest two, the best, and one being written): better
    /// now than after an hour.
    pub fn require_space(&self, settings: &Settings, run: &Path) -> Result<()> {
        let tensors = self.parts.network.tensors();
        let weights: u64 = tensors.iter().map(|(_, tensor)| tensor.numel() as u64 * 4).sum();
        let checkpoint = weights + self.expected_state_bytes(settings);
        let needed = 4 * checkpoint;
        match free_bytes(run) {
            Some(free) if free < needed => {
                let message = format!(
                    "{} has room for {} MiB; four checkpoints of this run need {} MiB",
                    run.display(),
                    free >> 20,
                    needed.div_ceil(1 << 20)
                );
                Err(Failure::environment(message).help("make room, or choose another place with --runs-dir"))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of the optimizer's state once a new run is under way. Before its first step the optimizer does not know yet what it will
    /// keep of a batch, or of the training samples: that part is what the method keeps at its defaults.
    fn expected_state_bytes(&self, settings: &Settings) -> u64 {
        let OptimizerSettings { name, inner, share, .. } = &settings.optimizer;
        let name = if share.as_deref() == Some("none") { "ngd" } else { name };
        let known = state_memory::of(&self.parts.network.model, name, methods::rule(name, inner.as_deref()));
        let all = known.at(self.parts.train.samples() as u64, settings.train.batch as u64);
        self.parts.optimizer.state_bytes() + all.map_or(0, |all| all - known.fixed)
    }

    /// Before the first step of a new run: gives BatchNormalizations that the importer restored the statistics of the first training
    /// batches. A run that is resumed has them in its checkpoint.
    pub fn calibrate(&mut self, events: &Events) -> Result<()> {
        let order = self.parts.train.epoch(0);
        let (mut samples, mut failure) = (0, None);
        let batches = order.from_slot(0).map_while(|batch| match batch {
            Ok(batch) if samples < CALIBRATION_SAMPLES => {
                samples += batch.images.size()[0];
                Some(vec![batch.images])
            }
            Ok(_) => None,
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let count = self.parts.network.module.calibrate(batches)?;
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        if count > 0 {
            let (code, name) = (Repair::BatchNorm.code(), Repair::BatchNorm.name());
            events.warn(format!(
                "{code} {name}: {count} restored BatchNormalizations are calibrated on {samples} training samples"
            ));
        }
        Ok(())
    }

    /// Takes weights, optimizer and place from a checkpoint of the same run.
    pub fn go_on_from(&mut self, checkpoint: &Checkpoint) -> Result<RunState> {
        let Identity { settings, model, data } = &checkpoint.manifest.identity;
        let pairs = [
            ("settings", settings, &self.identity.settings),
            ("model file", model, &self.identity.model),
            ("data", data, &self.identity.data),
        ];
        if let Some((what, ..)) = pairs.iter().find(|(_, then, now)| then != now) {
            let message = format!("the {what} changed since {} was written", checkpoint.path.display());
            return Err(Failure::usage(message)
                .help("a run goes on with what it began with; start a new one for something else"));
        }
        let at = |failure: Failure| failure.at(checkpoint.path.display());
        self.parts.network.load_tensors(&checkpoint.model).map_err(at)?;
        self.parts.optimizer.load_state(&checkpoint.optimizer).map_err(|error| at(error.into()))?;
        Ok(checkpoint.state.clone())
    }

    /// What is going to happen.
    pub fn plan(&self, settings: &Settings, first_step: u64) -> Plan {
        const POINTS: u64 = 32;
        let Inventory { parameters, layers, .. } = Inventory::of(&self.parts.network);
        let size = |tensor: &tch::Tensor| tensor.numel() as u64;
        let total: u64 = parameters.iter().map(|parameter| size(&parameter.tensor)).sum();
        let preconditioned: u64 = layers.iter().map(|layer| size(layer.weight()) + layer.bias().map_or(0, size)).sum();
        let Parts { train, val, schedule, optimizer, .. } = &self.parts;
        let total_steps = total_steps(&settings.train, train);
        let points = POINTS.min(total_steps).max(1);
        let turns_gradient = has_inner(&settings.optimizer.name);
        Plan {
            parameters: total,
            preconditioned_share: if turns_gradient && total > 0 { preconditioned as f64 / total as f64 } else { 0.0 },
            layers: if turns_gradient { layers.len() } else { 0 },
            train_samples: train.samples() as u64,
            val_samples: val.samples() as u64,
            test_samples: self.test.as_ref().map_or(0, Batches::samples) as u64,
            steps_per_epoch: steps_per_epoch(&settings.train, train),
            total_steps,
            first_step,
            state_bytes: if first_step == 0 { self.expected_state_bytes(settings) } else { optimizer.state_bytes() },
            method: settings.optimizer.name.clone(),
            learning_rates: (0..points).map(|point| schedule.at(point * total_steps / points)).collect(),
        }
    }
}

fn load(source: &DataSource, settings: &Settings, events: &Events) -> Result<Dataset> {
    let mut data = data::load(source)?;
    data.split_validation(settings.data.val, settings.train.seed)?;
    data.notes.iter().for_each(|note| events.warn(note.clone()));
    Ok(data)
}

fn network(
    settings: &Settings,
    data: &Dataset,
    device: Device,
    events: &Events,
) -> Result<(OnnxNetwork, Option<usize>)> {
    let mut model = OnnxNetwork::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    check_input(&model, &data.train.shape)?;
    let rule = match settings.train.classes.as_str() {
        "auto" => HeadRule::Replace { seed: settings.train.seed },
        "keep" => HeadRule::Keep,
        other => return Err(Failure::usage(format!("train.classes must be auto or keep, found `{other}`"))),
    };
    let before = model.classes();
    let replaced = fit_head(&mut model, data.classes.len(), rule)?;
    if let (Some(after), Some(before)) = (replaced, before) {
        events.warn(format!("the head has {before} outputs, the data {after} classes: replaced by a fresh one"));
    }
    let options = BuildOptions { device, channels_last: settings.train.channels_last, ..BuildOptions::default() };
    let network = OnnxNetwork::build(model, &options)?;
    network.tell(events);
    Ok((network, replaced))
}

fn batches(settings: &Settings, data: &Dataset, device: Device) -> Result<Batches> {
    let options = BatchOptions {
        batch_size: settings.train.batch,
        shuffle: true,
        seed: settings.train.seed,
        augmentation: Augmentation::preset(&settings.data.aug, &data.train.shape, data.mirror_images)?,
        device,
        channels_last: settings.train.channels_last,
    };
    Ok(Batches::build(&data.train, &data.normalization, options)?)
}

fn identity(settings: &Settings, network: &OnnxNetwork, data: &Dataset) -> Identity {
    // How long the run is, where it writes and on what it computes may change; what it computes may not.
    let mut essential = settings.clone();
    essential.model = std::path::PathBuf::new();
    essential.data.dir = None;
    essential.import.dynamic_batch = false;
    essential.stop = Default::default();
    let free = fngd_cli::settings::TrainSettings::default();
    let train = &mut essential.train;
    (train.epochs, train.max_steps, train.device, train.threads) =
        (free.epochs, free.max_steps, free.device, free.threads);
    (train.log_every_steps, train.save_every_epochs) = (free.log_every_steps, free.save_every_epochs);
    (train.save_every_steps, train.runs_dir, train.name) = (free.save_every_steps, free.runs_dir, free.name);
    // OK because settings are strings and numbers.
    let json = serde_json::to_vec(&essential).expect("settings are JSON");
    Identity { settings: sha256(&json), model: network.model.sha256().to_owned(), data: hash_of(data) }
}

/// SHA-256 of all samples and labels.
fn hash_of(data: &Dataset) -> String {
    let mut hash = Sha256::new();
    for split in [Some(&data.train), data.val.as_ref(), data.test.as_ref()].into_iter().flatten() {
        hash.update((split.len() as u64).to_le_bytes());
        match &split.images {
            Images::U8(values) => hash.update(values),
            Images::F32(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
        }
        split.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
