//! Every architecture of `fngd-models`: those for digits at full size, the others at one that trains within a second.

use fngd_models::{
    CifarResNet, DigitsCnn, Input, InputKind, LayerConfig, Mlp, Model, NormPlacement, ResNet, ResNetConfig, Size, Stem,
    Tables, Transformer, TransformerConfig, TransformerEncoder, TransformerEncoderConfig, Vgg, VggConfig, VggHead,
    VisionTransformer, VisionTransformerConfig,
};
use std::sync::Mutex;
use tch::nn::{Path, VarStore};
use tch::{Device, Kind, Tensor};

/// A model, and what is needed to use it.
pub struct Network {
    pub name: &'static str,
    pub variables: VarStore,
    pub model: Model,
    pub inputs: &'static [Input],
    pub classes: i64,
}

/// Inputs and labels of one batch.
pub struct Batch {
    pub inputs: Vec<Tensor>,
    pub labels: Tensor,
}

/// libtorch has one generator for all threads.
static GENERATOR: Mutex<()> = Mutex::new(());

impl Network {
    /// All of them, without dropout.
    pub fn all() -> impl Iterator<Item = Self> {
        NETWORKS.iter().map(|(name, inputs, classes, build)| Self::build(name, inputs, *classes, *build))
    }

    /// ResNet-20 as it is.
    pub fn resnet20() -> Self {
        Self::build("resnet20", CIFAR, 10, |vs, classes| Model::CifarResNet(CifarResNet::new(vs, 3, classes)))
    }

    fn build(name: &'static str, inputs: &'static [Input], classes: i64, build: Build) -> Self {
        let variables = VarStore::new(Device::Cpu);
        let generator = GENERATOR.lock();
        tch::manual_seed(7);
        let model = build(&variables.root(), classes);
        drop(generator);
        Self { name, variables, model, inputs, classes }
    }

    /// The same for all calls with the same seed.
    pub fn batch(&self, size: i64, seed: i64) -> Batch {
        let generator = GENERATOR.lock();
        tch::manual_seed(seed);
        let input = |input: &Input| {
            let sample = input.sizes.iter().map(|size| match size {
                Size::Fixed(size) => *size,
                // Source and target of different lengths.
                Size::Any(name) => 3 + name.len() as i64 / 6 + i64::from(name.starts_with("source")),
            });
            let dims: Vec<i64> = std::iter::once(size).chain(sample).collect();
            match input.kind {
                InputKind::Values => Tensor::randn(&dims, (Kind::Float, Device::Cpu)),
                // 0 is the padding: not at the beginning.
                InputKind::Tokens => {
                    let tokens = Tensor::randint(self.classes, &dims, (Kind::Int64, Device::Cpu));
                    let _ = tokens.narrow(1, 0, 1).clamp_(1, self.classes - 1);
                    tokens
                }
            }
        };
        let inputs: Vec<Tensor> = self.inputs.iter().map(input).collect();
        let mut labels = vec![size];
        if self.inputs.last().is_some_and(|last| last.kind == InputKind::Tokens) {
            labels.extend(&inputs.last().map(Tensor::size).unwrap_or_default()[1..]);
        }
        let labels = Tensor::randint(self.classes, &labels, (Kind::Int64, Device::Cpu));
        drop(generator);
        Batch { inputs, labels }
    }

    pub fn to_onnx(&self) -> fngd_onnx::Result<Vec<u8>> {
        self.model.to_onnx(self.inputs, self.classes)
    }
}

const fn values(sizes: &'static [Size]) -> Input {
    Input { name: "image", kind: InputKind::Values, sizes }
}

const DIGIT: &[Input] = &[values(&[Size::Fixed(1), Size::Fixed(8), Size::Fixed(8)])];
const SMALL: &[Input] = &[values(&[Size::Fixed(3), Size::Fixed(16), Size::Fixed(16)])];
const CIFAR: &[Input] = &[values(&[Size::Fixed(3), Size::Fixed(32), Size::Fixed(32)])];
const VECTORS: &[Input] = &[values(&[Size::Fixed(5), Size::Fixed(16)])];
const SENTENCES: &[Input] = &[
    Input { name: "source", kind: InputKind::Tokens, sizes: &[Size::Any("source_length")] },
    Input { name: "target", kind: InputKind::Tokens, sizes: &[Size::Any("target_length")] },
];

const LAYER: LayerConfig =
    LayerConfig { width: 16, hidden: 24, heads: 4, dropout: 0.0, norm_placement: NormPlacement::After };

type Build = fn(&Path, i64) -> Model;

const NETWORKS: &[(&str, &[Input], i64, Build)] = &[
    ("mlp", DIGIT, 10, |vs, classes| Model::Mlp(Mlp::new(vs, &[64, 128, 64, classes]))),
    ("digits-cnn", DIGIT, 10, |vs, classes| Model::DigitsCnn(DigitsCnn::new(vs, [16, 32, 48], classes))),
    ("resnet8", SMALL, 10, |vs, classes| Model::CifarResNet(CifarResNet::new(vs, 1, classes))),
    ("resnet-cifar", SMALL, 5, |vs, classes| Model::ResNet(resnet(vs, Stem::Cifar, classes))),
    ("resnet-imagenet", CIFAR, 5, |vs, classes| Model::ResNet(resnet(vs, Stem::ImageNet, classes))),
    ("vgg", CIFAR, 10, |vs, classes| {
        let config = VggConfig { widths: [4, 4, 8, 8, 8, 8, 8, 8], head: VggHead::Cifar };
        Model::Vgg(Vgg::new(vs, &config, classes))
    }),
    ("vit", SMALL, 10, |vs, classes| {
        let config = VisionTransformerConfig { image: 16, patch: 4, width: 24, layers: 2, heads: 3 };
        Model::VisionTransformer(VisionTransformer::new(vs, &config, classes))
    }),
    ("transformer-encoder", VECTORS, 10, |vs, classes| {
        let config = TransformerEncoderConfig { length: 5, layers: 2, layer: LAYER };
        Model::TransformerEncoder(TransformerEncoder::new(vs, &config, classes))
    }),
    ("transformer", SENTENCES, 11, |vs, classes| {
        Model::Transformer(transformer(vs, Tables::Separate, NormPlacement::After, None, classes))
    }),
    ("transformer-tied", SENTENCES, 11, |vs, classes| {
        Model::Transformer(transformer(vs, Tables::TiedOutput, NormPlacement::After, Some(0), classes))
    }),
    ("transformer-shared", SENTENCES, 11, |vs, classes| {
        Model::Transformer(transformer(vs, Tables::Shared, NormPlacement::Before, Some(0), classes))
    }),
];

fn resnet(vs: &Path, stem: Stem, classes: i64) -> ResNet {
    ResNet::new(vs, &ResNetConfig { blocks: [1, 2, 1, 1], width: 4, stem }, classes)
}

fn transformer(
    vs: &Path,
    tables: Tables,
    norm_placement: NormPlacement,
    padding: Option<i64>,
    classes: i64,
) -> Transformer {
    let config = TransformerConfig {
        source_vocabulary: classes,
        target_vocabulary: classes,
        encoder_layers: 1,
        decoder_layers: 2,
        layer: LayerConfig { norm_placement, ..LAYER },
        tables,
        padding,
    };
    Transformer::new(vs, &config)
}
