//! Operators that work element by element without settings, comparisons and logic included.

use super::legacy_broadcast::LegacyBroadcast;
use super::{bits, integer};
use crate::lower::arguments::broadcast_size;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{TchError, Tensor};

type UnaryFunction = fn(&Tensor) -> std::result::Result<Tensor, TchError>;
type BinaryFunction = fn(&Tensor, &Tensor) -> std::result::Result<Tensor, TchError>;

struct Unary(UnaryFunction);

impl Operator for Unary {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![(self.0)(inputs.get(0)?)?])
    }
}

/// Builds a function of one tensor.
pub(crate) fn unary(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Unary(match node.op_type.as_str() {
        "Sqrt" => Tensor::f_sqrt,
        "Exp" => Tensor::f_exp,
        "Log" => Tensor::f_log,
        "Neg" => Tensor::f_neg,
        "Abs" => Tensor::f_abs,
        "Sign" => Tensor::f_sign,
        "Reciprocal" => Tensor::f_reciprocal,
        "Floor" => Tensor::f_floor,
        "Ceil" => Tensor::f_ceil,
        // Halves go to the even neighbour in both.
        "Round" => Tensor::f_round,
        "Sin" => Tensor::f_sin,
        "Cos" => Tensor::f_cos,
        "Tan" => Tensor::f_tan,
        "Asin" => Tensor::f_asin,
        "Acos" => Tensor::f_acos,
        "Atan" => Tensor::f_atan,
        "Sinh" => Tensor::f_sinh,
        "Cosh" => Tensor::f_cosh,
        "Asinh" => Tensor::f_asinh,
        "Acosh" => Tensor::f_acosh,
        "Atanh" => Tensor::f_atanh,
        "Erf" => Tensor::f_erf,
        "Sigmoid" => Tensor::f_sigmoid,
        "Tanh" => Tensor::f_tanh,
        "Softplus" => Tensor::f_softplus,
        "Softsign" => |x| x.f_div(&x.f_abs()?.f_add_scalar(1.0)?),
        "Mish" => Tensor::f_mish,
        "HardSwish" => Tensor::f_hardswish,
        "Not" => Tensor::f_logical_not,
        "BitwiseNot" => Tensor::f_bitwise_not,
        "IsNaN" => Tensor::f_isnan,
        "Det" => Tensor::f_linalg_det,
        "Identity" => |x| Ok(x.shallow_clone()),
        other => return Err(Error::unsupported(format!("no unary function `{other}`"))),
    })))
}

struct Binary {
    function: BinaryFunction,
    legacy_broadcast: Option<LegacyBroadcast>,
    overwritable: bool,
}

impl Operator for Binary {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (left, right) = (inputs.get(0)?, inputs.get(1)?);
        let spread = self.legacy_broadcast.map(|legacy| legacy.spread(right, left.dim())).transpose()?;
        let right = spread.as_ref().unwrap_or(right);
        run.affordable(&broadcast_size(&left.size(), &right.size())?)?;
        Ok(vec![(self.function)(left, right)?])
    }

    fn output_may_be_overwritten(&self) -> bool {
        self.overwritable
    }
}

/// Builds a function of two tensors that are broadcast against each other.
pub(crate) fn binary(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let function: BinaryFunction = match node.op_type.as_str() {
        "Add" => Tensor::f_add,
        "Sub" => Tensor::f_sub,
        "Mul" => Tensor::f_mul,
        "Div" => integer::divide,
        "Mod" if node.int("fmod", 0) != 0 => integer::truncated_remainder,
        "Mod" => integer::remainder,
        "Equal" => Tensor::f_eq_tensor,
        "Less" => Tensor::f_lt_tensor,
        "LessOrEqual" => Tensor::f_le_tensor,
        "Greater" => Tensor::f_gt_tensor,
        "GreaterOrEqual" => Tensor::f_ge_tensor,
        "And" => Tensor::f_logical_and,
        "Or" => Tensor::f_logical_or,
        "Xor" => Tensor::f_logical_xor,
        "BitwiseAnd" => Tensor::f_bitwise_and_tensor,
        "BitwiseOr" => Tensor::f_bitwise_or_tensor,
        "BitwiseXor" => Tensor::f_bitwise_xor_tensor,
        "BitShift" => bits::shift(node)?,
        other => return Err(Error::unsupported(format!("no binary function `{other}`"))),
    };
    let overwritable = matches!(node.op_type.as_str(), "Add" | "Sub");
    Ok(Box::new(Binary { function, legacy_broadcast: LegacyBroadcast::of(node), overwritable }))
}

struct Variadic {
    function: BinaryFunction,
    divides_by_count: bool,
}

impl Operator for Variadic {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let mut result = inputs.get(0)?.shallow_clone();
        let tensors = inputs.all();
        for tensor in &tensors[1..] {
            run.affordable(&broadcast_size(&result.size(), &tensor.size())?)?;
            result = (self.function)(&result, tensor)?;
        }
        Ok(vec![if self.divides_by_count { result.f_div_scalar(tensors.len() as i64)? } else { result }])
    }
}

/// Builds Max, Min, Sum or Mean of any number of tensors.
pub(crate) fn variadic(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let function: BinaryFunction = match node.op_type.as_str() {
        "Max" => Tensor::f_maximum,
        "Min" => Tensor::f_minimum,
        "Sum" | "Mean" => Tensor::f_add,
        other => return Err(Error::unsupported(format!("no variadic function `{other}`"))),
    };
    Ok(Box::new(Variadic { function, divides_by_count: node.op_type == "Mean" }))
}

/// Whether an element is infinite, of the signs that are asked for.
struct IsInf {
    negative: bool,
    positive: bool,
}

pub(crate) fn is_inf(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let detects = |name| node.int(name, 1) != 0;
    Ok(Box::new(IsInf { negative: detects("detect_negative"), positive: detects("detect_positive") }))
}

impl Operator for IsInf {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        Ok(vec![match (self.negative, self.positive) {
            (true, true) => x.f_isinf()?,
            (true, false) => x.f_isneginf()?,
            (false, true) => x.f_isposinf()?,
            (false, false) => x.f_isinf()?.f_zeros_like()?,
        }])
    }
}
