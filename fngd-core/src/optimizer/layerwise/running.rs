//! Running averages of what is observed, and what the present step adds to them.

use crate::Result;
use crate::state::TensorMap;
use tch::{Device, Kind, Tensor};

/// Running averages of N tensors, M ← εM + (1 − ε)M̂, and what this step adds to them.
#[derive(Debug)]
pub(super) struct Running<const N: usize> {
    decay: f64,
    /// ε = min(1 − 1/k, decay) at the k-th update, as KFAC's paper has it; else `decay` from the second update on.
    growing: bool,
    value: Option<[Tensor; N]>,
    /// k − 1
    updates: i64,
    /// Sum over the micro-batches of this step, and their number.
    news: Option<([Tensor; N], f64)>,
}

const UPDATES: &str = "updates";

impl<const N: usize> Running<N> {
    pub fn new(decay: f64) -> Self {
        Self { decay, growing: true, value: None, updates: 0, news: None }
    }

    /// With ε = `decay` whatever k.
    pub fn constant(decay: f64) -> Self {
        Self { growing: false, ..Self::new(decay) }
    }

    /// Notes one micro-batch.
    pub fn observe(&mut self, seen: [Tensor; N]) -> Result<()> {
        self.news = Some(match self.news.take() {
            None => (seen, 1.0),
            Some((mut sums, count)) => {
                for (sum, more) in sums.iter_mut().zip(&seen) {
                    *sum = sum.f_add(more)?;
                }
                (sums, count + 1.0)
            }
        });
        Ok(())
    }

    pub fn discard(&mut self) {
        self.news = None;
    }

    pub fn has_news(&self) -> bool {
        self.news.is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.value.is_none()
    }

    /// The value before the first update.
    pub fn start_from(&mut self, value: [Tensor; N]) {
        self.value = Some(value);
    }

    /// Makes the mean over the micro-batches of this step part of the average.
    pub fn absorb(&mut self) -> Result<()> {
        let Some((sums, count)) = self.news.take() else { return Ok(()) };
        let weight = if self.growing { self.decay.min(1.0 - 1.0 / (self.updates + 1) as f64) } else { self.decay };
        self.updates += 1;
        match &mut self.value {
            None => {
                let mut first = Vec::with_capacity(N);
                for sum in &sums {
                    first.push(sum.f_div_scalar(count)?);
                }
                // OK because there are N of them.
                self.value = Some(first.try_into().unwrap());
            }
            Some(value) => {
                for (average, sum) in value.iter_mut().zip(&sums) {
                    // A new tensor: what was saved before stays as it was.
                    let mean = if count == 1.0 { sum.shallow_clone() } else { sum.f_div_scalar(count)? };
                    *average = average.f_lerp(&mean, 1.0 - weight)?;
                }
            }
        }
        Ok(())
    }

    pub fn value(&self) -> Option<&[Tensor; N]> {
        self.value.as_ref()
    }

    pub fn state(&self, names: [&'static str; N]) -> Result<Vec<(String, Tensor)>> {
        let Some(value) = &self.value else { return Ok(Vec::new()) };
        let mut state = vec![(UPDATES.to_owned(), Tensor::f_from_slice(&[self.updates])?)];
        state.extend(names.map(str::to_owned).into_iter().zip(value.iter().map(Tensor::shallow_clone)));
        Ok(state)
    }

    pub fn load(
        &mut self,
        names: [&'static str; N],
        sizes: [&[i64]; N],
        options: (Kind, Device),
        state: &mut TensorMap,
    ) -> Result<()> {
        (self.value, self.updates, self.news) = (None, 0, None);
        if !state.contains(UPDATES) {
            return Ok(());
        }
        let updates = state.take(UPDATES, Kind::Int64, &[1])?.f_int64_value(&[0])?;
        let mut value = Vec::with_capacity(N);
        for (name, size) in names.into_iter().zip(sizes) {
            value.push(take_like(state, name, size, options)?);
        }
        self.updates = updates;
        // OK because there are N names.
        self.value = Some(value.try_into().unwrap());
        Ok(())
    }
}

/// Takes a tensor out of `state` onto the device. One of no numbers need not be there.
pub(super) fn take_like(state: &mut TensorMap, name: &str, size: &[i64], options: (Kind, Device)) -> Result<Tensor> {
    if size.contains(&0) && !state.contains(name) {
        return Ok(Tensor::f_zeros(size, options)?);
    }
    Ok(state.take(name, options.0, size)?.f_to_device(options.1)?)
}
