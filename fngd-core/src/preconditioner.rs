//! The preconditioner: decides each layer's sample weights, at the moment when backward reaches the layer.

mod ablation;
mod facts;
mod outcome;
mod pending;
mod scale;
pub(crate) mod seen;

pub(crate) use facts::Facts;
pub(crate) use pending::Pending;

use crate::bank::{CoefficientBank, Recalled};
use crate::config::{Fisher, FngdConfig, Share};
use crate::layer::{Attachment, BatchAxis, Layer};
use crate::listener::Listener;
use crate::optimizer::{Batch, LayerReport, PhaseTime, WeightSource};
use crate::state::TensorMap;
use crate::tap::{self, ParameterGrads};
use crate::timeline::{self, Phase};
use crate::weighting::Use;
use crate::{Error, Result, samples};
use ablation::ablated;
use outcome::Outcome;
use scale::LayerScale;
use seen::Seen;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Everything that FNGD adds to a first-order step. Shared with the taps of the layers, which call it from backward.
#[derive(Debug)]
pub(crate) struct Preconditioner {
    config: FngdConfig,
    layers: Vec<Facts>,
    bank: CoefficientBank,
    scale: LayerScale,
    /// Kind and device of the weights w: float32, or float64 for a float64 model.
    options: (Kind, Device),
    /// The micro-batch between `begin` and the end of its backward.
    batch: Option<Batch>,
    plan: Plan,
    progress: Vec<Progress>,
    /// The samples that forward passes have shown since the latest backward.
    seen: Seen,
    pending: Vec<Pending>,
    /// Micro-batches in the step: the loss was divided by it, so gradients and K are those of a smaller loss.
    pub accumulation: f64,
    /// iEF: squared norms of the logit gradients of this micro-batch, divided by their mean.
    right_side: Option<Tensor>,
    outcomes: Vec<Outcome>,
    /// The Gram matrices of the latest solve by layer, if somebody wants them.
    grams: Option<Vec<Option<Tensor>>>,
    /// Time spent since `begin`.
    pub time: PhaseTime,
}

/// Where the weights of this micro-batch come from.
#[derive(Debug)]
enum Plan {
    Solve,
    Recall(Recalled),
    /// The bank knows nothing of this slot.
    Unknown,
}

/// How far backward has come with one layer.
#[derive(Debug, Default)]
struct Progress {
    expected_uses: usize,
    uses: Vec<Use>,
}

impl Preconditioner {
    /// Taps every layer.
    pub fn attach(layers: &[Layer], config: FngdConfig) -> Arc<Mutex<Self>> {
        let options = layers.first().map_or((Kind::Float, Device::Cpu), |layer| {
            let double = layer.weight().kind() == Kind::Double;
            (if double { Kind::Double } else { Kind::Float }, layer.weight().device())
        });
        let preconditioner = Arc::new(Mutex::new(Self {
            bank: CoefficientBank::new(config.share, layers.len(), options),
            scale: LayerScale::new(config.step_scale, layers.len(), options.1),
            layers: layers.iter().map(Facts::of).collect(),
            config,
            options,
            batch: None,
            plan: Plan::Unknown,
            progress: layers.iter().map(|_| Progress::default()).collect(),
            seen: Seen::default(),
            pending: Vec::new(),
            accumulation: 1.0,
            right_side: None,
            outcomes: Vec::new(),
            grams: None,
            time: PhaseTime::default(),
        }));
        for (index, layer) in layers.iter().enumerate() {
            layer.attach(Some(Attachment { listener: preconditioner.clone(), index }));
        }
        preconditioner
    }

    /// Announces the samples of the next forward pass.
    pub fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.forget_forward();
        self.start(batch)
    }

    /// Announces the samples of the forward pass that has just run: as many as its first layer saw. After an error,
    /// [`forget_forward`](Self::forget_forward).
    pub fn begin_seen(&mut self, epoch: u64, slot: u64) -> Result<()> {
        if self.config.share == Share::Sample {
            let message =
                "weights shared by sample need to know the samples: announce their indices before the forward pass";
            return Err(Error::state(message));
        }
        let rows = self.seen.rows(|index| &self.layers[index].name)?;
        self.start(&Batch { epoch, slot, samples: (0..rows).collect() })
    }

    /// Chooses where the weights of the micro-batch come from.
    fn start(&mut self, batch: &Batch) -> Result<()> {
        self.batch = None;
        if batch.samples.is_empty() {
            return Err(Error::config("a batch must hold at least one sample, found none"));
        }
        if let Some(negative) = batch.samples.iter().find(|sample| **sample < 0) {
            return Err(Error::config(format!("the samples of a batch are counted from 0, found {negative}")));
        }
        self.plan = if self.config.solves_in(batch.epoch) {
            Plan::Solve
        } else {
            self.bank.recall(batch)?.map_or(Plan::Unknown, Plan::Recall)
        };
        self.batch = Some(batch.clone());
        self.outcomes = self.layers.iter().map(|_| Outcome::unknown()).collect();
        self.pending.clear();
        if let Some(grams) = &mut self.grams {
            grams.fill_with(|| None);
        }
        self.right_side = None;
        self.time = PhaseTime::default();
        Ok(())
    }

    /// Lets go of forward passes that no backward will follow.
    pub fn forget_forward(&mut self) {
        self.progress.fill_with(Progress::default);
        self.seen = Seen::default();
    }

    /// Whether the samples of a micro-batch have been announced, and its backward has not run.
    pub fn has_begun(&self) -> bool {
        self.batch.is_some()
    }

    /// iEF: `logits` with a tap that notes the norms of their gradients; otherwise `logits` as they are.
    pub fn watch_logits(preconditioner: &Arc<Mutex<Self>>, logits: Tensor) -> Result<Tensor> {
        if lock(preconditioner)?.config.fisher == Fisher::Empirical {
            return Ok(logits);
        }
        let preconditioner = Arc::clone(preconditioner);
        let nothing = Tensor::f_zeros([0], (Kind::Float, logits.device()))?;
        let callback: tap::Callback = Box::new(move |_, logit_grads| {
            let mut this = lock(&preconditioner)?;
            let batch_size = this.batch_size()?;
            samples::check(&logit_grads, BatchAxis::Leading, batch_size, "logits")?;
            let rows = logit_grads.f_reshape([batch_size, -1])?;
            let norms = rows.f_square()?.f_sum_dim_intlist(1i64, false, Kind::Float)?;
            // Every logit gradient zero: any right side gives a zero gradient.
            let mean = norms.f_mean(Kind::Float)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
            this.right_side = Some(norms.f_div(&mean)?);
            Ok((None, None))
        });
        tap::attach(&logits, &nothing, &nothing, None, callback)
    }

    fn layer_backward(&mut self, index: usize, used: Use) -> Result<ParameterGrads> {
        let batch_size = self.batch_size()?;
        samples::check(&used.activations, used.axis, batch_size, "activations")?;
        samples::check(&used.output_grads, used.axis, batch_size, "output gradients")?;
        let progress = &mut self.progress[index];
        progress.uses.push(used);
        if progress.uses.len() < progress.expected_uses {
            // Tied weights: the other uses' contributions belong into the same Gram matrix.
            return Ok((None, None));
        }
        let uses = std::mem::take(&mut progress.uses);
        self.gradient(index, uses)
    }

    /// The gradient of a layer all of whose uses are in; empty if it has to wait for a solve.
    fn gradient(&mut self, index: usize, uses: Vec<Use>) -> Result<ParameterGrads> {
        let known_axis = uses.iter().all(|used| used.axis != BatchAxis::Unknown);
        match &self.plan {
            Plan::Solve if known_axis => {
                self.postpone(index, uses)?;
                Ok((None, None))
            }
            Plan::Recall(recalled) if known_axis && recalled.known[index] => {
                let coefficients = recalled.coefficients.f_get(index as i64)?;
                self.recall(index, &uses, coefficients)
            }
            _ => self.layers[index].gradient(&uses, None, &mut self.time.precondition),
        }
    }

    fn recall(&mut self, index: usize, uses: &[Use], coefficients: Tensor) -> Result<ParameterGrads> {
        let scaled = self.scale.apply(index, self.epoch(), &coefficients, None)?;
        self.outcomes[index] = Outcome::recalled(coefficients);
        self.layers[index].gradient(uses, Some(&scaled), &mut self.time.precondition)
    }

    /// Forms the Gram matrix of a layer and puts the layer aside until a batch of them is worth a solve.
    fn postpone(&mut self, index: usize, uses: Vec<Use>) -> Result<()> {
        let start = Instant::now();
        let span = timeline::enter_layer(Phase::Gram, &self.layers[index].name);
        let (batch_size, memory) = (self.batch_size()?, self.config.gram_memory_bytes);
        let waiting = Pending::form(index, &self.layers[index], uses, batch_size, memory)?;
        span.note_gram(waiting.method);
        drop(span);
        if let Some(grams) = &mut self.grams {
            grams[index] = Some(waiting.gram.shallow_clone());
        }
        self.pending.push(waiting);
        self.time.gram += start.elapsed();
        // On a CPU a batched factorisation gains nothing, and memory that waits is memory that the model cannot have.
        let budget = if self.options.1 == Device::Cpu { 0 } else { memory };
        if self.pending.iter().map(Pending::bytes).sum::<u64>() > budget { self.solve_pending() } else { Ok(()) }
    }

    /// Solves for all waiting layers at once and adds their gradients.
    fn solve_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        if self.config.fisher == Fisher::ImprovedEmpirical && self.right_side.is_none() {
            let message = "the improved empirical Fisher needs the gradients of the logits: compute the loss from what `logits` returns";
            return Err(Error::state(message));
        }
        let start = Instant::now();
        let span = match &pending[..] {
            [only] => timeline::enter_layer(Phase::Solve, &self.layers[only.index].name),
            _ => timeline::enter_together(Phase::Solve),
        };
        let grams: Vec<Tensor> = pending.iter().map(|waiting| waiting.gram.shallow_clone()).collect();
        let solution = crate::solve(&Tensor::f_stack(&grams, 0)?, self.config.damping, self.right_side.as_ref())?;
        let unsolved = crate::solve::unsolved(&solution)?;
        let batch_size = self.batch_size()? as f64;
        let slot = self.batch.as_ref().map_or(0, |batch| batch.slot);
        drop(span);
        self.time.solve += start.elapsed();
        for (row, waiting) in pending.into_iter().enumerate() {
            let Pending { index, method, .. } = waiting;
            let key = (self.config.seed, index, slot);
            let coefficients = ablated(solution.coefficients.f_get(row as i64)?, self.config.ablate, key)?;
            // K of the paper is B² times the Gram matrix of contributions, which accumulation made smaller.
            let batch_size = batch_size * self.accumulation;
            let damping = solution.damping.f_get(row as i64)?.f_mul_scalar(batch_size * batch_size)?;
            let facts = &self.layers[index];
            // Layers that waited get their gradient here.
            let _span = timeline::enter_layer(Phase::Backward, &facts.name);
            let scaled = self.scale.apply(index, self.epoch(), &coefficients, Some(&damping))?;
            facts.add_gradient(waiting.gradient(facts, &scaled, &mut self.time.precondition)?)?;
            let source = if unsolved[row] { WeightSource::Fallback } else { WeightSource::Solved };
            let stored = self.scale.stored(&coefficients, &scaled);
            self.outcomes[index] = Outcome {
                source,
                coefficients: Some(coefficients),
                stored: Some(stored),
                damping: Some(damping),
                method: Some(method),
            };
        }
        Ok(())
    }

    /// After backward: layers that still wait, tied layers some of whose uses got no gradient, and the bank.
    pub fn finish(&mut self) -> Result<()> {
        for index in 0..self.progress.len() {
            let uses = std::mem::take(&mut self.progress[index].uses);
            if !uses.is_empty() {
                let grads = self.gradient(index, uses)?;
                self.layers[index].add_gradient(grads)?;
            }
        }
        self.solve_pending()?;
        self.forget_forward();
        let batch = self.batch.take();
        if let (Plan::Solve, Some(batch)) = (&self.plan, batch) {
            self.store(&batch)?;
        }
        Ok(())
    }

    fn store(&mut self, batch: &Batch) -> Result<()> {
        let ones = Tensor::f_ones([batch.samples.len() as i64], self.options)?;
        let rows = self.outcomes.iter().map(|outcome| outcome.stored.as_ref().unwrap_or(&ones));
        let rows: Vec<Tensor> = rows.map(|row| row.f_to_kind(self.options.0)).collect::<std::result::Result<_, _>>()?;
        let known = self.outcomes.iter().map(|outcome| outcome.source == WeightSource::Solved).collect();
        self.bank.store(batch, Tensor::f_stack(&rows, 0)?, known)?;
        let dampings: Vec<Option<&Tensor>> = self.outcomes.iter().map(|outcome| outcome.damping.as_ref()).collect();
        self.scale.observe(batch.epoch, &dampings)
    }

    fn batch_size(&self) -> Result<i64> {
        let batch = self.batch.as_ref();
        batch
            .map(|batch| batch.samples.len() as i64)
            .ok_or_else(|| Error::state("an FNGD optimizer holds the model, and this is not its `backward`: call that one, or drop the optimizer first"))
    }

    fn epoch(&self) -> u64 {
        self.batch.as_ref().map_or(0, |batch| batch.epoch)
    }

    /// How many layers of the latest micro-batch have weights from `source`.
    pub fn count(&self, source: WeightSource) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.source == source).count()
    }

    /// The weights of the latest micro-batch. Waits for the device.
    pub fn reports(&self) -> Result<Vec<LayerReport>> {
        self.outcomes.iter().zip(&self.layers).map(|(outcome, facts)| outcome.report(&facts.name)).collect()
    }

    /// The weights w of the latest micro-batch, of the layers that have some. Copies: the bank's own stay as they are.
    pub fn sample_weights(&self) -> Result<Vec<(String, Tensor)>> {
        let rows = self.outcomes.iter().zip(&self.layers);
        rows.filter_map(|(outcome, facts)| Some((facts.name.clone(), outcome.coefficients.as_ref()?)))
            .map(|(name, coefficients)| Ok((name, coefficients.f_detach_copy()?)))
            .collect()
    }

    /// Keeps the Gram matrices of every solve until the next micro-batch.
    pub fn keep_grams(&mut self) {
        self.grams = Some(self.layers.iter().map(|_| None).collect());
    }

    /// K of the latest micro-batch, of the layers that were solved for: copies, in units of per-sample gradients.
    pub fn grams(&self) -> Result<Vec<(String, Tensor)>> {
        let rows = self.grams.iter().flatten().zip(&self.layers);
        rows.filter_map(|(gram, facts)| Some((facts.name.clone(), gram.as_ref()?)))
            .map(|(name, gram)| {
                // Contributions are 1/(B · accumulation) of per-sample gradients.
                let unit = (gram.size()[0] as f64 * self.accumulation).powi(2);
                Ok((name, gram.f_detach()?.f_mul_scalar(unit)?))
            })
            .collect()
    }

    /// The bank and the frozen layer scales.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = self.bank.state()?;
        state.extend(self.scale.state());
        Ok(state)
    }

    /// Takes back what [`state`](Self::state) gave.
    pub fn load_state(&mut self, state: &mut TensorMap) -> Result<()> {
        self.bank.load_state(state)?;
        self.scale.load_state(state)
    }

    /// Bytes of the weights kept now.
    pub fn bank_bytes(&self) -> u64 {
        self.bank.bytes()
    }
}

impl Listener for Mutex<Preconditioner> {
    fn expect_use(self: Arc<Self>, index: usize, activations: &Tensor, axis: BatchAxis) -> Result<tap::Callback> {
        let mut this = lock(&self)?;
        this.progress[index].expected_uses += 1;
        this.seen.note(index, samples::rows(activations, axis));
        drop(this);
        Ok(Box::new(move |activations, output_grads| {
            let mut this = lock(&self)?;
            let used = Use { activations, output_grads, axis };
            this.layer_backward(index, used).map_err(|error| error.at(format!("layer `{}`", this.layers[index].name)))
        }))
    }
}

/// Locks, or says that an earlier panic left what is shared with the taps unusable.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    shared.lock().map_err(|_| Error::state("an earlier panic left this optimizer unusable; build a new one"))
}
