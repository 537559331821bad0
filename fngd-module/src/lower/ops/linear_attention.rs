//! LinearAttention.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// Attention whose memory is a matrix S per head, changed at each step t by key k, value v, decay g and rate β:
///
/// ```text
/// S ← exp(g) S,    v ← β (v - Sᵀ k),    S ← S + k vᵀ,    output = scale · Sᵀ q
/// ```
///
/// Without decay the first is left out, without rate the second.
struct LinearAttention {
    query_heads: i64,
    heads: i64,
    scale: f64,
}

pub(crate) fn build(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let (query_heads, heads) = (node.int("q_num_heads", 0), node.int("kv_num_heads", 0));
    if heads < 1 || query_heads < 1 || query_heads % heads != 0 {
        return Err(Error::malformed(format!("{query_heads} query heads for {heads} heads of keys and values")));
    }
    let rule = node.string("update_rule", "gated_delta");
    let (has_decay, has_rate) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Error::malformed(format!("attribute `update_rule` is `{other}`"))),
    };
    if (has_decay, has_rate) != (node.input(4).is_some(), node.input(5).is_some()) {
        return Err(Error::malformed(format!("`decay` and `beta` are not those of update rule `{rule}`")));
    }
    Ok(Box::new(LinearAttention { query_heads, heads, scale: f64::from(node.float("scale", 0.0)) }))
}

impl Operator for LinearAttention {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (query, key) = (split(inputs.get(0)?, self.query_heads)?, split(inputs.get(1)?, self.heads)?);
        let value = split(inputs.get(2)?, self.heads)?;
        let decay = inputs.optional(4).map(|decay| split(decay, self.heads)).transpose()?;
        let rate =
            inputs.optional(5).map(|rate| split(rate, rate.size().last().copied().unwrap_or(1).max(1))).transpose()?;
        let [batch, _, steps, width] = query.size()[..] else { return Err(not_packed(&query)) };
        let depth = value.size()[3];
        let scale = if self.scale == 0.0 { 1.0 / (width.max(1) as f64).sqrt() } else { self.scale };
        let mut state = match inputs.optional(3) {
            Some(state) => state.shallow_clone(),
            None => Tensor::f_zeros([batch, self.heads, width, depth], (query.kind(), query.device()))?,
        };
        if state.size() != [batch, self.heads, width, depth] {
            let expected = [batch, self.heads, width, depth];
            return Err(Error::mismatch(format!("`past_state` is {:?}, expected {expected:?}", state.size())));
        }
        let mut outputs = Vec::new();
        for step in 0..steps {
            let at = |tensor: &Tensor| tensor.f_select(2, step);
            if let Some(decay) = &decay {
                state = state.f_mul(&at(decay)?.f_exp()?.f_unsqueeze(-1)?)?;
            }
            let key = at(&key)?.f_unsqueeze(-1)?;
            let mut value = at(&value)?.f_unsqueeze(-2)?;
            if let Some(rate) = &rate {
                let known = key.f_transpose(-2, -1)?.f_matmul(&state)?;
                value = value.f_sub(&known)?.f_mul(&at(rate)?.f_unsqueeze(-1)?)?;
            }
            state = state.f_add(&key.f_mul(&value)?)?;
            let read = state.f_repeat_interleave_self_int(self.query_heads / self.heads, 1, None)?;
            outputs.push(at(&query)?.f_unsqueeze(-2)?.f_matmul(&read)?);
        }
        let output = if outputs.is_empty() {
            Tensor::f_zeros([batch, 0, self.query_heads * depth], (query.kind(), query.device()))?
        } else {
            // [B, H, T, d] to [B, T, H d].
            let output = Tensor::f_cat(&outputs, 2)?.f_mul_scalar(scale)?;
            output.f_transpose(1, 2)?.f_reshape([batch, steps, self.query_heads * depth])?
        };
        Ok(vec![output, state])
    }
}

/// `[B, T, H d]` as `[B, H, T, d]`.
fn split(packed: &Tensor, heads: i64) -> Result<Tensor> {
    match packed.size()[..] {
        [batch, steps, width] if width % heads == 0 => {
            Ok(packed.f_reshape([batch, steps, heads, width / heads])?.f_transpose(1, 2)?)
        }
        _ => Err(not_packed(packed)),
    }
}

fn not_packed(tensor: &Tensor) -> Error {
    Error::mismatch(format!("an input is {:?}, expected [batch, steps, heads * width]", tensor.size()))
}
