//! RotaryEmbedding (operator set 23): pairs of features turn by an angle that grows with the position.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// `(x₁, x₂)` becomes `(x₁ cos - x₂ sin, x₁ sin + x₂ cos)` for each pair of features.
struct RotaryEmbedding {
    /// Pairs are neighbours, where they are by default halves of the head.
    interleaved: bool,
    /// Features of a head that turn; `None` for all.
    turning: Option<i64>,
    heads: i64,
}

pub(crate) fn rotary(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let turning = node.int("rotary_embedding_dim", 0);
    if turning < 0 || turning % 2 != 0 {
        let message = format!("attribute `rotary_embedding_dim` is {turning}, expected an even number of at least 0");
        return Err(Error::malformed(message));
    }
    Ok(Box::new(RotaryEmbedding {
        interleaved: node.int("interleaved", 0) != 0,
        turning: (turning > 0).then_some(turning),
        heads: node.int("num_heads", 0),
    }))
}

impl Operator for RotaryEmbedding {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let size = x.size();
        let count = match (self.heads, &size[..], self.turning) {
            // com.microsoft leaves it out where whole heads turn.
            (0, [_, _, features], None) => {
                let width = 2 * inputs.get(1)?.size().last().copied().unwrap_or(0);
                if width > 0 { features / width } else { 0 }
            }
            (heads, ..) => heads,
        };
        // `[batch, positions, heads, features]`
        let heads = match size[..] {
            [_, _, _, _] => x.f_transpose(1, 2)?,
            [batch, positions, features] if count >= 1 && features % count == 0 => {
                x.f_reshape([batch, positions, count, features / count])?
            }
            _ => return Err(Error::mismatch(format!("{count} heads do not divide an input of size {size:?}"))),
        };
        let features = heads.size()[3];
        let turning = self.turning.unwrap_or(features);
        if turning > features || turning % 2 != 0 {
            return Err(Error::mismatch(format!("{turning} of {features} features of a head are to turn in pairs")));
        }
        let cosines = self.table(inputs, 1, "cos_cache", turning, &heads)?;
        let sines = self.table(inputs, 2, "sin_cache", turning, &heads)?;
        let (turned, rest) = (heads.f_narrow(3, 0, turning)?, heads.f_narrow(3, turning, features - turning)?);
        let (first, second) = if self.interleaved {
            (turned.f_slice(3, 0, None, 2)?, turned.f_slice(3, 1, None, 2)?)
        } else {
            (turned.f_narrow(3, 0, turning / 2)?, turned.f_narrow(3, turning / 2, turning / 2)?)
        };
        let real = first.f_mul(&cosines)?.f_sub(&second.f_mul(&sines)?)?;
        let imaginary = first.f_mul(&sines)?.f_add(&second.f_mul(&cosines)?)?;
        let turned = if self.interleaved {
            Tensor::f_stack(&[real, imaginary], -1)?.f_flatten(3, 4)?
        } else {
            Tensor::f_cat(&[real, imaginary], 3)?
        };
        let whole = if turning == features { turned } else { Tensor::f_cat(&[turned, rest], 3)? };
        Ok(vec![if size.len() == 4 { whole.f_transpose(1, 2)? } else { whole.f_reshape(&size[..])? }])
    }
}

impl RotaryEmbedding {
    /// A table as `[batch, positions, 1, turning / 2]`, looked up by `position_ids` if there are any.
    fn table(&self, inputs: &Inputs, position: usize, name: &str, turning: i64, heads: &Tensor) -> Result<Tensor> {
        let (table, size) = (inputs.get(position)?, heads.size());
        let (found, half) = (table.size(), turning / 2);
        let mismatch = |expected: String| Error::mismatch(format!("input `{name}` is {found:?}, expected {expected}"));
        let Some(ids) = inputs.optional(3) else {
            let fits = found.len() == 3 && found[2] == half && found[1] == size[1] && [1, size[0]].contains(&found[0]);
            return if fits {
                Ok(table.f_unsqueeze(2)?)
            } else {
                Err(mismatch(format!("[{}, {}, {half}]", size[0], size[1])))
            };
        };
        if found.len() != 2 || found[1] != half {
            return Err(mismatch(format!("[positions, {half}]")));
        }
        let ids = match ids.size()[..] {
            // com.microsoft: the first position.
            [1] => ids.f_add(&Tensor::f_arange(size[1], (Kind::Int64, ids.device()))?)?.f_unsqueeze(0)?,
            _ => ids.shallow_clone(),
        };
        let wanted = ids.size();
        if wanted.len() != 2 || wanted[1] != size[1] || ![1, size[0]].contains(&wanted[0]) {
            let expected = [size[0], size[1]];
            return Err(Error::mismatch(format!("input `position_ids` is {wanted:?}, expected {expected:?}")));
        }
        let rows = table.f_index_select(0, &ids.f_reshape([-1])?.f_to_kind(Kind::Int64)?)?;
        Ok(rows.f_reshape([wanted[0], wanted[1], 1, half])?)
    }
}
