//! A model as a list of calls to `tch`, in the order of execution: what is left when an exporter's arithmetic is read back.
//!
//! `lift` makes it from the graph, one [`Operation`] for what a person would write as one call: a linear layer for MatMul and Add, one
//! attention for twenty nodes. `tree` sorts the operations into modules.

use fngd_onnx::graph::{ElementType, ValueId};

/// A model's forward pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Program {
    /// What the caller supplies, in the file's order.
    pub inputs: Vec<ValueId>,
    /// What the model computes, in the file's order.
    pub outputs: Vec<ValueId>,
    /// The calls. Each reads inputs and results of earlier ones only; no result is unused.
    pub operations: Vec<Operation>,
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What is called.
    pub kind: Kind,
    /// What it gives. More than one only for calls that return a tuple or a `Vec<Tensor>` (`chunk`, `split_with_sizes`, `unbind`).
    /// Values between two calls that stand for one node have numbers behind those of `Graph::values`.
    pub results: Vec<ValueId>,
    /// The nodes that it stands for, as indices in `Graph::nodes`, in order. The first says to which module the operation belongs.
    pub nodes: Vec<usize>,
}

/// What is called.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `xs.apply(&self.field)`: something that owns parameters.
    Layer {
        /// Which, and its sizes.
        layer: Layer,
        /// What it is applied to.
        input: ValueId,
        /// Its parameters: local name (`weight`, `bias`, `running_mean`) and where they are stored.
        parameters: Vec<Parameter>,
    },
    /// A parameter by itself, `&self.position`: a field of type `Tensor`. Its result may be an operand of calls.
    Parameter(Parameter),
    /// `receiver.method(arguments)`.
    Method {
        /// The tensor whose method it is.
        receiver: ValueId,
        /// The name in `tch`: `relu`, `flatten`.
        name: &'static str,
        /// The rest.
        arguments: Vec<Argument>,
    },
    /// `Tensor::function(arguments)`: `cat`, `scaled_dot_product_attention`.
    Function {
        /// The name in `tch`.
        name: &'static str,
        /// All of its arguments.
        arguments: Vec<Argument>,
    },
    /// `left + right`; at least one is a tensor.
    Operator {
        /// `+`, `-`, `*` or `/`.
        symbol: char,
        /// First operand.
        left: Argument,
        /// Second operand.
        right: Argument,
    },
}

/// A parameter of the generated model, and the initializer that has its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name within its layer: `weight`. Empty for [`Kind::Parameter`], whose field's name is the tree's to choose.
    pub name: String,
    /// The initializer.
    pub source: ValueId,
    /// What the generated model holds, `[out, in]` for a linear weight.
    pub dims: Vec<i64>,
    /// The generated model holds the transpose of the stored matrix.
    pub transposed: bool,
    /// Changed by training; else a buffer.
    pub trainable: bool,
}

/// A layer of `fngd_core::nn`, which are those of `tch::nn`, and its sizes.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// `nn::linear`.
    Linear {
        /// Width of the input.
        in_features: i64,
        /// Width of the output.
        out_features: i64,
        /// Whether there is one.
        bias: bool,
        /// Its variables are called `in_proj_weight`, not `in_proj.weight`: it is made by `nn::underscored_linear`.
        underscored: bool,
    },
    /// `nn::conv1d`, `conv2d`, `conv3d`; one entry per spatial dimension.
    Convolution {
        /// Channels of the input.
        in_channels: i64,
        /// Channels of the output.
        out_channels: i64,
        /// Size of the kernel.
        kernel: Vec<i64>,
        /// Step.
        stride: Vec<i64>,
        /// Zeros on both sides.
        padding: Vec<i64>,
        /// Distance of elements.
        dilation: Vec<i64>,
        /// Groups of channels.
        groups: i64,
        /// Whether there is one.
        bias: bool,
        /// `Some` for a transposed one.
        output_padding: Option<Vec<i64>>,
    },
    /// `nn::batch_norm1d`, `2d`, `3d`.
    BatchNorm {
        /// Spatial dimensions: 1 to 3.
        spatial_dims: usize,
        /// Channels.
        features: i64,
        /// Added to the variance.
        epsilon: f64,
        /// PyTorch's: share of the new value in the running mean.
        momentum: f64,
    },
    /// `nn::layer_norm`.
    LayerNorm {
        /// The normalised dimensions.
        shape: Vec<i64>,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `nn::group_norm`.
    GroupNorm {
        /// Number of groups.
        groups: i64,
        /// Channels.
        features: i64,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `nn::embedding`.
    Embedding {
        /// Rows.
        words: i64,
        /// Width.
        width: i64,
    },
}

/// An argument of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// A tensor: a result of an operation, or an input.
    Tensor(ValueId),
    /// `&[&a, &b]`.
    Tensors(Vec<ValueId>),
    /// `Some(&tensor)`.
    SomeTensor(ValueId),
    /// `None::<Tensor>` where the method is generic in its optional tensor.
    NoTensor,
    /// `None` of another type.
    None,
    /// An integer.
    Integer(Size),
    /// Several: `[2, 3]`.
    Integers(Vec<Size>),
    /// A number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// Whether the model is training: for `dropout`.
    Training,
    /// `if train { 0.1 } else { 0.0 }`: the rate of a dropout inside `scaled_dot_product_attention`.
    WhileTraining(f64),
    /// `Kind::Float`.
    ElementType(ElementType),
    /// `(Kind::Int64, device)`, the device being that of any tensor at hand: for `arange`, `zeros`, `full`.
    Options(ElementType),
    /// Text.
    Text(&'static str),
}

/// An integer argument, known or read from a tensor's size.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    /// Known: `-1` may stand for what is left in `view`.
    Known(i64),
    /// `tensor.size()[axis]`: the size of the batch or of a sequence.
    Of {
        /// The tensor.
        tensor: ValueId,
        /// The axis.
        axis: usize,
    },
    /// A product: a merged batch and head axis.
    Product(Vec<Size>),
    /// A sum: `length + 1`.
    Sum(Vec<Size>),
    /// A quotient, rounded down: `height / 2`.
    Quotient(Box<Size>, Box<Size>),
}
