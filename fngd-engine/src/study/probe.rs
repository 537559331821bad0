//! A second network that measures Gram matrices and sample weights, so that the first does not notice.

use crate::batches::Batch;
use crate::loss::Rows;
use fngd_core::optimizer::{Batch as Announcement, GradientSource, PreconditionedGradient};
use fngd_core::{Error, FngdConfig, FngdModule, Inventory, Refresh, Result, Share, StepScale};
use fngd_module::TrainableModule;
use tch::Tensor;

/// A network of its own whose layers are solved for at every pass.
pub struct Probe {
    module: TrainableModule,
    source: PreconditionedGradient,
    label_smoothing: f64,
}

/// By layer, in the order in which the model has them. Layers of unknown batch axis are not there.
pub struct Measured {
    /// K, `[B, B]`.
    pub grams: Vec<(String, Tensor)>,
    /// w, `[B]`.
    pub weights: Vec<(String, Tensor)>,
}

impl Probe {
    /// `config`: how the run that is looked at weights samples; damping and Fisher matrix are taken from it.
    pub fn build(mut module: TrainableModule, config: FngdConfig, label_smoothing: f64) -> Result<Self> {
        module.set_training(true);
        let config = FngdConfig {
            share: Share::None,
            refresh: Refresh::FirstEpoch,
            ablate: None,
            step_scale: StepScale::Absorb,
            ..config
        };
        let mut source = PreconditionedGradient::build(Inventory::of(&module).layers, config)?;
        source.keep_grams()?;
        Ok(Self { module, source, label_smoothing })
    }

    /// What `batch` gives with the values of `live`, which are [`trained`] of a network alike. `dropout_seed` decides what dropout
    /// clears.
    pub fn measure(&mut self, live: &[Tensor], batch: &Batch, dropout_seed: i64) -> Result<Measured> {
        let inside = |error: &dyn std::fmt::Display| Error::torch(error.to_string()).at("study");
        {
            let _no_grad = tch::no_grad_guard();
            for (mut own, live) in trained(&self.module).into_iter().zip(live) {
                own.f_copy_(live)?;
            }
        }
        self.source.begin(&Announcement { epoch: 0, slot: batch.slot as u64, samples: batch.indices.clone() })?;
        tch::manual_seed(dropout_seed);
        let logits = self.module.logits(std::slice::from_ref(&batch.images)).map_err(|error| inside(&error))?;
        let logits = self.source.logits(logits)?;
        let rows = Rows::of(&logits, &batch.labels).map_err(|error| inside(&error))?;
        let loss = rows.cross_entropy(self.label_smoothing).map_err(|error| inside(&error))?;
        self.source.backward(&loss, 1)?;
        trained(&self.module).iter_mut().for_each(Tensor::zero_grad);
        Ok(Measured { grams: self.source.grams()?, weights: self.source.sample_weights()? })
    }
}

/// What is trained of a network, in the order of its visit: shared, not copied.
pub fn trained(network: &dyn FngdModule) -> Vec<Tensor> {
    Inventory::of(network).parameters.into_iter().map(|parameter| parameter.tensor).collect()
}
