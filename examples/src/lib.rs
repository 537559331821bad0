//! What the numbered examples share: the digits data set as tensors.

use fngd_cli::data::{self, Images, Normalization, Split};
use fngd_core::random::Stream;
use tch::{Kind, Tensor};

/// Handwritten digits of 8x8 pixels, embedded in the program.
pub struct Digits {
    /// `[n, 1, 8, 8]`, float32, normalised.
    pub images: Tensor,
    /// `[n]`, int64, in 0..10.
    pub labels: Tensor,
}

impl Digits {
    /// 1,442 digits to train on and 355 to test with.
    pub fn load() -> (Self, Self) {
        // OK because the digits are part of the program.
        let set = data::load(&data::locate("digits", None).unwrap()).unwrap();
        let test = set.test.unwrap();
        (Self::new(&set.train, &set.normalization), Self::new(&test, &set.normalization))
    }

    /// Batches of an epoch, shuffled in an order that depends on nothing but `epoch`; the last one may be smaller.
    pub fn batches(&self, batch_size: i64, epoch: u64) -> impl Iterator<Item = (Tensor, Tensor)> {
        let count = self.labels.size()[0];
        let order = Tensor::from_slice(&Stream::new(0, "shuffle", &[epoch]).permutation(count as usize));
        let (images, labels) = (self.images.index_select(0, &order), self.labels.index_select(0, &order));
        (0..count).step_by(batch_size as usize).map(move |start| {
            let size = batch_size.min(count - start);
            (images.narrow(0, start, size), labels.narrow(0, start, size))
        })
    }

    /// Part of the digits that the largest of `logits` gets right, in [0, 1]. Nothing is recorded for backward.
    pub fn accuracy(&self, logits: impl Fn(&Tensor) -> Tensor) -> f64 {
        tch::no_grad(|| logits(&self.images)).accuracy_for_logits(&self.labels).double_value(&[])
    }

    fn new(split: &Split, Normalization { scale, mean, std, .. }: &Normalization) -> Self {
        let Images::U8(pixels) = &split.images else { unreachable!("digits are stored as bytes") };
        let pixels = Tensor::from_slice(pixels).view([-1, 1, 8, 8]).to_kind(Kind::Float);
        Self { images: (pixels * *scale - mean[0]) / std[0], labels: Tensor::from_slice(&split.labels) }
    }
}
