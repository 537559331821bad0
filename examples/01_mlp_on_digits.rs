//! A multi-layer perceptron learns handwritten digits: all that FNGD needs from a tch program.

use fngd_core::nn::{self, Module};
use fngd_core::{Fngd, FngdConfig, FngdModule, Result};
use fngd_examples::Digits;
use tch::{Device, Tensor};

#[derive(Debug, FngdModule)]
struct Mlp {
    hidden: nn::Linear,
    head: nn::Linear,
}

impl Mlp {
    fn new(vs: &nn::Path) -> Self {
        Self {
            hidden: nn::linear(vs / "hidden", 64, 64, Default::default()),
            head: nn::linear(vs / "head", 64, 10, Default::default()),
        }
    }
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.flat_view().apply(&self.hidden).relu().apply(&self.head)
    }
}

fn main() -> Result<()> {
    tch::manual_seed(0);
    let (train, test) = Digits::load();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = Mlp::new(&vs.root());
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    for epoch in 0..10 {
        optimizer.begin_epoch(epoch)?;
        for (images, labels) in train.batches(32, epoch) {
            let loss = images.apply(&net).cross_entropy_for_logits(&labels);
            optimizer.backward(&loss)?;
            optimizer.step()?;
        }
    }
    println!("{}", optimizer.report()?);
    let accuracy = test.accuracy(|images| images.apply(&net));
    println!("{:.1} % of the test digits are right", 100.0 * accuracy);
    assert!(accuracy > 0.95, "{accuracy}");
    Ok(())
}
