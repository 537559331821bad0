//! Clip.

use crate::Result;
use crate::lower::arguments::number;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::is_float;
use fngd_onnx::graph::Node;
use tch::Tensor;

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
        let is_float = is_float(x.kind());
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
