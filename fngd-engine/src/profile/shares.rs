//! From spans to milliseconds by phase and layer.
//!
//! A span counts for its phase without what happens in the spans inside it. So the phases of a step add up to the step; what is
//! left over in the step's own span is called `other`.

use super::recorded::RecordedStep;
use super::subject::Subject;
use fngd_cli::protocol::{LayerProfile, MethodProfile, StepKind, StepProfile};
use fngd_core::timeline::{Phase, Span};
use fngd_core::{GramMethod, Layer};
use std::collections::BTreeMap;
use std::time::Duration;

/// Milliseconds by phase, as numbered by [`Phase::ALL`]; the first, the step's own, is what no phase covers.
type Times = [f64; Phase::ALL.len()];

/// One step, or the mean of some.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepTimes {
    pub whole: f64,
    phases: Times,
    layers: BTreeMap<String, Times>,
}

impl StepTimes {
    /// Milliseconds of one phase.
    pub fn phase(&self, phase: Phase) -> f64 {
        Phase::ALL.iter().zip(self.phases).filter(|(known, _)| **known == phase).map(|(_, time)| time).sum()
    }
}

/// All kinds of steps that a method has.
pub fn method(subject: &Subject, reference_milliseconds: f64) -> MethodProfile {
    let Subject { name, layers, recorded, uneven, .. } = subject;
    let notes = Notes::of(recorded);
    let profile = |kind: StepKind, steps: usize, times: &StepTimes| StepProfile {
        kind,
        steps,
        milliseconds: times.whole,
        ratio: times.whole / reference_milliseconds,
        phases: named_phases(&times.phases),
        layers: layers.iter().map(|layer| layer_profile(layer, times.layers.get(layer.name()), &notes)).collect(),
    };
    let means = means(recorded, *uneven);
    let mut kinds: Vec<StepProfile> = means.iter().map(|(kind, steps, times)| profile(*kind, *steps, times)).collect();
    if means.iter().any(|(kind, ..)| *kind == StepKind::Refresh) {
        kinds.push(profile(StepKind::Mean, recorded.len(), &weighted(&means)));
    }
    MethodProfile { name: name.clone(), kinds }
}

/// Means over whole refresh periods: one, or one for the first epoch and one for later ones.
pub fn whole_periods(recorded: &[RecordedStep], uneven: bool) -> Vec<(StepKind, StepTimes)> {
    let means = means(recorded, uneven);
    if means.iter().any(|(kind, ..)| *kind == StepKind::Refresh) {
        return vec![(StepKind::Mean, weighted(&means))];
    }
    means.into_iter().map(|(kind, _, times)| (kind, times)).collect()
}

/// What a step of a method takes: of a later epoch, where epochs differ; on the average, where steps do.
pub fn mean_milliseconds(recorded: &[RecordedStep], uneven: bool) -> Option<f64> {
    let mut means = means(recorded, uneven);
    if means.iter().any(|(kind, ..)| *kind == StepKind::LaterEpochs) {
        means.retain(|(kind, ..)| *kind == StepKind::LaterEpochs);
    }
    (!means.is_empty()).then(|| weighted(&means).whole)
}

/// Kind, number and mean of the steps, in the order in which they are shown.
///
/// `uneven`: some of the steps do more than the others, and if those cannot be told apart all of them count.
fn means(recorded: &[RecordedStep], uneven: bool) -> Vec<(StepKind, usize, StepTimes)> {
    const ORDER: [StepKind; 5] =
        [StepKind::Every, StepKind::LaterEpochs, StepKind::FirstEpoch, StepKind::Between, StepKind::Refresh];
    let of_kind = |kind: StepKind| {
        let steps = recorded.iter().filter(|step| step.kind == kind).map(|step| times(&step.spans));
        let steps: Vec<StepTimes> = steps.collect();
        let count = steps.len();
        let counted = if uneven && kind == StepKind::Every { steps } else { faster_half(steps) };
        (count > 0).then(|| (kind, count, mean(&counted)))
    };
    ORDER.into_iter().filter_map(of_kind).collect()
}

/// Exclusive times of one step.
fn times(spans: &[Span]) -> StepTimes {
    let mut own: Vec<Duration> = spans.iter().map(|span| span.duration).collect();
    for span in spans {
        if let Some(parent) = span.parent {
            own[parent] = own[parent].saturating_sub(span.duration);
        }
    }
    let mut times = StepTimes { whole: milliseconds(spans[0].duration), ..StepTimes::default() };
    for (span, own) in spans.iter().zip(own) {
        // OK because the array holds every phase.
        let phase = Phase::ALL.iter().position(|phase| *phase == span.phase).unwrap();
        times.phases[phase] += milliseconds(own);
        if let Some(layer) = &span.layer {
            times.layers.entry(layer.to_string()).or_default()[phase] += milliseconds(own);
        }
    }
    times
}

/// The faster half. What else the machine does makes steps longer and never shorter.
fn faster_half(mut steps: Vec<StepTimes>) -> Vec<StepTimes> {
    steps.sort_by(|one, other| one.whole.total_cmp(&other.whole));
    steps.truncate(steps.len().div_ceil(2));
    steps
}

fn mean(steps: &[StepTimes]) -> StepTimes {
    let weight = 1.0 / steps.len() as f64;
    sum(steps.iter().map(|step| (weight, step)))
}

/// Mean over kinds, each as often as it was measured.
fn weighted(means: &[(StepKind, usize, StepTimes)]) -> StepTimes {
    let all: usize = means.iter().map(|(_, steps, _)| steps).sum();
    sum(means.iter().map(|(_, steps, times)| (*steps as f64 / all as f64, times)))
}

fn sum<'a>(steps: impl Iterator<Item = (f64, &'a StepTimes)>) -> StepTimes {
    let mut total = StepTimes::default();
    let add = |total: &mut Times, weight: f64, times: &Times| {
        total.iter_mut().zip(times).for_each(|(total, time)| *total += weight * time);
    };
    for (weight, step) in steps {
        total.whole += weight * step.whole;
        add(&mut total.phases, weight, &step.phases);
        for (layer, times) in &step.layers {
            add(total.layers.entry(layer.clone()).or_default(), weight, times);
        }
    }
    total
}

/// In the order of a step, what no phase covers at the end.
fn named_phases(times: &Times) -> Vec<(String, f64)> {
    let phases = Phase::ALL.iter().zip(times).skip(1).map(|(phase, time)| (phase.name().to_owned(), *time));
    phases.chain([("other".to_owned(), times[0])]).collect()
}

/// What spans say besides times, by layer.
#[derive(Debug, Default)]
struct Notes {
    activations: BTreeMap<String, Vec<i64>>,
    gram_methods: BTreeMap<String, GramMethod>,
}

impl Notes {
    fn of(recorded: &[RecordedStep]) -> Self {
        let mut notes = Self::default();
        for span in recorded.iter().flat_map(|step| &step.spans) {
            let Some(layer) = &span.layer else { continue };
            if !span.activations.is_empty() && !notes.activations.contains_key(&**layer) {
                notes.activations.insert(layer.to_string(), span.activations.clone());
            }
            if let Some(method) = span.gram_method {
                notes.gram_methods.insert(layer.to_string(), method);
            }
        }
        notes
    }
}

fn layer_profile(layer: &Layer, times: Option<&Times>, notes: &Notes) -> LayerProfile {
    let name = layer.name();
    let phases = Phase::ALL.iter().zip(times.into_iter().flatten());
    LayerProfile {
        name: name.to_owned(),
        kind: layer.geometry().kind().to_owned(),
        weight: layer.weight().size(),
        activations: notes.activations.get(name).cloned().unwrap_or_default(),
        gram_method: notes.gram_methods.get(name).map(|method| gram_name(*method).to_owned()),
        phases: phases.filter(|(_, time)| **time > 0.0).map(|(phase, time)| (phase.name().to_owned(), *time)).collect(),
    }
}

/// How people call it.
pub fn gram_name(method: GramMethod) -> &'static str {
    match method {
        GramMethod::KhatriRao => "khatri-rao",
        GramMethod::Pairwise => "pairwise",
        GramMethod::Instantiate => "instantiate",
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::recorded::{steps, tell_refreshes_apart};

    fn span(phase: Phase, layer: Option<&str>, parent: Option<usize>, [start, duration]: [u64; 2]) -> Span {
        Span {
            phase,
            layer: layer.map(Into::into),
            parent,
            start: Duration::from_millis(start),
            duration: Duration::from_millis(duration),
            activations: Vec::new(),
            gram_method: None,
        }
    }

    /// A step of `whole` ms: 2 of forward, and 6 of backward, 5 of which are in `fc`, 3 of those forming its Gram matrix.
    fn step(at: usize, whole: u64) -> Vec<Span> {
        vec![
            span(Phase::Step, None, None, [0, whole]),
            span(Phase::Forward, None, Some(at), [0, 2]),
            span(Phase::Backward, None, Some(at), [2, 6]),
            span(Phase::Backward, Some("fc"), Some(at + 2), [2, 5]),
            span(Phase::Gram, Some("fc"), Some(at + 3), [3, 3]),
        ]
    }

    #[test]
    fn what_is_inside_a_span_is_not_counted_twice() {
        let times = times(&step(0, 10));
        let phases = named_phases(&times.phases);
        let expected = [
            ("data", 0.0),
            ("forward", 2.0),
            ("backward", 3.0),
            ("gram", 3.0),
            ("solve", 0.0),
            ("precondition", 0.0),
            ("update", 0.0),
            ("other", 2.0),
        ];
        assert_eq!(phases, expected.map(|(name, time)| (name.to_owned(), time)));
        assert_eq!(phases.iter().map(|(_, time)| time).sum::<f64>(), times.whole);
        let fc = &times.layers["fc"];
        assert_eq!((fc[3], fc[4]), (2.0, 3.0), "backward, gram");
    }

    #[test]
    fn the_slower_half_does_not_count() {
        let spans: Vec<Span> = [13, 11, 500, 11, 600].iter().enumerate().flat_map(|(k, &ms)| step(5 * k, ms)).collect();
        let recorded = steps(spans, StepKind::Every);
        assert_eq!(recorded.len(), 5);
        let means = means(&recorded, false);
        assert_eq!((means[0].0, means[0].1, means[0].2.whole), (StepKind::Every, 5, 35.0 / 3.0));
        assert_eq!(mean_milliseconds(&recorded, false), Some(35.0 / 3.0));
        assert_eq!(mean_milliseconds(&[], false), None);
        let uneven = mean_milliseconds(&recorded, true).unwrap();
        assert!(
            (uneven - 1135.0 / 5.0).abs() < 1e-9,
            "a slow step that cannot be told from the others counts: {uneven}"
        );
    }

    #[test]
    fn steps_that_factorise_are_told_apart_and_averaged_as_often_as_they_occur() {
        let mut spans = Vec::new();
        for k in 0..4 {
            spans.extend(step(5 * k, 10));
        }
        spans.extend(step(20, 30));
        spans.push(span(Phase::Solve, Some("fc"), Some(20), [8, 20]));
        let mut recorded = steps(spans, StepKind::Every);
        tell_refreshes_apart(&mut recorded);
        let means = means(&recorded, false);
        let shown: Vec<_> = means.iter().map(|(kind, steps, times)| (*kind, *steps, times.whole)).collect();
        assert_eq!(shown, [(StepKind::Between, 4, 10.0), (StepKind::Refresh, 1, 30.0)]);
        assert_eq!(mean_milliseconds(&recorded, false), Some(14.0));
        assert_eq!(weighted(&means).layers["fc"][5], 4.0, "20 ms in one of five steps");
    }

    #[test]
    fn the_reference_of_ratios_is_a_later_step() {
        let mut recorded = steps(step(0, 10), StepKind::LaterEpochs);
        recorded.extend(steps(step(0, 40), StepKind::FirstEpoch));
        assert_eq!(mean_milliseconds(&recorded, false), Some(10.0));
    }
}
