//! Where a value keeps the samples of the batch, and where they are after a change of shape.

/// The samples lie along one dimension, which has `outer · B · inner` positions: position `(o · B + b) · inner + i` belongs to sample b.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The dimension.
    pub axis: usize,
    /// How often the batch is repeated in it.
    pub outer: i64,
    /// Positions of one sample next to each other.
    pub inner: i64,
}

impl Place {
    /// A dimension of the batch alone.
    pub(crate) fn alone(axis: usize) -> Self {
        Self { axis, outer: 1, inner: 1 }
    }

    /// Positions for each sample.
    pub(crate) fn multiple(self) -> i64 {
        self.outer * self.inner
    }

    /// The same along another axis.
    pub(crate) fn at(self, axis: usize) -> Self {
        Self { axis, ..self }
    }

    /// Where it can be after a Reshape from `from` to `to`, which keeps the order of the elements, the likeliest first: the
    /// `outer · Π from[..axis]` runs of samples must be as many in front of the new axis.
    ///
    /// Only for a batch of one sample are there several. Then a dimension of the batch alone is likeliest, after that one with
    /// everything behind it as before, or everything in front.
    pub(crate) fn reshaped(self, from: &[i64], to: &[i64], batch: i64) -> Vec<Self> {
        let product = |dims: &[i64]| dims.iter().product::<i64>();
        let (Some(before), Some(after)) = (from.get(..self.axis), from.get(self.axis + 1..)) else { return Vec::new() };
        let runs = product(before) * self.outer;
        let candidate = |axis: usize| {
            let in_front = product(&to[..axis]);
            if in_front == 0 || runs % in_front != 0 {
                return None;
            }
            let outer = runs / in_front;
            let fits = outer > 0 && to[axis] > 0 && to[axis] % (outer * batch) == 0;
            fits.then(|| Self { axis, outer, inner: to[axis] / (outer * batch) })
        };
        let mut candidates: Vec<Self> = (0..to.len()).filter_map(candidate).collect();
        candidates.sort_by_key(|place| {
            let keeps_after = to[place.axis + 1..] == *after && place.inner == self.inner;
            let keeps_before = to[..place.axis] == *before && place.outer == self.outer;
            (place.multiple() != 1, !keeps_after, !keeps_before, place.multiple())
        });
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reshaped(place: (usize, i64, i64), from: &[i64], to: &[i64], batch: i64) -> Option<(usize, i64, i64)> {
        let (axis, outer, inner) = place;
        let found = *Place { axis, outer, inner }.reshaped(from, to, batch).first()?;
        Some((found.axis, found.outer, found.inner))
    }

    #[test]
    fn samples_are_found_behind_a_reshape() {
        // [batch, length, width] to heads, and rows.
        assert_eq!(reshaped((0, 1, 1), &[2, 8, 16], &[2, 8, 2, 8], 2), Some((0, 1, 1)));
        assert_eq!(reshaped((0, 1, 1), &[2, 8, 16], &[16, 16], 2), Some((0, 1, 8)));
        assert_eq!(reshaped((0, 1, 8), &[16, 16], &[2, 8, 16], 2), Some((0, 1, 1)));
        // [length, batch, width] to [length, batch · heads, width / heads], back, and to rows.
        assert_eq!(reshaped((1, 1, 1), &[17, 2, 16], &[17, 4, 8], 2), Some((1, 1, 2)));
        assert_eq!(reshaped((0, 1, 2), &[4, 17, 8], &[2, 2, 17, 8], 2), Some((0, 1, 1)));
        assert_eq!(reshaped((1, 1, 1), &[17, 2, 16], &[34, 16], 2), Some((0, 17, 1)));
        assert_eq!(reshaped((0, 17, 1), &[34, 16], &[17, 2, 16], 2), Some((1, 1, 1)));
    }

    #[test]
    fn a_batch_of_one_is_found_by_what_stays() {
        assert_eq!(reshaped((1, 1, 1), &[17, 1, 16], &[17, 2, 8], 1), Some((1, 1, 2)));
        assert_eq!(reshaped((1, 1, 1), &[17, 1, 16], &[17, 16], 1), Some((0, 17, 1)));
        assert_eq!(reshaped((1, 1, 1), &[17, 1, 48], &[17, 1, 3, 16], 1), Some((1, 1, 1)));
        assert_eq!(reshaped((0, 1, 1), &[1, 3, 4, 4], &[48], 1), Some((0, 1, 48)));
    }

    #[test]
    fn a_larger_batch_is_in_one_place_only() {
        let place = Place { axis: 1, outer: 1, inner: 1 };
        assert_eq!(place.reshaped(&[17, 2, 2, 8], &[34, 16], 2).len(), 1);
        let both = [Place { axis: 1, outer: 1, inner: 16 }, Place { axis: 0, outer: 17, inner: 1 }];
        assert_eq!(place.reshaped(&[17, 1, 2, 8], &[17, 16], 1), both);
    }

    #[test]
    fn a_batch_that_is_cut_is_nowhere() {
        assert_eq!(reshaped((1, 1, 1), &[3, 2, 5], &[5, 6], 2), None);
    }
}
