//! Spans as a trace for chrome://tracing, Perfetto and others that read the Trace Event Format.

use super::recorded::RecordedStep;
use super::shares::gram_name;
use super::subject::Subject;
use crate::failure::{Failure, Result};
use fngd_cli::protocol::StepKind;
use fngd_core::Layer;
use fngd_core::timeline::{Phase, Span};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes all steps of all methods: each method is a process, step > phase > layer are the levels of its one thread.
pub fn write(path: &Path, subjects: &[Subject]) -> Result<()> {
    let mut events = Vec::new();
    for (index, Subject { name, layers, recorded, .. }) in subjects.iter().enumerate() {
        events.extend(method_events(index + 1, name, layers, recorded));
    }
    // OK because a trace holds strings and numbers.
    let text = serde_json::to_vec(&json!({ "displayTimeUnit": "ms", "traceEvents": events })).expect("a trace is JSON");
    let unfinished = beside(path);
    let written = std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&unfinished);
        Failure::io("write", path, &error)
    })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    path.with_file_name(name)
}

fn method_events(process: usize, name: &str, layers: &[Layer], recorded: &[RecordedStep]) -> Vec<Value> {
    let facts: BTreeMap<&str, &Layer> = layers.iter().map(|layer| (layer.name(), layer)).collect();
    let mut events =
        vec![json!({ "name": "process_name", "ph": "M", "pid": process, "tid": 1, "args": { "name": name } })];
    for step in recorded {
        for span in &step.spans {
            events.push(json!({
                "name": title(span, step),
                "cat": span.phase.name(),
                "ph": "X",
                "ts": microseconds(span.start),
                "dur": microseconds(span.duration),
                "pid": process,
                "tid": 1,
                "args": arguments(span, &facts),
            }));
        }
    }
    events
}

/// The layer where a level of layers begins; inside it, and without one, what is being done.
fn title(span: &Span, step: &RecordedStep) -> String {
    let around = span.parent.and_then(|parent| step.spans[parent].layer.as_ref());
    match &span.layer {
        Some(layer) if around != Some(layer) => layer.to_string(),
        _ if span.phase == Phase::Step => kind_name(step.kind).to_owned(),
        _ => span.phase.name().to_owned(),
    }
}

fn kind_name(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Every | StepKind::Mean => "step",
        StepKind::FirstEpoch => "step of the first epoch",
        StepKind::LaterEpochs => "step of a later epoch",
        StepKind::Refresh => "step that factorises",
        StepKind::Between => "step that does not factorise",
    }
}

fn arguments(span: &Span, facts: &BTreeMap<&str, &Layer>) -> Map<String, Value> {
    let mut arguments = Map::new();
    if let Some(name) = &span.layer {
        arguments.insert("layer".to_owned(), name.to_string().into());
        if let Some(layer) = facts.get(&**name) {
            arguments.insert("kind".to_owned(), layer.geometry().kind().into());
            arguments.insert("weight".to_owned(), shape(&layer.weight().size()).into());
        }
    }
    if !span.activations.is_empty() {
        arguments.insert("activations".to_owned(), shape(&span.activations).into());
    }
    if let Some(method) = span.gram_method {
        arguments.insert("gram".to_owned(), gram_name(method).into());
    }
    arguments
}

/// `16x3x3x3`.
fn shape(size: &[i64]) -> String {
    size.iter().map(i64::to_string).collect::<Vec<_>>().join("x")
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::recorded::steps;
    use fngd_core::GramMethod;
    use fngd_core::timeline::{Timeline, enter, enter_layer};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn layers_are_named_once_and_say_what_they_are() {
        let weight = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let layer = Layer::linear("fc", weight, None).unwrap();
        let timeline = Timeline::new(Device::Cpu);
        {
            let _recording = timeline.install();
            let _step = enter(Phase::Step);
            {
                let _forward = enter(Phase::Forward);
                let _ = layer.f_forward(&Tensor::zeros([4, 2], (Kind::Float, Device::Cpu))).unwrap();
            }
            let _backward = enter(Phase::Backward);
            let _layer = enter_layer(Phase::Backward, "fc");
            let _gram = enter(Phase::Gram);
        }
        let mut recorded = steps(timeline.take(), StepKind::FirstEpoch);
        recorded[0].spans[5].gram_method = Some(GramMethod::KhatriRao);
        let events = method_events(1, "fngd", &[layer], &recorded);
        assert_eq!(
            events[0],
            json!({ "name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": { "name": "fngd" } })
        );
        let shown: Vec<_> = events[1..].iter().map(|event| (event["name"].clone(), event["cat"].clone())).collect();
        let expected = [
            ("step of the first epoch", "step"),
            ("forward", "forward"),
            ("fc", "forward"),
            ("backward", "backward"),
            ("fc", "backward"),
            ("gram", "gram"),
        ];
        assert_eq!(shown, expected.map(|(name, category)| (Value::from(name), Value::from(category))));
        let forward = json!({ "layer": "fc", "kind": "linear", "weight": "3x2", "activations": "4x2" });
        assert_eq!(events[3]["args"], forward);
        assert_eq!(
            events[6]["args"],
            json!({ "layer": "fc", "kind": "linear", "weight": "3x2", "gram": "khatri-rao" })
        );
        let within = |inner: &Value, outer: &Value| {
            let edge = |event: &Value| {
                let start = event["ts"].as_f64().unwrap();
                (start, start + event["dur"].as_f64().unwrap())
            };
            let (inner, outer) = (edge(inner), edge(outer));
            outer.0 <= inner.0 && inner.1 <= outer.1 + 1e-6
        };
        for (inner, outer) in [(2, 1), (3, 2), (4, 1), (5, 4), (6, 5)] {
            assert!(within(&events[inner], &events[outer]), "{} in {}", events[inner], events[outer]);
        }
    }
}
