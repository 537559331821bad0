//! The same loop with SGD, with FNGD, and with FNGD whose weights are all 1: which must be SGD to the last bit.

use fngd_core::nn::{self, Module};
use fngd_core::optimizer::{Inner, Method, SgdConfig};
use fngd_core::{Ablation, Fngd, FngdConfig, FngdModule, Result};
use fngd_examples::Digits;
use tch::{Device, Tensor};

#[derive(Debug, FngdModule)]
struct Mlp(nn::Linear, nn::Linear);

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.flat_view().apply(&self.0).relu().apply(&self.1)
    }
}

/// The mean training loss of each epoch.
fn train(digits: &Digits, method: Method) -> Result<Vec<f64>> {
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = Mlp(
        nn::linear(vs.root() / 0, 64, 64, Default::default()),
        nn::linear(vs.root() / 1, 64, 10, Default::default()),
    );
    let mut optimizer = Fngd::builder(&net).with_method(method).with_learning_rate(0.02).build()?;
    let mut losses = Vec::new();
    for epoch in 0..8 {
        optimizer.begin_epoch(epoch)?;
        let mut total = 0.0;
        for (images, labels) in digits.batches(32, epoch) {
            let loss = images.apply(&net).cross_entropy_for_logits(&labels);
            optimizer.backward_step(&loss)?;
            total += loss.double_value(&[]) * labels.size()[0] as f64;
        }
        losses.push(total / digits.labels.size()[0] as f64);
    }
    Ok(losses)
}

fn main() -> Result<()> {
    let (digits, _) = Digits::load();
    let fngd = |config| Method::Fngd { config, inner: Inner::default() };
    let sgd = train(&digits, Method::Sgd(SgdConfig::default()))?;
    let weighted = train(&digits, fngd(FngdConfig::default()))?;
    let uniform = train(&digits, fngd(FngdConfig { ablate: Some(Ablation::Uniform), ..Default::default() }))?;
    for (epoch, (sgd, weighted)) in sgd.iter().zip(&weighted).enumerate() {
        println!("epoch {epoch}: loss {sgd:.4} with SGD, {weighted:.4} with FNGD");
    }
    assert_eq!(uniform, sgd);
    // Weights below 1 make shorter steps: at one learning rate FNGD is not ahead here, and says so.
    assert!(sgd[7] < 0.08 && weighted[7] < 0.08);
    Ok(())
}
