//! Whole steps: what reaches the parameters, the KL clip, layers that are left alone, and what is reported.

use crate::optimizer::{
    self, EvaConfig, Groups, HyloConfig, HyloRows, Inner, KfacConfig, MbfConfig, Method, Optimizer, SengConfig,
    SgdConfig, SkfacConfig, StepOptions, StepReport, TengradConfig,
};
use crate::tests::networks::{Network, announce, batch, flat, forget_batch_axis};
use crate::tests::reference::assert_close;
use tch::{Kind, Tensor};

const RATE: f64 = 0.25;
const SIZE: i64 = 5;

/// SGD without momentum: parameters move by the learning rate times the direction.
fn optimizer(network: &Network, method: fn(Inner) -> Method) -> Box<dyn Optimizer> {
    let inner = Inner::Sgd(SgdConfig { momentum: 0.0, nesterov: false, weight_decay: 0.0 });
    optimizer::build(network, &method(inner), &Groups::default(), &StepOptions::default()).unwrap()
}

/// The direction of one step on batch `slot`.
fn step(network: &Network, optimizer: &mut dyn Optimizer, slot: i64) -> (Tensor, StepReport) {
    let before = flat(network);
    let (images, labels) = batch(slot, SIZE, Kind::Double);
    optimizer.begin(&announce(0, slot, SIZE)).unwrap();
    optimizer.backward(&network.loss(&images, &labels), 1).unwrap();
    let report = optimizer.step(RATE).unwrap();
    ((before - flat(network)) / RATE, report)
}

/// As a first step of SGD makes it.
fn plain(slot: i64) -> Tensor {
    let network = Network::new(1, Kind::Double);
    let mut sgd = optimizer(&network, |inner| Method::Sgd(SgdConfig::default()).with_inner(inner));
    step(&network, &mut *sgd, slot).0
}

fn dot(left: &Tensor, right: &Tensor) -> f64 {
    (left * right).sum(Kind::Double).double_value(&[])
}

const KFAC: fn(Inner) -> Method =
    |inner| Method::Kfac { config: KfacConfig { kl_clip: None, ..Default::default() }, inner };
const EVA: fn(Inner) -> Method =
    |inner| Method::Eva { config: EvaConfig { kl_clip: None, ..Default::default() }, inner };

#[test]
fn much_damping_is_gradient_descent() {
    // (F + λI)⁻¹ → I/λ: every parameter is there, in its own place and scale.
    const MUCH: f64 = 1e8;
    let methods: [fn(Inner) -> Method; 8] = [
        |inner| Method::Kfac { config: KfacConfig { damping: MUCH, kl_clip: None, ..Default::default() }, inner },
        |inner| Method::Eva { config: EvaConfig { damping: MUCH, kl_clip: None, ..Default::default() }, inner },
        |inner| Method::Skfac { config: SkfacConfig { damping: MUCH, kl_clip: None, ..Default::default() }, inner },
        |inner| Method::Tengrad { config: TengradConfig { damping: MUCH, kl_clip: None, ..Default::default() }, inner },
        |inner| Method::Hylo { config: HyloConfig { damping: MUCH, kl_clip: None, ..Default::default() }, inner },
        |inner| {
            let rows = HyloRows::Interpolative;
            Method::Hylo { config: HyloConfig { damping: MUCH, kl_clip: None, rows, ..Default::default() }, inner }
        },
        |inner| Method::Mbf { config: MbfConfig { damping: MUCH, kl_clip: None, ..Default::default() }, inner },
        |inner| Method::Seng { config: SengConfig { damping: MUCH, kl_clip: None, ..Default::default() }, inner },
    ];
    for method in methods {
        let network = Network::new(1, Kind::Double);
        let (direction, _) = step(&network, &mut *optimizer(&network, method), 0);
        // The square root in the dampings of SKFAC approaches more slowly.
        assert_close(&(direction * MUCH), &plain(0), 2e-3, "direction");
    }
}

#[test]
fn the_kl_clip_shortens_all_layers_alike() {
    let clipped: [fn(Inner) -> Method; 2] = [
        |inner| Method::Kfac { config: KfacConfig { kl_clip: Some(1e-4), ..Default::default() }, inner },
        |inner| Method::Eva { config: EvaConfig { kl_clip: Some(1e-4), ..Default::default() }, inner },
    ];
    for (free, clipped) in [KFAC, EVA].into_iter().zip(clipped) {
        let (first, second) = (Network::new(1, Kind::Double), Network::new(1, Kind::Double));
        let (direction, _) = step(&first, &mut *optimizer(&first, free), 0);
        let (shorter, _) = step(&second, &mut *optimizer(&second, clipped), 0);
        let scale = (1e-4 / (RATE * RATE * dot(&direction, &plain(0)))).sqrt();
        assert!(scale < 1.0, "the problem must need clipping");
        assert_close(&shorter, &(direction * scale), 1e-9, "clipped");
    }
}

#[test]
fn layers_of_unknown_batch_axis_get_the_plain_gradient() {
    let others: [fn(Inner) -> Method; 5] = [
        |inner| Method::Skfac { config: SkfacConfig::default(), inner },
        |inner| Method::Tengrad { config: TengradConfig::default(), inner },
        |inner| Method::Hylo { config: HyloConfig::default(), inner },
        |inner| Method::Mbf { config: MbfConfig::default(), inner },
        |inner| Method::Seng { config: SengConfig::default(), inner },
    ];
    for method in [KFAC, EVA].into_iter().chain(others) {
        let network = Network::new(1, Kind::Double);
        let mut optimizer = optimizer(&network, method);
        forget_batch_axis(&network);
        let (direction, report) = step(&network, &mut *optimizer, 0);
        assert!(direction.equal(&plain(0)));
        assert_eq!((report.solved, report.recalled, report.unknown, report.fallbacks), (0, 0, 4, 0));
        assert_eq!(optimizer.state().unwrap().len(), 2, "only the steps of source and rule");
    }
}

#[test]
fn a_report_tells_new_factors_from_old_ones() {
    let network = Network::new(1, Kind::Double);
    let mut kfac = optimizer(&network, |inner| {
        let config = KfacConfig { refresh_every_steps: 2, statistics_every_steps: 3, ..Default::default() };
        Method::Kfac { config, inner }
    });
    let counts: Vec<_> =
        (0..5).map(|slot| step(&network, &mut *kfac, slot).1).map(|one| (one.solved, one.recalled)).collect();
    assert_eq!(counts, [(4, 0), (0, 4), (4, 0), (0, 4), (4, 0)]);
    let updates = kfac.state().unwrap().into_iter().find(|(name, _)| name == "gradient.updates.conv").unwrap().1;
    assert_eq!(updates.int64_value(&[0]), 2);
}

#[test]
fn one_optimizer_at_a_time_has_the_layers() {
    let network = Network::new(1, Kind::Double);
    let first = optimizer(&network, KFAC);
    let second = optimizer::build(&network, &EVA(Inner::default()), &Groups::default(), &StepOptions::default());
    let message = "layer `conv` is in the hands of another optimizer: drop that one first";
    assert_eq!(second.err().unwrap().to_string(), message);
    drop(first);
    drop(optimizer(&network, EVA));
}
