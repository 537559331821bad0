//! Hand-written `tch` models that FNGD trains, one file per architecture.
//!
//! Each is a plain `tch` model over `fngd_core::nn`, with `#[derive(FngdModule)]`. Its variables have the names and sizes of the PyTorch
//! model that it follows (torchvision, timm, `torch.nn.Transformer`), so weights go from one to the other, and it starts from that
//! model's initial distributions. [`all`] lists the sizes that have names; [`find`] finds one.
//!
//! Other sizes are configurations:
//! ```
//! use fngd_core::nn::{Module, VarStore};
//! use fngd_models::{VisionTransformer, VisionTransformerConfig};
//! use tch::{Device, Kind, Tensor};
//! let variables = VarStore::new(Device::Cpu);
//! let config = VisionTransformerConfig { layers: 6, heads: 4, width: 64, ..VisionTransformerConfig::tiny_cifar() };
//! let model = VisionTransformer::new(&variables.root(), &config, 100);
//! let images = Tensor::randn([2, 3, 32, 32], (Kind::Float, Device::Cpu));
//! assert_eq!(model.forward(&images).size(), [2, 100]);
//! ```

mod attention;
mod cifar_resnet;
mod digits_cnn;
mod init;
mod layers;
mod mlp;
mod onnx;
mod registry;
mod resnet;
mod transformer;
mod transformer_encoder;
mod vgg;
mod vit;

pub use attention::MultiheadAttention;
pub use cifar_resnet::CifarResNet;
pub use digits_cnn::DigitsCnn;
pub use mlp::Mlp;
pub use registry::{Entry, Input, InputKind, Model, Size, all, find};
pub use resnet::{ResNet, ResNetConfig, Stem};
pub use transformer::{
    Decoder, DecoderLayer, Encoder, EncoderLayer, LayerConfig, NormPlacement, Tables, Transformer, TransformerConfig,
    sinusoids,
};
pub use transformer_encoder::{TransformerEncoder, TransformerEncoderConfig};
pub use vgg::{Vgg, VggConfig, VggHead};
pub use vit::{VisionTransformer, VisionTransformerConfig};
