//! Activation functions with settings: Relu, LeakyRelu, PRelu, Elu, Selu, HardSigmoid, Gelu, Clip.

use crate::Result;
use crate::lower::arguments::number;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

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
struct PRelu;

pub(crate) fn prelu(_: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(PRelu))
}

impl Operator for PRelu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, slope) = (inputs.get(0)?, inputs.get(1)?);
        let size = slope.size();
        let per_channel = x.dim() >= 2 && size.len() + 1 == x.dim() && size[1..].iter().all(|&dim| dim == 1);
        Ok(vec![if slope.numel() == 1 || per_channel {
            x.f_prelu(&slope.f_reshape([-1])?)?
        } else {
            x.f_clamp_min(0.0)?.f_add(&x.f_clamp_max(0.0)?.f_mul(slope)?)?
        }])
    }
}

/// `x` where it is positive, `alpha · (exp(x) - 1)` elsewhere; all of it times `gamma`.
struct Elu {
    alpha: f64,
    gamma: f64,
}

pub(crate) fn elu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Elu { alpha: f64::from(node.float("alpha", 1.0)), gamma: 1.0 }))
}

pub(crate) fn selu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    // The specification's defaults, cut to float32.
    let alpha = node.float("alpha", 1.673_263_2);
    let gamma = node.float("gamma", 1.050_701);
    Ok(Box::new(Elu { alpha: f64::from(alpha), gamma: f64::from(gamma) }))
}

impl Operator for Elu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        if self.alpha == 1.0 && self.gamma == 1.0 {
            return Ok(vec![x.f_elu()?]);
        }
        let negative = x.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(self.alpha * self.gamma)?;
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

/// `min(max(x, low), high)`. The bounds are attributes before operator set 11, inputs from there on.
struct Clip {
    low: Bound,
    high: Bound,
}

enum Bound {
    None,
    Fixed(f64),
    Input(usize),
}

pub(crate) fn clip(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let bound = |name: &str, position: usize| -> Result<Bound> {
        Ok(if node.attributes.contains_key(name) {
            Bound::Fixed(f64::from(node.float(name, 0.0)))
        } else {
            match (context.constant(position), node.input(position)) {
                (Some(tensor), _) => Bound::Fixed(number(tensor)?),
                (None, Some(_)) => Bound::Input(position),
                (None, None) => Bound::None,
            }
        })
    };
    Ok(Box::new(Clip { low: bound("min", 1)?, high: bound("max", 2)? }))
}

impl Operator for Clip {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let is_float = x.kind() == Kind::Float;
        Ok(vec![match (&self.low, &self.high) {
            (Bound::None, Bound::None) => x.shallow_clone(),
            (Bound::Fixed(low), Bound::Fixed(high)) if is_float && low <= high => x.f_clamp(*low, *high)?,
            (low, high) => {
                let mut result = x.shallow_clone();
                if let Some(low) = low.tensor(inputs, x)? {
                    result = result.f_maximum(&low)?;
                }
                if let Some(high) = high.tensor(inputs, x)? {
                    result = result.f_minimum(&high)?;
                }
                result
            }
        }])
    }
}

impl Bound {
    fn tensor(&self, inputs: &Inputs, like: &Tensor) -> Result<Option<Tensor>> {
        Ok(match self {
            Self::None => None,
            Self::Fixed(value) => Some(Tensor::f_full([0i64; 0], *value, (like.kind(), like.device()))?),
            Self::Input(position) => Some(inputs.get(*position)?.shallow_clone()),
        })
    }
}
