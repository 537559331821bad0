//! SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Reduction, Tensor};

/// The negative logarithm of the probability of each label, weighted by class.
struct Loss {
    /// The scores become logarithms of probabilities first.
    takes_scores: bool,
    reduction: Reduction,
    ignored: Option<i64>,
}

pub(crate) fn loss(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let reduction = match node.string("reduction", "mean") {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => {
            return Err(context.unsupported(format!("attribute `reduction` is `{other}`, expected none, sum or mean")));
        }
    };
    let ignored = node.attributes.contains_key("ignore_index").then(|| node.int("ignore_index", -1));
    Ok(Box::new(Loss { takes_scores: node.op_type == "SoftmaxCrossEntropyLoss", reduction, ignored }))
}

impl Operator for Loss {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (scores, labels, weights) = (inputs.get(0)?, inputs.get(1)?, inputs.optional(2));
        let size = scores.size();
        let fits = size.len() >= 2 && labels.size() == [&size[..1], &size[2..]].concat();
        if !fits {
            let message =
                format!("scores are {size:?}, labels are {:?}; expected [N, C, ...] and [N, ...]", labels.size());
            return Err(Error::mismatch(message));
        }
        if weights.is_some_and(|weights| weights.size() != [size[1]]) {
            return Err(Error::mismatch(format!("`weights` needs one number for each of {} classes", size[1])));
        }
        let labels = labels.f_to_kind(Kind::Int64)?;
        let ignored = self.ignored.unwrap_or(NO_CLASS);
        // A label outside would be read past the end of the scores on some devices.
        let is_class = labels.f_ge(0)?.f_logical_and(&labels.f_lt(size[1])?)?;
        if is_class.f_logical_or(&labels.f_eq(ignored)?)?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::mismatch(format!("a label is outside the {} classes", size[1])));
        }
        let logarithms =
            if self.takes_scores { scores.f_log_softmax(1, None::<Kind>)? } else { scores.shallow_clone() };
        // The backward pass of images of labels takes no other order.
        let logarithms = logarithms.f_contiguous()?;
        let loss = logarithms.f_nll_loss_nd(&labels, weights, self.reduction, ignored)?;
        Ok(if self.takes_scores { vec![loss, logarithms] } else { vec![loss] })
    }
}

/// Ignored where the file ignores nothing: no label has this number, because it is no class.
const NO_CLASS: i64 = i64::MIN;
