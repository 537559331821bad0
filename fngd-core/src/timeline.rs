//! Where the time of a step goes: spans that nest, recorded only while somebody asks for them.
//!
//! A [`Timeline`] is the clock and the paper. While it is [installed](Timeline::install) on a thread, [`enter`] and
//! [`enter_layer`] write spans onto it; without one they read a thread-local variable and do nothing else. What is computed is
//! the same in both cases.
//!
//! Backward may run on a thread of libtorch's own. A tap that was made under a timeline takes it along to there.

use crate::tap;
use crate::{GramMethod, Result};
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tch::{Cuda, Device, Tensor};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// A whole step.
    Step,
    /// Getting the samples.
    Data,
    /// The model's outputs and the loss.
    Forward,
    /// Backpropagation; in a layer, the gradient of its own parameters.
    Backward,
    /// Forming Gram matrices; with the methods that keep a curvature, its statistics.
    Gram,
    /// Solving for sample weights; with the methods that keep a curvature, factorising or inverting it.
    Solve,
    /// Applying what was solved for: weighting samples, or turning the finished gradient.
    Precondition,
    /// Clipping and the inner rule.
    Update,
}

impl Phase {
    /// All of them, in the order of a step.
    pub const ALL: [Self; 8] = [
        Self::Step,
        Self::Data,
        Self::Forward,
        Self::Backward,
        Self::Gram,
        Self::Solve,
        Self::Precondition,
        Self::Update,
    ];

    /// One lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Data => "data",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Gram => "gram",
            Self::Solve => "solve",
            Self::Precondition => "precondition",
            Self::Update => "update",
        }
    }
}

/// From when to when something was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub phase: Phase,
    /// The layer that it was done for, if it was one; inside a layer's span, that layer.
    pub layer: Option<Arc<str>>,
    /// Index of the span around it, which is earlier in the list.
    pub parent: Option<usize>,
    /// Time from the making of the timeline to the start.
    pub start: Duration,
    /// How long it took, spans inside it included.
    pub duration: Duration,
    /// Size of the layer's input, of a layer's forward.
    pub activations: Vec<i64>,
    /// How a Gram matrix was formed.
    pub gram_method: Option<GramMethod>,
}

/// A recorder of spans. Clones write onto the same paper.
///
/// On a GPU every border of a span waits until the device is done, so that times are those of the work and not of launching it.
/// That takes away the overlap of launching and computing: a recorded step is longer than one that nobody watches.
///
/// ```
/// use fngd_core::timeline::{Phase, Timeline, enter};
/// let timeline = Timeline::new(tch::Device::Cpu);
/// {
///     let _installed = timeline.install();
///     let _step = enter(Phase::Step);
///     let _forward = enter(Phase::Forward);
/// }
/// let spans = timeline.take();
/// assert_eq!((spans[0].phase, spans[1].phase, spans[1].parent), (Phase::Step, Phase::Forward, Some(0)));
/// assert!(spans[0].duration >= spans[1].duration);
/// drop(enter(Phase::Step)); // on no timeline
/// assert!(timeline.take().is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct Timeline {
    shared: Arc<Mutex<Paper>>,
    device: Device,
    origin: Instant,
}

#[derive(Debug, Default)]
struct Paper {
    spans: Vec<Span>,
    /// Indices of the spans that have not ended, outermost first. One stack for all threads: the caller of backward waits while
    /// another thread runs it.
    open: Vec<usize>,
}

thread_local! {
    static CURRENT: RefCell<Option<Timeline>> = const { RefCell::new(None) };
}

impl Timeline {
    /// An empty one that starts now, for work on `device`.
    pub fn new(device: Device) -> Self {
        Self { shared: Arc::default(), device, origin: Instant::now() }
    }

    /// Records what this thread does until the guard is dropped.
    #[must_use = "recording ends when the guard is dropped"]
    pub fn install(&self) -> Installed {
        Installed { before: CURRENT.replace(Some(self.clone())) }
    }

    /// The spans so far, in the order of their starts. Those that are still open stay.
    pub fn take(&self) -> Vec<Span> {
        let mut paper = self.paper();
        if paper.open.is_empty() { std::mem::take(&mut paper.spans) } else { Vec::new() }
    }

    fn open(&self, phase: Phase, layer: Owner<'_>) -> Open {
        self.synchronize();
        let mut paper = self.paper();
        let parent = paper.open.last().copied();
        let layer = match layer {
            Owner::Named(name) => Some(Arc::from(name)),
            Owner::Several => None,
            Owner::Inherited => parent.and_then(|parent| paper.spans[parent].layer.clone()),
        };
        let index = paper.spans.len();
        paper.open.push(index);
        paper.spans.push(Span {
            phase,
            layer,
            parent,
            start: Duration::ZERO,
            duration: Duration::ZERO,
            activations: Vec::new(),
            gram_method: None,
        });
        // The clock is read last here and first in `close`: what recording costs is the parent's.
        paper.spans[index].start = self.origin.elapsed();
        drop(paper);
        Open(Some((self.clone(), index)))
    }

    fn close(&self, index: usize) {
        self.synchronize();
        let now = self.origin.elapsed();
        let mut paper = self.paper();
        if let Some(span) = paper.spans.get_mut(index) {
            span.duration = now.saturating_sub(span.start);
        }
        // A guard that is dropped late takes those inside it along.
        if let Some(depth) = paper.open.iter().position(|open| *open == index) {
            paper.open.truncate(depth);
        }
    }

    fn synchronize(&self) {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(i64::try_from(index).unwrap_or(0));
        }
    }

    fn paper(&self) -> MutexGuard<'_, Paper> {
        // A panic elsewhere leaves the lists whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the recording of [`Timeline::install`] when it is dropped; one that was installed before goes on.
#[derive(Debug)]
pub struct Installed {
    before: Option<Timeline>,
}

impl Drop for Installed {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// Ends a span when it is dropped.
#[must_use = "the span ends when this is dropped"]
pub struct Open(Option<(Timeline, usize)>);

impl Open {
    /// Notes the size of a layer's input.
    pub(crate) fn note_activations(&self, activations: &Tensor) {
        self.note(|span| span.activations = activations.size());
    }

    /// Notes how a Gram matrix was formed.
    pub(crate) fn note_gram(&self, method: GramMethod) {
        self.note(|span| span.gram_method = Some(method));
    }

    /// Says that something else was done.
    pub(crate) fn becomes(&self, phase: Phase) {
        self.note(|span| span.phase = phase);
    }

    fn note(&self, change: impl FnOnce(&mut Span)) {
        if let Some((timeline, index)) = &self.0
            && let Some(span) = timeline.paper().spans.get_mut(*index)
        {
            change(span);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((timeline, index)) = self.0.take() {
            timeline.close(index);
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Open").field(&self.0.as_ref().map(|(_, index)| index)).finish()
    }
}

/// Whose work a span is.
enum Owner<'a> {
    /// The layer of the span around it.
    Inherited,
    Named(&'a str),
    /// Several layers at once.
    Several,
}

/// Starts a span of `phase`, for the layer of the span around it.
pub fn enter(phase: Phase) -> Open {
    open(phase, Owner::Inherited)
}

/// Starts a span of `phase` for `layer`.
pub fn enter_layer(phase: Phase, layer: &str) -> Open {
    open(phase, Owner::Named(layer))
}

/// Starts a span of `phase` for several layers together, whatever is around it.
pub(crate) fn enter_together(phase: Phase) -> Open {
    open(phase, Owner::Several)
}

fn open(phase: Phase, owner: Owner<'_>) -> Open {
    current().map_or(Open(None), |timeline| timeline.open(phase, owner))
}

/// `callback`, its runs recorded as the backward of `layer` if this thread is being recorded now, whatever thread they are on.
pub(crate) fn watched(layer: &str, mut callback: tap::Callback) -> tap::Callback {
    let Some(timeline) = current() else { return callback };
    let layer = layer.to_owned();
    Box::new(move |activations, output_grads| -> Result<tap::ParameterGrads> {
        let _installed = timeline.install();
        let _span = enter_layer(Phase::Backward, &layer);
        callback(activations, output_grads)
    })
}

fn current() -> Option<Timeline> {
    CURRENT.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_nest_and_inherit_the_layer() {
        let timeline = Timeline::new(Device::Cpu);
        let installed = timeline.install();
        {
            let _step = enter(Phase::Step);
            let _backward = enter(Phase::Backward);
            {
                let _layer = enter_layer(Phase::Backward, "fc1");
                enter(Phase::Gram).note_gram(GramMethod::Pairwise);
                drop(enter_together(Phase::Solve));
            }
            drop(enter(Phase::Precondition));
        }
        drop(installed);
        drop(enter(Phase::Update));
        let spans = timeline.take();
        let shown: Vec<_> = spans.iter().map(|span| (span.phase.name(), span.layer.as_deref(), span.parent)).collect();
        let expected = [
            ("step", None, None),
            ("backward", None, Some(0)),
            ("backward", Some("fc1"), Some(1)),
            ("gram", Some("fc1"), Some(2)),
            ("solve", None, Some(2)),
            ("precondition", None, Some(1)),
        ];
        assert_eq!(shown, expected);
        assert_eq!(spans[3].gram_method, Some(GramMethod::Pairwise));
        for span in &spans {
            let Some(parent) = span.parent.map(|parent| &spans[parent]) else { continue };
            assert!(parent.start <= span.start, "{span:?} starts before {parent:?}");
            assert!(span.start + span.duration <= parent.start + parent.duration, "{span:?} ends after {parent:?}");
        }
    }

    #[test]
    fn an_open_span_is_not_taken() {
        let timeline = Timeline::new(Device::Cpu);
        let _installed = timeline.install();
        let step = enter(Phase::Step);
        assert!(timeline.take().is_empty());
        drop(step);
        assert_eq!(timeline.take().len(), 1);
    }

    #[test]
    fn the_timeline_before_goes_on() {
        let (outer, inner) = (Timeline::new(Device::Cpu), Timeline::new(Device::Cpu));
        let _outer = outer.install();
        {
            let _inner = inner.install();
            drop(enter(Phase::Gram));
        }
        drop(enter(Phase::Solve));
        assert_eq!(inner.take()[0].phase, Phase::Gram);
        assert_eq!(outer.take()[0].phase, Phase::Solve);
    }
}
