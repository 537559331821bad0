//! Mean and standard deviation that bring pixels to a common scale.

use super::split::{Images, Split};

/// How numbers of a data set become inputs of a model: `(value · scale − mean[c]) / std[c]` for channel c.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalization {
    /// Brings stored numbers to [0, 1]: 1/255 for bytes.
    pub scale: f64,
    /// Mean of each channel after scaling.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel after scaling; > 0.
    pub std: Vec<f64>,
    /// Where the numbers come from.
    pub source: String,
}

/// Population mean and standard deviation per channel over all pixels of the 50,000 training images, in [0, 1].
pub(super) fn cifar10() -> Normalization {
    known(&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616], "all 50,000 training images of CIFAR-10")
}

/// As for CIFAR-10.
pub(super) fn cifar100() -> Normalization {
    known(&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762], "all 50,000 training images of CIFAR-100")
}

/// Over all pixels of the 60,000 training images.
pub(super) fn mnist() -> Normalization {
    known(&[0.1307], &[0.3081], "all 60,000 training images of MNIST")
}

/// Over all pixels of the 60,000 training images.
pub(super) fn fashion_mnist() -> Normalization {
    known(&[0.2860], &[0.3530], "all 60,000 training images of Fashion-MNIST")
}

/// Computes both numbers over `split`, per channel (the first axis of a sample with three axes; else one channel).
///
/// A channel that is constant gets the standard deviation 1.
pub(super) fn computed(split: &Split, scale: f64) -> Normalization {
    let channels = if split.shape.len() == 3 { split.shape[0] as usize } else { 1 };
    let area = (split.sample_size() / channels).max(1);
    let mut sums = vec![Sums::default(); channels];
    match &split.images {
        Images::U8(values) => accumulate(values, area, &mut sums),
        Images::F32(values) => accumulate(values, area, &mut sums),
    }
    let std = |sum: &Sums| {
        let std = scale * sum.variance().sqrt();
        if std > 0.0 { std } else { 1.0 }
    };
    Normalization {
        scale,
        mean: sums.iter().map(|sum| scale * sum.mean()).collect(),
        std: sums.iter().map(std).collect(),
        source: format!("computed over {} training samples", split.len()),
    }
}

fn known(mean: &[f64], std: &[f64], source: &str) -> Normalization {
    Normalization { scale: 1.0 / 255.0, mean: mean.to_vec(), std: std.to_vec(), source: source.to_owned() }
}

/// Sums of differences from the first value, so that large means do not eat the digits of the variance.
#[derive(Clone, Default)]
struct Sums {
    count: f64,
    origin: f64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn mean(&self) -> f64 {
        self.origin + self.sum / self.count.max(1.0)
    }

    fn variance(&self) -> f64 {
        let mean = self.sum / self.count.max(1.0);
        (self.squares / self.count.max(1.0) - mean * mean).max(0.0)
    }
}

fn accumulate<T: Copy + Into<f64>>(values: &[T], area: usize, sums: &mut [Sums]) {
    let channels = sums.len();
    for (plane, pixels) in values.chunks_exact(area).enumerate() {
        let sums = &mut sums[plane % channels];
        if sums.count == 0.0 {
            sums.origin = pixels.first().map_or(0.0, |&value| value.into());
        }
        for &value in pixels {
            let difference = value.into() - sums.origin;
            sums.sum += difference;
            sums.squares += difference * difference;
        }
        sums.count += pixels.len() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::computed;
    use crate::data::split::{Images, Split};

    #[test]
    fn equals_the_definition() {
        // Two samples of two channels with three pixels; channel 1 is constant.
        let images = Images::U8(vec![0, 51, 102, 7, 7, 7, 153, 204, 255, 7, 7, 7]);
        let found = computed(&Split { images, shape: vec![2, 1, 3], labels: vec![0, 1] }, 1.0 / 255.0);
        let values = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
        let mean = values.iter().sum::<f64>() / 6.0;
        let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 6.0).sqrt();
        assert!((found.mean[0] - mean).abs() < 1e-12 && (found.std[0] - std).abs() < 1e-12, "{found:?}");
        assert!((found.mean[1] - 7.0 / 255.0).abs() < 1e-12 && found.std[1] == 1.0, "{found:?}");
        assert_eq!(found.source, "computed over 2 training samples");
    }

    #[test]
    fn large_means_keep_their_variance() {
        let images = Images::F32(vec![1e6, 1e6 + 1.0, 1e6, 1e6 + 1.0]);
        let found = computed(&Split { images, shape: vec![2], labels: vec![0, 0] }, 1.0);
        assert!((found.std[0] - 0.5).abs() < 1e-9, "{found:?}");
    }
}
