//! Recording changes nothing of what is computed, and shows every layer.

use super::networks::{Network, announce, batch, sgd};
use crate::FngdConfig;
use crate::optimizer::{self, EvaConfig, Groups, Inner, KfacConfig, Method, ShampooConfig, SoapConfig, StepOptions};
use crate::timeline::{Phase, Span, Timeline, enter};
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

const SIZE: i64 = 4;

/// Two epochs of two steps; what is recorded of them.
fn train(method: &Method, timeline: Option<&Timeline>) -> Vec<Tensor> {
    let network = Network::new(5, Kind::Float);
    let mut optimizer = optimizer::build(&network, method, &Groups::default(), &StepOptions::default()).unwrap();
    for (epoch, slot) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let _recording = timeline.map(Timeline::install);
        let _step = enter(Phase::Step);
        let (images, labels) = batch(slot, SIZE, Kind::Float);
        optimizer.begin(&announce(epoch, slot, SIZE)).unwrap();
        let loss = network.loss(&images, &labels);
        optimizer.backward(&loss, 1).unwrap();
        let _update = enter(Phase::Update);
        optimizer.step(0.1).unwrap();
    }
    network.parameters()
}

fn methods() -> [(&'static str, Method); 6] {
    let inner = Inner::Sgd(sgd());
    [
        ("sgd", Method::Sgd(sgd())),
        ("fngd", Method::Fngd { config: FngdConfig::default(), inner }),
        ("kfac", Method::Kfac { config: KfacConfig { refresh_every_steps: 2, ..KfacConfig::default() }, inner }),
        ("eva", Method::Eva { config: EvaConfig::default(), inner }),
        (
            "shampoo",
            Method::Shampoo(ShampooConfig {
                roots_every_steps: 2,
                statistics_every_steps: 1,
                ..ShampooConfig::default()
            }),
        ),
        ("soap", Method::Soap(SoapConfig { basis_every_steps: 2, ..SoapConfig::default() })),
    ]
}

/// Spans of each step, with the layers that they are for.
fn layers_in(spans: &[Span], step: usize, phase: Phase) -> BTreeSet<&str> {
    let starts: Vec<usize> = (0..spans.len()).filter(|index| spans[*index].phase == Phase::Step).collect();
    let end = starts.get(step + 1).copied().unwrap_or(spans.len());
    let spans = &spans[starts[step]..end];
    spans.iter().filter(|span| span.phase == phase).filter_map(|span| span.layer.as_deref()).collect()
}

#[test]
fn recorded_training_is_the_same_bit_for_bit() {
    for (name, method) in methods() {
        let timeline = Timeline::new(Device::Cpu);
        let (plain, recorded) = (train(&method, None), train(&method, Some(&timeline)));
        for (one, other) in plain.iter().zip(&recorded) {
            assert_eq!(one, other, "{name}");
        }
        assert_eq!(timeline.take().iter().filter(|span| span.phase == Phase::Step).count(), 4, "{name}");
    }
}

#[test]
fn fngd_solves_in_the_first_epoch_only() {
    let timeline = Timeline::new(Device::Cpu);
    train(&methods()[1].1, Some(&timeline));
    let spans = timeline.take();
    let (all, none) = (BTreeSet::from(["conv", "depthwise", "tied", "head"]), BTreeSet::new());
    for (step, solving) in [(0, &all), (1, &all), (2, &none), (3, &none)] {
        for phase in [Phase::Forward, Phase::Backward, Phase::Precondition] {
            assert_eq!(layers_in(&spans, step, phase), all, "step {step}, {phase:?}");
        }
        for phase in [Phase::Gram, Phase::Solve] {
            assert_eq!(&layers_in(&spans, step, phase), solving, "step {step}, {phase:?}");
        }
    }
    let methods = spans.iter().filter(|span| span.phase == Phase::Gram).map(|span| span.gram_method.is_some());
    assert!(methods.min().unwrap(), "every Gram matrix says how it was formed");
}

#[test]
fn kfac_solves_where_it_refreshes_and_turns_every_gradient() {
    let timeline = Timeline::new(Device::Cpu);
    train(&methods()[2].1, Some(&timeline));
    let spans = timeline.take();
    let (all, none) = (BTreeSet::from(["conv", "depthwise", "tied", "head"]), BTreeSet::new());
    for (step, solving) in [(0, &all), (1, &none), (2, &all), (3, &none)] {
        assert_eq!(&layers_in(&spans, step, Phase::Solve), solving, "step {step}");
        assert_eq!(layers_in(&spans, step, Phase::Gram), all, "step {step}");
        assert_eq!(layers_in(&spans, step, Phase::Precondition), all, "step {step}");
    }
}

#[test]
fn shampoo_takes_roots_of_every_matrix_where_they_are_due() {
    let timeline = Timeline::new(Device::Cpu);
    train(&methods()[4].1, Some(&timeline));
    let spans = timeline.take();
    let all = BTreeSet::from(["conv", "depthwise", "tied", "head"]);
    for step in 0..4 {
        assert_eq!(layers_in(&spans, step, Phase::Gram), all, "step {step}");
        assert_eq!(layers_in(&spans, step, Phase::Precondition), all, "step {step}");
        assert_eq!(layers_in(&spans, step, Phase::Solve), if step % 2 == 0 { all.clone() } else { BTreeSet::new() });
    }
}

#[test]
fn every_span_lies_within_the_one_around_it() {
    for (name, method) in methods() {
        let timeline = Timeline::new(Device::Cpu);
        train(&method, Some(&timeline));
        let spans = timeline.take();
        for span in &spans {
            let Some(parent) = span.parent.map(|parent| &spans[parent]) else {
                assert_eq!(span.phase, Phase::Step, "{name}");
                continue;
            };
            let inside = parent.start <= span.start && span.start + span.duration <= parent.start + parent.duration;
            assert!(inside, "{name}: {span:?} is not in {parent:?}");
        }
    }
}
