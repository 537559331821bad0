//! A layer type of your own: a convolution over an image whose edges touch. `Layer` inside shows FNGD what flows
//! through.

use fngd_core::nn::{self, Module};
use fngd_core::{Convolution, Fngd, FngdModule, Inventory, Layer, Result};
use fngd_examples::Digits;
use tch::{Device, Tensor};

/// The only field of a tuple struct adds nothing to the path: the weight is `conv.weight`.
#[derive(Debug, FngdModule)]
struct CircularConv(Layer);

impl Module for CircularConv {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.pad([1, 1, 1, 1], "circular", None).apply(&self.0)
    }
}

#[derive(Debug, FngdModule)]
struct Net {
    conv: CircularConv,
    slope: Tensor, // a bare tensor: a parameter with the plain gradient
    head: nn::Linear,
}

fn main() -> Result<()> {
    tch::manual_seed(0);
    let (train, test) = Digits::load();
    let vs = nn::VarStore::new(Device::Cpu);
    let weight = (vs.root() / "conv").kaiming_uniform("weight", &[8, 1, 3, 3]);
    let conv = CircularConv(Layer::convolution("conv", weight, None, Convolution::new(2))?);
    let slope = vs.root().var("slope", &[8], nn::Init::Const(0.25));
    let net = Net { conv, slope, head: nn::linear(vs.root() / "head", 8 * 8 * 8, 10, Default::default()) };
    let forward = |xs: &Tensor| xs.apply(&net.conv).prelu(&net.slope).flat_view().apply(&net.head);
    Inventory::of(&net).check(&vs)?; // every variable is shown, under its own name
    let mut optimizer = Fngd::builder(&net).with_learning_rate(0.03).build()?;
    for epoch in 0..8 {
        optimizer.begin_epoch(epoch)?;
        for (images, labels) in train.batches(32, epoch) {
            let step = optimizer.backward_step(&forward(&images).cross_entropy_for_logits(&labels))?;
            assert_eq!(step.solved + step.recalled, 2); // `conv` and `head`
        }
    }
    let accuracy = test.accuracy(forward);
    println!("{:.1} % of the test digits are right", 100.0 * accuracy);
    assert!(accuracy > 0.94, "{accuracy}");
    Ok(())
}
