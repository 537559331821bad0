//! How much a method remembers of a model, without asking the engine.

use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::{OnnxModel, ParameterRow};

/// The rules that are counted here.
pub const RULES: [&str; 3] = ["muon", "shampoo", "soap"];

/// Largest side of a block of `shampoo`, and longest dimension with a basis of `soap`: their defaults.
const BLOCK_SIZE: u64 = 128;
const LARGEST_FACTOR: u64 = 10_000;
/// All state is float32.
const BYTES: u64 = 4;

/// Bytes of the state of one of [`RULES`] at its default settings, without the counts of updates.
pub fn fixed_bytes(model: &OnnxModel, rule: &str) -> u64 {
    let muon = muon_matrices(model);
    let rows = model.parameters().iter().filter(|row| row.trainable);
    let numbers = |row: &ParameterRow| match rule {
        "muon" if muon.contains(&row.name.as_str()) => count(row),
        "muon" => 2 * count(row),
        "shampoo" => count(row) + 2 * squares_of_blocks(&row.dims, BLOCK_SIZE),
        "soap" => 2 * count(row) + 2 * squares_of_sides(&row.dims, LARGEST_FACTOR),
        _ => count(row),
    };
    rows.map(numbers).sum::<u64>() * BYTES
}

/// The names of the parameters that `muon` orthogonalises at its defaults: all weights but the first and the last.
pub fn muon_matrices(model: &OnnxModel) -> Vec<&str> {
    let is_matrix = |row: &&ParameterRow| {
        let is_weight = matches!(
            row.role,
            ParameterRole::LinearWeight | ParameterRole::ConvolutionWeight | ParameterRole::RecurrentWeight
        );
        row.trainable && is_weight && row.dims.len() >= 2 && count(row) > 0
    };
    let names: Vec<&str> = model.parameters().iter().filter(is_matrix).map(|row| row.name.as_str()).collect();
    match &names[..] {
        [_, hidden @ .., _] => hidden.to_vec(),
        _ => Vec::new(),
    }
}

fn count(row: &ParameterRow) -> u64 {
    row.dims.iter().product()
}

/// Numbers in the square matrices of the blocks: neighbouring dimensions are merged up to `largest`, longer ones are split.
fn squares_of_blocks(dims: &[u64], largest: u64) -> u64 {
    let mut merged: Vec<u64> = vec![1];
    for &length in dims {
        match merged.last_mut() {
            Some(last) if *last == 1 || last.saturating_mul(length) <= largest => *last *= length,
            _ if length > 1 => merged.push(length),
            _ => (),
        }
    }
    let pieces: Vec<u64> = merged.iter().map(|length| length.div_ceil(largest)).collect();
    let blocks: u64 = pieces.iter().product();
    let squares = |(&length, &pieces): (&u64, &u64)| {
        let last = length % largest;
        let of_pieces = length / largest * largest * largest + last * last;
        // Each piece is in as many blocks as the other dimensions have pieces.
        if pieces == 0 { 0 } else { of_pieces * (blocks / pieces) }
    };
    merged.iter().zip(&pieces).map(squares).sum()
}

/// Numbers in the square matrices of the dimensions that have a basis.
fn squares_of_sides(dims: &[u64], largest: u64) -> u64 {
    let is_matrix = dims.iter().filter(|&&length| length > 1).count() >= 2 && !dims.contains(&0);
    let sides = dims.iter().filter(|&&length| is_matrix && length > 1 && length <= largest);
    sides.map(|length| length * length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_as_they_are_cut() {
        // [300, 9] in three blocks: two of 128 x 9 and one of 44 x 9.
        assert_eq!(squares_of_blocks(&[300, 9], 128), 2 * (128 * 128 + 81) + 44 * 44 + 81);
        // Merged to [64, 96, 3].
        assert_eq!(squares_of_blocks(&[64, 32, 3, 3], 128), 64 * 64 + 96 * 96 + 9);
        // Two by two blocks.
        assert_eq!(squares_of_blocks(&[130, 129], 128), 2 * (128 * 128 + 4) + 2 * (128 * 128 + 1));
        assert_eq!(squares_of_blocks(&[10], 128), 100);
        assert_eq!(squares_of_blocks(&[0, 4], 128), 0);
    }

    #[test]
    fn only_matrices_have_a_basis() {
        assert_eq!(squares_of_sides(&[8, 1, 3], 10_000), 64 + 9);
        assert_eq!(squares_of_sides(&[8, 3], 5), 9);
        assert_eq!(squares_of_sides(&[8, 1], 10_000), 0);
    }
}
