//! MultiHeadAttention of com.microsoft. Its biases, and the linear layer of its sibling Attention, are nodes of their own.

use super::{Causality, Heads, Mask, Settings, merge_heads, split_heads};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

struct MultiHeadAttention {
    heads: i64,
    is_causal: bool,
    settings: Settings,
    /// What is added to the score of a key that the padding mask hides.
    hidden_score: f64,
}

pub(crate) fn multi_head(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    if node.output(3).is_some() {
        return Err(context.unsupported("output 3 (`qk`) is used"));
    }
    if node.input(6).is_some() != node.input(7).is_some() {
        return Err(Error::malformed("inputs `past_key` and `past_value` come together, found one of them"));
    }
    let scale = f64::from(node.float("scale", 0.0));
    Ok(Box::new(MultiHeadAttention {
        heads: node.int("num_heads", 0),
        is_causal: node.int("unidirectional", 0) != 0,
        settings: Settings { scale: (scale != 0.0).then_some(scale), softcap: 0.0 },
        hidden_score: f64::from(node.float("mask_filter_value", -10000.0)),
    }))
}

impl Operator for MultiHeadAttention {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let [query, mut key, mut value] = self.unpacked(inputs)?;
        let mut past = 0;
        if let (Some(past_key), Some(past_value)) = (inputs.optional(6), inputs.optional(7)) {
            key = Tensor::f_cat(&[past_key, &key], 2)?;
            value = Tensor::f_cat(&[past_value, &value], 2)?;
            past = past_key.size().get(2).copied().unwrap_or(0);
        }
        let heads = Heads::of(query, key, value)?;
        let padding = inputs.optional(4).map(|mask| self.padding(mask, &heads)).transpose()?;
        let added = match (padding, inputs.optional(5)) {
            (Some(padding), Some(bias)) => Some(padding.f_add(bias)?),
            (padding, bias) => padding.or(bias.map(Tensor::shallow_clone)),
        };
        let causality = Causality { is_causal: self.is_causal, left: None, right: None };
        let mask = Mask::of(added.as_ref(), None, &causality, past, &heads)?;
        let (output, _) = heads.attend(&mask, &self.settings, None, run)?;
        Ok(vec![merge_heads(&output)?, heads.key, heads.value])
    }
}

impl MultiHeadAttention {
    /// `[batch, heads, positions, features]` each, from the forms in which they may come.
    fn unpacked(&self, inputs: &Inputs) -> Result<[Tensor; 3]> {
        let query = inputs.get(0)?;
        let apart = |x: &Tensor, count: i64| -> Result<Vec<Tensor>> {
            if x.dim() != 5 || x.size()[3] != count {
                let expected = format!("[batch, positions, heads, {count}, features]");
                return Err(Error::mismatch(format!("a packed input is {:?}, expected {expected}", x.size())));
            }
            x.f_unbind(3)?.iter().map(|part| Ok(part.f_transpose(1, 2)?)).collect()
        };
        let wrong = |_| Error::torch("a tensor fell into the wrong number of parts");
        match (inputs.optional(1), inputs.optional(2)) {
            (None, _) => apart(query, 3)?.try_into().map_err(wrong),
            (Some(key), None) => {
                let mut parts = vec![split_heads(query, self.heads)?];
                parts.extend(apart(key, 2)?);
                parts.try_into().map_err(wrong)
            }
            (Some(key), Some(value)) => {
                let split = |x: &Tensor| split_heads(x, self.heads);
                Ok([split(query)?, split(key)?, split(value)?])
            }
        }
    }

    /// What the padding mask adds to scores, in each of its forms, broadcast against `[batch, heads, queries, keys]`.
    fn padding(&self, mask: &Tensor, heads: &Heads) -> Result<Tensor> {
        let (size, batch, queries) = (mask.size(), heads.query.size()[0], heads.query.size()[2]);
        let keys = heads.key.size()[2];
        let positions = || Tensor::f_arange(keys, (Kind::Int64, mask.device()));
        let column = |start: i64| mask.f_narrow(0, start, batch)?.f_to_kind(Kind::Int64)?.f_reshape([-1, 1, 1, 1]);
        let seen = match size[..] {
            // Where the keys of each sample end; or that, and then where they begin.
            [length] if length == batch || length == 3 * batch + 2 => positions()?.f_lt_tensor(&column(0)?)?,
            [length] if length == 2 * batch => {
                let ends = positions()?.f_lt_tensor(&column(0)?)?;
                ends.f_logical_and(&positions()?.f_ge_tensor(&column(batch)?)?)?
            }
            [_, width] if width == keys => mask.f_gt(0)?.f_unsqueeze(1)?.f_unsqueeze(1)?,
            [_, height, width] if height == queries && width == keys => mask.f_gt(0)?.f_unsqueeze(1)?,
            [_, _, height, width] if height >= keys && width >= keys && keys >= queries => {
                mask.f_gt(0)?.f_narrow(2, keys - queries, queries)?.f_narrow(3, 0, keys)?
            }
            _ => {
                let expected = format!("{batch} samples, {queries} queries and {keys} keys");
                return Err(Error::mismatch(format!("the padding mask is {size:?}, which fits no {expected}")));
            }
        };
        let zeros = Tensor::f_zeros(seen.size(), (Kind::Float, seen.device()))?;
        Ok(zeros.f_masked_fill(&seen.f_logical_not()?, self.hidden_score)?)
    }
}
