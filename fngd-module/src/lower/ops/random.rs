//! Random numbers: RandomUniform, RandomNormal, their forms with the shape of another tensor, and Bernoulli.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::kind_of_number;
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// Every element drawn independently. A seed in the file is left alone: each pass needs other numbers, and `tch::manual_seed`
/// makes a run repeatable.
struct Random {
    distribution: Distribution,
    /// `None`: that of the input.
    shape: Option<Vec<i64>>,
    kind: Option<Kind>,
}

enum Distribution {
    Uniform { low: f64, high: f64 },
    Normal { mean: f64, deviation: f64 },
}

pub(crate) fn random(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let float = |name, default| f64::from(node.float(name, default));
    let distribution = if node.op_type.starts_with("RandomUniform") {
        Distribution::Uniform { low: float("low", 0.0), high: float("high", 1.0) }
    } else {
        Distribution::Normal { mean: float("mean", 0.0), deviation: float("scale", 1.0) }
    };
    let is_possible = match distribution {
        Distribution::Uniform { low, high } => low <= high && (high - low).is_finite(),
        Distribution::Normal { mean, deviation } => mean.is_finite() && deviation.is_finite() && deviation >= 0.0,
    };
    if !is_possible {
        return Err(Error::malformed("attributes `low`, `high`, `mean` and `scale` describe no distribution"));
    }
    let is_like = node.op_type.ends_with("Like");
    let shape = match (is_like, node.ints("shape")) {
        (true, _) => None,
        (false, Some(shape)) => Some(shape.to_vec()),
        (false, None) => return Err(Error::malformed("attribute `shape` is missing")),
    };
    let kind = declared_kind(node, context)?.or((!is_like).then_some(context.float));
    Ok(Box::new(Random { distribution, shape, kind }))
}

impl Operator for Random {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (size, kind) = match &self.shape {
            Some(shape) => (shape.clone(), self.kind.unwrap_or(Kind::Float)),
            None => {
                let like = inputs.get(0)?;
                (like.size(), self.kind.unwrap_or(like.kind()))
            }
        };
        run.affordable(&size)?;
        let mut result = Tensor::f_empty(&size[..], (kind, run.device))?;
        Ok(vec![match self.distribution {
            Distribution::Uniform { low, high } => result.f_uniform_(low, high)?,
            Distribution::Normal { mean, deviation } => result.f_normal_(mean, deviation)?,
        }])
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        &[0]
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}

/// 1 with the probability that the input gives, 0 otherwise.
struct Bernoulli {
    kind: Option<Kind>,
}

pub(crate) fn bernoulli(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Bernoulli { kind: declared_kind(node, context)? }))
}

impl Operator for Bernoulli {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let probability = inputs.get(0)?;
        // Unlike libtorch's function, this takes numbers that are a rounding error outside 0 to 1.
        let drawn = probability.f_rand_like()?.f_lt_tensor(probability)?;
        Ok(vec![drawn.f_to_kind(self.kind.unwrap_or(probability.kind()))?])
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}

fn declared_kind(node: &Node, context: &BuildContext) -> Result<Option<Kind>> {
    if !node.attributes.contains_key("dtype") {
        return Ok(None);
    }
    let number = node.int("dtype", 0);
    kind_of_number(number, context.float).map(Some).ok_or_else(|| {
        context.unsupported(format!("attribute `dtype` is {number}, which is not a supported element type"))
    })
}
