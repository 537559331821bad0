//! Which operators there are: one line each.

use super::operator::Build;
use super::ops::{
    activation, attention, batch_normalisation, constant, convolution, dropout, elementwise, index, matmul, normalise,
    pad, parts, pool, power, random, reduce, resize, shape, softmax,
};
use fngd_onnx::graph::Node;
use std::ops::RangeInclusive;

/// One operator of ai.onnx.
pub(crate) struct Entry {
    pub op_type: &'static str,
    /// First operator set that has it. Later ones are taken to mean the same unless the operator's file says otherwise.
    pub since: i64,
    /// How many inputs a node may have.
    pub inputs: RangeInclusive<usize>,
    pub build: Build,
}

const ANY: usize = usize::MAX;

#[rustfmt::skip]
const OPERATORS: &[Entry] = &[
    entry("Abs", 1, 1..=1, elementwise::unary),
    entry("Add", 1, 2..=2, elementwise::binary),
    entry("And", 1, 2..=2, elementwise::binary),
    entry("ArgMax", 1, 1..=1, reduce::arg_max),
    entry("Attention", 23, 3..=7, attention::attention),
    entry("AveragePool", 1, 1..=1, pool::average_pool),
    entry("BatchNormalization", 1, 5..=5, batch_normalisation::build),
    entry("Cast", 6, 1..=1, constant::cast),
    entry("CastLike", 15, 2..=2, constant::cast_like),
    entry("Ceil", 1, 1..=1, elementwise::unary),
    entry("Clip", 1, 1..=3, activation::clip),
    entry("Concat", 1, 1..=ANY, parts::concat),
    entry("ConstantOfShape", 9, 1..=1, constant::constant_of_shape),
    entry("Conv", 1, 2..=3, convolution::convolution),
    entry("ConvTranspose", 1, 2..=3, convolution::convolution),
    entry("Cos", 7, 1..=1, elementwise::unary),
    entry("CumSum", 11, 2..=2, reduce::cum_sum),
    entry("Div", 1, 2..=2, elementwise::binary),
    entry("Dropout", 1, 1..=3, dropout::dropout),
    entry("Elu", 1, 1..=1, activation::elu),
    entry("Equal", 1, 2..=2, elementwise::binary),
    entry("Erf", 9, 1..=1, elementwise::unary),
    entry("Exp", 1, 1..=1, elementwise::unary),
    entry("Expand", 8, 2..=2, shape::expand),
    entry("Flatten", 1, 1..=1, shape::flatten),
    entry("Floor", 1, 1..=1, elementwise::unary),
    entry("Gather", 1, 2..=2, index::gather),
    entry("GatherElements", 11, 2..=2, index::gather_elements),
    entry("GatherND", 11, 2..=2, index::gather_nd),
    entry("Gelu", 20, 1..=1, activation::gelu),
    entry("Gemm", 1, 2..=3, matmul::gemm),
    entry("GlobalAveragePool", 1, 1..=1, reduce::global_pool),
    entry("GlobalMaxPool", 1, 1..=1, reduce::global_pool),
    entry("Greater", 1, 2..=2, elementwise::binary),
    entry("GreaterOrEqual", 12, 2..=2, elementwise::binary),
    entry("GroupNormalization", 18, 3..=3, normalise::group),
    entry("HardSigmoid", 1, 1..=1, activation::hard_sigmoid),
    entry("HardSwish", 14, 1..=1, elementwise::unary),
    entry("Identity", 1, 1..=1, elementwise::unary),
    entry("InstanceNormalization", 1, 3..=3, normalise::instance),
    entry("IsNaN", 9, 1..=1, elementwise::unary),
    entry("LRN", 1, 1..=1, normalise::local_response),
    entry("LayerNormalization", 17, 2..=3, normalise::layer),
    entry("LeakyRelu", 1, 1..=1, activation::leaky_relu),
    entry("Less", 1, 2..=2, elementwise::binary),
    entry("LessOrEqual", 12, 2..=2, elementwise::binary),
    entry("Log", 1, 1..=1, elementwise::unary),
    entry("LogSoftmax", 1, 1..=1, softmax::softmax),
    entry("MatMul", 1, 2..=2, matmul::matmul),
    entry("Max", 1, 1..=ANY, elementwise::variadic),
    entry("MaxPool", 1, 1..=1, pool::max_pool),
    entry("Min", 1, 1..=ANY, elementwise::variadic),
    entry("Mod", 10, 2..=2, elementwise::binary),
    entry("Mul", 1, 2..=2, elementwise::binary),
    entry("Neg", 1, 1..=1, elementwise::unary),
    entry("Not", 1, 1..=1, elementwise::unary),
    entry("Or", 1, 2..=2, elementwise::binary),
    entry("PRelu", 1, 2..=2, activation::prelu),
    entry("Pad", 1, 1..=4, pad::pad),
    entry("Pow", 1, 2..=2, power::pow),
    entry("RMSNormalization", 23, 2..=2, normalise::rms),
    entry("RandomUniformLike", 1, 1..=1, random::random_uniform_like),
    entry("Range", 11, 3..=3, constant::range),
    entry("Reciprocal", 1, 1..=1, elementwise::unary),
    entry("ReduceMax", 1, 1..=2, reduce::reduce),
    entry("ReduceMean", 1, 1..=2, reduce::reduce),
    entry("ReduceMin", 1, 1..=2, reduce::reduce),
    entry("ReduceSum", 1, 1..=2, reduce::reduce),
    entry("Relu", 1, 1..=1, activation::relu),
    entry("Reshape", 1, 1..=2, shape::reshape),
    entry("Resize", 10, 1..=4, resize::resize),
    entry("ScatterND", 11, 3..=3, index::scatter_nd),
    entry("Selu", 1, 1..=1, activation::selu),
    entry("Shape", 1, 1..=1, shape::shape),
    entry("Sigmoid", 1, 1..=1, elementwise::unary),
    entry("Sin", 7, 1..=1, elementwise::unary),
    entry("Slice", 1, 1..=5, parts::slice),
    entry("Softmax", 1, 1..=1, softmax::softmax),
    entry("Softplus", 1, 1..=1, elementwise::unary),
    entry("Split", 1, 1..=2, parts::split),
    entry("Sqrt", 1, 1..=1, elementwise::unary),
    entry("Squeeze", 1, 1..=2, shape::squeeze),
    entry("Sub", 1, 2..=2, elementwise::binary),
    entry("Sum", 1, 1..=ANY, elementwise::variadic),
    entry("Tanh", 1, 1..=1, elementwise::unary),
    entry("Tile", 6, 2..=2, shape::tile),
    entry("Transpose", 1, 1..=1, shape::transpose),
    entry("Trilu", 14, 1..=2, parts::trilu),
    entry("Unsqueeze", 1, 1..=2, shape::unsqueeze),
    entry("Where", 9, 3..=3, constant::where_),
];

const fn entry(op_type: &'static str, since: i64, inputs: RangeInclusive<usize>, build: Build) -> Entry {
    Entry { op_type, since, inputs, build }
}

/// The operator that `node` asks for, if there is one.
pub(crate) fn find(node: &Node) -> Option<&'static Entry> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return None;
    }
    let index = OPERATORS.binary_search_by(|entry| entry.op_type.cmp(node.op_type.as_str())).ok()?;
    Some(&OPERATORS[index]).filter(|entry| node.opset >= entry.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_holds_the_90_operators_of_the_first_release() {
        assert!(OPERATORS.is_sorted_by(|left, right| left.op_type < right.op_type));
        assert_eq!(OPERATORS.len(), 90);
    }

    #[test]
    fn what_reading_accepts_can_be_built() {
        let found = |op_type: &str, opset: i64| {
            let (name, domain) = (String::new(), String::new());
            let (attributes, metadata) = Default::default();
            let (inputs, outputs) = (Vec::new(), Vec::new());
            find(&Node {
                index: Some(0),
                name,
                op_type: op_type.into(),
                domain,
                opset,
                inputs,
                outputs,
                attributes,
                metadata,
            })
            .is_some()
        };
        for operator in fngd_onnx::supported::OPERATORS {
            assert!(
                // Newer operator sets than are known are taken to be the same: the import report says so.
                found(operator.op_type, operator.since) && found(operator.op_type, 99),
                "{}",
                operator.op_type
            );
        }
        assert!(!found("Gelu", 19) && !found("Elephant", 17));
    }
}
