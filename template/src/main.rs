//! Trains a small convolutional network with FNGD.

use fngd_core::nn::{self, ModuleT};
use fngd_core::random::Stream;
use fngd_core::{Fngd, FngdConfig, FngdModule, Result};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const CLASSES: i64 = 10;
const EPOCHS: u64 = 5;
const BATCH_SIZE: i64 = 32;

/// Fields are named as their variables: `conv.weight` is the weight of `conv`.
#[derive(Debug, FngdModule)]
struct Net {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    head: nn::Linear,
}

impl Net {
    fn new(vs: &nn::Path) -> Self {
        let conv = nn::ConvConfig {
            padding: 1,
            bias: false,
            ..Default::default()
        };
        Self {
            conv: nn::conv2d(vs / "conv", 1, 16, 3, conv),
            bn: nn::batch_norm2d(vs / "bn", 16, Default::default()),
            head: nn::linear(vs / "head", 16 * 4 * 4, CLASSES, Default::default()),
        }
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv)
            .apply_t(&self.bn, train)
            .relu()
            .max_pool2d_default(2)
            .flat_view()
            .apply(&self.head)
    }
}

/// Made-up pictures of 8x8 pixels: each class has one, and every sample is it with noise. Put your data here.
fn data(purpose: &str, count: i64) -> (Tensor, Tensor) {
    let uniform = |purpose: &str, count: i64| {
        let values = Stream::new(0, purpose, &[]).uniform(count as usize);
        (Tensor::from_slice(&values).to_kind(Kind::Float) * 2 - 1).view([-1, 1, 8, 8])
    };
    let labels = Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(CLASSES);
    let images = uniform("classes", 64 * CLASSES).index_select(0, &labels)
        + 1.5 * uniform(purpose, 64 * count);
    (images, labels)
}

/// The batches of an epoch, in an order that depends on its number alone: a resumed run sees what the first one would have.
fn batches(images: &Tensor, labels: &Tensor, epoch: u64) -> impl Iterator<Item = (Tensor, Tensor)> {
    let count = labels.size()[0];
    let order =
        Tensor::from_slice(&Stream::new(0, "shuffle", &[epoch]).permutation(count as usize));
    let (images, labels) = (
        images.index_select(0, &order),
        labels.index_select(0, &order),
    );
    (0..count).step_by(BATCH_SIZE as usize).map(move |start| {
        let size = BATCH_SIZE.min(count - start);
        (images.narrow(0, start, size), labels.narrow(0, start, size))
    })
}

fn main() -> Result<()> {
    tch::manual_seed(0);
    let (images, labels) = data("train", 1000);
    let (test_images, test_labels) = data("test", 200);
    let vs = nn::VarStore::new(Device::cuda_if_available());
    let (images, labels) = (images.to(vs.device()), labels.to(vs.device()));
    let net = Net::new(&vs.root());
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    if Path::new("run.safetensors").exists() {
        optimizer.load("run.safetensors", &vs)?;
    }
    for epoch in optimizer.epoch()..EPOCHS {
        optimizer.begin_epoch(epoch)?;
        for (images, labels) in batches(&images, &labels, epoch).skip(optimizer.slot() as usize) {
            let loss = images.apply_t(&net, true).cross_entropy_for_logits(&labels);
            optimizer.backward(&loss)?;
            optimizer.step()?;
        }
        optimizer.save("run.safetensors", &vs)?;
        println!("{}", optimizer.report()?);
    }
    let accuracy = net.batch_accuracy_for_logits(&test_images, &test_labels, vs.device(), 200);
    println!("accuracy {accuracy:.3}");
    Ok(())
}
