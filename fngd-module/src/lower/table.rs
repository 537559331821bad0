//! Which operators there are: one line each.

use super::operator::Build;
use super::ops::{
    activation, arg_extreme, attention, batch_normalisation, cache, cast, causal_convolution, centre, clip, columns,
    constant, convolution, cumulative, depth_space, dropout, einsum, elementwise, fourier, fused_matmul, global_pool,
    grid_sample, index, linear_attention, loss, matmul, normalise, one_hot, pad, parts, pool, pool_norm, power,
    quantise, random, recurrent, reduce, resize, roi_align, rotary, scatter, select, shape, softmax, standardise,
    suppress, swish, threshold, top_k, unpool,
};
use fngd_onnx::graph::Node;
use fngd_onnx::supported::MICROSOFT_DOMAIN;
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
    entry("Acos", 7, 1..=1, elementwise::unary),
    entry("Acosh", 9, 1..=1, elementwise::unary),
    entry("Add", 1, 2..=2, elementwise::binary),
    entry("AffineGrid", 20, 2..=2, grid_sample::affine_grid),
    entry("And", 1, 2..=2, elementwise::binary),
    entry("ArgMax", 1, 1..=1, arg_extreme::arg_extreme),
    entry("ArgMin", 1, 1..=1, arg_extreme::arg_extreme),
    entry("Asin", 7, 1..=1, elementwise::unary),
    entry("Asinh", 9, 1..=1, elementwise::unary),
    entry("Atan", 7, 1..=1, elementwise::unary),
    entry("Atanh", 9, 1..=1, elementwise::unary),
    entry("Attention", 23, 3..=7, attention::attention),
    entry("AveragePool", 1, 1..=1, pool::average_pool),
    entry("BatchNormalization", 1, 5..=5, batch_normalisation::build),
    entry("Bernoulli", 15, 1..=1, random::bernoulli),
    entry("BitShift", 11, 2..=2, elementwise::binary),
    entry("BitwiseAnd", 18, 2..=2, elementwise::binary),
    entry("BitwiseNot", 18, 1..=1, elementwise::unary),
    entry("BitwiseOr", 18, 2..=2, elementwise::binary),
    entry("BitwiseXor", 18, 2..=2, elementwise::binary),
    entry("Cast", 1, 1..=1, cast::cast),
    entry("CastLike", 15, 2..=2, cast::cast_like),
    entry("CausalConvWithState", 27, 2..=4, causal_convolution::build),
    entry("Ceil", 1, 1..=1, elementwise::unary),
    entry("Celu", 12, 1..=1, activation::celu),
    entry("CenterCropPad", 18, 2..=2, centre::centre_crop_pad),
    entry("Clip", 1, 1..=3, clip::clip),
    entry("Col2Im", 18, 3..=3, columns::col2im),
    entry("Compress", 9, 2..=2, select::compress),
    entry("Concat", 1, 1..=ANY, parts::concat),
    entry("ConstantOfShape", 9, 1..=1, constant::constant_of_shape),
    entry("Conv", 1, 2..=3, convolution::convolution),
    entry("ConvTranspose", 1, 2..=3, convolution::convolution),
    entry("Cos", 7, 1..=1, elementwise::unary),
    entry("Cosh", 9, 1..=1, elementwise::unary),
    entry("CumProd", 26, 2..=2, cumulative::cumulative),
    entry("CumSum", 11, 2..=2, cumulative::cumulative),
    entry("DFT", 17, 1..=3, fourier::dft),
    entry("DepthToSpace", 1, 1..=1, depth_space::depth_to_space),
    entry("DequantizeLinear", 10, 2..=3, quantise::dequantize),
    entry("Det", 11, 1..=1, elementwise::unary),
    entry("Div", 1, 2..=2, elementwise::binary),
    entry("Dropout", 1, 1..=3, dropout::dropout),
    entry("DynamicQuantizeLinear", 11, 1..=1, quantise::dynamic_quantize),
    entry("Einsum", 12, 1..=ANY, einsum::einsum),
    entry("Elu", 1, 1..=1, activation::elu),
    entry("Equal", 1, 2..=2, elementwise::binary),
    entry("Erf", 9, 1..=1, elementwise::unary),
    entry("Exp", 1, 1..=1, elementwise::unary),
    entry("Expand", 8, 2..=2, shape::expand),
    entry("EyeLike", 9, 1..=1, one_hot::eye_like),
    entry("Flatten", 1, 1..=1, shape::flatten),
    entry("Floor", 1, 1..=1, elementwise::unary),
    entry("GRU", 1, 3..=6, recurrent::recurrent),
    entry("Gather", 1, 2..=2, index::gather),
    entry("GatherElements", 11, 2..=2, index::gather_elements),
    entry("GatherND", 11, 2..=2, index::gather_nd),
    entry("Gelu", 20, 1..=1, activation::gelu),
    entry("Gemm", 1, 2..=3, matmul::gemm),
    entry("GlobalAveragePool", 1, 1..=1, global_pool::global_pool),
    entry("GlobalLpPool", 1, 1..=1, global_pool::global_pool),
    entry("GlobalMaxPool", 1, 1..=1, global_pool::global_pool),
    entry("Greater", 1, 2..=2, elementwise::binary),
    entry("GreaterOrEqual", 12, 2..=2, elementwise::binary),
    entry("GridSample", 16, 2..=2, grid_sample::grid_sample),
    entry("GroupNormalization", 18, 3..=3, normalise::group),
    entry("HardSigmoid", 1, 1..=1, activation::hard_sigmoid),
    entry("HardSwish", 14, 1..=1, elementwise::unary),
    entry("Hardmax", 1, 1..=1, softmax::softmax),
    entry("Identity", 1, 1..=1, elementwise::unary),
    entry("InstanceNormalization", 1, 3..=3, normalise::instance),
    entry("IsInf", 10, 1..=1, elementwise::is_inf),
    entry("IsNaN", 9, 1..=1, elementwise::unary),
    entry("LRN", 1, 1..=1, normalise::local_response),
    entry("LSTM", 1, 3..=8, recurrent::recurrent),
    entry("LayerNormalization", 17, 2..=3, normalise::layer),
    entry("LeakyRelu", 1, 1..=1, activation::leaky_relu),
    entry("Less", 1, 2..=2, elementwise::binary),
    entry("LessOrEqual", 12, 2..=2, elementwise::binary),
    entry("LinearAttention", 27, 3..=6, linear_attention::build),
    entry("Log", 1, 1..=1, elementwise::unary),
    entry("LogSoftmax", 1, 1..=1, softmax::softmax),
    entry("LpNormalization", 1, 1..=1, standardise::lp),
    entry("LpPool", 2, 1..=1, pool_norm::lp_pool),
    entry("MatMul", 1, 2..=2, matmul::matmul),
    entry("Max", 1, 1..=ANY, elementwise::variadic),
    entry("MaxPool", 1, 1..=1, pool::max_pool),
    entry("MaxUnpool", 9, 2..=3, unpool::max_unpool),
    entry("Mean", 1, 1..=ANY, elementwise::variadic),
    entry("MeanVarianceNormalization", 9, 1..=1, standardise::mean_variance),
    entry("Min", 1, 1..=ANY, elementwise::variadic),
    entry("Mish", 18, 1..=1, elementwise::unary),
    entry("Mod", 10, 2..=2, elementwise::binary),
    entry("Mul", 1, 2..=2, elementwise::binary),
    entry("Neg", 1, 1..=1, elementwise::unary),
    entry("NegativeLogLikelihoodLoss", 12, 2..=3, loss::loss),
    entry("NonMaxSuppression", 10, 2..=5, suppress::non_max_suppression),
    entry("NonZero", 9, 1..=1, select::non_zero),
    entry("Not", 1, 1..=1, elementwise::unary),
    entry("OneHot", 9, 3..=3, one_hot::one_hot),
    entry("Or", 1, 2..=2, elementwise::binary),
    entry("PRelu", 1, 2..=2, activation::prelu),
    entry("Pad", 1, 1..=4, pad::pad),
    entry("Pow", 1, 2..=2, power::pow),
    entry("QuantizeLinear", 10, 2..=3, quantise::quantize),
    entry("RMSNormalization", 23, 2..=2, normalise::rms),
    entry("RNN", 1, 3..=6, recurrent::recurrent),
    entry("RandomNormal", 1, 0..=0, random::random),
    entry("RandomNormalLike", 1, 1..=1, random::random),
    entry("RandomUniform", 1, 0..=0, random::random),
    entry("RandomUniformLike", 1, 1..=1, random::random),
    entry("Range", 11, 3..=3, constant::range),
    entry("Reciprocal", 1, 1..=1, elementwise::unary),
    entry("ReduceL1", 1, 1..=2, reduce::reduce),
    entry("ReduceL2", 1, 1..=2, reduce::reduce),
    entry("ReduceLogSum", 1, 1..=2, reduce::reduce),
    entry("ReduceLogSumExp", 1, 1..=2, reduce::reduce),
    entry("ReduceMax", 1, 1..=2, reduce::reduce),
    entry("ReduceMean", 1, 1..=2, reduce::reduce),
    entry("ReduceMin", 1, 1..=2, reduce::reduce),
    entry("ReduceProd", 1, 1..=2, reduce::reduce),
    entry("ReduceSum", 1, 1..=2, reduce::reduce),
    entry("ReduceSumSquare", 1, 1..=2, reduce::reduce),
    entry("Relu", 1, 1..=1, activation::relu),
    entry("Reshape", 1, 1..=2, shape::reshape),
    entry("Resize", 10, 1..=4, resize::resize),
    entry("ReverseSequence", 10, 2..=2, select::reverse_sequence),
    entry("RoiAlign", 10, 3..=3, roi_align::roi_align),
    entry("RotaryEmbedding", 23, 3..=4, rotary::rotary),
    entry("Round", 11, 1..=1, elementwise::unary),
    entry("STFT", 17, 2..=4, fourier::stft),
    entry("Scatter", 9, 3..=3, scatter::scatter_elements),
    entry("ScatterElements", 11, 3..=3, scatter::scatter_elements),
    entry("ScatterND", 11, 3..=3, scatter::scatter_nd),
    entry("Selu", 1, 1..=1, activation::selu),
    entry("Shape", 1, 1..=1, shape::shape),
    entry("Shrink", 9, 1..=1, threshold::shrink),
    entry("Sigmoid", 1, 1..=1, elementwise::unary),
    entry("Sign", 9, 1..=1, elementwise::unary),
    entry("SimplifiedLayerNormalization", 1, 2..=2, normalise::rms),
    entry("Sin", 7, 1..=1, elementwise::unary),
    entry("Sinh", 9, 1..=1, elementwise::unary),
    entry("Size", 1, 1..=1, shape::size),
    entry("Slice", 1, 1..=5, parts::slice),
    entry("Softmax", 1, 1..=1, softmax::softmax),
    entry("SoftmaxCrossEntropyLoss", 12, 2..=3, loss::loss),
    entry("Softplus", 1, 1..=1, elementwise::unary),
    entry("Softsign", 1, 1..=1, elementwise::unary),
    entry("SpaceToDepth", 1, 1..=1, depth_space::space_to_depth),
    entry("Split", 1, 1..=2, parts::split),
    entry("Sqrt", 1, 1..=1, elementwise::unary),
    entry("Squeeze", 1, 1..=2, shape::squeeze),
    entry("Sub", 1, 2..=2, elementwise::binary),
    entry("Sum", 1, 1..=ANY, elementwise::variadic),
    entry("SwiGLU", 28, 2..=2, swish::swish),
    entry("Swish", 24, 1..=1, swish::swish),
    entry("Tan", 7, 1..=1, elementwise::unary),
    entry("Tanh", 1, 1..=1, elementwise::unary),
    entry("TensorScatter", 24, 2..=3, cache::tensor_scatter),
    entry("ThresholdedRelu", 10, 1..=1, threshold::thresholded_relu),
    entry("Tile", 1, 2..=3, shape::tile),
    entry("TopK", 1, 1..=2, top_k::top_k),
    entry("Transpose", 1, 1..=1, shape::transpose),
    entry("Trilu", 14, 1..=2, parts::trilu),
    entry("Unique", 11, 1..=1, select::unique),
    entry("Unsqueeze", 1, 1..=2, shape::unsqueeze),
    entry("Upsample", 1, 1..=2, resize::upsample),
    entry("Where", 9, 3..=3, constant::where_),
    entry("Xor", 1, 2..=2, elementwise::binary),
];

/// Operators of com.microsoft that `fngd-onnx` does not take apart.
#[rustfmt::skip]
const MICROSOFT: &[Entry] = &[
    entry("FusedMatMul", 1, 2..=2, fused_matmul::fused_matmul),
    entry("MultiHeadAttention", 1, 1..=8, attention::multi_head),
];

const fn entry(op_type: &'static str, since: i64, inputs: RangeInclusive<usize>, build: Build) -> Entry {
    Entry { op_type, since, inputs, build }
}

/// The operator that `node` asks for, if there is one.
pub(crate) fn find(node: &Node) -> Option<&'static Entry> {
    let operators = match node.domain.as_str() {
        "" | "ai.onnx" => OPERATORS,
        MICROSOFT_DOMAIN => MICROSOFT,
        _ => return None,
    };
    let index = operators.binary_search_by(|entry| entry.op_type.cmp(node.op_type.as_str())).ok()?;
    Some(&operators[index]).filter(|entry| node.opset >= entry.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(MICROSOFT.is_sorted_by(|left, right| left.op_type < right.op_type));
        assert!(OPERATORS.is_sorted_by(|left, right| left.op_type < right.op_type));
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
