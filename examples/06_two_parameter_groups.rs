//! Two parameter groups: a body that learns slowly, or not at all, under a head.

use fngd_core::nn::{self, Module};
use fngd_core::optimizer::Groups;
use fngd_core::{Fngd, FngdModule, Result, Role};
use fngd_examples::Digits;
use tch::{Device, Tensor};

#[derive(Debug, FngdModule)]
struct Net {
    body: nn::Linear,
    head: nn::Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.flat_view().apply(&self.body).relu().apply(&self.head)
    }
}

/// How far the weights of the body moved, relative to their size, and the accuracy on the test digits.
fn train(groups: Groups) -> Result<(f64, f64)> {
    tch::manual_seed(0);
    let (train, test) = Digits::load();
    let vs = nn::VarStore::new(Device::Cpu);
    let layer = |name, inputs, outputs| nn::linear(vs.root() / name, inputs, outputs, Default::default());
    let net = Net { body: layer("body", 64, 64), head: layer("head", 64, 10) };
    let before = net.body.ws.detach().copy();
    let mut optimizer = Fngd::builder(&net).with_groups(groups.clone()).with_learning_rate(0.02).build()?;
    for epoch in 0..5 {
        optimizer.begin_epoch(epoch)?;
        for (images, labels) in train.batches(32, epoch) {
            optimizer.backward_step(&images.apply(&net).cross_entropy_for_logits(&labels))?;
        }
    }
    let moved = ((&net.body.ws - &before).norm() / before.norm()).double_value(&[]);
    let accuracy = test.accuracy(|images| images.apply(&net));
    println!("body moved {moved:.3}, accuracy {accuracy:.3} with {groups}");
    Ok((moved, accuracy))
}

fn main() -> Result<()> {
    let one = train(Groups::default())?;
    let slow = train(Groups::default().learning_rate("body", 0.1).weight_decay(Role::Weight, 0.0))?;
    let frozen = train(Groups::default().learning_rate("body", 0.0))?;
    assert!(slow.0 < 0.5 * one.0, "{slow:?} {one:?}");
    assert_eq!(frozen.0, 0.0);
    assert!(one.1 > 0.94 && slow.1 > 0.91 && frozen.1 > 0.9, "{one:?} {slow:?} {frozen:?}");
    Ok(())
}
