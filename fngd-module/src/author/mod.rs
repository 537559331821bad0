//! Hand-written models as ONNX files, without Python.
//!
//! A model says once more what its `forward` says, on [`Value`]s in place of tensors. Parameters take their names from the modules
//! that they are in, as in the `VarStore`; the initial weights are the tensors themselves.
//!
//! ```
//! use fngd_core::nn::{self, Module};
//! use fngd_module::author::{Apply, Export, GraphBuilder, Value};
//! use fngd_onnx::graph::ElementType::Float32;
//! use tch::{Device, Tensor};
//!
//! #[derive(Debug)]
//! struct Classifier {
//!     hidden: nn::Linear,
//!     output: nn::Linear,
//! }
//!
//! impl Module for Classifier {
//!     fn forward(&self, images: &Tensor) -> Tensor {
//!         images.apply(&self.hidden).relu().apply(&self.output)
//!     }
//! }
//!
//! impl Export for Classifier {
//!     fn class(&self) -> &'static str {
//!         "Classifier"
//!     }
//!
//!     fn export<'g>(&self, images: Value<'g>) -> Value<'g> {
//!         images.apply("hidden", &self.hidden).relu().apply("output", &self.output)
//!     }
//! }
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let root = vs.root();
//! let classifier = Classifier {
//!     hidden: nn::linear(&root / "hidden", 64, 32, Default::default()),
//!     output: nn::linear(&root / "output", 32, 10, Default::default()),
//! };
//! let graph = GraphBuilder::new(classifier.class());
//! let images = graph.input("images", Float32, &["batch".into(), 64.into()]);
//! graph.output("logits", classifier.export(images), Float32, &["batch".into(), 10.into()]);
//! let file: Vec<u8> = graph.build()?;
//! # let model = fngd_onnx::OnnxModel::from_bytes(file, "".as_ref(), &Default::default())?;
//! # assert_eq!(model.parameters().len(), 4);
//! # Ok::<(), fngd_onnx::Error>(())
//! ```

mod layers;

pub use fngd_onnx::author::{Existing, GraphBuilder, NodeBuilder, Value, Window, save};
pub use layers::{linear, parameter};

use std::fmt::Display;

/// A layer or model that can write itself into an ONNX graph.
pub trait Export {
    /// The name of its type, which the file keeps for whoever makes code from it. Layers have the names of PyTorch's.
    fn class(&self) -> &'static str;

    /// What `forward` computes of `xs`. In training, Dropout and BatchNorm are the trainer's to switch.
    fn export<'g>(&self, xs: Value<'g>) -> Value<'g>;
}

/// Applying modules to values, as [`tch::Tensor::apply`] applies them to tensors.
pub trait Apply {
    /// What `module` computes of this value. `name` is its field in the module that is being written, `layers.0` in a list.
    fn apply(self, name: impl Display, module: &impl Export) -> Self;

    /// The modules of a list, one after the other.
    fn apply_all(self, name: impl Display, modules: &[impl Export]) -> Self;
}

impl Apply for Value<'_> {
    fn apply(self, name: impl Display, module: &impl Export) -> Self {
        self.graph().module(&name.to_string(), module.class(), || module.export(self))
    }

    fn apply_all(self, name: impl Display, modules: &[impl Export]) -> Self {
        let numbered = modules.iter().enumerate();
        numbered.fold(self, |xs, (index, module)| xs.apply(format_args!("{name}.{index}"), module))
    }
}
