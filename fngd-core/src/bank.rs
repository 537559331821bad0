//! The coefficient bank: where sample weights are kept between the epoch that solves for them and those that reuse them.

use crate::config::Share;
use crate::optimizer::Batch;
use crate::state::TensorMap;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Weights of all layers for one micro-batch.
#[derive(Debug)]
pub(crate) struct Recalled {
    /// `[L, B]`.
    pub coefficients: Tensor,
    /// Whether the bank knows the weights of each layer.
    pub known: Vec<bool>,
}

/// Sample weights by (layer, slot, batch size) or by (layer, sample), on the model's device.
///
/// Memory: 4 bytes per layer and sample of the training set (8 for a float64 model).
#[derive(Debug)]
pub(crate) struct CoefficientBank {
    share: Share,
    layers: usize,
    options: (Kind, Device),
    slots: BTreeMap<(u64, usize), Recalled>,
    /// `[L, N]`, 1 where nothing is known; N grows with the largest sample index seen.
    by_sample: Tensor,
    known_samples: Vec<bool>,
}

impl CoefficientBank {
    pub fn new(share: Share, layers: usize, options: (Kind, Device)) -> Self {
        let by_sample = Tensor::zeros([layers as i64, 0], options);
        Self { share, layers, options, slots: BTreeMap::new(), by_sample, known_samples: Vec::new() }
    }

    /// What is known for this micro-batch, or `None`.
    pub fn recall(&self, batch: &Batch) -> Result<Option<Recalled>> {
        match self.share {
            Share::None => Ok(None),
            Share::Slot => {
                let found = self.slots.get(&(batch.slot, batch.samples.len()));
                Ok(found
                    .map(|row| Recalled { coefficients: row.coefficients.shallow_clone(), known: row.known.clone() }))
            }
            Share::Sample => {
                let known = |sample: &i64| self.known_samples.get(*sample as usize).copied().unwrap_or(false);
                if !batch.samples.iter().all(known) {
                    return Ok(None);
                }
                let index = Tensor::from_slice(&batch.samples).f_to_device(self.options.1)?;
                let coefficients = self.by_sample.f_index_select(1, &index)?;
                Ok(Some(Recalled { coefficients, known: vec![true; self.layers] }))
            }
        }
    }

    /// Keeps the weights of a micro-batch, replacing older ones.
    pub fn store(&mut self, batch: &Batch, coefficients: Tensor, known: Vec<bool>) -> Result<()> {
        match self.share {
            Share::None => {}
            Share::Slot => {
                self.slots.insert((batch.slot, batch.samples.len()), Recalled { coefficients, known });
            }
            Share::Sample => {
                let largest = batch.samples.iter().copied().max().unwrap_or(0) as usize;
                self.grow(largest + 1)?;
                let index = Tensor::from_slice(&batch.samples).f_to_device(self.options.1)?;
                self.by_sample = self.by_sample.f_index_copy_(1, &index, &coefficients)?;
                for sample in &batch.samples {
                    self.known_samples[*sample as usize] = true;
                }
            }
        }
        Ok(())
    }

    fn grow(&mut self, samples: usize) -> Result<()> {
        let more = samples.saturating_sub(self.known_samples.len());
        if more > 0 {
            let ones = Tensor::f_ones([self.layers as i64, more as i64], self.options)?;
            self.by_sample = Tensor::f_cat(&[&self.by_sample, &ones], 1)?;
            self.known_samples.resize(samples, false);
        }
        Ok(())
    }

    /// The bank as a few named tensors, slots of one batch size together.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut by_size: BTreeMap<usize, Vec<(u64, &Recalled)>> = BTreeMap::new();
        for ((slot, size), row) in &self.slots {
            by_size.entry(*size).or_default().push((*slot, row));
        }
        let mut state = Vec::new();
        for (size, rows) in by_size {
            let slots: Vec<i64> = rows.iter().map(|(slot, _)| *slot as i64).collect();
            let known: Vec<u8> =
                rows.iter().flat_map(|(_, row)| row.known.iter().map(|known| u8::from(*known))).collect();
            let coefficients: Vec<&Tensor> = rows.iter().map(|(_, row)| &row.coefficients).collect();
            state.push((format!("bank.slots.{size}"), Tensor::from_slice(&slots)));
            let known = Tensor::from_slice(&known).f_view([rows.len() as i64, self.layers as i64])?;
            state.push((format!("bank.known.{size}"), known));
            state.push((format!("bank.coefficients.{size}"), Tensor::f_stack(&coefficients, 0)?));
        }
        if !self.known_samples.is_empty() {
            let known: Vec<u8> = self.known_samples.iter().map(|known| u8::from(*known)).collect();
            state.push(("bank.samples.known".to_owned(), Tensor::from_slice(&known)));
            state.push(("bank.samples.coefficients".to_owned(), self.by_sample.f_detach_copy()?));
        }
        Ok(state)
    }

    /// Takes back what [`state`](Self::state) gave, out of `state`.
    pub fn load_state(&mut self, state: &mut TensorMap) -> Result<()> {
        self.slots.clear();
        self.known_samples.clear();
        let (layers, names) = (self.layers as i64, state.names().map(str::to_owned).collect::<Vec<_>>());
        for name in names {
            let Some(size) = name.strip_prefix("bank.slots.") else { continue };
            let size: usize =
                size.parse().map_err(|_| Error::state(format!("`{name}` does not end in a batch size")))?;
            let rows = length(state, &name);
            let slots = Vec::<i64>::try_from(state.take(&name, Kind::Int64, &[rows])?)?;
            let known = state.take(&format!("bank.known.{size}"), Kind::Uint8, &[rows, layers])?;
            let expected = [rows, layers, size as i64];
            let coefficients = state.take(&format!("bank.coefficients.{size}"), self.options.0, &expected)?;
            for (row, slot) in slots.into_iter().enumerate() {
                let coefficients = self.on_device(&coefficients.f_get(row as i64)?)?;
                let known = flags(&known.f_get(row as i64)?)?;
                self.slots.insert((slot as u64, size), Recalled { coefficients, known });
            }
        }
        if state.contains("bank.samples.known") {
            let samples = length(state, "bank.samples.known");
            self.known_samples = flags(&state.take("bank.samples.known", Kind::Uint8, &[samples])?)?;
            let coefficients = state.take("bank.samples.coefficients", self.options.0, &[layers, samples])?;
            self.by_sample = self.on_device(&coefficients)?;
        }
        Ok(())
    }

    /// Bytes of all weights kept now.
    pub fn bytes(&self) -> u64 {
        let slots: usize =
            self.slots.keys().map(|(_, size)| size * self.layers * self.options.0.elt_size_in_bytes()).sum();
        (slots + self.known_samples.len() * self.layers * self.options.0.elt_size_in_bytes()) as u64
    }

    /// A copy of its own on the model's device.
    fn on_device(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.f_to_device(self.options.1)?.f_detach_copy()?)
    }
}

fn length(state: &TensorMap, name: &str) -> i64 {
    state.size(name).and_then(|size| size.first().copied()).unwrap_or(0)
}

fn flags(tensor: &Tensor) -> Result<Vec<bool>> {
    Ok(Vec::<u8>::try_from(tensor)?.into_iter().map(|flag| flag != 0).collect())
}
