//! A convolutional network with BatchNorm: training and evaluation mode, and a schedule.

use fngd_core::nn::{self, ModuleT};
use fngd_core::{Fngd, FngdModule, Inventory, Result, ScheduleConfig, ScheduleShape, WarmUp};
use fngd_examples::Digits;
use tch::{Device, Tensor};

#[derive(Debug, FngdModule)]
struct Cnn {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    head: nn::Linear,
}

impl ModuleT for Cnn {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).relu().max_pool2d_default(2).flat_view().apply(&self.head)
    }
}

fn main() -> Result<()> {
    tch::manual_seed(0);
    let (train, test) = Digits::load();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = Cnn {
        conv: nn::conv2d(vs.root() / "conv", 1, 16, 3, nn::ConvConfig { padding: 1, ..Default::default() }),
        bn: nn::batch_norm2d(vs.root() / "bn", 16, Default::default()),
        head: nn::linear(vs.root() / "head", 16 * 4 * 4, 10, Default::default()),
    };
    // BatchNorm trains too, but with the plain gradient.
    assert_eq!(Inventory::of(&net).layers.iter().map(|layer| layer.name()).collect::<Vec<_>>(), ["conv", "head"]);
    let (shape, warm_up) = (ScheduleShape::Cosine { final_scale: 0.0 }, WarmUp::Steps(10));
    let schedule = ScheduleConfig { learning_rate: 0.1, shape, warm_up, total_steps: 8 * 46 }.build()?;
    let mut optimizer = Fngd::builder(&net).with_schedule(schedule).build()?;
    for epoch in 0..8 {
        optimizer.begin_epoch(epoch)?;
        for (images, labels) in train.batches(32, epoch) {
            optimizer.backward_step(&images.apply_t(&net, true).cross_entropy_for_logits(&labels))?;
        }
    }
    assert_eq!((optimizer.steps(), optimizer.learning_rate()), (8 * 46, 0.0));
    let accuracy = test.accuracy(|images| images.apply_t(&net, false));
    println!("{:.1} % of the test digits are right", 100.0 * accuracy);
    assert!(accuracy > 0.95, "{accuracy}");
    Ok(())
}
