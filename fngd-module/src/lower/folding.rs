//! How much is computed when a program is built. What is too large for that is computed in each pass.

use fngd_onnx::graph::Node;

/// Most elements that folding makes in all, 1 GiB of float32. Exporters leave far less.
pub(crate) const MOST_ELEMENTS: i64 = 1 << 28;

/// Whether the size of the result is bounded neither by [`largest_result`] nor by the operator. Exporters write none of these with
/// constants alone.
pub(crate) fn is_unbounded(node: &Node) -> bool {
    const OPERATORS: [&str; 13] = [
        "Attention",
        "AveragePool",
        "Conv",
        "ConvTranspose",
        "Einsum",
        "FusedMatMul",
        "GRU",
        "Gemm",
        "LSTM",
        "LpPool",
        "MaxPool",
        "MultiHeadAttention",
        "RNN",
    ];
    OPERATORS.contains(&node.op_type.as_str())
}

/// The most elements of a result for inputs of these sizes, unless the node's arguments ask for more: broadcasting and matrix products
/// take the larger of two dimensions, Concat the sum.
pub(crate) fn largest_result(sizes: &[Vec<i64>]) -> i64 {
    let product = |dims: &mut dyn Iterator<Item = i64>| dims.fold(1i64, i64::saturating_mul);
    let rank = sizes.iter().map(Vec::len).max().unwrap_or(0);
    let dim = |from_behind: usize| sizes.iter().filter_map(|size| size.iter().rev().nth(from_behind)).copied().max();
    let broadcast = product(&mut (0..rank).filter_map(dim));
    let together = sizes.iter().map(|size| product(&mut size.iter().copied())).fold(0i64, i64::saturating_add);
    broadcast.max(together)
}

#[cfg(test)]
mod tests {
    use super::largest_result;

    #[test]
    fn results_are_bounded_by_the_sizes_of_the_inputs() {
        assert_eq!(largest_result(&[]), 1);
        assert_eq!(largest_result(&[vec![5, 1], vec![1, 7]]), 35);
        assert_eq!(largest_result(&[vec![30, 4], vec![4, 50]]), 1500);
        assert_eq!(largest_result(&[vec![2, 3], vec![2, 3], vec![2, 3]]), 18);
        assert_eq!(largest_result(&[vec![i64::MAX, 1], vec![1, i64::MAX]]), i64::MAX);
    }
}
