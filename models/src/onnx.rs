//! The models as ONNX files.

use crate::{Entry, Input, InputKind, Model, Size};
use fngd_module::author::{Export, GraphBuilder, Value};
use fngd_onnx::Result;
use fngd_onnx::graph::{Dim, ElementType};

impl Entry {
    /// `model`, which [`build`](Self::build) made with this many classes, as the bytes of an ONNX file: initial weights under the names
    /// of its variables, a symbolic batch, `logits` as its output. BatchNorm and Dropout stay, for whoever trains it.
    ///
    /// # Errors
    /// `is_limit()` beyond 2 GiB.
    pub fn to_onnx(&self, model: &Model, classes: i64) -> Result<Vec<u8>> {
        model.to_onnx(self.inputs, classes)
    }
}

impl Model {
    /// The same for a model of another size, whose inputs are described by `inputs`.
    ///
    /// # Errors
    /// `is_limit()` beyond 2 GiB.
    pub fn to_onnx(&self, inputs: &[Input], classes: i64) -> Result<Vec<u8>> {
        let graph = GraphBuilder::new(self.class());
        let values: Vec<Value<'_>> = inputs.iter().map(|input| declare(&graph, input)).collect();
        let logits = self.export(&values);
        // Over tokens, there are logits for each of the last input, the target.
        let per_token = inputs.last().filter(|input| input.kind == InputKind::Tokens);
        let mut dims = vec![Dim::from("batch")];
        dims.extend(per_token.iter().flat_map(|input| input.sizes).map(dim));
        dims.push(Dim::Known(classes.unsigned_abs()));
        graph.output("logits", logits, ElementType::Float32, &dims);
        graph.build()
    }

    fn class(&self) -> &'static str {
        match self {
            Self::Mlp(model) => model.class(),
            Self::DigitsCnn(model) => model.class(),
            Self::CifarResNet(model) => model.class(),
            Self::ResNet(model) => model.class(),
            Self::Vgg(model) => model.class(),
            Self::VisionTransformer(model) => model.class(),
            Self::TransformerEncoder(model) => model.class(),
            Self::Transformer(_) => "Transformer",
        }
    }

    fn export<'g>(&self, inputs: &[Value<'g>]) -> Value<'g> {
        let first = inputs[0];
        match self {
            Self::Mlp(model) => model.export(first),
            Self::DigitsCnn(model) => model.export(first),
            Self::CifarResNet(model) => model.export(first),
            Self::ResNet(model) => model.export(first),
            Self::Vgg(model) => model.export(first),
            Self::VisionTransformer(model) => model.export(first),
            Self::TransformerEncoder(model) => model.export(first),
            Self::Transformer(model) => model.export(first, inputs[1]),
        }
    }
}

fn declare<'g>(graph: &'g GraphBuilder, input: &Input) -> Value<'g> {
    let dims: Vec<Dim> = std::iter::once(Dim::from("batch")).chain(input.sizes.iter().map(dim)).collect();
    let element_type = match input.kind {
        InputKind::Values => ElementType::Float32,
        InputKind::Tokens => ElementType::Int64,
    };
    graph.input(input.name, element_type, &dims)
}

fn dim(size: &Size) -> Dim {
    match size {
        Size::Fixed(size) => Dim::Known(size.unsigned_abs()),
        Size::Any(name) => Dim::from(*name),
    }
}
