//! Attention (operator set 23): scaled dot product attention.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// `softmax(Q Kᵀ · scale + mask) V` per head.
struct Attention {
    is_causal: bool,
    scale: Option<f64>,
    softcap: f64,
    query_heads: i64,
    key_heads: i64,
}

pub(crate) fn attention(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    if node.output(3).is_some() {
        return Err(context.unsupported("output 3 (`qk_matmul_output`) is used"));
    }
    if node.input(6).is_some() {
        return Err(context.unsupported("input 6 (`nonpad_kv_seqlen`) is used"));
    }
    Ok(Box::new(Attention {
        is_causal: node.int("is_causal", 0) != 0,
        scale: node.attributes.contains_key("scale").then(|| f64::from(node.float("scale", 1.0))),
        softcap: f64::from(node.float("softcap", 0.0)),
        query_heads: node.int("q_num_heads", 0),
        key_heads: node.int("kv_num_heads", 0),
    }))
}

impl Operator for Attention {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let is_flat = inputs.get(0)?.dim() == 3;
        let query = split_heads(inputs.get(0)?, self.query_heads)?;
        let (mut key, mut value) =
            (split_heads(inputs.get(1)?, self.key_heads)?, split_heads(inputs.get(2)?, self.key_heads)?);
        let mask = inputs.optional(3);
        let past = inputs.optional(4).map_or(0, |past| past.size().get(2).copied().unwrap_or(0));
        if let (Some(past_key), Some(past_value)) = (inputs.optional(4), inputs.optional(5)) {
            key = Tensor::f_cat(&[past_key, &key], 2)?;
            value = Tensor::f_cat(&[past_value, &value], 2)?;
        }
        // libtorch does not look.
        if key.size()[2] != value.size()[2] {
            return Err(Error::mismatch(format!("keys are {:?}, values {:?}", key.size(), value.size())));
        }
        let output = if self.softcap == 0.0 && !(self.is_causal && (mask.is_some() || past > 0)) {
            let groups = query.size()[1] != key.size()[1];
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, 0.0, self.is_causal, self.scale, groups)?
        } else {
            self.written_out(&query, &key, &value, mask, past)?
        };
        let output = if is_flat {
            let size = output.size();
            output.f_transpose(1, 2)?.f_reshape([size[0], size[2], size[1] * size[3]])?
        } else {
            output
        };
        Ok(vec![output, key, value])
    }
}

impl Attention {
    /// For the combinations that libtorch's fused call does not have.
    fn written_out(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
        past: i64,
    ) -> Result<Tensor> {
        let (query_size, key_size) = (query.size(), key.size());
        let repeats = query_size[1] / key_size[1].max(1);
        let spread = |x: &Tensor| {
            if repeats == 1 { Ok(x.shallow_clone()) } else { x.f_repeat_interleave_self_int(repeats, 1, None) }
        };
        let scale = self.scale.unwrap_or_else(|| 1.0 / (query_size[3] as f64).sqrt());
        let mut scores = query.f_matmul(&spread(key)?.f_transpose(-2, -1)?)?.f_mul_scalar(scale)?;
        if self.softcap != 0.0 {
            scores = scores.f_div_scalar(self.softcap)?.f_tanh()?.f_mul_scalar(self.softcap)?;
        }
        if self.is_causal {
            let ones = Tensor::f_ones([query_size[2], key_size[2]], (Kind::Bool, query.device()))?;
            scores = scores.f_masked_fill(&ones.f_triu(1 + past)?, f64::NEG_INFINITY)?;
        }
        if let Some(mask) = mask {
            scores = if mask.kind() == Kind::Bool {
                scores.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?
            } else {
                scores.f_add(mask)?
            };
        }
        Ok(scores.f_softmax(-1, None::<Kind>)?.f_matmul(&spread(value)?)?)
    }
}

/// `[B, T, H·D]` as `[B, H, T, D]`; four dimensions stay.
fn split_heads(x: &Tensor, heads: i64) -> Result<Tensor> {
    let size = x.size();
    match size.len() {
        4 => Ok(x.shallow_clone()),
        3 if heads >= 1 && size[2] % heads == 0 => {
            Ok(x.f_reshape([size[0], size[1], heads, size[2] / heads])?.f_transpose(1, 2)?)
        }
        _ => Err(Error::mismatch(format!("{heads} heads do not divide an input of size {size:?}"))),
    }
}
