//! Activation functions with settings: Relu, LeakyRelu, PRelu, Elu, Selu, Celu, HardSigmoid, Gelu.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// `max(x, 0)`, in place of its input where nothing else needs that.
struct Relu {
    in_place: bool,
}

pub(crate) fn relu(_: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Relu { in_place: context.may_overwrite(0) }))
}

impl Operator for Relu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![if self.in_place { inputs.take(0)?.f_relu_()? } else { inputs.get(0)?.f_relu()? }])
    }
}

/// `x` where it is positive, `slope · x` elsewhere.
struct LeakyRelu {
    slope: f64,
}

pub(crate) fn leaky_relu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(LeakyRelu { slope: f64::from(node.float("alpha", 0.01)) }))
}

impl Operator for LeakyRelu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        // tch's own leaky_relu takes no slope; prelu with one constant slope is the same function.
        Ok(vec![x.f_prelu(&Tensor::f_full([1], self.slope, (x.kind(), x.device()))?)?])
    }
}

/// LeakyRelu whose slopes are a tensor.
struct PRelu {
    /// Before operator set 7, a vector has one slope per channel; later it belongs to the last dimension.
    vector_is_per_channel: bool,
}

pub(crate) fn prelu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(PRelu { vector_is_per_channel: node.opset < 7 }))
}

impl Operator for PRelu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, slope) = (inputs.get(0)?, inputs.get(1)?);
        let size = slope.size();
        let is_column = size.len() + 1 == x.dim() && size.iter().skip(1).all(|&dim| dim == 1);
        let per_channel = x.dim() >= 2 && (is_column || (self.vector_is_per_channel && size.len() == 1));
        Ok(vec![if slope.numel() == 1 || per_channel {
            x.f_prelu(&slope.f_reshape([-1])?)?
        } else {
            x.f_clamp_min(0.0)?.f_add(&x.f_clamp_max(0.0)?.f_mul(slope)?)?
        }])
    }
}

/// `x` where it is positive, `alpha · (exp(x / width) - 1)` elsewhere; all of it times `gamma`.
struct Elu {
    alpha: f64,
    width: f64,
    gamma: f64,
}

pub(crate) fn elu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Elu { alpha: f64::from(node.float("alpha", 1.0)), width: 1.0, gamma: 1.0 }))
}

pub(crate) fn selu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    // The specification's defaults, cut to float32.
    let alpha = node.float("alpha", 1.673_263_2);
    let gamma = node.float("gamma", 1.050_701);
    Ok(Box::new(Elu { alpha: f64::from(alpha), width: 1.0, gamma: f64::from(gamma) }))
}

pub(crate) fn celu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let alpha = f64::from(node.float("alpha", 1.0));
    if alpha == 0.0 || !alpha.is_finite() {
        return Err(Error::malformed(format!("attribute `alpha` is {alpha}, expected a number other than 0")));
    }
    Ok(Box::new(Elu { alpha, width: alpha, gamma: 1.0 }))
}

impl Operator for Elu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        if (self.alpha, self.width, self.gamma) == (1.0, 1.0, 1.0) {
            return Ok(vec![x.f_elu()?]);
        }
        let mut below = x.f_clamp_max(0.0)?;
        if self.width != 1.0 {
            below = below.f_div_scalar(self.width)?;
        }
        let negative = below.f_expm1()?.f_mul_scalar(self.alpha * self.gamma)?;
        Ok(vec![x.f_clamp_min(0.0)?.f_mul_scalar(self.gamma)?.f_add(&negative)?])
    }
}

/// `clamp(alpha · x + beta, 0, 1)`.
struct HardSigmoid {
    alpha: f64,
    beta: f64,
}

pub(crate) fn hard_sigmoid(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    // ONNX's default slope is 0.2; torch's function has 1/6.
    let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
    Ok(Box::new(HardSigmoid { alpha: f64::from(alpha), beta: f64::from(beta) }))
}

impl Operator for HardSigmoid {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        if (self.alpha - 1.0 / 6.0).abs() < 1e-6 && self.beta == 0.5 {
            return Ok(vec![x.f_hardsigmoid()?]);
        }
        Ok(vec![x.f_mul_scalar(self.alpha)?.f_add_scalar(self.beta)?.f_clamp(0.0, 1.0)?])
    }
}

/// `x · Φ(x)`, exact or by tanh.
struct Gelu {
    approximate: &'static str,
}

pub(crate) fn gelu(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Gelu {
        approximate: match node.string("approximate", "none") {
            "none" => "none",
            "tanh" => "tanh",
            other => {
                return Err(
                    context.unsupported(format!("attribute `approximate` is `{other}`, expected `none` or `tanh`"))
                );
            }
        },
    }))
}

impl Operator for Gelu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.get(0)?.f_gelu(self.approximate)?])
    }
}
