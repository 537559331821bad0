//! Which keys a query sees.

use super::heads::Heads;
use crate::lower::tensors::as_float;
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// Which keys a query sees by their positions alone.
pub(crate) struct Causality {
    /// None behind its own position.
    pub is_causal: bool,
    /// None farther in front than this.
    pub left: Option<i64>,
    /// None farther behind than this.
    pub right: Option<i64>,
}

/// Everything that hides keys from queries, and what is added to their scores.
pub(crate) struct Mask {
    /// Broadcast against `[batch, heads, queries, keys]`: true where the key is seen.
    allowed: Option<Tensor>,
    /// The same for numbers that are added.
    added: Option<Tensor>,
    /// Query `i` sees the keys up to `i`, and that is all: libtorch has a faster way for it.
    only_causal: bool,
}

impl Causality {
    /// Attributes `is_causal`, `left_window_size` and `right_window_size`.
    pub fn read(node: &Node) -> Result<Self> {
        let window = |name: &str| match node.int(name, -1) {
            -1 => Ok(None),
            size if size >= 0 => Ok(Some(size)),
            size => Err(Error::malformed(format!("attribute `{name}` is {size}, expected at least -1"))),
        };
        Ok(Self {
            is_causal: node.int("is_causal", 0) != 0,
            left: window("left_window_size")?,
            right: window("right_window_size")?,
        })
    }

    fn is_free(&self) -> bool {
        !self.is_causal && self.left.is_none() && self.right.is_none()
    }

    /// `offset` is how many keys lie in front of the first query: a number of shape `[]` or `[batch, 1, 1, 1]`.
    fn allowed(&self, offset: &Tensor, heads: &Heads) -> Result<Option<Tensor>> {
        let device = heads.query.device();
        let numbers = |count: i64| Tensor::f_arange(count, (Kind::Int64, device));
        let queries = numbers(heads.query.size()[2])?.f_unsqueeze(1)?.f_add(offset)?;
        // How far behind its query a key lies.
        let behind = numbers(heads.key.size()[2])?.f_sub(&queries)?;
        let mut allowed = None;
        if self.is_causal {
            allowed = both(allowed, Some(behind.f_le(0)?))?;
        }
        if let Some(left) = self.left {
            allowed = both(allowed, Some(behind.f_ge(-left)?))?;
        }
        if let Some(right) = self.right {
            allowed = both(allowed, Some(behind.f_le(right)?))?;
        }
        Ok(allowed)
    }
}

impl Mask {
    /// - `given`: truth values or numbers, broadcast against `[batch, heads, queries, keys]`; short of keys at the end means hidden
    /// - `lengths`: how many keys of each sample are no padding, `[batch]`
    /// - `past`: how many keys are of earlier calls
    ///
    /// # Errors
    /// `is_mismatch()` if a size does not fit.
    pub fn of(
        given: Option<&Tensor>,
        lengths: Option<&Tensor>,
        causality: &Causality,
        past: i64,
        heads: &Heads,
    ) -> Result<Self> {
        let (query, keys) = (heads.query.size(), heads.key.size()[2]);
        let given = given.map(|mask| fitted(mask, &[query[0], query[1], query[2], keys])).transpose()?;
        let (mut allowed, added) = match given {
            Some(mask) if mask.kind() == Kind::Bool => (Some(mask), None),
            mask => (None, mask),
        };
        let without_others = allowed.is_none() && added.is_none() && lengths.is_none() && past == 0;
        if without_others && causality.is_causal && causality.left.is_none() && causality.right.is_none() {
            return Ok(Self { allowed: causality.allowed(&zero(heads)?, heads)?, added, only_causal: true });
        }
        let mut offset = zero(heads)?.f_add_scalar(past)?;
        if let Some(lengths) = lengths {
            if lengths.numel() as i64 != query[0] {
                let (found, batch) = (lengths.size(), query[0]);
                return Err(Error::mismatch(format!("input `nonpad_kv_seqlen` is {found:?}, expected [{batch}]")));
            }
            let lengths = lengths.f_to_kind(Kind::Int64)?.f_reshape([-1, 1, 1, 1])?;
            let positions = Tensor::f_arange(keys, (Kind::Int64, heads.query.device()))?;
            allowed = both(allowed, Some(positions.f_lt_tensor(&lengths)?))?;
            if past == 0 {
                offset = lengths.f_sub_scalar(query[2])?;
            }
        }
        if !causality.is_free() {
            allowed = both(allowed, causality.allowed(&offset, heads)?)?;
        }
        Ok(Self { allowed, added, only_causal: false })
    }

    /// Whether `is_causal` says it all.
    pub fn is_only_causal(&self) -> bool {
        self.only_causal
    }

    /// As one tensor: truth values, or numbers with minus infinity where a key is hidden.
    pub fn combined(&self) -> Result<Option<Tensor>> {
        Ok(match (&self.allowed, &self.added) {
            _ if self.only_causal => None,
            (None, None) => None,
            (Some(allowed), None) => Some(allowed.shallow_clone()),
            (None, Some(added)) => Some(added.shallow_clone()),
            (Some(allowed), Some(added)) => Some(hidden(added, allowed)?),
        })
    }

    /// Scores with what is added, minus infinity where a key is hidden.
    pub fn apply(&self, scores: &Tensor) -> Result<Tensor> {
        let scores = match &self.added {
            Some(added) => scores.f_add(added)?,
            None => scores.shallow_clone(),
        };
        match &self.allowed {
            Some(allowed) => hidden(&scores, allowed),
            None => Ok(scores),
        }
    }

    /// Zeros for the queries that see no key at all.
    pub fn without_empty_rows(&self, softmax: Tensor) -> Result<Tensor> {
        let sees = match (&self.allowed, &self.added) {
            (None, None) => return Ok(softmax),
            (Some(allowed), None) => allowed.shallow_clone(),
            (allowed, Some(added)) => {
                let finite = added.f_ne(f64::NEG_INFINITY)?;
                both(Some(finite), allowed.as_ref().map(Tensor::shallow_clone))?.unwrap_or_else(Tensor::new)
            }
        };
        let is_empty = sees.f_any_dim(-1, true)?.f_logical_not()?;
        Ok(softmax.f_masked_fill(&is_empty, 0.0)?)
    }
}

fn zero(heads: &Heads) -> Result<Tensor> {
    Ok(Tensor::f_zeros([0i64; 0], (Kind::Int64, heads.query.device()))?)
}

fn both(left: Option<Tensor>, right: Option<Tensor>) -> Result<Option<Tensor>> {
    Ok(match (left, right) {
        (Some(left), Some(right)) => Some(left.f_logical_and(&right)?),
        (left, right) => left.or(right),
    })
}

/// A mask that is broadcast against `wanted`, of two dimensions at least; keys that it is short of are hidden.
fn fitted(mask: &Tensor, wanted: &[i64; 4]) -> Result<Tensor> {
    let mut mask = match mask.dim() {
        0 => mask.f_reshape([1, 1])?,
        1 => mask.f_unsqueeze(0)?,
        _ => mask.shallow_clone(),
    };
    if mask.kind() != Kind::Bool {
        mask = as_float(&mask)?;
    }
    let size = mask.size();
    let (rank, keys) = (size.len(), size[size.len() - 1]);
    let fits = |axis: usize| size[rank - axis] == 1 || size[rank - axis] == wanted[4 - axis];
    if rank > 4 || keys > wanted[3] || !(2..=rank).all(fits) {
        return Err(Error::mismatch(format!("input `attn_mask` is {:?}, expected {wanted:?}", mask.size())));
    }
    let missing = wanted[3] - keys;
    if missing == 0 {
        return Ok(mask);
    }
    let hides = if mask.kind() == Kind::Bool { 0.0 } else { f64::NEG_INFINITY };
    Ok(mask.f_pad([0, missing], "constant", hides)?)
}

/// `x`, or minus infinity where `allowed` is false. Broadcast both ways, which `masked_fill` does not.
fn hidden(x: &Tensor, allowed: &Tensor) -> Result<Tensor> {
    let never = Tensor::f_full([0i64; 0], f64::NEG_INFINITY, (x.kind(), x.device()))?;
    Ok(x.f_where_self(allowed, &never)?)
}
