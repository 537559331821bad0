//! Names, sizes, parameter counts and values against PyTorch, torchvision and timm. `golden/make.py` made the files.

mod golden_support;

use fngd_core::nn::{self, ModuleT, VarStore};
use fngd_core::{FngdModule, Inventory};
use fngd_models::*;
use golden_support::{assert_equals, fill_image, fill_tokens, fill_variables, names, variable_rows};
use std::collections::BTreeMap;
use tch::{Device, Tensor};

#[test]
fn full_size_models_have_the_variables_of_pytorch_s() {
    for entry in all() {
        let name = entry.name;
        let variables = VarStore::new(Device::Cpu);
        let model = entry.build(&variables.root(), entry.classes);
        assert_eq!(variable_rows(&variables), names(name), "{name}");
        let inventory = assert_visited(name, &model, &variables);
        let count: usize = inventory.parameters.iter().map(|parameter| parameter.tensor.numel()).sum();
        assert_eq!(count as i64, entry.parameters, "{name}");
    }
}

#[test]
fn the_example_gives_logits_of_the_classes_asked_for() {
    for entry in all().iter().filter(|entry| entry.parameters < 40_000_000) {
        let variables = VarStore::new(Device::Cpu);
        let model = entry.build(&variables.root(), 7);
        let size = tch::no_grad(|| model.forward_t(&entry.example(2, 7), true)).size();
        assert_eq!((size.first(), size.last()), (Some(&2), Some(&7)), "{}: {size:?}", entry.name);
    }
}

/// Every trainable variable is a parameter of the same name and memory, and the other way round.
fn assert_visited(name: &str, model: &dyn FngdModule, variables: &VarStore) -> Inventory {
    let inventory = Inventory::of(model);
    let address = |tensor: &Tensor| tensor.data_ptr() as usize;
    let visited: BTreeMap<String, usize> =
        inventory.parameters.iter().map(|row| (row.name.clone(), address(&row.tensor))).collect();
    let stored = variables.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad());
    assert_eq!(visited, stored.map(|(name, tensor)| (name, address(&tensor))).collect(), "{name}");
    inventory
}

/// Builds in float64, fills the weights, and compares logits in evaluation, training, and evaluation again.
fn check<M: FngdModule>(name: &str, build: impl Fn(&nn::Path) -> M, forward: impl Fn(&M, bool) -> Tensor) {
    let mut variables = VarStore::new(Device::Cpu);
    let model = build(&variables.root());
    assert_visited(name, &model, &variables);
    variables.double();
    fill_variables(&variables);
    assert_equals(name, "evaluation", &forward(&model, false));
    assert_equals(name, "training", &forward(&model, true));
    assert_equals(name, "evaluation_after_training", &forward(&model, false));
}

fn check_on_image<M: ModuleT + FngdModule>(name: &str, image: &[i64], build: impl Fn(&nn::Path) -> M) {
    let image = fill_image(image);
    check(name, build, |model, train| image.apply_t(model, train));
}

#[test]
fn small_networks_compute_what_pytorch_does() {
    check_on_image("mlp", &[2, 1, 8, 8], |vs| Mlp::new(vs, &[64, 128, 64, 10]));
    check_on_image("digits-cnn", &[2, 1, 8, 8], |vs| DigitsCnn::new(vs, [16, 32, 48], 10));
    check_on_image("resnet20", &[2, 3, 32, 32], |vs| CifarResNet::new(vs, 3, 10));
}

#[test]
fn resnets_compute_what_torchvision_does() {
    check_on_image("resnet18", &[2, 3, 32, 32], |vs| ResNet::new(vs, &ResNetConfig::resnet18(Stem::Cifar), 10));
    let imagenet = ResNetConfig::resnet18(Stem::ImageNet);
    check_on_image("resnet18-imagenet", &[2, 3, 64, 64], |vs| ResNet::new(vs, &imagenet, 10));
}

#[test]
fn vgg_computes_what_torchvision_does() {
    check_on_image("vgg11-bn", &[2, 3, 32, 32], |vs| Vgg::new(vs, &VggConfig::vgg11(VggHead::Cifar), 10));
}

/// Dropout makes the training pass random here, so only evaluation is compared.
#[test]
fn vgg_for_imagenet_computes_what_torchvision_does() {
    let widths = VggConfig::vgg11(VggHead::Cifar).widths.map(|width| width / 8);
    let config = VggConfig { widths, head: VggHead::ImageNet { hidden: 32 } };
    let mut variables = VarStore::new(Device::Cpu);
    let model = Vgg::new(&variables.root(), &config, 10);
    let inventory = assert_visited("vgg11-bn-imagenet", &model, &variables);
    assert_eq!(inventory.layers.len(), 11);
    variables.double();
    fill_variables(&variables);
    let logits = fill_image(&[2, 3, 64, 64]).apply_t(&model, false);
    assert_equals("vgg11-bn-imagenet", "evaluation", &logits);
}

#[test]
fn vision_transformer_computes_what_timm_does() {
    let config = VisionTransformerConfig { image: 32, patch: 8, width: 48, layers: 2, heads: 3 };
    check_on_image("vit-tiny", &[2, 3, 32, 32], |vs| VisionTransformer::new(vs, &config, 10));
}

const LAYER: LayerConfig =
    LayerConfig { width: 32, hidden: 64, heads: 4, dropout: 0.0, norm_placement: NormPlacement::After };

#[test]
fn transformers_compute_what_pytorch_does() {
    let two = TransformerConfig {
        source_vocabulary: 11,
        target_vocabulary: 10,
        encoder_layers: 2,
        decoder_layers: 2,
        layer: LAYER,
        ..Default::default()
    };
    let one = TransformerConfig { encoder_layers: 1, decoder_layers: 1, ..two };
    let norm_first = LayerConfig { norm_placement: NormPlacement::Before, ..LAYER };
    let (source, target) = (fill_tokens(0, [2, 7]), fill_tokens(1, [2, 5]));
    for (name, config) in [
        ("transformer", two),
        ("transformer-padded", TransformerConfig { padding: Some(0), ..two }),
        ("transformer-norm-first", TransformerConfig { decoder_layers: 1, layer: norm_first, ..two }),
        ("transformer-tied", TransformerConfig { tables: Tables::TiedOutput, ..one }),
        ("transformer-shared", TransformerConfig { tables: Tables::Shared, target_vocabulary: 11, ..one }),
    ] {
        let forward = |model: &Transformer, train| model.forward_t(&source, &target, train);
        check(name, |vs| Transformer::new(vs, &config), forward);
    }
}

#[test]
fn transformer_encoder_computes_what_pytorch_does() {
    let config = TransformerEncoderConfig { length: 8, layers: 2, layer: LAYER };
    let vectors = fill_image(&[2, 8, 32]);
    check(
        "transformer-encoder",
        |vs| TransformerEncoder::new(vs, &config, 10),
        |model, train| vectors.apply_t(model, train),
    );
}
