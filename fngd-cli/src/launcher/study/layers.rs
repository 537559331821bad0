//! Fig. 3: how alike the Gram matrices and the sample weights of two layers are, for the same samples at the same moment.

use super::observation::Moment;
use super::similarity::{correlation, cosine, mean, reordered};
use crate::data::random::Stream;

/// Every pair of layers at one moment, `[layers][layers]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// Cosine of the flattened Gram matrices.
    pub gram: Vec<Vec<f64>>,
    /// The same with the samples of one of the two shuffled: what any two such matrices have in common.
    pub shuffled: Vec<Vec<f64>>,
    /// Cosine of w. Weights that are all near 1 are alike whatever they mean.
    pub weights: Vec<Vec<f64>>,
    /// Correlation of w: of what is left when the mean is taken off.
    pub correlation: Vec<Vec<f64>>,
}

/// Means over pairs of layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Cosine of K over adjacent layers, over layers at least half the depth apart, and over adjacent layers with shuffled samples.
    pub adjacent: f64,
    pub distant: f64,
    pub adjacent_shuffled: f64,
    /// Correlation of w over adjacent layers.
    pub correlation: f64,
}

impl Pairs {
    /// Of one moment. The shuffles are the same every time.
    pub fn of(moment: &Moment) -> Pairs {
        let layers = moment.grams.len();
        let size = moment.weights.first().map_or(0, Vec::len);
        let shuffled: Vec<Vec<f64>> =
            moment.grams.iter().enumerate().map(|(layer, gram)| reordered(gram, size, &shuffle(size, layer))).collect();
        let table = |of: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
            (0..layers).map(|row| (0..layers).map(|column| of(row, column)).collect()).collect()
        };
        Pairs {
            gram: table(&|a, b| cosine(&moment.grams[a], &moment.grams[b])),
            shuffled: table(&|a, b| cosine(&moment.grams[a], &shuffled[b])),
            weights: table(&|a, b| cosine(&moment.weights[a], &moment.weights[b])),
            correlation: table(&|a, b| correlation(&moment.weights[a], &moment.weights[b])),
        }
    }

    pub fn summary(&self) -> Summary {
        let layers = self.gram.len();
        let far = layers.div_ceil(2);
        let over = |table: &[Vec<f64>], is_in: &dyn Fn(usize) -> bool| {
            let pairs = (0..layers).flat_map(|a| (a + 1..layers).map(move |b| (a, b)));
            mean(pairs.filter(|(a, b)| is_in(b - a)).map(|(a, b)| table[a][b]))
        };
        Summary {
            adjacent: over(&self.gram, &|apart| apart == 1),
            distant: over(&self.gram, &|apart| apart >= far.max(2)),
            adjacent_shuffled: over(&self.shuffled, &|apart| apart == 1),
            correlation: over(&self.correlation, &|apart| apart == 1),
        }
    }
}

/// A random order of the samples.
pub fn shuffle(size: usize, number: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..size).collect();
    Stream::new(0, "study shuffle", &[number as u64]).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_layers_by_hand() {
        let grams = vec![vec![1.0, 0.0, 0.0, 1.0], vec![1.0, 1.0, 1.0, 1.0], vec![2.0, 0.0, 0.0, 0.0]];
        let weights = vec![vec![1.0, 3.0], vec![0.0, 1.0], vec![3.0, 1.0]];
        let pairs = Pairs::of(&Moment { grams, weights });
        let half = 0.5f64;
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        // ⟨I, 1⟩ = 2, norms √2 and 2; ⟨I, diag(2, 0)⟩ = 2, norms √2 and 2; ⟨1, diag(2, 0)⟩ = 2, norms 2 and 2.
        close(pairs.gram[0][1], half.sqrt());
        close(pairs.gram[0][2], half.sqrt());
        close(pairs.gram[1][2], 0.5);
        close(pairs.gram[2][2], 1.0);
        // Neither I nor 1 changes when samples are shuffled.
        close(pairs.shuffled[0][1], half.sqrt());
        close(pairs.weights[0][1], 3.0 / 10f64.sqrt());
        // Two samples are either in step or against it.
        close(pairs.correlation[0][1], 1.0);
        close(pairs.correlation[0][2], -1.0);
        let summary = pairs.summary();
        close(summary.adjacent, (half.sqrt() + 0.5) / 2.0);
        close(summary.distant, half.sqrt());
        close(summary.correlation, 0.0);
    }

    #[test]
    fn one_layer_has_no_pair() {
        let moment = Moment { grams: vec![vec![1.0]], weights: vec![vec![1.0]] };
        assert!(Pairs::of(&moment).summary().adjacent.is_nan());
    }
}
