//! `diff`: our graph and another runtime's, node by node, up to the first value that differs.

use super::engine;
use crate::launcher::arguments::{Diff, Global};
use crate::launcher::comparison::{self, Row, Tolerance, Verdict};
use crate::launcher::download::data_source;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::resolve::check_spec;
use crate::launcher::{front, model, print_line, reference, text};
use crate::protocol::{Event, Job, Trace, TraceInputs};
use fngd_onnx::OnnxModel;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

pub fn run(arguments: &Diff, global: &Global) -> Result<u8> {
    let model = model::open(&arguments.model, &Default::default(), None)?;
    let folder = tempfile::tempdir().map_err(|error| Failure::environment(format!("no temporary folder: {error}")))?;
    let ours = folder.path().join("ours.safetensors");
    let failure = trace(&arguments.model, inputs(arguments, global)?, &ours, global)?;
    let other = folder.path().join("other.safetensors");
    let (name, end) = match &arguments.against {
        Some(against) => {
            model::open(against, &Default::default(), None)?;
            let failure = trace(against, TraceInputs::File(ours.clone()), &other, global)?;
            (text::name(&against.display().to_string()), failure)
        }
        None => {
            // In the form that is evaluated: neither BatchNormalization nor Dropout in training mode.
            let copy = folder.path().join("model.onnx");
            model.write(&copy, &BTreeMap::new()).map_err(|error| Failure::environment(error.to_string()))?;
            reference::trace(&copy, &ours, &other).map_err(|why| {
                Failure::new(Code::Internal, format!("tract cannot run this model: {why}"))
                    .with_help("compare with another file: --against MODEL")
            })?;
            ("tract".to_owned(), None)
        }
    };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| Failure::environment(format!("cannot read {}: {error}", path.display())))
    };
    let (ours, other) = (read(&ours)?, read(&other)?);
    let tolerance = Tolerance { relative: arguments.rtol, of_largest: arguments.atol };
    let (rows, note) = comparison::compare(&model, &ours, &other, tolerance)
        .map_err(|message| Failure::new(Code::Internal, message))?;
    let end: Vec<String> =
        failure.map(|failure| format!("this engine: {failure}")).into_iter().chain(note).chain(end).collect();
    let first = rows.iter().find(|row| row.is_different());
    let fed = first.map(|row| comparison::inputs_of(&model, row.node_index, &ours)).unwrap_or_default();
    if global.json {
        let document = json!({
            "schema": 1, "model": arguments.model, "reference": name, "values": rows, "first_difference": first,
            "inputs_of_first_difference": fed, "incomplete_because": end,
        });
        print_line(&format!("{document:#}"));
    } else {
        show(&model, &name, &rows, arguments.all);
        end.iter().for_each(|line| print_line(&format!("  not everything was compared: {}", text::escape_lines(line))));
        conclude(first, &name, &fed, &rows);
    }
    match first {
        Some(_) => Ok(Code::Differs as u8),
        None if rows.iter().any(|row| row.verdict == Verdict::Agrees) => Ok(0),
        None => Err(Failure::new(Code::Internal, "no value was computed by both: nothing was compared")),
    }
}

/// Runs the engine; why it did not compute everything.
fn trace(model: &Path, inputs: TraceInputs, output: &Path, global: &Global) -> Result<Option<String>> {
    let job = Job::Trace(Trace {
        model: model.to_owned(),
        inputs,
        output: output.to_owned(),
        device: global.device.clone().unwrap_or_else(|| "cpu".to_owned()),
        threads: super::eval::threads(global)?,
    });
    let mut front = front::choose(global);
    let mut traced = None;
    engine(global)?.run(&job, &mut |event| {
        match event {
            Event::Traced { failure, .. } => traced = Some(failure.clone()),
            event => front.event(event),
        }
        Ok(())
    })?;
    front.end();
    traced.ok_or_else(|| Failure::new(Code::Internal, "the engine ended without a result"))
}

fn inputs(arguments: &Diff, global: &Global) -> Result<TraceInputs> {
    let batch = arguments.batch as usize;
    if let Some(file) = &arguments.inputs {
        return Ok(TraceInputs::File(file.clone()));
    }
    let Some(spec) = &arguments.data else {
        let dims = arguments.dims.iter().map(|dim| super::bench::dimension(dim)).collect::<Result<_>>()?;
        return Ok(TraceInputs::MadeUp { batch, dims });
    };
    check_spec(spec, "`--data`")?;
    Ok(TraceInputs::Data { data: data_source(spec, arguments.data_dir.as_deref(), global)?, batch })
}

fn show(model: &OnnxModel, name: &str, rows: &[Row], all: bool) {
    let file = text::name(&model.path().file_name().unwrap_or_default().to_string_lossy());
    print_line(&format!("  {file} against {name}: {} values", rows.len()));
    let first = rows.iter().position(Row::is_different);
    // What led there, and what comes of it.
    let shown = |index: &usize| all || first.is_some_and(|first| (first.saturating_sub(3)..first + 4).contains(index));
    let shown: Vec<&Row> = (0..rows.len()).filter(shown).filter_map(|index| rows.get(index)).collect();
    if shown.is_empty() {
        return;
    }
    let width = shown.iter().map(|row| text::name(&row.value).chars().count()).max().unwrap_or(0).clamp(5, 48);
    print_line(&format!(
        "  {:<width$}  {:<22} {:<20} {:>10} {:>10}  verdict",
        "value", "operator", "dims", "largest Δ", "relative"
    ));
    for row in shown {
        let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.2e}"));
        let verdict = match &row.verdict {
            Verdict::Agrees => "agrees".to_owned(),
            Verdict::Differs => "differs".to_owned(),
            Verdict::OtherDims(dims) => format!("differs: {dims:?} there"),
            Verdict::Missing => "not there".to_owned(),
            Verdict::Random => "random".to_owned(),
        };
        let (value, operator, dims) = (text::name(&row.value), text::name(&row.operator), format!("{:?}", row.dims));
        let (largest, relative) = (number(row.largest_difference), number(row.largest_relative_difference));
        print_line(&format!("  {value:<width$}  {operator:<22} {dims:<20} {largest:>10} {relative:>10}  {verdict}"));
    }
}

fn conclude(first: Option<&Row>, name: &str, fed: &[String], rows: &[Row]) {
    let count = |wanted: Verdict| rows.iter().filter(|row| row.verdict == wanted).count();
    let Some(row) = first else {
        let (agree, missing, random) = (count(Verdict::Agrees), count(Verdict::Missing), count(Verdict::Random));
        let mut line = format!("  {agree} values agree");
        if missing > 0 {
            line += &format!(", {missing} are not in {name}");
        }
        if random > 0 {
            line += &format!(", {random} are random");
        }
        print_line(&line);
        return;
    };
    let (value, node) = (text::name(&row.value), text::name(&row.node));
    print_line(&format!("  first difference: `{value}`, of node `{node}` ({})", text::name(&row.operator)));
    fed.iter().for_each(|line| print_line(&format!("    reads {}", text::name(line))));
    let operator = text::name(&row.operator);
    print_line(&if name == "tract" {
        format!(
            "  What this node computes from agrees, so the two disagree on {operator} itself, or on rounding: see what --rtol 1e-2 \
             says. If you trust tract, please report it with this table and the model."
        )
    } else {
        format!(
            "  Up to here the two files compute the same: this {operator} has another attribute, weight or operator there."
        )
    });
}
