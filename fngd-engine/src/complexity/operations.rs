//! What the formulas say: multiply-adds that a method adds to a step of SGD, and numbers that it keeps besides the momentum.
//!
//! The paper's Tab. I, with the terms that it leaves out for being small, and for our way of computing: the weighted sum of FNGD scales
//! one tensor instead of forming per-sample gradients, and Gram matrices are formed in the cheapest of three ways.

use super::REFRESH_STEPS;
use fngd_cli::protocol::{ChainKind, ChainSize, StepKind};
use fngd_core::GramMethod;

/// What one method adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Added {
    /// Multiply-adds a step, on the average of a refresh period.
    pub operations: f64,
    /// Numbers kept from step to step.
    pub numbers: f64,
}

/// Side of the blocks that Shampoo cuts a matrix into.
const SHAMPOO_BLOCK: f64 = 128.0;

/// By the formulas of a method; `None` where none is written down here.
///
/// `slots`: batches whose weights FNGD keeps.
pub fn added(method: &str, kind: StepKind, chain: ChainKind, size: ChainSize, slots: usize) -> Option<Added> {
    let [b, t, d, layers] = [size.batch, size.positions, size.width, size.depth].map(|size| size as f64);
    let patch = match chain {
        ChainKind::Linear => 1,
        ChainKind::Convolution => 9,
    };
    let p = d * patch as f64;
    let period = REFRESH_STEPS as f64;
    let (operations, numbers) = match (method, kind) {
        ("fngd", StepKind::LaterEpochs) => (b * t * d, slots as f64 * b),
        ("fngd" | "ngd", _) => {
            let by = GramMethod::cheapest(size.batch, size.positions, size.width * patch, size.width, 1);
            let (gram, weighting) = match by {
                GramMethod::KhatriRao => (b * b * (p + d), b * d),
                GramMethod::Pairwise => (b * b * t * t * (p + d), b * t * d),
                GramMethod::Instantiate => (b * t * p * d + b * b * p * d, b * p * d),
            };
            let kept = if method == "fngd" { slots as f64 * b } else { 0.0 };
            (gram + b * b * b / 3.0 + weighting, kept)
        }
        ("kfac", _) => {
            let statistics = b * t * (p * p + d * d);
            let factorising = 9.0 * (p * p * p + d * d * d) / period;
            (statistics + factorising + 2.0 * p * d * (p + d), 2.0 * (p * p + d * d) + p + d)
        }
        ("eva", _) => (b * t * (p + d) + 4.0 * p * d, p + d),
        ("shampoo", _) => {
            let (rows, columns) = (d.min(SHAMPOO_BLOCK), p.min(SHAMPOO_BLOCK));
            let blocks = (d / rows) * (p / columns);
            let (pair, cubes) = (rows * columns * (rows + columns), rows.powi(3) + columns.powi(3));
            (blocks * (pair + (pair + 9.0 * cubes) / period), 2.0 * blocks * (rows * rows + columns * columns))
        }
        ("adamw", _) => (p * d, p * d),
        ("muon", _) => {
            let (short, long) = (p.min(d), p.max(d));
            (5.0 * (2.0 * short * short * long + short.powi(3)), 0.0)
        }
        _ => return None,
    };
    Some(Added { operations: layers * operations, numbers: layers * numbers })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ChainSize = ChainSize { batch: 8, positions: 4, width: 16, depth: 3 };

    fn operations(method: &str, kind: StepKind, size: ChainSize) -> f64 {
        added(method, kind, ChainKind::Linear, size, 5).unwrap().operations
    }

    #[test]
    fn formulas_by_hand() {
        let later = added("fngd", StepKind::LaterEpochs, ChainKind::Convolution, SIZE, 5).unwrap();
        assert_eq!(later, Added { operations: 3.0 * 8.0 * 4.0 * 16.0, numbers: 3.0 * 5.0 * 8.0 });
        let kfac = added("kfac", StepKind::Mean, ChainKind::Linear, SIZE, 5).unwrap();
        let (statistics, factorising, turning) = (32.0 * 512.0, 9.0 * 8192.0 / 10.0, 512.0 * 32.0);
        assert!((kfac.operations - 3.0 * (statistics + factorising + turning)).abs() < 1e-6, "{kfac:?}");
        assert_eq!(kfac.numbers, 3.0 * (1024.0 + 32.0));
        assert_eq!(added("seng", StepKind::Every, ChainKind::Linear, SIZE, 5), None);
    }

    #[test]
    fn the_first_epoch_takes_the_cheapest_gram_matrix() {
        // Pairwise: 8 * 16 * 32 = 4096 is more than 256 * 12 = 3072. With one position always Khatri-Rao.
        let instantiate = 8.0 * 4.0 * 256.0 + 64.0 * 256.0 + 8.0 * 256.0;
        let found = operations("ngd", StepKind::Every, SIZE);
        assert!((found - 3.0 * (instantiate + 512.0 / 3.0)).abs() < 1e-6, "{found}");
        let khatri_rao = 64.0 * 32.0 + 8.0 * 16.0;
        let found = operations("fngd", StepKind::FirstEpoch, ChainSize { positions: 1, ..SIZE });
        assert!((found - 3.0 * (khatri_rao + 512.0 / 3.0)).abs() < 1e-6, "{found}");
    }

    #[test]
    fn everything_is_linear_in_depth() {
        for method in ["fngd", "ngd", "kfac", "eva", "shampoo", "adamw", "muon"] {
            let twice = operations(method, StepKind::Every, ChainSize { depth: 6, ..SIZE });
            assert_eq!(twice, 2.0 * operations(method, StepKind::Every, SIZE), "{method}");
        }
    }
}
