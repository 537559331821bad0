//! Gram matrices of per-sample gradients: K_ij = ⟨C_i, C_j⟩ over the contributions C of one layer.
//!
//! The paper's K is over U = B·C (docs/notation.md), so K = B² times what is computed here. The sample weights do not see the
//! factor; only the reported damping λ does.

use crate::Result;
use crate::contributions::Contributions;
use crate::factors::{Factors, WeightLayout};
use crate::layer::Geometry;
use crate::tap::product_transposed;
use crate::weighting::Use;
use tch::{Kind, Tensor};

/// How a Gram matrix was formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GramMethod {
    /// One position per sample: (XXᵀ) ∘ (GGᵀ), Eq. 12.
    KhatriRao,
    /// The double sum over positions, never forming a per-sample gradient.
    Pairwise,
    /// Per-sample gradients formed, in blocks under the memory cap, and multiplied.
    Instantiate,
}

impl GramMethod {
    /// The cheapest exact method for one use of a layer, counting multiply-adds.
    ///
    /// - `positions` T, `in_features` p, `out_features` d per group
    ///
    /// Pairwise costs B²T²(p+d), instantiating costs BTpd + B²pd; with T = 1 pairwise is Khatri-Rao and always wins. The rule
    /// 2T² ≤ pd of differential privacy, which needs only norms, is the wrong one here: this is about all pairs.
    ///
    /// ```
    /// use fngd_core::GramMethod;
    /// assert_eq!(GramMethod::cheapest(128, 1, 512, 10, 1), GramMethod::KhatriRao);
    /// // ResNet-18, first and last stage on CIFAR.
    /// assert_eq!(GramMethod::cheapest(128, 1024, 576, 64, 1), GramMethod::Instantiate);
    /// assert_eq!(GramMethod::cheapest(128, 16, 4608, 512, 1), GramMethod::Pairwise);
    /// ```
    pub fn cheapest(batch_size: i64, positions: i64, in_features: i64, out_features: i64, groups: i64) -> Self {
        let (b, t, p, d) = (batch_size as f64, positions as f64, in_features as f64, out_features as f64);
        if groups > 1 {
            // Each group has its own Gram matrix and they add up: instantiated contributions do that in one product.
            Self::Instantiate
        } else if positions == 1 {
            Self::KhatriRao
        } else if b * t * t * (p + d) < p * d * (t + b) {
            Self::Pairwise
        } else {
            Self::Instantiate
        }
    }
}

/// A layer's Gram matrix, and what its making left behind.
#[derive(Debug)]
pub(crate) struct Gram {
    /// `[B, B]`, float32 or better.
    pub matrix: Tensor,
    /// How it was formed.
    pub method: GramMethod,
    /// All weight contributions `[B, n]`, if they were formed in one piece, and how a weighted sum of them becomes a weight.
    pub contributions: Option<(Tensor, WeightLayout)>,
}

/// Larger blocks gain no speed, and memory is better left to the model. Measured on 2 cores with ResNet-32 and ResNet-18; all
/// contributions of a layer of 64 channels, B = 128, fit into one.
const BLOCK_BYTES: u64 = 32 << 20;

/// Gram matrix of the weight's contributions, summed over the uses of a layer before squaring: tied weights get their cross
/// terms.
///
/// `memory` caps the bytes of temporary blocks; pairwise, the unfolded patches of the layer (few positions) come on top.
pub(crate) fn of_weight(
    geometry: &Geometry,
    weight: &Tensor,
    uses: &[Use],
    batch_size: i64,
    memory: u64,
) -> Result<Gram> {
    let size = weight.size();
    let (groups, positions) = match geometry {
        Geometry::Linear => (1, positions(uses, |used| used.activations.numel() as i64 / size[1]) / batch_size),
        Geometry::Convolution(g) => {
            let rows = |used: &Use| if g.transposed { used.activations.size() } else { used.output_grads.size() };
            (g.groups, positions(uses, |used| rows(used)[0] * rows(used)[2..].iter().product::<i64>()) / batch_size)
        }
    };
    let in_features = size[1..].iter().product();
    let method = GramMethod::cheapest(batch_size, positions, in_features, size[0] / groups, groups);
    by_method(method, geometry, weight, uses, batch_size, memory)
}

/// [`of_weight`] by a given method. [`GramMethod::Pairwise`] is for one group only.
pub(crate) fn by_method(
    method: GramMethod,
    geometry: &Geometry,
    weight: &Tensor,
    uses: &[Use],
    batch_size: i64,
    memory: u64,
) -> Result<Gram> {
    let block = memory.min(BLOCK_BYTES);
    match method {
        GramMethod::KhatriRao | GramMethod::Pairwise => {
            // Several uses of one weight are one use with more positions.
            let factors = Factors::unfold(geometry, &weight.size(), uses, batch_size)?;
            let inputs = concatenate(factors.iter().map(|factors| &factors.inputs))?;
            let outputs = concatenate(factors.iter().map(|factors| &factors.outputs))?;
            Ok(Gram { matrix: pairwise(&inputs, &outputs, block)?, method, contributions: None })
        }
        GramMethod::Instantiate => {
            let groups = if let Geometry::Convolution(g) = geometry { g.groups } else { 1 };
            let contributions = Contributions::new(geometry, weight, uses, batch_size);
            let feature_bytes = (weight.numel() as i64 / weight.size()[0] * groups * batch_size) as u64;
            let features = block / (feature_bytes * element_bytes(weight.kind())).max(1);
            instantiate(&contributions, weight.size()[0] / groups, features)
        }
    }
}

fn positions(uses: &[Use], rows: impl Fn(&Use) -> i64) -> i64 {
    uses.iter().map(rows).sum()
}

/// Gram matrix `C Cᵀ` of contributions `[B, n]`.
///
/// Columns are formed some at a time, from the diagonal down: the upper half is the lower one, and a product that repacks its
/// right side repacks only those rows.
pub(crate) fn of_contributions(contributions: &Tensor) -> Result<Tensor> {
    let wide = at_least_float(contributions)?.f_contiguous()?;
    let batch_size = wide.size()[0];
    let gram = Tensor::f_zeros([batch_size, batch_size], (wide.kind(), wide.device()))?;
    for from in (0..batch_size).step_by(COLUMNS as usize) {
        let count = COLUMNS.min(batch_size - from);
        let columns = product_transposed(&wide.f_narrow(0, from, batch_size - from)?, &wide.f_narrow(0, from, count)?)?;
        gram.f_narrow(0, from, batch_size - from)?.f_narrow(1, from, count)?.f_copy_(&columns)?;
    }
    Ok(gram.f_tril(0)?.f_add(&gram.f_tril(-1)?.f_transpose(0, 1)?)?)
}

/// Columns of a Gram matrix formed at a time.
const COLUMNS: i64 = 32;

/// Σ_{t,s} (x_it · x_js)(g_it · g_js), over blocks of samples i.
fn pairwise(inputs: &Tensor, outputs: &Tensor, block_bytes: u64) -> Result<Tensor> {
    let inputs = at_least_float(inputs)?.f_squeeze_dim(1)?;
    let outputs = at_least_float(outputs)?.f_squeeze_dim(1)?;
    let (batch_size, positions) = (inputs.size()[0], inputs.size()[1]);
    let (all_inputs, all_outputs) = (flat(&inputs)?, flat(&outputs)?);
    let row_bytes = 2 * (positions * batch_size * positions) as u64 * element_bytes(inputs.kind());
    let samples = (block_bytes / row_bytes.max(1)).clamp(1, batch_size as u64) as i64;
    let mut rows = Vec::new();
    for from in (0..batch_size).step_by(samples as usize) {
        let count = samples.min(batch_size - from);
        let mut product = product_transposed(&flat(&inputs.f_narrow(0, from, count)?)?, &all_inputs)?;
        let other = product_transposed(&flat(&outputs.f_narrow(0, from, count)?)?, &all_outputs)?;
        product = product.f_mul_(&other)?;
        if positions > 1 {
            let by_sample = product.f_view([count, positions, batch_size, positions])?;
            product = by_sample.f_sum_dim_intlist(&[1i64, 3][..], false, inputs.kind())?;
        }
        rows.push(product);
    }
    if rows.len() == 1 { Ok(rows.remove(0)) } else { Ok(Tensor::f_cat(&rows, 0)?) }
}

/// C Cᵀ with C formed in blocks of at most `block_features` output features of each group.
fn instantiate(contributions: &Contributions, out_features: i64, block_features: u64) -> Result<Gram> {
    let features = block_features.clamp(1, out_features as u64) as i64;
    let mut sum: Option<Tensor> = None;
    let mut whole = None;
    for from in (0..out_features).step_by(features as usize) {
        let count = features.min(out_features - from);
        let block = contributions.block(from, count)?;
        let matrix = of_contributions(&block.rows)?;
        sum = Some(if let Some(mut sum) = sum { sum.f_add_(&matrix)? } else { matrix });
        if count == out_features {
            whole = Some((block.rows, block.layout));
        }
    }
    // OK because a layer has at least one output feature, so the loop ran.
    let matrix = sum.unwrap();
    Ok(Gram { matrix, method: GramMethod::Instantiate, contributions: whole })
}

fn concatenate<'a>(uses: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let uses: Vec<&Tensor> = uses.collect();
    if uses.len() == 1 { Ok(uses[0].shallow_clone()) } else { Ok(Tensor::f_cat(&uses, 2)?) }
}

/// `[B, T, f]` → `[B·T, f]`.
fn flat(rows: &Tensor) -> Result<Tensor> {
    let size = rows.size();
    Ok(rows.f_reshape([size[0] * size[1], size[2]])?)
}

/// Half-precision rows are widened: K is accumulated in float32 or better.
pub(crate) fn at_least_float(tensor: &Tensor) -> Result<Tensor> {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 => Ok(tensor.f_to_kind(Kind::Float)?),
        _ => Ok(tensor.shallow_clone()),
    }
}

fn element_bytes(kind: Kind) -> u64 {
    kind.elt_size_in_bytes() as u64
}
