//! The models by name, at the sizes of their papers.

use crate::cifar_resnet::CifarResNet;
use crate::digits_cnn::DigitsCnn;
use crate::mlp::Mlp;
use crate::resnet::{ResNet, ResNetConfig, Stem};
use crate::transformer::{Transformer, TransformerConfig};
use crate::transformer_encoder::TransformerEncoder;
use crate::vgg::{Vgg, VggConfig, VggHead};
use crate::vit::{VisionTransformer, VisionTransformerConfig};
use fngd_core::{FngdModule, nn};
use tch::{Kind, Tensor};

/// A model of this crate at a size that has a name.
///
/// ```
/// use fngd_core::nn::VarStore;
/// use tch::Device;
/// let entry = fngd_models::find("resnet20").ok_or("no such model")?;
/// assert_eq!(entry.parameters, 269_722);
/// tch::manual_seed(0);
/// let variables = VarStore::new(Device::Cpu);
/// let model = entry.build(&variables.root(), 100);
/// let logits = model.forward_t(&entry.example(2, 100), false);
/// assert_eq!(logits.size(), [2, 100]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Entry {
    /// How it is called: `resnet18-imagenet`.
    pub name: &'static str,
    /// One line: `ResNet-18 with the stem for 224x224 images`.
    pub description: &'static str,
    /// Where it is from: `He et al. 2015, arXiv 1512.03385`. None for the small ones that only serve here.
    pub paper: Option<&'static str>,
    /// What it takes, in order.
    pub inputs: &'static [Input],
    /// Classes if nothing else is asked for. For a model over tokens, the size of its vocabularies.
    pub classes: i64,
    /// Trainable numbers, with that many classes.
    pub parameters: i64,
    build: fn(&nn::Path, i64) -> Model,
}

/// One input of a model. The batch comes in front of `sizes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// `image`, `source`.
    pub name: &'static str,
    /// Numbers or tokens.
    pub kind: InputKind,
    /// Sizes of one sample.
    pub sizes: &'static [Size],
}

/// What an input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// float32.
    Values,
    /// int64 in 0..classes.
    Tokens,
}

/// One dimension of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Always this.
    Fixed(i64),
    /// Any, with the name that an ONNX file gives to it.
    Any(&'static str),
}

/// A model that [`Entry::build`] made: each architecture of this crate.
#[derive(Debug, FngdModule)]
#[allow(missing_docs)] // Each is called as what it holds.
pub enum Model {
    Mlp(Mlp),
    DigitsCnn(DigitsCnn),
    CifarResNet(CifarResNet),
    ResNet(ResNet),
    Vgg(Vgg),
    VisionTransformer(VisionTransformer),
    Transformer(Transformer),
    TransformerEncoder(TransformerEncoder),
}

impl Model {
    /// Logits: `[B, classes]`, or `[B, T, classes]` of a model over tokens.
    ///
    /// `inputs`: as many as [`Entry::inputs`] lists.
    ///
    /// # Panics
    /// If there are fewer, or where libtorch refuses one.
    pub fn forward_t(&self, inputs: &[Tensor], train: bool) -> Tensor {
        let first = &inputs[0];
        match self {
            Self::Mlp(model) => first.apply(model),
            Self::DigitsCnn(model) => first.apply_t(model, train),
            Self::CifarResNet(model) => first.apply_t(model, train),
            Self::ResNet(model) => first.apply_t(model, train),
            Self::Vgg(model) => first.apply_t(model, train),
            Self::VisionTransformer(model) => first.apply(model),
            Self::Transformer(model) => model.forward_t(first, &inputs[1], train),
            Self::TransformerEncoder(model) => first.apply_t(model, train),
        }
    }
}

/// Every model, small ones first.
pub fn all() -> &'static [Entry] {
    ENTRIES
}

/// The model called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

impl Entry {
    /// The model with initial weights, drawn from libtorch's generator: `tch::manual_seed` before it makes them the same each time.
    pub fn build(&self, vs: &nn::Path, classes: i64) -> Model {
        (self.build)(vs, classes)
    }

    /// Random inputs for `batch_size` samples; sizes that may be any are 16.
    pub fn example(&self, batch_size: i64, classes: i64) -> Vec<Tensor> {
        let example = |input: &Input| {
            let sample = input.sizes.iter().map(|size| match size {
                Size::Fixed(size) => *size,
                Size::Any(_) => 16,
            });
            let sizes: Vec<i64> = std::iter::once(batch_size).chain(sample).collect();
            match input.kind {
                InputKind::Values => Tensor::randn(&sizes, (Kind::Float, tch::Device::Cpu)),
                InputKind::Tokens => Tensor::randint(classes, &sizes, (Kind::Int64, tch::Device::Cpu)),
            }
        };
        self.inputs.iter().map(example).collect()
    }
}

const fn values(name: &'static str, sizes: &'static [Size]) -> Input {
    Input { name, kind: InputKind::Values, sizes }
}

const fn tokens(name: &'static str, sizes: &'static [Size]) -> Input {
    Input { name, kind: InputKind::Tokens, sizes }
}

const DIGIT: &[Input] = &[values("image", &[Size::Fixed(1), Size::Fixed(8), Size::Fixed(8)])];
const CIFAR: &[Input] = &[values("image", &[Size::Fixed(3), Size::Fixed(32), Size::Fixed(32)])];
const IMAGENET: &[Input] = &[values("image", &[Size::Fixed(3), Size::Fixed(224), Size::Fixed(224)])];
const SENTENCES: &[Input] =
    &[tokens("source", &[Size::Any("source_length")]), tokens("target", &[Size::Any("target_length")])];
const VECTORS: &[Input] = &[values("vectors", &[Size::Fixed(64), Size::Fixed(512)])];

const RESNET: Option<&str> = Some("He et al. 2015, arXiv 1512.03385");
const VGG: Option<&str> = Some("Simonyan and Zisserman 2014, arXiv 1409.1556");
const VIT: Option<&str> = Some("Dosovitskiy et al. 2020, arXiv 2010.11929; Touvron et al. 2020, arXiv 2012.12877");
const ATTENTION: Option<&str> = Some("Vaswani et al. 2017, arXiv 1706.03762");

const fn cifar_resnet(
    name: &'static str,
    description: &'static str,
    parameters: i64,
    build: fn(&nn::Path, i64) -> Model,
) -> Entry {
    Entry { name, description, paper: RESNET, inputs: CIFAR, classes: 10, parameters, build }
}

static ENTRIES: &[Entry] = &[
    Entry {
        name: "mlp",
        description: "two hidden layers, of 128 and 64, for 8x8 digits",
        paper: None,
        inputs: DIGIT,
        classes: 10,
        parameters: 17_226,
        build: |vs, classes| Model::Mlp(Mlp::new(vs, &[64, 128, 64, classes])),
    },
    Entry {
        name: "digits-cnn",
        description: "three convolutions with BatchNorm for 8x8 digits",
        paper: None,
        inputs: DIGIT,
        classes: 10,
        parameters: 19_258,
        build: |vs, classes| Model::DigitsCnn(DigitsCnn::new(vs, [16, 32, 48], classes)),
    },
    cifar_resnet("resnet20", "ResNet-20 for 32x32 images", 269_722, |vs, classes| {
        Model::CifarResNet(CifarResNet::new(vs, 3, classes))
    }),
    cifar_resnet("resnet32", "ResNet-32 for 32x32 images", 464_154, |vs, classes| {
        Model::CifarResNet(CifarResNet::new(vs, 5, classes))
    }),
    cifar_resnet("resnet44", "ResNet-44 for 32x32 images", 658_586, |vs, classes| {
        Model::CifarResNet(CifarResNet::new(vs, 7, classes))
    }),
    cifar_resnet("resnet56", "ResNet-56 for 32x32 images", 853_018, |vs, classes| {
        Model::CifarResNet(CifarResNet::new(vs, 9, classes))
    }),
    cifar_resnet("resnet110", "ResNet-110 for 32x32 images", 1_727_962, |vs, classes| {
        Model::CifarResNet(CifarResNet::new(vs, 18, classes))
    }),
    Entry {
        name: "resnet18",
        description: "ResNet-18 with a 3x3 stem for 32x32 images",
        paper: RESNET,
        inputs: CIFAR,
        classes: 10,
        parameters: 11_173_962,
        build: |vs, classes| Model::ResNet(ResNet::new(vs, &ResNetConfig::resnet18(Stem::Cifar), classes)),
    },
    Entry {
        name: "resnet34",
        description: "ResNet-34 with a 3x3 stem for 32x32 images",
        paper: RESNET,
        inputs: CIFAR,
        classes: 10,
        parameters: 21_282_122,
        build: |vs, classes| Model::ResNet(ResNet::new(vs, &ResNetConfig::resnet34(Stem::Cifar), classes)),
    },
    Entry {
        name: "resnet18-imagenet",
        description: "ResNet-18 for 224x224 images, torchvision's",
        paper: RESNET,
        inputs: IMAGENET,
        classes: 1000,
        parameters: 11_689_512,
        build: |vs, classes| Model::ResNet(ResNet::new(vs, &ResNetConfig::resnet18(Stem::ImageNet), classes)),
    },
    Entry {
        name: "resnet34-imagenet",
        description: "ResNet-34 for 224x224 images, torchvision's",
        paper: RESNET,
        inputs: IMAGENET,
        classes: 1000,
        parameters: 21_797_672,
        build: |vs, classes| Model::ResNet(ResNet::new(vs, &ResNetConfig::resnet34(Stem::ImageNet), classes)),
    },
    Entry {
        name: "vgg11-bn",
        description: "VGG-11 with BatchNorm and one linear layer, for 32x32 images",
        paper: VGG,
        inputs: CIFAR,
        classes: 10,
        parameters: 9_231_114,
        build: |vs, classes| Model::Vgg(Vgg::new(vs, &VggConfig::vgg11(VggHead::Cifar), classes)),
    },
    Entry {
        name: "vgg11-bn-imagenet",
        description: "VGG-11 with BatchNorm for 224x224 images, torchvision's",
        paper: VGG,
        inputs: IMAGENET,
        classes: 1000,
        parameters: 132_868_840,
        build: |vs, classes| Model::Vgg(Vgg::new(vs, &VggConfig::vgg11(VggHead::ImageNet { hidden: 4096 }), classes)),
    },
    Entry {
        name: "vit-tiny-cifar",
        description: "Vision Transformer of width 192 on 4x4 patches of 32x32 images",
        paper: VIT,
        inputs: CIFAR,
        classes: 10,
        parameters: 5_362_762,
        build: |vs, classes| {
            Model::VisionTransformer(VisionTransformer::new(vs, &VisionTransformerConfig::tiny_cifar(), classes))
        },
    },
    Entry {
        name: "vit-tiny",
        description: "Vision Transformer of width 192 on 16x16 patches of 224x224 images, timm's vit_tiny_patch16_224",
        paper: VIT,
        inputs: IMAGENET,
        classes: 1000,
        parameters: 5_717_416,
        build: |vs, classes| {
            Model::VisionTransformer(VisionTransformer::new(vs, &VisionTransformerConfig::tiny(), classes))
        },
    },
    Entry {
        name: "transformer-encoder",
        description: "six Transformer encoder layers on 64 vectors, their mean, a linear layer",
        paper: ATTENTION,
        inputs: VECTORS,
        classes: 10,
        parameters: 18_952_202,
        build: |vs, classes| Model::TransformerEncoder(TransformerEncoder::new(vs, &Default::default(), classes)),
    },
    Entry {
        name: "transformer-small",
        description: "encoder-decoder Transformer of 3 + 3 layers, width 512",
        paper: ATTENTION,
        inputs: SENTENCES,
        classes: 10_000,
        parameters: 37_431_296,
        build: |vs, classes| Model::Transformer(Transformer::new(vs, &translation(3, classes))),
    },
    Entry {
        name: "transformer",
        description: "encoder-decoder Transformer of 6 + 6 layers, width 512: the paper's base model",
        paper: ATTENTION,
        inputs: SENTENCES,
        classes: 10_000,
        parameters: 59_500_544,
        build: |vs, classes| Model::Transformer(Transformer::new(vs, &translation(6, classes))),
    },
];

fn translation(layers: i64, vocabulary: i64) -> TransformerConfig {
    TransformerConfig {
        source_vocabulary: vocabulary,
        target_vocabulary: vocabulary,
        encoder_layers: layers,
        decoder_layers: layers,
        ..Default::default()
    }
}
