//! Attention (operator sets 23 to 25): scaled dot product attention.

mod heads;
mod mask;
mod multi_head;

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
pub(crate) use heads::{Heads, merge_heads, split_heads};
pub(crate) use mask::{Causality, Mask};
pub(crate) use multi_head::multi_head;
use tch::{Kind, Tensor};

/// `softmax(Q Kᵀ · scale + mask) V` per head.
struct Attention {
    causality: Causality,
    settings: Settings,
    query_heads: i64,
    key_heads: i64,
    scores: Option<Scores>,
}

/// The numbers in the formula.
pub(crate) struct Settings {
    /// `1 / sqrt(features of a head)` if `None`.
    pub scale: Option<f64>,
    /// Scores become `softcap · tanh(score / softcap)`; 0 for none.
    pub softcap: f64,
}

/// At which stage output 3 (`qk_matmul_output`) shows the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scores {
    Product,
    Capped,
    Masked,
    Softmax,
}

pub(crate) fn attention(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let scores = match (node.output(3), node.int("qk_matmul_output_mode", 0)) {
        (None, _) => None,
        (_, 0) => Some(Scores::Product),
        (_, 1) => Some(Scores::Capped),
        (_, 2) => Some(Scores::Masked),
        (_, 3) => Some(Scores::Softmax),
        (_, other) => {
            let message = format!("attribute `qk_matmul_output_mode` is {other}, expected 0 to 3");
            return Err(Error::malformed(message));
        }
    };
    if node.input(4).is_some() != node.input(5).is_some() {
        return Err(Error::malformed("inputs `past_key` and `past_value` come together, found one of them"));
    }
    Ok(Box::new(Attention {
        causality: Causality::read(node)?,
        settings: Settings {
            scale: node.attributes.contains_key("scale").then(|| f64::from(node.float("scale", 1.0))),
            softcap: f64::from(node.float("softcap", 0.0)),
        },
        query_heads: node.int("q_num_heads", 0),
        key_heads: node.int("kv_num_heads", 0),
        scores,
    }))
}

impl Operator for Attention {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let is_flat = inputs.get(0)?.dim() == 3;
        let query = split_heads(inputs.get(0)?, self.query_heads)?;
        let mut key = split_heads(inputs.get(1)?, self.key_heads)?;
        let mut value = split_heads(inputs.get(2)?, self.key_heads)?;
        let past = match (inputs.optional(4), inputs.optional(5)) {
            (Some(past_key), Some(past_value)) => {
                key = Tensor::f_cat(&[past_key, &key], 2)?;
                value = Tensor::f_cat(&[past_value, &value], 2)?;
                past_key.size().get(2).copied().unwrap_or(0)
            }
            _ => 0,
        };
        let heads = Heads::of(query, key, value)?;
        let mask = Mask::of(inputs.optional(3), inputs.optional(6), &self.causality, past, &heads)?;
        let (output, scores) = heads.attend(&mask, &self.settings, self.scores, run)?;
        let output = if is_flat { merge_heads(&output)? } else { output };
        let mut outputs = vec![output, heads.key, heads.value];
        outputs.extend(scores);
        Ok(outputs)
    }
}

impl Heads {
    /// The attention, and the scores if they are asked for.
    pub fn attend(
        &self,
        mask: &Mask,
        settings: &Settings,
        wanted: Option<Scores>,
        run: &Run,
    ) -> Result<(Tensor, Option<Tensor>)> {
        if wanted.is_none() && settings.softcap == 0.0 {
            let (query, key, value) = (&self.query, &self.key, &self.value);
            let (bias, is_causal) = (mask.combined()?, mask.is_only_causal());
            let groups = self.groups() > 1;
            let output = Tensor::f_scaled_dot_product_attention(
                query,
                key,
                value,
                bias,
                0.0,
                is_causal,
                settings.scale,
                groups,
            )?;
            return Ok((output, None));
        }
        self.written_out(mask, settings, wanted, run)
    }

    /// For what libtorch's fused call does not have.
    fn written_out(
        &self,
        mask: &Mask,
        settings: &Settings,
        wanted: Option<Scores>,
        run: &Run,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let size = self.query.size();
        run.affordable(&[size[0], size[1], size[2], self.key.size()[2]])?;
        let groups = self.groups();
        let spread = |x: &Tensor| {
            if groups == 1 { Ok(x.shallow_clone()) } else { x.f_repeat_interleave_self_int(groups, 1, None) }
        };
        let scale = settings.scale.unwrap_or_else(|| 1.0 / (size[3] as f64).sqrt());
        let product = self.query.f_matmul(&spread(&self.key)?.f_transpose(-2, -1)?)?.f_mul_scalar(scale)?;
        let capped = match settings.softcap {
            0.0 => product.shallow_clone(),
            softcap => product.f_div_scalar(softcap)?.f_tanh()?.f_mul_scalar(softcap)?,
        };
        let masked = mask.apply(&capped)?;
        // A row without any key has NaN here.
        let softmax = mask.without_empty_rows(masked.f_softmax(-1, None::<Kind>)?)?;
        let output = softmax.f_matmul(&spread(&self.value)?)?;
        let scores = wanted.map(|wanted| match wanted {
            Scores::Product => product,
            Scores::Capped => capped,
            Scores::Masked => masked,
            Scores::Softmax => softmax,
        });
        Ok((output, scores))
    }
}
