//! Looking changes nothing, and what is seen is what the run itself solves for.

use super::*;
use crate::network::Network;
use fngd_cli::protocol::DataSource;
use fngd_cli::settings::{DataSettings, OptimizerSettings, Settings, StopSettings, TrainSettings};
use fngd_core::optimizer::Batch;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Kind, Tensor};

const DAMPING: f64 = 0.1;

fn job(optimizer: &str, epochs: u64) -> Observe {
    let settings = Settings {
        model: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits-cnn.onnx")),
        import: Default::default(),
        data: DataSettings { val: 0.9, ..DataSettings::default() },
        train: TrainSettings { epochs, batch: 32, seed: 7, device: "cpu".into(), ..TrainSettings::default() },
        optimizer: OptimizerSettings {
            name: optimizer.to_owned(),
            damping: (optimizer != "sgd").then_some(DAMPING),
            ..OptimizerSettings::default()
        },
        schedule: Default::default(),
        stop: StopSettings::default(),
    };
    let data = DataSource { spec: "digits".into(), path: None };
    Observe { settings, data, epochs: vec![1, 3], moments: vec![0, 1, epochs], output: PathBuf::new() }
}

fn io() -> (Events, Requests) {
    (Events::to(std::io::sink()), Requests::default())
}

fn session(job: &Observe) -> Session {
    Session::build(&job.settings, &job.data, Device::Cpu, &io().0).unwrap()
}

fn look(job: &Observe) -> (Seen, BTreeMap<String, Tensor>) {
    let seen = observed(session(job), job, Device::Cpu, io()).unwrap();
    let tensors = seen.observer.borrow().record.tensors().unwrap().into_iter().collect();
    (seen, tensors)
}

/// What a run leaves that nobody looks at.
fn alone(job: &Observe) -> Parts<OnnxNetwork> {
    let session = session(job);
    let state = session.first_state(&job.settings);
    let mut parts = session.parts;
    let stop = StopRule::build(&job.settings.stop).unwrap();
    let saver = Saver::none(io().0);
    Trainer::new(&mut parts, &job.settings.train, stop, saver, io(), state).unwrap().run().unwrap();
    parts
}

#[test]
fn training_ends_with_the_same_bits_and_the_first_epoch_is_what_the_run_solves_for() {
    for optimizer in ["fngd", "sgd"] {
        let job = job(optimizer, 3);
        let (seen, found) = look(&job);
        let alone = alone(&job);
        assert_eq!(seen.parts.network.tensors(), alone.network.tensors(), "{optimizer}: parameters");
        assert_eq!(seen.parts.optimizer.state().unwrap(), alone.optimizer.state().unwrap(), "{optimizer}: state");
        if optimizer == "sgd" {
            continue;
        }
        // The bank holds the weights of epoch 1, `[slots, layers, B]` for each batch size.
        let state: BTreeMap<String, Tensor> = alone.optimizer.state().unwrap().into_iter().collect();
        let bank = &state["gradient.bank.coefficients.32"];
        let slots = Vec::<i64>::try_from(&found["slots/1"]).unwrap();
        let full = slots.iter().filter(|size| **size == 32).count() as i64;
        assert_eq!(bank.size()[0], full);
        let rows: Vec<&Tensor> =
            found.iter().filter(|(name, _)| name.ends_with("/weights/1")).map(|(_, tensor)| tensor).collect();
        assert_eq!(rows.len() as i64, bank.size()[1]);
        for (layer, row) in rows.into_iter().enumerate() {
            let found = row.narrow(0, 0, full * 32).view([full, 32]);
            assert_eq!(found, bank.select(1, layer as i64), "layer {layer}");
        }
    }
}

#[test]
fn what_the_file_holds_belongs_together() {
    let job = job("fngd", 3);
    let (_, found) = look(&job);
    let train = session(&job).parts.train;
    for epoch in [1, 3] {
        let order = train.epoch(epoch - 1);
        let samples: Vec<i64> = order.from_slot(0).flat_map(|batch| batch.unwrap().indices).collect();
        assert_eq!(Vec::<i64>::try_from(&found[&format!("samples/{epoch}")]).unwrap(), samples);
    }
    assert!(!found.contains_key("samples/2"));
    let layers: Vec<&str> = found.keys().filter_map(|name| name.strip_suffix("/gram/0")).collect();
    assert!(layers.len() >= 3, "{layers:?}");
    let (first, last) = (format!("{}/gram/0", layers[0]), format!("{}/gram/3", layers[0]));
    assert_ne!(found[&first], found[&last], "training changes gradients");
    for layer in layers {
        // w of the moment from its K, in float64 by a general inverse.
        for moment in [0, 1, 3] {
            let gram = found[&format!("{layer}/gram/{moment}")].to_kind(Kind::Double);
            let size = gram.size()[0];
            let options = (Kind::Double, Device::Cpu);
            let lambda = DAMPING * gram.square().sum(Kind::Double).sqrt().double_value(&[]);
            let damped = gram + Tensor::eye(size, options) * lambda;
            let expected = damped.inverse().matmul(&Tensor::ones([size], options)) * lambda;
            let weights = &found[&format!("{layer}/coefficients/{moment}")];
            let difference = (weights - expected).abs().max().double_value(&[]);
            assert!(difference < 1e-4, "{layer} after {moment} epochs: {difference}");
        }
        // Before the first step, the first batch of epoch 1 and the moment are the same pass.
        let (moment, epoch) = (&found[&format!("{layer}/coefficients/0")], &found[&format!("{layer}/weights/1")]);
        assert_eq!(*moment, epoch.narrow(0, 0, 32), "{layer}");
    }
}

#[test]
fn gram_matrices_equal_one_sample_at_a_time() {
    let job = job("fngd", 1);
    let (_, found) = look(&job);
    let mut session = session(&job);
    // A batch normalisation couples samples: only the layers behind the last one have gradients of their own. The head is one.
    let batch = session.parts.train.epoch(0).batch(0).unwrap();
    session.parts.network.set_training(true);
    let network = &session.parts.network;
    let inventory = fngd_core::Inventory::of(network);
    let head = inventory.layers.last().unwrap();
    let parameters: Vec<Tensor> =
        [Some(head.weight()), head.bias()].into_iter().flatten().map(Tensor::shallow_clone).collect();
    let mut rows = Vec::new();
    session.parts.optimizer.begin(&Batch { epoch: 9, slot: 9, samples: batch.indices.clone() }).unwrap();
    let logits = network.logits(&batch.images).unwrap().to_kind(Kind::Double);
    for sample in 0..32 {
        let loss = logits.narrow(0, sample, 1).cross_entropy_for_logits(&batch.labels.narrow(0, sample, 1));
        let grads = Tensor::run_backward(&[loss], &parameters, true, false);
        let row: Vec<Tensor> = grads.iter().map(|grad| grad.reshape([-1]).to_kind(Kind::Double)).collect();
        rows.push(Tensor::cat(&row, 0));
    }
    let rows = Tensor::stack(&rows, 0);
    let expected = rows.matmul(&rows.tr());
    let (_, gram) = found.iter().rfind(|(name, _)| name.ends_with("/gram/0")).unwrap();
    let difference = (gram.to_kind(Kind::Double) - &expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]);
    assert!(difference < 1e-4 * scale, "{difference} at {scale}");
}
