//! AdamW applies the weighted gradient: the inner rule is a choice, and says which learning rate suits it.

use fngd_core::nn::{self, Module};
use fngd_core::optimizer::{AdamwConfig, Inner, StepOptions};
use fngd_core::{Fngd, FngdConfig, FngdModule, Result};
use fngd_examples::Digits;
use tch::{Device, Tensor};

#[derive(Debug, FngdModule)]
struct Mlp {
    hidden: nn::Linear,
    head: nn::Linear,
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.flat_view().apply(&self.hidden).gelu("none").apply(&self.head)
    }
}

fn main() -> Result<()> {
    tch::manual_seed(0);
    let (train, test) = Digits::load();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = Mlp {
        hidden: nn::linear(vs.root() / "hidden", 64, 64, Default::default()),
        head: nn::linear(vs.root() / "head", 64, 10, Default::default()),
    };
    let mut optimizer = Fngd::builder(&net)
        .with_config(FngdConfig { damping: 0.1, ..Default::default() })
        .with_inner(Inner::Adamw(AdamwConfig { weight_decay: 0.05, ..Default::default() }))
        .with_options(StepOptions { clip_norm: Some(1.0), ..Default::default() })
        .build()?;
    assert_eq!(optimizer.learning_rate(), 1e-3); // SGD would have 0.1
    for epoch in 0..12 {
        optimizer.begin_epoch(epoch)?;
        for (images, labels) in train.batches(32, epoch) {
            let step = optimizer.backward_step(&images.apply(&net).cross_entropy_for_logits(&labels))?;
            // Weights are solved for in the first epoch, and found again in all others.
            assert_eq!((step.solved, step.recalled), if epoch == 0 { (2, 0) } else { (0, 2) });
        }
    }
    let accuracy = test.accuracy(|images| images.apply(&net));
    println!("{:.1} % of the test digits are right", 100.0 * accuracy);
    assert!(accuracy > 0.95, "{accuracy}");
    Ok(())
}
