//! The coefficient bank: where sample weights are kept between the epoch that solves for them and those that reuse them.

use crate::config::Share;
use crate::optimizer::Batch;
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
/// Memory: 4 bytes per layer and sample of the training set.
#[derive(Debug)]
pub(crate) struct CoefficientBank {
    share: Share,
    layers: usize,
    device: Device,
    slots: BTreeMap<(u64, usize), Recalled>,
    /// `[L, N]`, 1 where nothing is known; N grows with the largest sample index seen.
    by_sample: Tensor,
    known_samples: Vec<bool>,
}

impl CoefficientBank {
    pub fn new(share: Share, layers: usize, device: Device) -> Self {
        let by_sample = Tensor::zeros([layers as i64, 0], (Kind::Float, device));
        Self { share, layers, device, slots: BTreeMap::new(), by_sample, known_samples: Vec::new() }
    }

    /// What is known for this micro-batch, or `None`.
    pub fn recall(&self, batch: &Batch) -> Result<Option<Recalled>> {
        match self.share {
            Share::None => Ok(None),
            Share::Slot => {
                let found = self.slots.get(&(batch.slot, batch.samples.len()));
                Ok(found.map(|row| Recalled { coefficients: row.coefficients.shallow_clone(), known: row.known.clone() }))
            }
            Share::Sample => {
                let known = |sample: &i64| self.known_samples.get(*sample as usize).copied().unwrap_or(false);
                if !batch.samples.iter().all(known) {
                    return Ok(None);
                }
                let index = Tensor::from_slice(&batch.samples).f_to_device(self.device)?;
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
                let index = Tensor::from_slice(&batch.samples).f_to_device(self.device)?;
                let coefficients = coefficients.f_to_kind(Kind::Float)?;
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
            let ones = Tensor::f_ones([self.layers as i64, more as i64], (Kind::Float, self.device))?;
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
            let known: Vec<u8> = rows.iter().flat_map(|(_, row)| row.known.iter().map(|known| u8::from(*known))).collect();
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

    /// Takes back what [`state`](Self::state) gave.
    pub fn load_state(&mut self, state: &BTreeMap<&str, &Tensor>) -> Result<()> {
        self.slots.clear();
        self.known_samples.clear();
        for (name, slots) in state {
            let Some(size) = name.strip_prefix("bank.slots.") else { continue };
            let size: usize = size.parse().map_err(|_| Error::state(format!("`{name}` does not end in a batch size")))?;
            let slots = Vec::<i64>::try_from(*slots)?;
            let expected = [slots.len() as i64, self.layers as i64, size as i64];
            let coefficients = required(state, &format!("bank.coefficients.{size}"), &expected)?;
            let known = required(state, &format!("bank.known.{size}"), &expected[..2])?;
            for (row, slot) in slots.into_iter().enumerate() {
                let known = Vec::<u8>::try_from(known.f_get(row as i64)?)?.into_iter().map(|known| known != 0).collect();
                let coefficients = coefficients.f_get(row as i64)?.f_to_device(self.device)?.f_detach_copy()?;
                self.slots.insert((slot as u64, size), Recalled { coefficients, known });
            }
        }
        if let Some(known) = state.get("bank.samples.known") {
            self.known_samples = Vec::<u8>::try_from(*known)?.into_iter().map(|known| known != 0).collect();
            let expected = [self.layers as i64, self.known_samples.len() as i64];
            let coefficients = required(state, "bank.samples.coefficients", &expected)?;
            self.by_sample = coefficients.f_to_device(self.device)?.f_detach_copy()?;
        }
        Ok(())
    }
}

fn required<'a>(state: &BTreeMap<&str, &'a Tensor>, name: &str, expected: &[i64]) -> Result<&'a Tensor> {
    let found = state.get(name).ok_or_else(|| Error::state(format!("`{name}` is missing")))?;
    if found.size() != expected {
        return Err(Error::state(format!("`{name}` is {:?}, expected {expected:?}", found.size())));
    }
    Ok(found)
}
