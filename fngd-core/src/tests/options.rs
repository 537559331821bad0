//! Each option changes what it says and nothing else.

use super::networks::{Network, flat, fngd, train};
use crate::optimizer::WeightSource;
use crate::{Ablation, Fisher, FngdConfig, Refresh, Share, StepScale};
use tch::{Kind, Tensor};

fn after(epochs: u64, config: FngdConfig) -> Tensor {
    let network = Network::new(7, Kind::Double);
    let mut optimizer = fngd(&network, config);
    train(&network, &mut *optimizer, 0..epochs, 3);
    flat(&network)
}

#[test]
fn every_option_changes_the_result() {
    let base = FngdConfig { damping: 0.1, ..Default::default() };
    let default = after(2, base.clone());
    assert_eq!(after(2, base.clone()), default, "the same settings give the same bits");
    let variants = [
        ("damping", FngdConfig { damping: 0.2, ..base.clone() }),
        ("share = none", FngdConfig { share: Share::None, ..base.clone() }),
        ("refresh every epoch", FngdConfig { refresh: Refresh::EveryEpochs(1), ..base.clone() }),
        ("never refresh", FngdConfig { refresh: Refresh::Never, ..base.clone() }),
        ("mean", FngdConfig { ablate: Some(Ablation::Mean), ..base.clone() }),
        ("permute", FngdConfig { ablate: Some(Ablation::Permute), ..base.clone() }),
        ("uniform", FngdConfig { ablate: Some(Ablation::Uniform), ..base.clone() }),
        ("scale by layer", FngdConfig { step_scale: StepScale::Layer, ..base.clone() }),
        ("scale by slot", FngdConfig { step_scale: StepScale::Slot, ..base.clone() }),
        ("improved Fisher", FngdConfig { fisher: Fisher::ImprovedEmpirical, ..base.clone() }),
    ];
    for (name, config) in variants {
        assert_ne!(after(2, config), default, "{name}");
    }
    let seeded = FngdConfig { ablate: Some(Ablation::Permute), ..base };
    assert_ne!(after(2, FngdConfig { seed: 1, ..seeded.clone() }), after(2, seeded), "seed");
}

#[test]
fn a_layer_without_a_solve_does_not_move_the_scales_of_the_others() {
    let config = FngdConfig { step_scale: StepScale::Layer, ..Default::default() };
    let network = Network::new(13, Kind::Double);
    // One layer never has a λ: its batch axis is not known.
    network.layers[1].set_batch_axis(crate::BatchAxis::Unknown);
    let mut optimizer = fngd(&network, config);
    train(&network, &mut *optimizer, 0..2, 2);
    let state = optimizer.state().unwrap();
    let (_, factors) = state.iter().find(|(name, _)| name.ends_with("scale.factors")).unwrap();
    let factors = Vec::<f64>::try_from(factors).unwrap();
    assert_eq!(factors[1], 1.0);
    let product: f64 = factors.iter().product();
    assert!((product - 1.0).abs() < 1e-9 && factors.iter().any(|factor| (factor - 1.0).abs() > 0.1), "{factors:?}");
}

#[test]
fn layer_scale_acts_where_weights_are_solved_for_too() {
    let base = FngdConfig { share: Share::None, ..Default::default() };
    assert_ne!(after(2, FngdConfig { step_scale: StepScale::Layer, ..base.clone() }), after(2, base));
}

#[test]
fn memory_cap_changes_the_blocks_and_not_the_result() {
    let small = after(2, FngdConfig { gram_memory_bytes: 1 << 20, ..Default::default() });
    super::reference::assert_close(&small, &after(2, FngdConfig::default()), 1e-12, "gram memory");
}

#[test]
fn unshuffled_samples_make_sample_and_slot_sharing_alike() {
    // Every epoch has the same batches here, so a weight that follows its sample stays in its slot.
    let slot = after(3, FngdConfig { share: Share::Slot, ..Default::default() });
    let sample = after(3, FngdConfig { share: Share::Sample, ..Default::default() });
    // The sample bank keeps float32.
    super::reference::assert_close(&sample, &slot, 1e-6, "share");
}

#[test]
fn steps_say_where_their_weights_came_from() {
    let network = Network::new(8, Kind::Float);
    let mut optimizer = fngd(&network, FngdConfig { refresh: Refresh::EveryEpochs(2), ..Default::default() });
    let reports = train(&network, &mut *optimizer, 0..4, 2);
    let sources: Vec<[usize; 4]> =
        reports.iter().map(|report| [report.solved, report.recalled, report.unknown, report.fallbacks]).collect();
    let (solved, recalled) = ([4, 0, 0, 0], [0, 4, 0, 0]);
    assert_eq!(sources, [solved, solved, recalled, recalled, solved, solved, recalled, recalled]);
    // A slot that the bank does not know trains with w = 1 and is counted.
    let reports = train(&network, &mut *optimizer, 1..2, 3);
    assert_eq!([reports[2].recalled, reports[2].unknown], [0, 4]);
    for layer in optimizer.layers().unwrap() {
        assert_eq!((layer.source, layer.mean, layer.std, layer.min), (WeightSource::Unknown, 1.0, 0.0, 1.0));
    }
}

#[test]
fn layer_reports_hold_the_numbers_of_the_solve() {
    let network = Network::new(9, Kind::Double);
    let mut optimizer = fngd(&network, FngdConfig::default());
    train(&network, &mut *optimizer, 0..1, 1);
    let layers = optimizer.layers().unwrap();
    assert_eq!(layers.len(), 4);
    for layer in layers {
        assert_eq!(layer.source, WeightSource::Solved);
        assert!(layer.damping.unwrap() > 0.0 && layer.gram_method.is_some());
        // The eigenvalues of λ(K + λI)⁻¹ lie in [γ/(1+γ), 1].
        assert!(layer.mean <= 1.0 && layer.min <= layer.mean && layer.std < 0.5, "{layer:?}");
    }
}

#[test]
fn a_dead_layer_falls_back_and_is_counted() {
    let network = Network::new(10, Kind::Float);
    // A zero head passes no gradient down: every Gram matrix below it is zero.
    let _ = tch::no_grad(|| network.layers[3].weight().shallow_clone().zero_());
    let mut optimizer = fngd(&network, FngdConfig::default());
    let report = train(&network, &mut *optimizer, 0..1, 1).remove(0);
    assert_eq!([report.solved, report.fallbacks], [1, 3]);
}

#[test]
fn saving_and_loading_equals_not_stopping() {
    for share in [Share::Slot, Share::Sample, Share::None] {
        for step_scale in [StepScale::Absorb, StepScale::Layer, StepScale::Slot] {
            let config = FngdConfig { share, step_scale, ..Default::default() };
            let whole = Network::new(11, Kind::Float);
            let mut optimizer = fngd(&whole, config.clone());
            train(&whole, &mut *optimizer, 0..2, 3);
            let state = optimizer.state().unwrap();
            let bytes = crate::state::to_bytes(&state).unwrap();
            let resumed = Network::new(12, Kind::Float);
            for (to, from) in resumed.parameters().iter().zip(whole.parameters()) {
                tch::no_grad(|| to.shallow_clone().copy_(&from));
            }
            let mut second = fngd(&resumed, config);
            second.load_state(&crate::state::from_bytes(&bytes).unwrap()).unwrap();
            train(&whole, &mut *optimizer, 2..4, 3);
            train(&resumed, &mut *second, 2..4, 3);
            assert_eq!(flat(&resumed), flat(&whole), "{share:?} {step_scale:?}");
        }
    }
}
