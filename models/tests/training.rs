//! FNGD on small configurations of each architecture: which layers it preconditions, and that the loss falls.

use fngd_core::nn::{Path, VarStore};
use fngd_core::optimizer::{Batch, Groups, Inner, Method, SgdConfig, StepOptions, build};
use fngd_core::{FngdConfig, FngdModule, Inventory, Result};
use fngd_models::*;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

const SAMPLES: i64 = 8;
const CLASSES: i64 = 4;
const STEPS: u64 = 15;

/// Trains on one batch, with labels `[SAMPLES, ...]`. Expects every layer of the model to be solved for.
fn trains<M: FngdModule>(
    name: &str,
    layers: usize,
    new: impl Fn(&Path) -> M,
    forward: impl Fn(&M, bool) -> Tensor,
    labels: &Tensor,
) -> Result<()> {
    let variables = VarStore::new(Device::Cpu);
    let model = new(&variables.root());
    assert_eq!(Inventory::of(&model).layers.len(), layers, "{name}");
    let method = Method::Fngd { config: FngdConfig::default(), inner: Inner::Sgd(SgdConfig::default()) };
    let mut optimizer = build(&model, &method, &Groups::default(), &StepOptions::default())?;
    let loss = |model: &M, train| forward(model, train).flatten(0, -2).cross_entropy_for_logits(&labels.flatten(0, -1));
    let mut losses = Vec::new();
    for slot in 0..STEPS {
        optimizer.begin(&Batch { epoch: 0, slot, samples: (0..SAMPLES).collect() })?;
        let loss = loss(&model, true);
        optimizer.backward(&loss, 1)?;
        let report = optimizer.step(0.1)?;
        assert_eq!((report.solved, report.skipped), (layers, false), "{name}, step {slot}");
        losses.push(f64::try_from(loss)?);
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.5 * first, "{name}: the loss went from {first} to {last}");
    Ok(())
}

/// Tests share libtorch's generator: one at a time.
fn seeded() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(0);
    // Matrices this small gain nothing from threads, which wait for each other on a busy machine.
    tch::set_num_threads(1);
    guard
}

fn numbers(sizes: &[i64]) -> Tensor {
    Tensor::randn(sizes, (Kind::Float, Device::Cpu))
}

fn labels() -> Tensor {
    Tensor::arange(SAMPLES, (Kind::Int64, Device::Cpu)).remainder(CLASSES)
}

/// Rows of the numbers 1 to 9, each shifted by one against the one above.
fn tokens(length: i64) -> Tensor {
    let options = (Kind::Int64, Device::Cpu);
    (Tensor::arange(SAMPLES, options).unsqueeze(1) + Tensor::arange(length, options)).remainder(9) + 1
}

#[test]
fn models_of_images_train() -> Result<()> {
    let _guard = seeded();
    let digits = numbers(&[SAMPLES, 1, 8, 8]);
    let images = numbers(&[SAMPLES, 3, 32, 32]);
    let resnet = ResNetConfig { width: 8, ..ResNetConfig::resnet18(Stem::ImageNet) };
    let vgg = VggConfig { widths: [16; 8], head: VggHead::Cifar };
    let vit = VisionTransformerConfig { image: 32, patch: 8, width: 24, layers: 2, heads: 3 };
    let labels = labels();
    trains("mlp", 2, |vs| Mlp::new(vs, &[64, 32, CLASSES]), |model, _| digits.apply(model), &labels)?;
    let cnn = |vs: &Path| DigitsCnn::new(vs, [8, 16, 16], CLASSES);
    trains("digits-cnn", 4, cnn, |model, train| digits.apply_t(model, train), &labels)?;
    let cifar_resnet = |vs: &Path| CifarResNet::new(vs, 1, CLASSES);
    trains("resnet8", 8, cifar_resnet, |model, train| images.apply_t(model, train), &labels)?;
    // 1 + 8 · 2 + 1, and three shortcuts.
    let resnet = |vs: &Path| ResNet::new(vs, &resnet, CLASSES);
    trains("resnet18", 21, resnet, |model, train| images.apply_t(model, train), &labels)?;
    trains("vgg11-bn", 9, |vs| Vgg::new(vs, &vgg, CLASSES), |model, train| images.apply_t(model, train), &labels)?;
    // The patch embedding, four in each block, the head.
    let vit = |vs: &Path| VisionTransformer::new(vs, &vit, CLASSES);
    trains("vit", 10, vit, |model, _| images.apply(model), &labels)
}

const LAYER: LayerConfig =
    LayerConfig { width: 16, hidden: 32, heads: 2, dropout: 0.0, norm_placement: NormPlacement::After };

#[test]
fn transformers_train() -> Result<()> {
    let _guard = seeded();
    let config = TransformerConfig {
        source_vocabulary: 11,
        target_vocabulary: 11,
        encoder_layers: 1,
        decoder_layers: 2,
        layer: LAYER,
        padding: Some(0),
        ..Default::default()
    };
    let (source, target) = (tokens(7), tokens(6));
    let (shown, labels) = (target.narrow(1, 0, 5), target.narrow(1, 1, 5));
    // Four in an encoder layer, six in a decoder layer, and the output matrix where it is not an embedding.
    for (tables, layers) in [(Tables::Separate, 17), (Tables::TiedOutput, 16), (Tables::Shared, 16)] {
        let new = |vs: &Path| Transformer::new(vs, &TransformerConfig { tables, ..config });
        let forward = |model: &Transformer, train| model.forward_t(&source, &shown, train);
        trains(&format!("{tables:?}"), layers, new, forward, &labels)?;
    }
    Ok(())
}

#[test]
fn transformer_encoder_trains() -> Result<()> {
    let _guard = seeded();
    let vectors = numbers(&[SAMPLES, 6, 16]);
    let config = TransformerEncoderConfig { length: 6, layers: 2, layer: LAYER };
    let new = |vs: &Path| TransformerEncoder::new(vs, &config, CLASSES);
    trains("transformer-encoder", 9, new, |model, train| vectors.apply_t(model, train), &labels())
}
