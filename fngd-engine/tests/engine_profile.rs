//! `profile` and `bench complexity` through the engine as a process.

use fngd_cli::protocol::{
    Axis, ChainKind, Complexity, ComplexityReport, DataSource, Event, Job, Profile, ProfileReport, StepKind,
};
use fngd_cli::settings::{DataSettings, OptimizerSettings, Settings, TrainSettings};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Does `job` and returns what the engine says.
fn events(job: &Job) -> Vec<Event> {
    // Without a descriptor for events they come on standard output.
    let mut child = Command::new(env!("CARGO_BIN_EXE_fngd-engine"))
        .env("FNGD_EVENTS_FD", "-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::to_string(job).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(input);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn optimizer(name: &str) -> OptimizerSettings {
    OptimizerSettings { name: name.to_owned(), ..OptimizerSettings::default() }
}

fn job(name: &str, data: bool, trace: Option<&Path>) -> Job {
    let settings = Settings {
        model: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits-cnn.onnx")),
        import: Default::default(),
        data: DataSettings { spec: "digits".to_owned(), dir: None, val: 0.1, aug: "standard".to_owned() },
        train: TrainSettings { batch: 16, device: "cpu".to_owned(), threads: Some(1), ..TrainSettings::default() },
        optimizer: optimizer(name),
        schedule: Default::default(),
        stop: Default::default(),
    };
    Job::Profile(Box::new(Profile {
        settings,
        against: vec![optimizer("sgd")],
        data: data.then(|| DataSource { spec: "digits".to_owned(), path: None }),
        steps: 6,
        dims: Vec::new(),
        trace: trace.map(Path::to_owned),
    }))
}

fn profile(job: &Job) -> ProfileReport {
    let found = events(job).into_iter().find_map(|event| match event {
        Event::Profile(report) => Some(report),
        Event::Failed { message, .. } => panic!("{message}"),
        _ => None,
    });
    found.expect("a report")
}

/// Phases add up to steps, layers to no more than their phase.
fn check(report: &ProfileReport) {
    for method in &report.methods {
        for step in &method.kinds {
            let at = format!("{} {:?}", method.name, step.kind);
            let sum: f64 = step.phases.iter().map(|(_, time)| time).sum();
            assert!((sum - step.milliseconds).abs() < 1e-6 * step.milliseconds, "{at}: {sum} {}", step.milliseconds);
            assert_eq!(step.layers.len(), 4, "{at}");
            for phase in ["forward", "backward", "gram", "solve", "precondition"] {
                let layers: f64 = step.layers.iter().filter_map(|layer| layer.phase(phase)).sum();
                assert!(layers <= step.phase(phase) * (1.0 + 1e-6), "{at}: {phase}");
            }
            assert_eq!(step.layers[0].activations, [16, 1, 8, 8], "{at}");
        }
    }
}

#[test]
fn fngd_forms_gram_matrices_in_the_first_epoch_only() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let report = profile(&job("fngd", true, Some(&trace)));
    check(&report);
    let names: Vec<_> = report.methods.iter().map(|method| method.name.as_str()).collect();
    assert_eq!(
        (names, report.reference.as_str(), report.data.as_deref()),
        (vec!["fngd", "sgd"], "sgd", Some("digits"))
    );
    let [later, first] = &report.methods[0].kinds[..] else { panic!("{:?}", report.methods[0].kinds) };
    assert_eq!((later.kind, later.steps, first.kind, first.steps), (StepKind::LaterEpochs, 6, StepKind::FirstEpoch, 6));
    assert_eq!((later.phase("gram"), later.phase("solve")), (0.0, 0.0));
    assert!(later.phase("data") > 0.0 && first.phase("gram") > 0.0 && first.phase("solve") > 0.0);
    for layer in &first.layers {
        assert!(layer.phase("gram").is_some() && layer.gram_method.is_some(), "{layer:?}");
    }
    assert_eq!(report.methods[1].kinds[0].kind, StepKind::Every);
    check_trace(&serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap());
}

/// Every event has its fields, and events of a process nest.
fn check_trace(trace: &Value) {
    let events = trace["traceEvents"].as_array().unwrap();
    let names: Vec<_> = events.iter().filter(|event| event["ph"] == "M").map(|event| &event["args"]["name"]).collect();
    assert_eq!(names, ["fngd", "sgd"]);
    let mut categories = BTreeSet::new();
    for process in [1, 2] {
        let mut spans: Vec<(f64, f64, &str)> = Vec::new();
        for event in events.iter().filter(|event| event["ph"] == "X" && event["pid"] == process) {
            let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
            assert!(event["tid"] == 1 && length >= 0.0 && !event["name"].as_str().unwrap().is_empty(), "{event}");
            categories.insert(event["cat"].as_str().unwrap());
            spans.push((start, start + length, event["cat"].as_str().unwrap()));
        }
        // In the order of the file: later starts never come before earlier ones, and what starts inside ends inside.
        let mut open: Vec<(f64, f64, &str)> = Vec::new();
        for span in spans {
            while open.last().is_some_and(|around| around.1 <= span.0) {
                open.pop();
            }
            if let Some(around) = open.last() {
                assert!(around.0 <= span.0 && span.1 <= around.1 + 1e-3, "{span:?} is not inside {around:?}");
            } else {
                assert_eq!(span.2, "step");
            }
            open.push(span);
        }
    }
    let expected = ["backward", "data", "forward", "gram", "precondition", "solve", "step", "update"];
    assert_eq!(categories, BTreeSet::from(expected));
    let conv2 = events.iter().find(|event| event["args"]["layer"] == "conv2" && event["cat"] == "forward").unwrap();
    assert_eq!(
        (&conv2["name"], &conv2["args"]["kind"], &conv2["args"]["weight"]),
        (&"conv2".into(), &"conv2d".into(), &"32x16x3x3".into())
    );
}

#[test]
fn steps_that_factorise_are_told_apart_and_cover_whole_periods() {
    for name in ["kfac", "shampoo"] {
        let report = profile(&job(name, false, None));
        check(&report);
        let kinds: Vec<_> = report.methods[0].kinds.iter().map(|step| (step.kind, step.steps)).collect();
        assert_eq!(kinds, [(StepKind::Between, 9), (StepKind::Refresh, 1), (StepKind::Mean, 10)], "{name}");
        let [between, refresh, mean] = &report.methods[0].kinds[..] else { unreachable!() };
        assert_eq!(between.phase("solve"), 0.0, "{name}");
        assert!(refresh.phase("solve") > 0.0 && mean.phase("precondition") > 0.0, "{name}");
        let expected = (9.0 * between.milliseconds + refresh.milliseconds) / 10.0;
        assert!((mean.milliseconds - expected).abs() < 1e-6 * expected, "{name}");
    }
}

#[test]
fn growth_is_measured_for_every_size() {
    let job = Job::Complexity(Complexity {
        optimizers: vec!["fngd".to_owned(), "kfac".to_owned()],
        chains: vec![ChainKind::Linear],
        axes: vec![Axis::Depth],
        device: "cpu".to_owned(),
        threads: Some(1),
    });
    let reports: Vec<ComplexityReport> = events(&job)
        .into_iter()
        .filter_map(|event| match event {
            Event::Complexity(report) => Some(report),
            Event::Failed { message, .. } => panic!("{message}"),
            _ => None,
        })
        .collect();
    let [report] = &reports[..] else { panic!("{} reports", reports.len()) };
    let labels: Vec<String> = report.rows.iter().map(|row| row.label()).collect();
    assert_eq!(labels, ["sgd", "fngd", "fngd 1st epoch", "kfac"]);
    for row in &report.rows {
        assert_eq!((row.sizes.as_slice(), row.step_ms.len(), row.state_bytes.len()), (&[2, 4, 8, 16][..], 4, 4));
        assert!(row.step_ms.iter().all(|time| *time > 0.0), "{row:?}");
    }
    let [sgd, fngd, _, kfac] = &report.rows[..] else { unreachable!() };
    assert!(sgd.added_ms.is_empty() && fngd.added_ms.iter().all(|time| *time > 0.0));
    let near = |found: Option<f64>| assert!((found.unwrap() - 1.0).abs() < 1e-9, "{found:?}");
    near(fngd.expected_exponent);
    near(kfac.expected_exponent);
    // Memory is exact: a term for each layer, and the head's.
    assert!((kfac.state_exponent.unwrap() - 1.0).abs() < 0.1, "{:?}", kfac.state_exponent);
}
