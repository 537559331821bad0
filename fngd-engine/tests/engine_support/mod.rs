//! A small network with everything that resuming could get wrong: convolution, batch normalisation, dropout, a linear layer.

#![allow(dead_code)] // Each test program uses a part of this.

use fngd_cli::protocol::Event;
use fngd_core::{Convolution, FngdModule, Layer, Parameter, Path, Role, Visitor};
use fngd_engine::augment::Augmentation;
use fngd_engine::batches::{BatchOptions, Batches};
use fngd_engine::events::Events;
use fngd_engine::failure::{Failure, Result};
use fngd_engine::network::Network;
use std::cell::Cell;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

pub const CLASSES: i64 = 10;

/// Convolution 3x3, batch normalisation, ReLU, dropout, linear, for images `[1, 8, 8]`.
pub struct SmallNetwork {
    convolution: Layer,
    scale: Tensor,
    shift: Tensor,
    running: [Tensor; 2],
    head: Layer,
    is_training: bool,
    /// Training passes whose convolution gives NaN, counted from 0.
    pub bad_passes: Range<u64>,
    /// Share of activations that dropout clears in training.
    pub dropout: f64,
    /// Looking for the first value that is not finite fails.
    pub is_hard_to_search: bool,
    passes: Cell<u64>,
}

impl SmallNetwork {
    pub fn new(seed: i64) -> Self {
        const CHANNELS: i64 = 4;
        tch::manual_seed(seed);
        let random = |size: &[i64]| (Tensor::randn(size, (Kind::Float, Device::Cpu)) * 0.2).set_requires_grad(true);
        let zeros = |size: i64| Tensor::zeros([size], (Kind::Float, Device::Cpu));
        let geometry = Convolution { padding: vec![1, 1], ..Convolution::new(2) };
        Self {
            convolution: Layer::convolution("conv", random(&[CHANNELS, 1, 3, 3]), None, geometry).unwrap(),
            scale: (zeros(CHANNELS) + 1).set_requires_grad(true),
            shift: zeros(CHANNELS).set_requires_grad(true),
            running: [zeros(CHANNELS), zeros(CHANNELS) + 1],
            head: Layer::linear(
                "head",
                random(&[CLASSES, CHANNELS * 64]),
                Some(zeros(CLASSES).set_requires_grad(true)),
            )
            .unwrap(),
            is_training: true,
            bad_passes: 0..0,
            dropout: 0.2,
            is_hard_to_search: false,
            passes: Cell::new(0),
        }
    }
}

impl SmallNetwork {
    fn convolve(&self, input: &Tensor) -> Result<Tensor> {
        let is_bad = self.is_training && self.bad_passes.contains(&self.passes.get());
        let output = self.convolution.f_forward(input)?;
        Ok(if is_bad { output * f64::NAN } else { output })
    }
}

impl FngdModule for SmallNetwork {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        let mut parameter = |name: &str, tensor: &Tensor, role| {
            let name = name.split('.').fold(path.clone(), |path, part| path.child(part)).to_string();
            visitor.parameter(Parameter { name, tensor: tensor.shallow_clone(), role });
        };
        parameter("conv.weight", self.convolution.weight(), Role::Weight);
        parameter("bn.scale", &self.scale, Role::Normalisation);
        parameter("bn.shift", &self.shift, Role::Normalisation);
        parameter("head.weight", self.head.weight(), Role::Weight);
        parameter("head.bias", self.head.bias().unwrap(), Role::Bias);
        visitor.layer(self.convolution.clone());
        visitor.layer(self.head.clone());
    }
}

impl Network for SmallNetwork {
    fn set_training(&mut self, training: bool) {
        self.is_training = training;
    }

    fn logits(&self, input: &Tensor) -> Result<Tensor> {
        let [mean, variance] = &self.running;
        let x = self.convolve(input)?;
        self.passes.set(self.passes.get() + u64::from(self.is_training));
        let x = x.f_batch_norm(
            Some(&self.scale),
            Some(&self.shift),
            Some(mean),
            Some(variance),
            self.is_training,
            0.1,
            1e-5,
            false,
        )?;
        let x = x.f_relu()?.f_dropout(self.dropout, self.is_training)?;
        Ok(self.head.f_forward(&x.f_flatten(1, -1)?)?)
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors: Vec<_> = fngd_core::Inventory::of(self)
            .parameters
            .into_iter()
            .map(|parameter| (parameter.name, parameter.tensor))
            .collect();
        tensors.push(("bn.mean".to_owned(), self.running[0].shallow_clone()));
        tensors.push(("bn.variance".to_owned(), self.running[1].shallow_clone()));
        tensors
    }

    fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for (name, mut own) in self.tensors() {
            let (_, loaded) = tensors.iter().find(|(other, _)| *other == name).unwrap();
            own.f_copy_(loaded)?;
        }
        Ok(())
    }

    fn running_statistics(&self) -> Vec<Tensor> {
        self.running.iter().map(Tensor::shallow_clone).collect()
    }

    fn first_non_finite(&self, input: &Tensor) -> Result<Option<String>> {
        if self.is_hard_to_search {
            return Err(Failure::internal("out of ideas"));
        }
        let finite = |x: &Tensor| bool::try_from(x.isfinite().all()).unwrap();
        let place = (!finite(&self.convolve(input)?)).then(|| "layer `conv`".to_owned());
        Ok(place)
    }
}

/// Digits: `count` of them, in micro-batches of `batch_size`.
pub fn digits(count: usize, batch_size: usize, shuffle: bool) -> Batches {
    let source = fngd_cli::data::locate("digits", None).unwrap();
    let set = fngd_cli::data::load(&source).unwrap();
    let split = set.train.select(&(0..count).collect::<Vec<_>>());
    let augmentation =
        if shuffle { Augmentation::preset("standard", &split.shape, false).unwrap() } else { Augmentation::NONE };
    let options =
        BatchOptions { batch_size, shuffle, seed: 3, augmentation, device: Device::Cpu, channels_last: false };
    Batches::build(&split, &set.normalization, options).unwrap()
}

type Hook = Box<dyn FnMut(&Event) + Send>;

/// Collects events, and shows each to a hook.
pub struct Recorder {
    pub events: Arc<Mutex<Vec<Event>>>,
    pub stream: Events,
}

struct Sink {
    events: Arc<Mutex<Vec<Event>>>,
    hook: Hook,
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let event = serde_json::from_slice(line).map_err(io::Error::other)?;
        (self.hook)(&event);
        self.events.lock().unwrap().push(event);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recorder {
    pub fn new(hook: impl FnMut(&Event) + Send + 'static) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let stream = Events::to(Sink { events: Arc::clone(&events), hook: Box::new(hook) });
        Self { events, stream }
    }
}
