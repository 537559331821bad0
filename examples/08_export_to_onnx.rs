//! A hand-written model whose variables have the names of an ONNX file: train it, and write the weights into the file.

use fngd_core::nn::{self, ModuleT};
use fngd_core::{Fngd, FngdModule};
use fngd_examples::Digits;
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;
use tch::{Device, Tensor};

#[derive(Debug, FngdModule)]
struct Cnn {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    conv3: nn::Conv2D,
    bn3: nn::BatchNorm,
    fc: nn::Linear,
}

impl ModuleT for Cnn {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let blocks = [(&self.conv1, &self.bn1), (&self.conv2, &self.bn2), (&self.conv3, &self.bn3)];
        let xs = blocks.iter().fold(xs.shallow_clone(), |xs, (conv, bn)| xs.apply(*conv).apply_t(*bn, train).relu());
        xs.mean_dim([2i64, 3].as_slice(), false, None).apply(&self.fc)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tch::manual_seed(0);
    let (train, test) = Digits::load();
    let vs = nn::VarStore::new(Device::Cpu);
    let conv = |name, inputs, outputs, stride| {
        let config = nn::ConvConfig { stride, padding: 1, bias: false, ..Default::default() };
        nn::conv2d(vs.root() / name, inputs, outputs, 3, config)
    };
    let bn = |name, features| nn::batch_norm2d(vs.root() / name, features, Default::default());
    let (conv1, conv2, conv3) = (conv("conv1", 1, 16, 1), conv("conv2", 16, 32, 1), conv("conv3", 32, 48, 2));
    let fc = nn::linear(vs.root() / "fc", 48, 10, Default::default());
    let net = Cnn { conv1, bn1: bn("bn1", 16), conv2, bn2: bn("bn2", 32), conv3, bn3: bn("bn3", 48), fc };
    let mut optimizer = Fngd::builder(&net).with_learning_rate(0.03).build()?;
    for epoch in 0..8 {
        optimizer.begin_epoch(epoch)?;
        for (images, labels) in train.batches(32, epoch) {
            optimizer.backward_step(&images.apply_t(&net, true).cross_entropy_for_logits(&labels))?;
        }
    }
    // The weights go over those of the same name in the file; every other byte stays.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits-cnn.onnx");
    let model = OnnxModel::open(&file, &ImportOptions::default())?;
    let mut module = TrainableModule::build(&model, &BuildOptions::default())?;
    module.load_tensors(&vs.variables().into_iter().collect::<Vec<_>>())?;
    let folder = tempfile::tempdir()?;
    let written = folder.path().join("trained.onnx");
    module.export(&model, &written)?;
    // Read back, it computes what the hand-written model computes.
    let read =
        TrainableModule::build(&OnnxModel::open(&written, &ImportOptions::default())?, &BuildOptions::default())?;
    let logits = &read.forward(&[test.images.shallow_clone()])?[0];
    let difference = (logits - tch::no_grad(|| test.images.apply_t(&net, false))).abs().max().double_value(&[]);
    let accuracy = logits.accuracy_for_logits(&test.labels).double_value(&[]);
    println!("{:.1} % right; logits differ by {difference:e} at most", 100.0 * accuracy);
    assert!(accuracy > 0.93 && difference < 1e-5, "{accuracy} {difference}");
    Ok(())
}
