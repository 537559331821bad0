//! Which rule reads which operator.

use super::reader::Reader;
use super::{
    activation, attention, create, elementwise, gather, index, layers, normalise, pool, reduce, resize, shape,
};
use crate::Result;
use fngd_onnx::graph::Node;

/// Makes the calls of one node.
pub(super) type Rule = fn(&mut Reader, &Node) -> Result<()>;

#[rustfmt::skip]
const RULES: &[(&str, Rule)] = &[
    ("Abs", elementwise::unary),
    ("Acos", elementwise::unary),
    ("Add", elementwise::arithmetic),
    ("And", elementwise::comparison),
    ("Asin", elementwise::unary),
    ("Atan", elementwise::unary),
    ("Attention", attention::attention),
    ("AveragePool", pool::window),
    ("BatchNormalization", normalise::batch),
    ("Cast", elementwise::cast),
    ("CastLike", elementwise::cast),
    ("Ceil", elementwise::unary),
    ("Clip", activation::clip),
    ("Concat", index::concat),
    ("ConstantOfShape", create::constant_of_shape),
    ("Conv", layers::convolution),
    ("ConvTranspose", layers::convolution),
    ("Cos", elementwise::unary),
    ("Cosh", elementwise::unary),
    ("CumSum", index::cumulative_sum),
    ("DepthToSpace", shape::pixel_shuffle),
    ("Div", elementwise::arithmetic),
    ("Dropout", activation::dropout),
    ("Elu", activation::with_slope),
    ("Equal", elementwise::comparison),
    ("Erf", elementwise::unary),
    ("Exp", elementwise::unary),
    ("Expand", shape::expand),
    ("Flatten", shape::reshape),
    ("Floor", elementwise::unary),
    ("Gather", gather::gather),
    ("GatherElements", gather::gather_elements),
    ("GatherND", gather::gather_nd),
    ("Gelu", activation::gelu),
    ("Gemm", layers::gemm),
    ("GlobalAveragePool", pool::global),
    ("GlobalMaxPool", pool::global),
    ("Greater", elementwise::comparison),
    ("GreaterOrEqual", elementwise::comparison),
    ("GroupNormalization", normalise::group),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", activation::plain),
    ("Identity", elementwise::identity),
    ("InstanceNormalization", normalise::instance),
    ("IsInf", elementwise::unary),
    ("IsNaN", elementwise::unary),
    ("LayerNormalization", normalise::layer),
    ("LeakyRelu", activation::with_slope),
    ("Less", elementwise::comparison),
    ("LessOrEqual", elementwise::comparison),
    ("Log", elementwise::unary),
    ("LogSoftmax", activation::softmax),
    ("MatMul", layers::matmul),
    ("Max", elementwise::several),
    ("MaxPool", pool::window),
    ("Mean", elementwise::several),
    ("Min", elementwise::several),
    ("Mish", activation::plain),
    ("Mul", elementwise::arithmetic),
    ("Neg", elementwise::unary),
    ("Not", elementwise::unary),
    ("Or", elementwise::comparison),
    ("PRelu", activation::prelu),
    ("Pad", index::pad),
    ("Pow", elementwise::power),
    ("RMSNormalization", normalise::root_mean_square),
    ("Range", create::range),
    ("Reciprocal", elementwise::unary),
    ("ReduceMax", reduce::reduce),
    ("ReduceMean", reduce::reduce),
    ("ReduceMin", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("Relu", activation::plain),
    ("Reshape", shape::reshape),
    ("Resize", resize::resize),
    ("Round", elementwise::unary),
    ("Selu", activation::selu),
    ("Shape", index::size),
    ("Sigmoid", activation::plain),
    ("Sign", elementwise::unary),
    ("Sin", elementwise::unary),
    ("Sinh", elementwise::unary),
    ("Size", index::size),
    ("Slice", index::slice),
    ("Softmax", activation::softmax),
    ("Softplus", activation::plain),
    ("Split", index::split),
    ("Sqrt", elementwise::unary),
    ("Squeeze", shape::reshape),
    ("Sub", elementwise::arithmetic),
    ("Sum", elementwise::several),
    ("Swish", activation::swish),
    ("Tan", elementwise::unary),
    ("Tanh", activation::plain),
    ("Tile", shape::tile),
    ("Transpose", shape::transpose),
    ("Trilu", index::triangle),
    ("Unsqueeze", shape::reshape),
    ("Where", elementwise::select),
    ("Xor", elementwise::comparison),
];

/// The rule for `node`, if there is one.
pub(super) fn rule(node: &Node) -> Option<Rule> {
    let found = RULES.binary_search_by_key(&node.op_type.as_str(), |(op_type, _)| op_type);
    let (_, rule) = found.ok().filter(|_| node.domain.is_empty()).and_then(|position| RULES.get(position))?;
    Some(*rule)
}

#[cfg(test)]
mod tests {
    #[test]
    fn table_is_sorted() {
        assert!(super::RULES.is_sorted_by_key(|(op_type, _)| *op_type));
    }

    #[test]
    fn every_operator_can_be_imported() {
        let known = |op_type: &str| {
            fngd_onnx::supported::OPERATORS.binary_search_by_key(&op_type, |operator| operator.op_type).is_ok()
        };
        for (op_type, _) in super::RULES {
            assert!(known(op_type), "{op_type}");
        }
    }
}
