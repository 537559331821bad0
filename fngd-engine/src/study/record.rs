//! What was measured, and its names in the file.
//!
//! | name | is | size |
//! |---|---|---|
//! | `NNNN/LAYER/gram/M` | K of the first step's batch after M epochs | `[B, B]` |
//! | `NNNN/LAYER/coefficients/M` | w of the first step's batch after M epochs | `[B]` |
//! | `NNNN/LAYER/weights/E` | w of every batch of epoch E, one behind the other | `[samples]` |
//! | `samples/E` | the samples that these belong to | `[samples]` |
//! | `slots/E` | how many of them each batch has | `[batches]` |
//! | `labels` | of the first step's batch | `[B]` |
//!
//! `NNNN` is the layer's place in the model; epochs are counted from 1.

use super::probe::Measured;
use fngd_core::Result;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Everything that was measured in a run.
pub struct Record {
    labels: Tensor,
    moments: BTreeMap<u64, Measured>,
    epochs: BTreeMap<u64, Epoch>,
}

#[derive(Default)]
struct Epoch {
    samples: Vec<i64>,
    slots: Vec<i64>,
    /// Of each batch, by layer.
    weights: Vec<Vec<(String, Tensor)>>,
}

impl Record {
    /// Nothing yet. `labels`: of the first step's batch.
    pub fn of(labels: Tensor) -> Self {
        Self { labels, moments: BTreeMap::new(), epochs: BTreeMap::new() }
    }

    /// One more batch of `epoch`, counted from 0.
    pub fn add_weights(&mut self, epoch: u64, samples: Vec<i64>, weights: Vec<(String, Tensor)>) -> Result<()> {
        let epoch = self.epochs.entry(epoch).or_default();
        epoch.slots.push(samples.len() as i64);
        epoch.samples.extend(samples);
        epoch.weights.push(on_the_processor(weights)?);
        Ok(())
    }

    /// The first step's batch, after so many epochs.
    pub fn add_moment(&mut self, epochs: u64, measured: Measured) -> Result<()> {
        let Measured { grams, weights } = measured;
        let measured = Measured { grams: on_the_processor(grams)?, weights: on_the_processor(weights)? };
        self.moments.insert(epochs, measured);
        Ok(())
    }

    /// Tensors as they go into the file.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = vec![("labels".to_owned(), self.labels.f_to_device(tch::Device::Cpu)?)];
        for (moment, measured) in &self.moments {
            for (kind, rows) in [("gram", &measured.grams), ("coefficients", &measured.weights)] {
                let named = rows.iter().enumerate().map(|(index, (layer, tensor))| {
                    (format!("{index:04}/{layer}/{kind}/{moment}"), tensor.shallow_clone())
                });
                tensors.extend(named);
            }
        }
        for (epoch, found) in &self.epochs {
            let epoch = epoch + 1;
            tensors.push((format!("samples/{epoch}"), Tensor::f_from_slice(&found.samples)?));
            tensors.push((format!("slots/{epoch}"), Tensor::f_from_slice(&found.slots)?));
            let Some(first) = found.weights.first() else { continue };
            for (index, (layer, _)) in first.iter().enumerate() {
                let rows: Vec<&Tensor> = found.weights.iter().map(|batch| &batch[index].1).collect();
                tensors.push((format!("{index:04}/{layer}/weights/{epoch}"), Tensor::f_cat(&rows, 0)?));
            }
        }
        Ok(tensors)
    }
}

/// In float32 or float64, where a file can have them.
fn on_the_processor(tensors: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
    let moved = |(name, tensor): (String, Tensor)| {
        let kind = if tensor.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        Ok((name, tensor.f_to_device(tch::Device::Cpu)?.f_to_kind(kind)?))
    };
    tensors.into_iter().map(moved).collect()
}
