//! Initial weights against the distributions that the models' comments state.

use fngd_core::nn::{Path, VarStore};
use fngd_models::*;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Tensor};

/// Where a variable's numbers come from.
#[derive(Debug, Clone, Copy)]
enum Draw {
    Constant(f64),
    Normal { std: f64 },
    Uniform { bound: f64 },
}
use Draw::{Constant, Normal, Uniform};

/// A variable and the sizes its distribution depends on.
struct Variable {
    name: String,
    size: Vec<i64>,
    /// Inputs of an output, of the layer that the variable belongs to.
    fan_in: f64,
}

impl Variable {
    fn is_weight(&self) -> bool {
        self.size.len() > 1
    }

    fn is_in(&self, module: &str) -> bool {
        self.name.starts_with(&format!("{module}."))
    }

    /// Normalisations start as the identity; so do their running statistics.
    fn of_normalisation(&self) -> Draw {
        Constant(if self.name.ends_with("weight") || self.name.ends_with("var") { 1.0 } else { 0.0 })
    }

    fn he_fan_in(&self) -> Draw {
        Normal { std: (2.0 / self.fan_in).sqrt() }
    }

    fn he_fan_out(&self) -> Draw {
        let kernel: i64 = self.size[2..].iter().product();
        Normal { std: (2.0 / (self.size[0] * kernel) as f64).sqrt() }
    }

    fn pytorch(&self) -> Draw {
        Uniform { bound: 1.0 / self.fan_in.sqrt() }
    }

    fn xavier(&self) -> Draw {
        Uniform { bound: (6.0 / (self.size[0] + self.size[1]) as f64).sqrt() }
    }
}

/// Tests share libtorch's generator.
fn seeded(seed: i64) -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    guard
}

fn variables_of<M>(build: impl Fn(&Path) -> M) -> Vec<(String, Tensor)> {
    let _guard = seeded(0);
    let variables = VarStore::new(Device::Cpu);
    let _model = build(&variables.root());
    let mut variables: Vec<_> = variables.variables().into_iter().collect();
    variables.sort_by(|(left, _), (right, _)| left.cmp(right));
    variables
}

fn check<M>(build: impl Fn(&Path) -> M, expected: impl Fn(&Variable) -> Draw) {
    let variables = variables_of(build);
    for (name, tensor) in &variables {
        let weight = name.strip_suffix("bias").map(|layer| format!("{layer}weight"));
        let weight =
            variables.iter().find(|(other, _)| Some(other) == weight.as_ref()).map_or(tensor, |(_, weight)| weight);
        let fan_in = weight.size()[1..].iter().product::<i64>() as f64;
        let expected = expected(&Variable { name: name.clone(), size: tensor.size(), fan_in });
        assert_drawn(name, tensor, expected);
    }
}

/// Within five standard deviations of the estimates, which for the standard deviation of n normal numbers is std / √(2n).
fn assert_drawn(name: &str, tensor: &Tensor, expected: Draw) {
    let count = tensor.numel() as f64;
    let number = |tensor: Tensor| f64::try_from(tensor).unwrap();
    let largest = number(tensor.abs().max());
    let (mean, std) = (number(tensor.mean(None)), number(tensor.square().mean(None)).sqrt());
    let expected_std = match expected {
        Constant(value) => {
            let same = number(tensor.eq(value).all().to_kind(tch::Kind::Double)) == 1.0;
            assert!(same, "{name}: expected {value} throughout, found mean {mean}");
            return;
        }
        Normal { std } => std,
        Uniform { bound } => bound / 3f64.sqrt(),
    };
    let error = 5.0 / (2.0 * count).sqrt();
    assert!((std / expected_std - 1.0).abs() < error, "{name}: {expected:?}, found std {std} of {count} numbers");
    assert!(mean.abs() < 5.0 * expected_std / count.sqrt(), "{name}: {expected:?}, found mean {mean}");
    match expected {
        Uniform { bound } => assert!(largest <= bound * 1.000_001, "{name}: {expected:?}, found {largest}"),
        // A uniform distribution ends at √3 standard deviations; of 300 normal numbers, one in 10⁶ sets stays below 2.
        Normal { std } if count >= 300.0 => {
            assert!(largest > 2.0 * std, "{name}: {expected:?}, found at most {largest}")
        }
        _ => (),
    }
}

#[test]
fn mlp_is_pytorch_s() {
    check(|vs| Mlp::new(vs, &[64, 128, 10]), Variable::pytorch);
}

#[test]
fn small_convolutional_networks_are_he_s() {
    let expected = |variable: &Variable| match variable {
        _ if variable.is_in("fc") => variable.pytorch(),
        _ if variable.is_weight() => variable.he_fan_in(),
        _ => variable.of_normalisation(),
    };
    check(|vs| CifarResNet::new(vs, 3, 10), expected);
    check(|vs| DigitsCnn::new(vs, [16, 32, 48], 10), expected);
}

#[test]
fn resnet_is_torchvision_s() {
    for stem in [Stem::Cifar, Stem::ImageNet] {
        let config = ResNetConfig { width: 16, ..ResNetConfig::resnet18(stem) };
        check(
            |vs| ResNet::new(vs, &config, 10),
            |variable| match variable {
                _ if variable.is_in("fc") => variable.pytorch(),
                _ if variable.is_weight() => variable.he_fan_out(),
                _ => variable.of_normalisation(),
            },
        );
    }
}

#[test]
fn vgg_is_torchvision_s() {
    let widths = [8, 16, 32, 32, 64, 64, 64, 64];
    for head in [VggHead::Cifar, VggHead::ImageNet { hidden: 32 }] {
        check(
            |vs| Vgg::new(vs, &VggConfig { widths, head }, 10),
            |variable| match variable {
                _ if variable.is_weight() && variable.is_in("classifier") => Normal { std: 0.01 },
                _ if variable.is_weight() => variable.he_fan_out(),
                _ => variable.of_normalisation(), // and all biases
            },
        );
    }
}

#[test]
fn vision_transformer_is_timm_s() {
    let config = VisionTransformerConfig { layers: 2, ..VisionTransformerConfig::tiny_cifar() };
    check(
        |vs| VisionTransformer::new(vs, &config, 10),
        |variable| match variable {
            _ if variable.name == "cls_token" => Normal { std: 1e-6 },
            _ if variable.is_in("patch_embed") => variable.pytorch(),
            _ if variable.is_weight() => Normal { std: 0.02 },
            _ => variable.of_normalisation(), // and all biases
        },
    );
}

/// What `torch.nn.Transformer` does.
fn of_transformer_layer(variable: &Variable) -> Draw {
    match variable {
        _ if variable.is_weight() => variable.xavier(),
        _ if variable.name.contains("linear") => variable.pytorch(),
        _ => variable.of_normalisation(), // and the biases of attention
    }
}

const LAYER: LayerConfig =
    LayerConfig { width: 64, hidden: 128, heads: 4, dropout: 0.1, norm_placement: NormPlacement::After };

#[test]
fn transformer_is_pytorch_s_between_scaled_tables() {
    let config = TransformerConfig {
        source_vocabulary: 100,
        target_vocabulary: 90,
        encoder_layers: 2,
        decoder_layers: 1,
        layer: LAYER,
        ..Default::default()
    };
    check(
        |vs| Transformer::new(vs, &config),
        |variable| match variable {
            _ if variable.is_in("transformer") => of_transformer_layer(variable),
            _ => Normal { std: 0.125 }, // 1 / √64
        },
    );
}

#[test]
fn transformer_encoder_has_the_layers_of_the_transformer() {
    let config = TransformerEncoderConfig { length: 16, layers: 2, layer: LAYER };
    check(
        |vs| TransformerEncoder::new(vs, &config, 10),
        |variable| match variable {
            _ if variable.name == "position" => Normal { std: 0.02 },
            _ if variable.is_in("head") => variable.pytorch(),
            _ => of_transformer_layer(variable),
        },
    );
}

#[test]
fn one_seed_gives_the_same_weights() {
    for entry in all().iter().filter(|entry| entry.parameters < 12_000_000) {
        let draw = || variables_of(|vs| entry.build(vs, 10));
        assert_eq!(draw(), draw(), "{}", entry.name);
    }
}
