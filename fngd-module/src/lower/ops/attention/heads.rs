//! Queries, keys and values, one head beside the other.

use crate::{Error, Result};
use tch::Tensor;

/// `[batch, heads, positions, features]` each, sizes checked: libtorch does not look at all of them.
pub(crate) struct Heads {
    pub query: Tensor,
    pub key: Tensor,
    pub value: Tensor,
}

impl Heads {
    /// # Errors
    /// `is_mismatch()` if the three do not belong together.
    pub fn of(query: Tensor, key: Tensor, value: Tensor) -> Result<Self> {
        let (of_query, of_key, of_value) = (query.size(), key.size(), value.size());
        let fits = match (&of_query[..], &of_key[..], &of_value[..]) {
            (
                [batch, heads, _, features],
                [key_batch, key_heads, keys, key_features],
                [value_batch, value_heads, values, _],
            ) => {
                [key_batch, value_batch] == [batch; 2]
                    && (features, key_heads, keys) == (key_features, value_heads, values)
                    && *key_heads > 0
                    && heads % key_heads == 0
            }
            _ => false,
        };
        if !fits {
            let sizes = format!("queries are {of_query:?}, keys {of_key:?}, values {of_value:?}");
            let expected = "[batch, heads, positions, features] with keys and values alike";
            return Err(Error::mismatch(format!("{sizes}, expected {expected}")));
        }
        Ok(Self { query, key, value })
    }

    /// How many query heads share a key head.
    pub fn groups(&self) -> i64 {
        self.query.size()[1] / self.key.size()[1]
    }
}

/// `[B, T, H·D]` as `[B, H, T, D]`; four dimensions stay.
pub(crate) fn split_heads(x: &Tensor, heads: i64) -> Result<Tensor> {
    match x.size()[..] {
        [_, _, _, _] => Ok(x.shallow_clone()),
        [batch, positions, width] if heads >= 1 && width % heads == 0 => {
            Ok(x.f_reshape([batch, positions, heads, width / heads])?.f_transpose(1, 2)?)
        }
        _ => Err(Error::mismatch(format!("{heads} heads do not divide an input of size {:?}", x.size()))),
    }
}

/// `[B, H, T, D]` as `[B, T, H·D]`.
pub(crate) fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let size = x.size();
    Ok(x.f_transpose(1, 2)?.f_reshape([size[0], size[2], size[1] * size[3]])?)
}
