//! Micro-batches of a split, as a function of (seed, epoch, slot): any of them can be made without making those before it.

use super::augment::{Augmentation, DrawKey};
use fngd_cli::data::random::Stream;
use fngd_cli::data::{Images, Normalization, Split};
use fngd_core::{Error, Result};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// On a GPU, a split of more bytes than this stays in main memory and travels batch by batch.
const RESIDENT_BYTES: usize = 2 << 30;

/// How batches are made.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOptions {
    /// Samples in a micro-batch, > 0.
    pub batch_size: usize,
    /// In a new random order each epoch, or in the order of the split.
    pub shuffle: bool,
    /// Decides order and augmentation.
    pub seed: u64,
    /// What is done to the images.
    pub augmentation: Augmentation,
    /// Where batches are wanted.
    pub device: Device,
    /// Lay out 4-D batches with the channels innermost.
    pub channels_last: bool,
}

impl BatchOptions {
    /// For evaluation: in order, nothing done to the images.
    pub fn evaluation(batch_size: usize, device: Device, channels_last: bool) -> Self {
        Self { batch_size, shuffle: false, seed: 0, augmentation: Augmentation::NONE, device, channels_last }
    }
}

/// A split on the device, ready to be cut into batches.
#[derive(Debug)]
pub struct Batches {
    /// `[samples, ...]`, as stored: bytes or floats.
    images: Tensor,
    /// `[samples]`, int64.
    labels: Tensor,
    /// `(value · scale + shift)` normalises; both broadcast over a batch.
    scale: Tensor,
    shift: Tensor,
    slots: Slots,
    options: BatchOptions,
}

/// One micro-batch.
#[derive(Debug)]
pub struct Batch {
    /// Position within the epoch.
    pub slot: usize,
    /// Numbers of the samples within the split.
    pub indices: Vec<i64>,
    /// `[batch, ...]`, float32, normalised, on the device.
    pub images: Tensor,
    /// `[batch]`, int64, on the device.
    pub labels: Tensor,
}

impl Batches {
    /// Moves the split to the device (as bytes, if it is stored so).
    ///
    /// # Errors
    /// A batch size of 0, an empty split, or sizes that contradict each other.
    pub fn build(split: &Split, normalization: &Normalization, options: BatchOptions) -> Result<Self> {
        if options.batch_size == 0 {
            return Err(Error::config("batch size must be > 0, found 0"));
        }
        if split.is_empty() || split.images.len() != split.len() * split.sample_size() {
            return Err(Error::shape(format!(
                "a split of {} samples of size {:?} must hold {} numbers and at least one sample, found {} numbers",
                split.len(),
                split.shape,
                split.len() * split.sample_size(),
                split.images.len()
            )));
        }
        let (images, bytes) = match &split.images {
            Images::U8(values) => (Tensor::f_from_slice(values)?, values.len()),
            Images::F32(values) => (Tensor::f_from_slice(values)?, 4 * values.len()),
        };
        let home = if bytes <= RESIDENT_BYTES { options.device } else { Device::Cpu };
        let size: Vec<i64> = std::iter::once(split.len() as i64).chain(split.shape.iter().copied()).collect();
        let constant = |values: Vec<f64>| -> Result<Tensor> {
            let shape: Vec<i64> = if split.shape.len() == 3 { vec![1, -1, 1, 1] } else { vec![-1] };
            Ok(Tensor::f_from_slice(&values)?
                .f_view(shape.as_slice())?
                .f_to_kind(Kind::Float)?
                .f_to_device(options.device)?)
        };
        let Normalization { scale, mean, std, .. } = normalization;
        Ok(Self {
            images: images.f_view(size.as_slice())?.f_to_device(home)?,
            labels: Tensor::f_from_slice(&split.labels)?.f_to_device(home)?,
            // (v · scale − mean) / std = v · (scale / std) + (−mean / std)
            scale: constant(std.iter().map(|std| scale / std).collect())?,
            shift: constant(mean.iter().zip(std).map(|(mean, std)| -mean / std).collect())?,
            slots: Slots { samples: split.len(), batch_size: options.batch_size },
            options,
        })
    }

    /// Samples in an epoch: all of the split.
    pub fn samples(&self) -> usize {
        self.slots.samples
    }

    /// Micro-batches in an epoch.
    pub fn slots(&self) -> usize {
        self.slots.count()
    }

    /// Samples in the micro-batch at `slot`; the same in every epoch.
    pub fn size_of(&self, slot: usize) -> usize {
        self.slots.range(slot).len()
    }

    /// The order of one epoch. Costs a permutation; the batches are made when asked for.
    pub fn epoch(&self, epoch: u64) -> Epoch<'_> {
        let mut order: Vec<i64> = (0..self.slots.samples as i64).collect();
        if self.options.shuffle {
            Stream::new(self.options.seed, "shuffle", &[epoch]).shuffle(&mut order);
        }
        Epoch { batches: self, epoch, order }
    }

    fn make(&self, epoch: u64, slot: usize, indices: &[i64]) -> Result<Batch> {
        let device = self.options.device;
        let chosen = Tensor::f_from_slice(indices)?.f_to_device(self.images.device())?;
        let stored = self.images.f_index_select(0, &chosen)?.f_to_device(device)?;
        let labels = self.labels.f_index_select(0, &chosen)?.f_to_device(device)?;
        let images = match stored.size()[..] {
            [_, _, height, width] => {
                let augmentation = self.options.augmentation;
                let key = DrawKey { seed: self.options.seed, epoch, slot: slot as u64 };
                let draws = augmentation.draw(key, indices.len(), [height, width]);
                let moved = augmentation.move_pixels(&stored, &draws)?;
                // While the pixels are still bytes, this moves a quarter of the memory.
                let mut images =
                    self.normalize(&if self.options.channels_last { channels_last(&moved)? } else { moved })?;
                augmentation.cut_out_(&mut images, &draws)?;
                images
            }
            _ => self.normalize(&stored)?,
        };
        Ok(Batch { slot, indices: indices.to_vec(), images, labels })
    }

    fn normalize(&self, stored: &Tensor) -> Result<Tensor> {
        // For floats `to_kind` is no copy, but `stored` is this batch's own memory all the same.
        let mut images = stored.f_to_kind(Kind::Float)?;
        let _ = images.f_mul_(&self.scale)?.f_add_(&self.shift)?;
        Ok(images)
    }
}

/// One epoch in its order.
#[derive(Debug)]
pub struct Epoch<'a> {
    batches: &'a Batches,
    epoch: u64,
    order: Vec<i64>,
}

impl Epoch<'_> {
    /// The micro-batch at `slot`. Panics past the last slot.
    pub fn batch(&self, slot: usize) -> Result<Batch> {
        self.batches.make(self.epoch, slot, &self.order[self.batches.slots.range(slot)])
    }

    /// The micro-batches from `first_slot` on; earlier ones cost nothing.
    pub fn from_slot(&self, first_slot: usize) -> impl Iterator<Item = Result<Batch>> + '_ {
        (first_slot..self.batches.slots()).map(|slot| self.batch(slot))
    }
}

/// How an epoch is cut: every sample is in one slot. A last slot of one sample would make BatchNorm's variance meaningless
/// (libtorch returns NaN without a word), so that sample joins the slot before.
#[derive(Debug, Clone, Copy)]
struct Slots {
    samples: usize,
    batch_size: usize,
}

impl Slots {
    fn count(self) -> usize {
        let rest = self.samples % self.batch_size;
        let full = self.samples / self.batch_size;
        if rest > 1 || full == 0 { full + 1 } else { full }
    }

    fn range(self, slot: usize) -> Range<usize> {
        assert!(slot < self.count(), "slot {slot} of an epoch of {}", self.count());
        let end = if slot + 1 == self.count() { self.samples } else { (slot + 1) * self.batch_size };
        slot * self.batch_size..end
    }
}

/// Images with their channels innermost in memory; what is not 4-D stays as it is.
pub(super) fn channels_last(images: &Tensor) -> Result<Tensor> {
    if images.dim() != 4 {
        return Ok(images.shallow_clone());
    }
    Ok(images.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

#[cfg(test)]
mod tests {
    use super::{BatchOptions, Batches, Slots};
    use crate::augment::Augmentation;
    use fngd_cli::data::{Images, Normalization, Split};
    use tch::{Device, Kind, Tensor};

    fn split(samples: usize) -> Split {
        let images = Images::U8((0..samples * 24).map(|value| (value % 251) as u8).collect());
        Split { images, shape: vec![2, 3, 4], labels: (0..samples as i64).map(|index| index % 3).collect() }
    }

    fn normalization() -> Normalization {
        Normalization { scale: 1.0 / 255.0, mean: vec![0.4, 0.2], std: vec![0.25, 0.5], source: String::new() }
    }

    fn batches(samples: usize, change: impl FnOnce(&mut BatchOptions)) -> Batches {
        let mut options = BatchOptions::evaluation(4, Device::Cpu, false);
        change(&mut options);
        Batches::build(&split(samples), &normalization(), options).unwrap()
    }

    fn training(options: &mut BatchOptions) {
        options.shuffle = true;
        options.seed = 9;
        options.augmentation = Augmentation { padding: 1, flip: true, cutout: 2 };
    }

    #[test]
    fn every_sample_once() {
        for (samples, sizes) in
            [(12, vec![4, 4, 4]), (13, vec![4, 4, 5]), (14, vec![4, 4, 4, 2]), (3, vec![3]), (1, vec![1]), (5, vec![5])]
        {
            let batches = batches(samples, training);
            let found: Vec<usize> = (0..batches.slots()).map(|slot| batches.size_of(slot)).collect();
            assert_eq!(found, sizes, "{samples} samples");
            let epoch = batches.epoch(3);
            let mut seen: Vec<i64> = epoch.from_slot(0).flat_map(|batch| batch.unwrap().indices).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..samples as i64).collect::<Vec<_>>());
        }
        assert_eq!(Slots { samples: 5, batch_size: 1 }.count(), 5);
    }

    #[test]
    fn numbers_equal_the_definition() {
        let (split, batches) = (split(6), batches(6, |_| ()));
        let Images::U8(stored) = &split.images else { panic!("bytes") };
        for batch in batches.epoch(0).from_slot(0).map(Result::unwrap) {
            assert_eq!((batch.images.kind(), batch.labels.kind()), (Kind::Float, Kind::Int64));
            for (row, &index) in batch.indices.iter().enumerate() {
                assert_eq!(batch.labels.int64_value(&[row as i64]), split.labels[index as usize]);
                for (position, &value) in stored[index as usize * 24..][..24].iter().enumerate() {
                    let channel = position / 12;
                    let expected = (f64::from(value) / 255.0 - [0.4, 0.2][channel]) / [0.25, 0.5][channel];
                    let found = batch.images.get(row as i64).view([24]).double_value(&[position as i64]);
                    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn any_slot_without_those_before() {
        let batches = batches(14, training);
        let all: Vec<_> = batches.epoch(2).from_slot(0).map(Result::unwrap).collect();
        let later = batches.epoch(2);
        let one = later.from_slot(3).next().unwrap().unwrap();
        assert_eq!((one.slot, &one.indices), (3, &all[3].indices));
        assert_eq!(one.images, all[3].images);
        assert_eq!(later.from_slot(4).count(), 0);
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch| {
            let batches = batches(50, |options| (options.shuffle, options.seed) = (true, seed));
            batches.epoch(epoch).from_slot(0).flat_map(|batch| batch.unwrap().indices).collect::<Vec<_>>()
        };
        assert_eq!(order(1, 1), order(1, 1));
        assert_ne!(order(1, 1), order(1, 2));
        assert_ne!(order(1, 1), order(2, 1));
    }

    #[test]
    fn channels_last_changes_strides_only() {
        let last = batches(8, |options| {
            training(options);
            options.channels_last = true;
        });
        let (a, b) = (batches(8, training).epoch(1).batch(1).unwrap(), last.epoch(1).batch(1).unwrap());
        assert_eq!(a.images, b.images);
        assert_eq!((a.images.stride(), b.images.stride()), (vec![24, 12, 4, 1], vec![24, 1, 8, 2]));
    }

    #[test]
    fn resident_split_stays_as_it_was() {
        // Floats: nothing done to a batch may reach the stored split.
        let split = Split { images: Images::F32(vec![1.0; 96]), shape: vec![2, 3, 4], labels: vec![0; 4] };
        let batches =
            Batches::build(&split, &normalization(), BatchOptions::evaluation(4, Device::Cpu, false)).unwrap();
        let first = batches.epoch(0).batch(0).unwrap().images;
        assert_eq!(first, batches.epoch(0).batch(0).unwrap().images);
        assert_eq!(batches.images, Tensor::ones([4, 2, 3, 4], (Kind::Float, Device::Cpu)));
    }

    #[test]
    fn wrong_sizes_are_named() {
        let build = |split: &Split, batch_size| {
            let options = BatchOptions::evaluation(batch_size, Device::Cpu, false);
            Batches::build(split, &normalization(), options).unwrap_err().to_string()
        };
        assert_eq!(build(&split(2), 0), "batch size must be > 0, found 0");
        let short = Split { labels: vec![0; 3], ..split(2) };
        assert_eq!(
            build(&short, 4),
            "a split of 3 samples of size [2, 3, 4] must hold 72 numbers and at least one sample, found 48 numbers"
        );
    }
}
