//! A lifted program, executed call by call: what the generated Rust will do, without compiling it.

use fngd_codegen::operation::{Argument, Kind, Layer, Operation, Parameter, Program, Size};
use fngd_onnx::graph::{ElementType, ValueId};
use std::collections::BTreeMap;
use tch::{Device, Kind as Type, Tensor};

/// Values of a program's run in inference mode.
pub struct Execution<'a> {
    values: BTreeMap<ValueId, Tensor>,
    stored: &'a dyn Fn(&Parameter) -> Tensor,
}

/// The outputs of `program`. `stored` has its parameters, as the generated model holds them.
pub fn execute(program: &Program, inputs: &[Tensor], stored: &dyn Fn(&Parameter) -> Tensor) -> Vec<Tensor> {
    let values = program.inputs.iter().zip(inputs).map(|(id, input)| (*id, input.shallow_clone())).collect();
    let mut execution = Execution { values, stored };
    for operation in &program.operations {
        let results = execution.call(operation);
        assert!(results.len() == operation.results.len(), "{operation:?}");
        execution.values.extend(operation.results.iter().copied().zip(results));
    }
    program.outputs.iter().map(|output| execution.values[output].shallow_clone()).collect()
}

impl Execution<'_> {
    fn call(&self, operation: &Operation) -> Vec<Tensor> {
        match &operation.kind {
            Kind::Layer { layer, input, parameters } => {
                let tensors: BTreeMap<&str, Tensor> =
                    parameters.iter().map(|parameter| (parameter.name.as_str(), (self.stored)(parameter))).collect();
                vec![apply(layer, &self.values[input], &tensors)]
            }
            Kind::Parameter(parameter) => vec![(self.stored)(parameter)],
            Kind::Method { receiver, name, arguments } => self.method(&self.values[receiver], name, arguments),
            Kind::Function { name, arguments } => vec![self.function(name, arguments)],
            Kind::Operator { symbol, left, right } => vec![self.operator(*symbol, left, right)],
        }
    }

    fn operator(&self, symbol: char, left: &Argument, right: &Argument) -> Tensor {
        use Argument::{Float, Tensor as T};
        if let Argument::Integer(number) = right {
            let (a, number) = (self.tensor(left), self.size(number));
            return match symbol {
                '+' => a + number,
                '-' => a - number,
                '*' => a * number,
                other => panic!("{other} {number}"),
            };
        }
        match (symbol, left, right) {
            ('+', T(a), T(b)) => &self.values[a] + &self.values[b],
            ('-', T(a), T(b)) => &self.values[a] - &self.values[b],
            ('*', T(a), T(b)) => &self.values[a] * &self.values[b],
            ('/', T(a), T(b)) => &self.values[a] / &self.values[b],
            ('+', T(a), Float(b)) => &self.values[a] + *b,
            ('-', T(a), Float(b)) => &self.values[a] - *b,
            ('*', T(a), Float(b)) => &self.values[a] * *b,
            ('/', T(a), Float(b)) => &self.values[a] / *b,
            ('+', Float(a), T(b)) => *a + &self.values[b],
            ('-', Float(a), T(b)) => *a - &self.values[b],
            ('*', Float(a), T(b)) => *a * &self.values[b],
            ('/', Float(a), T(b)) => *a / &self.values[b],
            other => panic!("{other:?}"),
        }
    }

    fn size(&self, size: &Size) -> i64 {
        match size {
            Size::Known(number) => *number,
            Size::Of { tensor, axis } => self.values[tensor].size()[*axis],
            Size::Product(all) => all.iter().map(|size| self.size(size)).product(),
            Size::Sum(all) => all.iter().map(|size| self.size(size)).sum(),
            Size::Quotient(a, b) => self.size(a).div_euclid(self.size(b)),
        }
    }

    fn integer(&self, argument: &Argument) -> i64 {
        match argument {
            Argument::Integer(size) => self.size(size),
            other => panic!("{other:?} is no integer"),
        }
    }

    fn optional_integer(&self, argument: &Argument) -> Option<i64> {
        if let Argument::None = argument { None } else { Some(self.integer(argument)) }
    }

    fn integers(&self, argument: &Argument) -> Vec<i64> {
        match argument {
            Argument::Integers(all) => all.iter().map(|size| self.size(size)).collect(),
            other => panic!("{other:?} is no list of integers"),
        }
    }

    fn number(&self, argument: &Argument) -> f64 {
        match argument {
            Argument::Float(number) => *number,
            Argument::Integer(size) => self.size(size) as f64,
            other => panic!("{other:?} is no number"),
        }
    }

    fn tensor(&self, argument: &Argument) -> &Tensor {
        match argument {
            Argument::Tensor(id) | Argument::SomeTensor(id) => &self.values[id],
            other => panic!("{other:?} is no tensor"),
        }
    }

    fn optional(&self, argument: &Argument) -> Option<&Tensor> {
        if let Argument::NoTensor = argument { None } else { Some(self.tensor(argument)) }
    }

    fn method(&self, x: &Tensor, name: &str, a: &[Argument]) -> Vec<Tensor> {
        let flag = |at: usize| matches!(a[at], Argument::Bool(true));
        let list = |at: usize| self.integers(&a[at]);
        let integer = |at: usize| self.integer(&a[at]);
        let text = |at: usize| if let Argument::Text(text) = a[at] { text } else { panic!("{:?}", a[at]) };
        vec![match name {
            "chunk" => return x.chunk(integer(0), integer(1)),
            "split_with_sizes" => return x.split_with_sizes(list(0), integer(1)),
            "abs" => x.abs(),
            "adaptive_avg_pool2d" => x.adaptive_avg_pool2d(list(0)),
            "amax" => x.amax(list(0), flag(1)),
            "amin" => x.amin(list(0), flag(1)),
            "avg_pool2d" => x.avg_pool2d(list(0), list(1), list(2), flag(3), flag(4), None::<i64>),
            "clamp" => x.clamp(self.number(&a[0]), self.number(&a[1])),
            "clamp_min" => x.clamp_min(self.number(&a[0])),
            "clamp_max" => x.clamp_max(self.number(&a[0])),
            "constant_pad_nd" => x.constant_pad_nd(list(0)),
            "cos" => x.cos(),
            "cumsum" => x.cumsum(integer(0), None::<Type>),
            "dropout" => x.dropout(self.number(&a[0]), false),
            "elu" => x.elu(),
            "eq" => x.eq(self.number(&a[0])),
            "eq_tensor" => x.eq_tensor(self.tensor(&a[0])),
            "erf" => x.erf(),
            "exp" => x.exp(),
            "expand" => x.expand(list(0), flag(1)),
            "flatten" => x.flatten(integer(0), integer(1)),
            "flip" => x.flip(list(0)),
            "floor" => x.floor(),
            "gather" => x.gather(integer(0), self.tensor(&a[1]), flag(2)),
            "ge" => x.ge(self.number(&a[0])),
            "ge_tensor" => x.ge_tensor(self.tensor(&a[0])),
            "gelu" => x.gelu(text(0)),
            "gt" => x.gt(self.number(&a[0])),
            "gt_tensor" => x.gt_tensor(self.tensor(&a[0])),
            "hardsigmoid" => x.hardsigmoid(),
            "hardswish" => x.hardswish(),
            "index_select" => x.index_select(integer(0), self.tensor(&a[1])),
            "instance_norm" => {
                let [weight, bias, mean, variance] = [0, 1, 2, 3].map(|at| self.optional(&a[at]));
                x.instance_norm(weight, bias, mean, variance, flag(4), self.number(&a[5]), self.number(&a[6]), flag(7))
            }
            "isnan" => x.isnan(),
            "layer_norm" => {
                x.layer_norm(list(0), self.optional(&a[1]), self.optional(&a[2]), self.number(&a[3]), flag(4))
            }
            "le" => x.le(self.number(&a[0])),
            "le_tensor" => x.le_tensor(self.tensor(&a[0])),
            "leaky_relu" => x.leaky_relu(),
            "linear" => x.linear(self.tensor(&a[0]), self.optional(&a[1])),
            "log" => x.log(),
            "log_softmax" => x.log_softmax(integer(0), None::<Type>),
            "logical_and" => x.logical_and(self.tensor(&a[0])),
            "logical_not" => x.logical_not(),
            "logical_or" => x.logical_or(self.tensor(&a[0])),
            "lt" => x.lt(self.number(&a[0])),
            "lt_tensor" => x.lt_tensor(self.tensor(&a[0])),
            "masked_fill" => x.masked_fill(self.tensor(&a[0]), self.number(&a[1])),
            "matmul" => x.matmul(self.tensor(&a[0])),
            "max_pool1d" => x.max_pool1d(list(0), list(1), list(2), list(3), flag(4)),
            "max_pool2d" => x.max_pool2d(list(0), list(1), list(2), list(3), flag(4)),
            "maximum" => x.maximum(self.tensor(&a[0])),
            "mean_dim" => x.mean_dim(&list(0)[..], flag(1), None::<Type>),
            "minimum" => x.minimum(self.tensor(&a[0])),
            "mish" => x.mish(),
            "narrow" => x.narrow(integer(0), integer(1), integer(2)),
            "neg" => x.neg(),
            "pad" => x.pad(list(0), text(1), if let Argument::None = a[2] { None } else { Some(self.number(&a[2])) }),
            "permute" => x.permute(list(0)),
            "pixel_shuffle" => x.pixel_shuffle(integer(0)),
            "pow" => x.pow(self.tensor(&a[0])),
            "pow_tensor_scalar" => x.pow_tensor_scalar(self.number(&a[0])),
            "prelu" => x.prelu(self.tensor(&a[0])),
            "reciprocal" => x.reciprocal(),
            "relu" => x.relu(),
            "relu6" => x.relu6(),
            "repeat" => x.repeat(list(0)),
            "reshape" => x.reshape(list(0)),
            "rms_norm" => x.rms_norm(list(0), self.optional(&a[1]), self.number(&a[2])),
            "roll" => x.roll(list(0), list(1)),
            "select" => x.select(integer(0), integer(1)),
            "selu" => x.selu(),
            "sigmoid" => x.sigmoid(),
            "sign" => x.sign(),
            "silu" => x.silu(),
            "sin" => x.sin(),
            "slice" => x.slice(integer(0), self.optional_integer(&a[1]), self.optional_integer(&a[2]), integer(3)),
            "softmax" => x.softmax(integer(0), None::<Type>),
            "softplus" => x.softplus(),
            "sqrt" => x.sqrt(),
            "square" => x.square(),
            "squeeze_dim" => x.squeeze_dim(integer(0)),
            "sum_dim_intlist" => x.sum_dim_intlist(&list(0)[..], flag(1), None::<Type>),
            "tanh" => x.tanh(),
            "to_kind" => {
                let Argument::ElementType(element) = a[0] else { panic!("{:?}", a[0]) };
                x.to_kind(kind(element))
            }
            "transpose" => x.transpose(integer(0), integer(1)),
            "tril" => x.tril(integer(0)),
            "triu" => x.triu(integer(0)),
            "unsqueeze" => x.unsqueeze(integer(0)),
            "upsample_bilinear2d" => x.upsample_bilinear2d(list(0), flag(1), None::<f64>, None::<f64>),
            "upsample_nearest2d" => x.upsample_nearest2d(list(0), None::<f64>, None::<f64>),
            "view" => x.view(&list(0)[..]),
            "where_self" => x.where_self(self.tensor(&a[0]), self.tensor(&a[1])),
            other => panic!("method {other} is not known here"),
        }]
    }

    fn function(&self, name: &str, a: &[Argument]) -> Tensor {
        let options = |argument: &Argument| match argument {
            Argument::Options(element) => (kind(*element), Device::Cpu),
            other => panic!("{other:?} are no options"),
        };
        match name {
            "arange" => Tensor::arange(self.integer(&a[0]), options(&a[1])),
            "arange_start" => Tensor::arange_start(self.integer(&a[0]), self.integer(&a[1]), options(&a[2])),
            "cat" => Tensor::cat(&self.tensors(&a[0]), self.integer(&a[1])),
            "stack" => Tensor::stack(&self.tensors(&a[0]), self.integer(&a[1])),
            "full" => Tensor::full(self.integers(&a[0]), self.number(&a[1]), options(&a[2])),
            "scaled_dot_product_attention" => {
                let [query, key, value] = [0, 1, 2].map(|at| self.tensor(&a[at]));
                let causal = matches!(a[5], Argument::Bool(true));
                let scale = if let Argument::Float(scale) = a[6] { Some(scale) } else { None };
                let grouped = matches!(a[7], Argument::Bool(true));
                Tensor::scaled_dot_product_attention(
                    query,
                    key,
                    value,
                    self.optional(&a[3]),
                    0.0,
                    causal,
                    scale,
                    grouped,
                )
            }
            other => panic!("function {other} is not known here"),
        }
    }

    fn tensors(&self, argument: &Argument) -> Vec<&Tensor> {
        match argument {
            Argument::Tensors(all) => all.iter().map(|id| &self.values[id]).collect(),
            other => panic!("{other:?} is no list of tensors"),
        }
    }
}

fn apply(layer: &Layer, x: &Tensor, tensors: &BTreeMap<&str, Tensor>) -> Tensor {
    let (weight, bias) = (&tensors["weight"], tensors.get("bias"));
    match layer {
        Layer::Linear { in_features, out_features, bias: has_bias, .. } => {
            assert_eq!(weight.size(), [*out_features, *in_features]);
            assert_eq!(bias.is_some(), *has_bias);
            x.linear(weight, bias)
        }
        Layer::Convolution { stride, padding, dilation, groups, output_padding, .. } => {
            let transposed = output_padding.is_some();
            let extra = output_padding.clone().unwrap_or_else(|| vec![0; stride.len()]);
            x.convolution(weight, bias, &stride[..], &padding[..], &dilation[..], transposed, &extra[..], *groups)
        }
        Layer::BatchNorm { epsilon, momentum, .. } => {
            let (mean, variance) = (Some(&tensors["running_mean"]), Some(&tensors["running_var"]));
            x.batch_norm(Some(weight), bias, mean, variance, false, *momentum, *epsilon, true)
        }
        Layer::LayerNorm { shape, epsilon } => x.layer_norm(&shape[..], Some(weight), bias, *epsilon, true),
        Layer::GroupNorm { groups, epsilon, .. } => x.group_norm(*groups, Some(weight), bias, *epsilon, true),
        Layer::Embedding { .. } => Tensor::embedding(weight, x, -1, false, false),
    }
}

fn kind(element: ElementType) -> Type {
    match element {
        ElementType::Bool => Type::Bool,
        ElementType::Int32 => Type::Int,
        ElementType::Int64 => Type::Int64,
        _ => Type::Float,
    }
}
