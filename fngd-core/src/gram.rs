//! Gram matrices of per-sample gradients.

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
