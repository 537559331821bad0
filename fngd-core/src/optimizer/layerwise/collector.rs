//! The taps' other end: hands what backward shows of each layer to the layer's curvature.

use super::curvature::{Curvature, Observation};
use crate::layer::{Attachment, BatchAxis, Layer};
use crate::listener::Listener;
use crate::optimizer::Batch;
use crate::preconditioner::seen::Seen;
use crate::preconditioner::{Facts, lock};
use crate::tap::{self, ParameterGrads};
use crate::timeline::{self, Phase};
use crate::weighting::Use;
use crate::{Error, Result, samples};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tch::Tensor;

/// The layers and their curvatures. Shared with the taps, which call it from backward.
#[derive(Debug)]
pub(crate) struct Collector {
    pub layers: Vec<Collected>,
    /// Samples of the micro-batch between `begin` and the end of its backward.
    pub batch_size: Option<i64>,
    /// Micro-batches in the step: the loss was divided by it.
    pub accumulation: f64,
    /// Whether this step observes.
    pub observing: bool,
    /// Time of observing since `begin`.
    pub spent: Duration,
    /// The samples that forward passes have shown since the latest backward.
    seen: Seen,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct Collected {
    pub facts: Facts,
    pub curvature: Box<dyn Curvature>,
    /// Whether every use in this step so far had a known batch axis; `None` without uses.
    pub known_axis: Option<bool>,
    expected_uses: usize,
    uses: Vec<Use>,
}

impl Collector {
    /// Taps every layer.
    pub fn attach(layers: &[Layer], make: impl Fn(usize, &Facts) -> Box<dyn Curvature>) -> Arc<Mutex<Self>> {
        let collected = layers.iter().enumerate().map(|(index, layer)| {
            let facts = Facts::of(layer);
            let curvature = make(index, &facts);
            Collected { facts, curvature, known_axis: None, expected_uses: 0, uses: Vec::new() }
        });
        let collector = Arc::new(Mutex::new(Self {
            layers: collected.collect(),
            batch_size: None,
            accumulation: 1.0,
            observing: false,
            spent: Duration::ZERO,
            seen: Seen::default(),
        }));
        for (index, layer) in layers.iter().enumerate() {
            layer.attach(Some(Attachment { listener: collector.clone(), index }));
        }
        collector
    }

    /// Announces the samples of the next forward pass.
    pub fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.forget_forward();
        self.start(batch.samples.len() as i64)
    }

    /// Announces the samples of the forward pass that has just run: as many as its first layer saw. After an
    /// error, [`discard`](Self::discard).
    pub fn begin_seen(&mut self) -> Result<()> {
        let rows = self.seen.rows(|index| &self.layers[index].facts.name)?;
        self.start(rows)
    }

    fn start(&mut self, batch_size: i64) -> Result<()> {
        if batch_size == 0 {
            return Err(Error::config("a batch must hold at least one sample, found none"));
        }
        self.batch_size = Some(batch_size);
        self.spent = Duration::ZERO;
        Ok(())
    }

    /// Lets go of forward passes that no backward will follow.
    pub fn forget_forward(&mut self) {
        for layer in &mut self.layers {
            layer.expected_uses = 0;
            layer.uses.clear();
        }
        self.seen = Seen::default();
    }

    /// Lets go of what forward and backward passes noted for the next step.
    pub fn discard(&mut self) {
        self.forget_forward();
        for layer in &mut self.layers {
            layer.curvature.discard();
            layer.known_axis = None;
        }
    }

    fn layer_backward(&mut self, index: usize, used: Use) -> Result<ParameterGrads> {
        let batch_size = self.batch_size.ok_or_else(|| Error::state("backward after the batch was finished"))?;
        samples::check(&used.activations, used.axis, batch_size, "activations")?;
        samples::check(&used.output_grads, used.axis, batch_size, "output gradients")?;
        let layer = &mut self.layers[index];
        layer.uses.push(used);
        if layer.uses.len() < layer.expected_uses {
            // Tied weights: the positions of all uses belong together.
            return Ok((None, None));
        }
        self.gradient(index)
    }

    /// The plain gradient of a layer all of whose uses are in; its curvature gets to see them.
    fn gradient(&mut self, index: usize) -> Result<ParameterGrads> {
        let batch_size = self.batch_size.unwrap_or(1);
        let layer = &mut self.layers[index];
        let uses = std::mem::take(&mut layer.uses);
        let known = uses.iter().all(|used| used.axis != BatchAxis::Unknown);
        layer.known_axis = Some(known && layer.known_axis.unwrap_or(true));
        if known && self.observing {
            let start = Instant::now();
            let _span = timeline::enter_layer(Phase::Gram, &layer.facts.name);
            let seen = Observation { uses: &uses, batch_size, accumulation: self.accumulation };
            layer.curvature.observe(&layer.facts, &seen)?;
            self.spent += start.elapsed();
        }
        let mut weighting = Duration::ZERO;
        layer.facts.gradient(&uses, None, &mut weighting)
    }

    /// After backward: tied layers some of whose uses got no gradient.
    pub fn finish_backward(&mut self) -> Result<()> {
        for index in 0..self.layers.len() {
            if !self.layers[index].uses.is_empty() {
                let grads = self.gradient(index)?;
                self.layers[index].facts.add_gradient(grads)?;
            }
        }
        self.forget_forward();
        self.batch_size = None;
        Ok(())
    }
}

impl Listener for Mutex<Collector> {
    fn expect_use(self: Arc<Self>, index: usize, activations: &Tensor, axis: BatchAxis) -> Result<tap::Callback> {
        let mut this = lock(&self)?;
        this.layers[index].expected_uses += 1;
        this.seen.note(index, samples::rows(activations, axis));
        drop(this);
        Ok(Box::new(move |activations, output_grads| {
            let mut this = lock(&self)?;
            let used = Use { activations, output_grads, axis };
            let done = this.layer_backward(index, used);
            done.map_err(|error| error.at(format!("layer `{}`", this.layers[index].facts.name)))
        }))
    }
}
