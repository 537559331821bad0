//! The operators that `fngd-module` implements.

use crate::error::quoted;
use crate::graph::Node;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Operator set versions of the default domain whose meaning is known.
pub const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// An operator of the default domain, and the first operator set that has it with the meaning that is implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    /// `Conv`.
    pub op_type: &'static str,
    /// First operator set version.
    pub since: i64,
}

const fn op(op_type: &'static str, since: i64) -> Operator {
    Operator { op_type, since }
}

/// All supported operators, sorted by name. `Constant` is not here: its value becomes a constant when the file is read.
#[rustfmt::skip]
pub const OPERATORS: &[Operator] = &[
    op("Abs", 1), op("Acos", 7), op("Acosh", 9), op("Add", 1), op("AffineGrid", 20), op("And", 1), op("ArgMax", 1),
    op("ArgMin", 1), op("Asin", 7), op("Asinh", 9), op("Atan", 7), op("Atanh", 9), op("Attention", 23),
    op("AveragePool", 1), op("BatchNormalization", 1), op("Bernoulli", 15), op("BitShift", 11), op("BitwiseAnd", 18),
    op("BitwiseNot", 18), op("BitwiseOr", 18), op("BitwiseXor", 18), op("Cast", 1), op("CastLike", 15),
    op("CausalConvWithState", 27), op("Ceil", 1), op("Celu", 12), op("CenterCropPad", 18), op("Clip", 1),
    op("Col2Im", 18), op("Compress", 9), op("Concat", 1), op("ConstantOfShape", 9), op("Conv", 1),
    op("ConvTranspose", 1), op("Cos", 7), op("Cosh", 9), op("CumProd", 26), op("CumSum", 11), op("DFT", 17),
    op("DepthToSpace", 1), op("DequantizeLinear", 10), op("Det", 11), op("Div", 1), op("Dropout", 1),
    op("DynamicQuantizeLinear", 11), op("Einsum", 12), op("Elu", 1), op("Equal", 1), op("Erf", 9), op("Exp", 1),
    op("Expand", 8), op("EyeLike", 9), op("Flatten", 1), op("Floor", 1), op("GRU", 7), op("Gather", 1),
    op("GatherElements", 11), op("GatherND", 11), op("Gelu", 20), op("Gemm", 1), op("GlobalAveragePool", 1),
    op("GlobalLpPool", 1), op("GlobalMaxPool", 1), op("Greater", 1), op("GreaterOrEqual", 12), op("GridSample", 16),
    op("GroupNormalization", 18), op("HardSigmoid", 1), op("HardSwish", 14), op("Hardmax", 1), op("Identity", 1),
    op("InstanceNormalization", 1), op("IsInf", 10), op("IsNaN", 9), op("LRN", 1), op("LSTM", 7),
    op("LayerNormalization", 17), op("LeakyRelu", 1), op("Less", 1), op("LessOrEqual", 12), op("LinearAttention", 27),
    op("Log", 1), op("LogSoftmax", 1), op("LpNormalization", 1), op("LpPool", 2), op("MatMul", 1), op("Max", 1),
    op("MaxPool", 1), op("MaxUnpool", 9), op("Mean", 1), op("MeanVarianceNormalization", 9), op("Min", 1),
    op("Mish", 18), op("Mod", 10), op("Mul", 1), op("Neg", 1), op("NegativeLogLikelihoodLoss", 12),
    op("NonMaxSuppression", 10), op("NonZero", 9), op("Not", 1), op("OneHot", 9), op("Or", 1), op("PRelu", 1),
    op("Pad", 1), op("Pow", 1), op("QuantizeLinear", 10), op("RMSNormalization", 23), op("RNN", 7),
    op("RandomNormal", 1), op("RandomNormalLike", 1), op("RandomUniform", 1), op("RandomUniformLike", 1),
    op("Range", 11), op("Reciprocal", 1), op("ReduceL1", 1), op("ReduceL2", 1), op("ReduceLogSum", 1),
    op("ReduceLogSumExp", 1), op("ReduceMax", 1), op("ReduceMean", 1), op("ReduceMin", 1), op("ReduceProd", 1),
    op("ReduceSum", 1), op("ReduceSumSquare", 1), op("Relu", 1), op("Reshape", 1), op("Resize", 10),
    op("ReverseSequence", 10), op("RoiAlign", 10), op("RotaryEmbedding", 23), op("Round", 11), op("STFT", 17),
    op("Scatter", 9), op("ScatterElements", 11), op("ScatterND", 11), op("Selu", 1), op("Shape", 1), op("Shrink", 9),
    op("Sigmoid", 1), op("Sign", 9), op("SimplifiedLayerNormalization", 1), op("Sin", 7), op("Sinh", 9), op("Size", 1),
    op("Slice", 1), op("Softmax", 1), op("SoftmaxCrossEntropyLoss", 12), op("Softplus", 1), op("Softsign", 1),
    op("SpaceToDepth", 1), op("Split", 1), op("Sqrt", 1), op("Squeeze", 1), op("Sub", 1), op("Sum", 1),
    op("SwiGLU", 28), op("Swish", 24), op("Tan", 7), op("Tanh", 1), op("TensorScatter", 24), op("ThresholdedRelu", 10),
    op("Tile", 1), op("TopK", 1), op("Transpose", 1), op("Trilu", 14), op("Unique", 11), op("Unsqueeze", 1),
    op("Upsample", 1), op("Where", 9), op("Xor", 1),
];

/// The domain of the operators that onnxruntime's optimizers write.
pub const MICROSOFT_DOMAIN: &str = "com.microsoft";

/// Supported operators of com.microsoft, sorted by name: most are taken apart into those above.
pub const MICROSOFT: &[&str] = &[
    "Attention",
    "BiasGelu",
    "EmbedLayerNormalization",
    "FastGelu",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gelu",
    "LayerNormalization",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// The table as `docs/support/operators.json` has it, one operator a line.
pub fn table_as_json() -> String {
    let line = |domain: &str, op_type: &str, since: i64| {
        format!("  {{\"domain\": \"{domain}\", \"operator\": \"{op_type}\", \"since\": {since}}}")
    };
    let of_onnx = OPERATORS.iter().map(|operator| line("ai.onnx", operator.op_type, operator.since));
    let lines: Vec<String> =
        of_onnx.chain(MICROSOFT.iter().map(|op_type| line(MICROSOFT_DOMAIN, op_type, 1))).collect();
    let (first, last) = (OPSETS.start(), OPSETS.end());
    format!("{{\"opsets\": [{first}, {last}], \"operators\": [\n{}\n]}}\n", lines.join(",\n"))
}

/// Whether `fngd-module` implements `node`.
pub fn is_supported(node: &Node) -> bool {
    implements(&node.domain, &node.op_type, node.opset)
}

/// Whether `fngd-module` implements this operator as operator set `opset` of `domain` has it.
pub(crate) fn implements(domain: &str, op_type: &str, opset: i64) -> bool {
    if domain == MICROSOFT_DOMAIN {
        return MICROSOFT.binary_search(&op_type).is_ok();
    }
    let known = OPERATORS.binary_search_by_key(&op_type, |operator| operator.op_type);
    let since = known.ok().and_then(|position| OPERATORS.get(position)).map(|operator| operator.since);
    domain.is_empty() && since.is_some_and(|since| opset >= since)
}

/// Refuses a graph with operators that are not implemented, naming all of them at once.
pub(crate) fn check(nodes: &[Node]) -> Result<()> {
    let mut refused: BTreeMap<(&str, &str, i64), Vec<&Node>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !is_supported(node)) {
        refused.entry((&node.domain, &node.op_type, node.opset)).or_default().push(node);
    }
    if refused.is_empty() {
        return Ok(());
    }
    let total: usize = refused.values().map(Vec::len).sum();
    let mut text = format!("{total} of {} nodes use operators that are not supported:", nodes.len());
    for ((domain, op_type, opset), nodes) in refused {
        let full = if domain.is_empty() { op_type.to_owned() } else { format!("{domain}::{op_type}") };
        let names: Vec<String> = nodes.iter().take(3).map(|node| quoted(&node.name)).collect();
        let more = if nodes.len() > names.len() { ", ..." } else { "" };
        let (count, names) = (nodes.len(), names.join(", "));
        text.push_str(&format!("\n  operator {} (opset {opset}), {count} nodes: {names}{more}", quoted(&full)));
        if full == "If" {
            text.push_str("; its condition is known only when the model runs, and only constant ones can be imported");
        }
    }
    Err(Error::unsupported(text))
}

#[cfg(test)]
mod tests {
    #[test]
    fn table_is_sorted() {
        assert!(super::OPERATORS.is_sorted_by_key(|operator| operator.op_type));
    }
}
