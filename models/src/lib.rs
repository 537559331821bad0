//! Hand-written `tch` models that FNGD trains. They have the variables of the PyTorch models in `architectures.py`, under the same names.

mod cifar_resnet;
mod mlp;

pub use cifar_resnet::CifarResNet;
pub use mlp::Mlp;
