//! Operators that work element by element without settings, comparisons and logic included.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, TchError, Tensor};

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
        "Reciprocal" => Tensor::f_reciprocal,
        "Floor" => Tensor::f_floor,
        "Ceil" => Tensor::f_ceil,
        "Sin" => Tensor::f_sin,
        "Cos" => Tensor::f_cos,
        "Erf" => Tensor::f_erf,
        "Sigmoid" => Tensor::f_sigmoid,
        "Tanh" => Tensor::f_tanh,
        "Softplus" => Tensor::f_softplus,
        "HardSwish" => Tensor::f_hardswish,
        "Not" => Tensor::f_logical_not,
        "IsNaN" => Tensor::f_isnan,
        "Identity" => |x| Ok(x.shallow_clone()),
        other => return Err(Error::unsupported(format!("no unary function `{other}`"))),
    })))
}

struct Binary {
    function: BinaryFunction,
    overwritable: bool,
}

impl Operator for Binary {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![(self.function)(inputs.get(0)?, inputs.get(1)?)?])
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
        "Div" => divide,
        "Mod" if node.int("fmod", 0) != 0 => truncated_remainder,
        "Mod" => remainder,
        "Equal" => Tensor::f_eq_tensor,
        "Less" => Tensor::f_lt_tensor,
        "LessOrEqual" => Tensor::f_le_tensor,
        "Greater" => Tensor::f_gt_tensor,
        "GreaterOrEqual" => Tensor::f_ge_tensor,
        "And" => Tensor::f_logical_and,
        "Or" => Tensor::f_logical_or,
        other => return Err(Error::unsupported(format!("no binary function `{other}`"))),
    };
    let overwritable = matches!(node.op_type.as_str(), "Add" | "Sub");
    Ok(Box::new(Binary { function, overwritable }))
}

struct Variadic(BinaryFunction);

impl Operator for Variadic {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let mut result = inputs.get(0)?.shallow_clone();
        for tensor in &inputs.all()[1..] {
            result = (self.0)(&result, tensor)?;
        }
        Ok(vec![result])
    }
}

/// Builds Max, Min or Sum of any number of tensors.
pub(crate) fn variadic(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Variadic(match node.op_type.as_str() {
        "Max" => Tensor::f_maximum,
        "Min" => Tensor::f_minimum,
        "Sum" => Tensor::f_add,
        other => return Err(Error::unsupported(format!("no variadic function `{other}`"))),
    })))
}

/// Division; integers are cut towards zero, as ONNX wants it.
fn divide(left: &Tensor, right: &Tensor) -> std::result::Result<Tensor, TchError> {
    if is_float(left) {
        return left.f_div(right);
    }
    // The smallest integer divided by -1 ends the process inside libtorch; negation wraps instead.
    let negative_one = right.f_eq(-1)?;
    let quotient = left.f_div_tensor_mode(&right.f_masked_fill(&negative_one, 1)?, "trunc")?;
    quotient.f_neg()?.f_where_self(&negative_one, &quotient)
}

/// The remainder with the divisor's sign.
fn remainder(left: &Tensor, right: &Tensor) -> std::result::Result<Tensor, TchError> {
    if is_float(left) {
        return left.f_remainder_tensor(right);
    }
    // Ends the process for the smallest integer and -1 too; the remainder by 1 is the same 0.
    left.f_remainder_tensor(&right.f_masked_fill(&right.f_eq(-1)?, 1)?)
}

/// The remainder with the dividend's sign.
fn truncated_remainder(left: &Tensor, right: &Tensor) -> std::result::Result<Tensor, TchError> {
    if is_float(left) {
        return left.f_fmod_tensor(right);
    }
    left.f_fmod_tensor(&right.f_masked_fill(&right.f_eq(-1)?, 1)?)
}

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.kind(), Kind::Float | Kind::Double)
}
