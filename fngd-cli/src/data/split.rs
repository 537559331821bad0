//! Samples with labels, and taking a validation split out of them.

use super::error::{DataError, Result};
use super::random::Stream;

/// Pixels (or other numbers) of all samples of a split, one sample after the other.
#[derive(Debug, Clone, PartialEq)]
pub enum Images {
    /// Bytes.
    U8(Vec<u8>),
    /// Floats, taken as they are.
    F32(Vec<f32>),
}

impl Images {
    /// How many numbers there are in all.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Samples at `indices`, each of `size` numbers.
    fn select(&self, indices: &[usize], size: usize) -> Self {
        fn copy<T: Copy>(values: &[T], indices: &[usize], size: usize) -> Vec<T> {
            let mut selected = Vec::with_capacity(indices.len() * size);
            for &index in indices {
                selected.extend_from_slice(&values[index * size..(index + 1) * size]);
            }
            selected
        }
        match self {
            Self::U8(values) => Self::U8(copy(values, indices, size)),
            Self::F32(values) => Self::F32(copy(values, indices, size)),
        }
    }
}

/// Samples with labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// All samples, one after the other.
    pub images: Images,
    /// Sizes of one sample; `[channels, height, width]` for images.
    pub shape: Vec<i64>,
    /// The class of each sample, in `0..classes`.
    pub labels: Vec<i64>,
}

impl Split {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True if there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Numbers in one sample.
    pub fn sample_size(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }

    /// The samples at `indices`, in that order. Panics on an index outside the split.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            images: self.images.select(indices, self.sample_size()),
            shape: self.shape.clone(),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
        }
    }

    /// Takes `share` of the samples out, the same share of every class as nearly as whole samples allow, chosen by `seed`.
    ///
    /// Returns what stays and what was taken; both keep the order of the split. round(share · samples) samples are taken.
    ///
    /// # Errors
    /// `share` outside (0, 1), or so small or large that one side would be empty.
    pub fn take_stratified(&self, share: f64, seed: u64) -> Result<(Self, Self)> {
        if !(share > 0.0 && share < 1.0) {
            return Err(DataError::usage(format!("share of the validation split must be in [0, 1), found {share}")));
        }
        let wanted = (share * self.len() as f64).round() as usize;
        if wanted == 0 || wanted == self.len() {
            return Err(DataError::usage(format!(
                "a validation share of {share} takes {wanted} of {} samples; both parts need at least one",
                self.len()
            )));
        }
        let mut is_taken = vec![false; self.len()];
        for (class, (members, quota)) in self.members_by_class().iter_mut().zip(self.quotas(share, wanted)).enumerate()
        {
            Stream::new(seed, "validation split", &[class as u64]).shuffle(members);
            members[..quota].iter().for_each(|&index| is_taken[index] = true);
        }
        let (taken, kept): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(|&index| is_taken[index]);
        Ok((self.select(&kept), self.select(&taken)))
    }

    fn members_by_class(&self) -> Vec<Vec<usize>> {
        let classes = self.labels.iter().max().map_or(0, |&label| label as usize + 1);
        let mut members = vec![Vec::new(); classes];
        for (index, &label) in self.labels.iter().enumerate() {
            members[label as usize].push(index);
        }
        members
    }

    /// How many samples to take of each class: rounded down, then one more where the rest is largest, until `wanted`.
    fn quotas(&self, share: f64, wanted: usize) -> Vec<usize> {
        let exact: Vec<f64> = self.members_by_class().iter().map(|members| share * members.len() as f64).collect();
        let mut quotas: Vec<usize> = exact.iter().map(|quota| quota.floor() as usize).collect();
        let mut by_rest: Vec<usize> = (0..exact.len()).collect();
        // A stable sort: equal rests go by class number.
        by_rest.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
        let missing = wanted.saturating_sub(quotas.iter().sum());
        for &class in by_rest.iter().take(missing) {
            quotas[class] += 1;
        }
        quotas
    }
}

#[cfg(test)]
mod tests {
    use super::{Images, Split};

    fn split() -> Split {
        // 40 of class 0, 21 of class 1, 9 of class 2, mixed; the sample's two numbers name it.
        let labels: Vec<i64> =
            (0..70).map(|index| if index % 7 < 4 { 0 } else { 1 + i64::from(index % 10 == 9) }).collect();
        Split { images: Images::U8((0..140).map(|value| value as u8).collect()), shape: vec![1, 1, 2], labels }
    }

    fn count(split: &Split, class: i64) -> usize {
        split.labels.iter().filter(|&&label| label == class).count()
    }

    #[test]
    fn stratified_and_complete() {
        let whole = split();
        let (kept, taken) = whole.take_stratified(0.3, 7).unwrap();
        assert_eq!((kept.len(), taken.len()), (49, 21));
        for class in 0..3 {
            let exact = 0.3 * count(&whole, class) as f64;
            assert!((count(&taken, class) as f64 - exact).abs() < 1.0, "class {class}: {exact}");
        }
        let (Images::U8(a), Images::U8(b)) = (&kept.images, &taken.images) else { panic!("kind changed") };
        let mut all: Vec<u8> = a.iter().chain(b).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..140).collect::<Vec<u8>>());
    }

    #[test]
    fn labels_stay_with_their_images() {
        let whole = split();
        let (_, taken) = whole.take_stratified(0.5, 1).unwrap();
        let Images::U8(values) = &taken.images else { panic!("kind changed") };
        for (pixels, &label) in values.chunks(2).zip(&taken.labels) {
            assert_eq!(whole.labels[usize::from(pixels[0] / 2)], label);
        }
    }

    #[test]
    fn seed_decides() {
        let whole = split();
        assert_eq!(whole.take_stratified(0.3, 7).unwrap(), whole.take_stratified(0.3, 7).unwrap());
        assert_ne!(whole.take_stratified(0.3, 7).unwrap(), whole.take_stratified(0.3, 8).unwrap());
    }

    #[test]
    fn refuses_what_leaves_a_side_empty() {
        let text = |share| split().take_stratified(share, 0).unwrap_err().to_string();
        assert_eq!(text(1.0), "share of the validation split must be in [0, 1), found 1");
        assert_eq!(text(f64::NAN), "share of the validation split must be in [0, 1), found NaN");
        assert_eq!(text(0.001), "a validation share of 0.001 takes 0 of 70 samples; both parts need at least one");
        assert_eq!(text(0.999), "a validation share of 0.999 takes 70 of 70 samples; both parts need at least one");
    }
}
