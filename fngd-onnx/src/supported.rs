//! The operators that `fngd-module` implements.

use crate::error::quoted;
use crate::graph::Node;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Operator set versions of the default domain whose meaning is known.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

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
    op("Abs", 7), op("Add", 7), op("And", 7), op("ArgMax", 7), op("Attention", 23), op("AveragePool", 7),
    op("BatchNormalization", 7), op("Cast", 7), op("CastLike", 15), op("Ceil", 7), op("Clip", 7), op("Concat", 7),
    op("ConstantOfShape", 9), op("Conv", 7), op("ConvTranspose", 7), op("Cos", 7), op("CumSum", 11), op("Div", 7),
    op("Dropout", 7), op("Elu", 7), op("Equal", 7), op("Erf", 9), op("Exp", 7), op("Expand", 8), op("Flatten", 7),
    op("Floor", 7), op("Gather", 7), op("GatherElements", 11), op("GatherND", 11), op("Gelu", 20), op("Gemm", 7),
    op("GlobalAveragePool", 7), op("GlobalMaxPool", 7), op("Greater", 7), op("GreaterOrEqual", 12),
    op("GroupNormalization", 18), op("HardSigmoid", 7), op("HardSwish", 14), op("Identity", 7),
    op("InstanceNormalization", 7), op("IsNaN", 9), op("LRN", 7), op("LayerNormalization", 17), op("LeakyRelu", 7),
    op("Less", 7), op("LessOrEqual", 12), op("Log", 7), op("LogSoftmax", 7), op("MatMul", 7), op("Max", 7),
    op("MaxPool", 7), op("Min", 7), op("Mod", 10), op("Mul", 7), op("Neg", 7), op("Not", 7), op("Or", 7), op("PRelu", 7),
    op("Pad", 7), op("Pow", 7), op("RMSNormalization", 23), op("RandomUniformLike", 7), op("Range", 11),
    op("Reciprocal", 7), op("ReduceMax", 7), op("ReduceMean", 7), op("ReduceMin", 7), op("ReduceSum", 7), op("Relu", 7),
    op("Reshape", 7), op("Resize", 10), op("ScatterND", 11), op("Selu", 7), op("Shape", 7), op("Sigmoid", 7), op("Sin", 7),
    op("Slice", 7), op("Softmax", 7), op("Softplus", 7), op("Split", 7), op("Sqrt", 7), op("Squeeze", 7), op("Sub", 7),
    op("Sum", 7), op("Tanh", 7), op("Tile", 7), op("Transpose", 7), op("Trilu", 14), op("Unsqueeze", 7), op("Where", 9),
];

/// Whether `fngd-module` implements `node`.
pub fn is_supported(node: &Node) -> bool {
    implements(&node.domain, &node.op_type, node.opset)
}

/// Whether `fngd-module` implements this operator as operator set `opset` of `domain` has it.
pub(crate) fn implements(domain: &str, op_type: &str, opset: i64) -> bool {
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
        assert_eq!(super::OPERATORS.len(), 90);
    }
}
