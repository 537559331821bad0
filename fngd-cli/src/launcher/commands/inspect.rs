//! `inspect`: what a model contains, and what training would do with it.

use crate::launcher::arguments::{Global, Inspect};
use crate::launcher::failure::{Failure, Result};
use crate::launcher::model::{self, Totals, describe, role};
use crate::launcher::{front, print_line, text};
use crate::methods::{self, has_inner};
use crate::state_memory;
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::{OnnxModel, ParameterRow, Repair};
use std::collections::BTreeMap;

pub fn run(arguments: &Inspect, global: &Global) -> Result<u8> {
    let method = arguments.optimizer.as_str();
    if methods::find(method).is_none() {
        let wanted = text::alternatives(methods::NAMES);
        return Err(Failure::usage(format!("`--optimizer` must be {wanted}, found `{}`", text::name(method))));
    }
    let model = model::open(&arguments.model, &model::import(&arguments.import)?, None)?;
    if global.json {
        print_line(&format!("{:#}", model::document(&model)));
        return Ok(0);
    }
    heading(&model);
    if arguments.layers {
        rows(&model, method)
    } else {
        groups(&model, method)
    }
    totals(&model, method, arguments.layers);
    remarks(&model, front::colors(global));
    Ok(0)
}

fn heading(model: &OnnxModel) {
    let report = model.report();
    let list = |values: &[fngd_onnx::graph::ValueInfo]| values.iter().map(describe).collect::<Vec<_>>().join(", ");
    let name = text::name(&model.path().file_name().unwrap_or_default().to_string_lossy());
    let parameters = text::count(Totals::of(model).parameters());
    print_line(&format!("  {name}   opset {}   {parameters} parameters", report.opset));
    print_line(&format!("  {} -> {}", list(model.inputs()), list(model.outputs())));
    let logits = report.logits.as_ref().map(|logits| format!("loss reads `{}`   ", text::name(logits)));
    let classes =
        model.classes().map_or(String::new(), |classes| format!("{} classes   ", text::count(classes as u64)));
    let producer = if report.producer.is_empty() { "an unnamed program" } else { &report.producer };
    print_line(&format!("  {classes}{}written by {}", logits.unwrap_or_default(), text::name(producer)));
    print_line("");
}

/// Who trains a parameter. `muon`: the names of the matrices that are orthogonalised.
fn trainer(row: &ParameterRow, method: &str, muon: &[&str]) -> String {
    match (row.role, row.trainable) {
        (ParameterRole::RunningStatistic, _) => "updated".to_owned(),
        (_, false) => "frozen".to_owned(),
        _ if has_inner(method) && !row.preconditioned => "plain".to_owned(),
        _ if method == "muon" && !muon.contains(&row.name.as_str()) => "ADAMW".to_owned(),
        _ => method.to_uppercase(),
    }
}

/// A line for each kind of parameter.
fn groups(model: &OnnxModel, method: &str) {
    struct Group<'a> {
        role: &'static str,
        trainer: String,
        tensors: u64,
        parameters: u64,
        reason: Option<&'a str>,
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    let muon = state_memory::muon_matrices(model);
    for row in model.parameters() {
        let (role, trainer) = (role(row.role), trainer(row, method, &muon));
        let count: u64 = row.dims.iter().product();
        match groups.iter_mut().find(|group| group.role == role && group.trainer == trainer) {
            Some(group) => {
                group.tensors += 1;
                group.parameters += count;
                group.reason = group.reason.filter(|reason| *reason == row.reason);
            }
            None => groups.push(Group { role, trainer, tensors: 1, parameters: count, reason: Some(&row.reason) }),
        }
    }
    let own = if has_inner(method) { method.to_uppercase() } else { String::new() };
    print_line(&format!("  {:<20} {:>7} {:>13}   {:<9} note", "parameters", "tensors", "numbers", "trained"));
    for group in groups {
        let note = match group.reason {
            Some(reason) if group.tensors > 1 || group.trainer != own => text::name(reason),
            None if group.trainer != own => "several reasons: see --layers".to_owned(),
            _ => String::new(),
        };
        let Group { role, trainer, tensors, parameters, .. } = group;
        let line = format!("  {role:<20} {tensors:>7} {:>13}   {trainer:<9} {note}", text::count(parameters));
        print_line(line.trim_end());
    }
}

/// A line for each parameter.
fn rows(model: &OnnxModel, method: &str) {
    let name = |row: &ParameterRow| text::name(&row.name);
    let width = model.parameters().iter().map(|row| name(row).chars().count()).max().unwrap_or(0).clamp(4, 60);
    print_line(&format!("  {:<width$}  {:<20} {:<18} {:<9} note", "name", "parameter", "shape", "trained"));
    let muon = state_memory::muon_matrices(model);
    for row in model.parameters() {
        let dims: Vec<String> = row.dims.iter().map(u64::to_string).collect();
        let shape = format!("[{}]", dims.join(", "));
        let (role, trainer, note) = (role(row.role), trainer(row, method, &muon), text::name(&row.reason));
        let line = format!("  {:<width$}  {role:<20} {shape:<18} {trainer:<9} {note}", name(row));
        print_line(line.trim_end());
    }
}

fn totals(model: &OnnxModel, method: &str, all: bool) {
    let totals = Totals::of(model);
    print_line("");
    if has_inner(method) {
        print_line(&format!(
            "  {} of the trained numbers are preconditioned, in {} layers.",
            text::percent(totals.preconditioned_share()),
            totals.layers
        ));
        for (reason, layers) in plain_layers(model) {
            let noun = if layers == 1 { "layer is" } else { "layers are" };
            print_line(&format!("  {layers} {noun} not: {}.", text::name(reason)));
        }
    }
    let others: Vec<String> = methods::NAMES
        .iter()
        .filter(|other| **other != method)
        .map(|other| format!("{other}: {}", state(model, other)))
        .collect();
    print_line(&format!("  Optimizer state: {} ({})", state(model, method), others.join("; ")));
    if !all {
        print_line("  Every parameter: --layers");
    }
}

/// What a method remembers of the model, at its defaults; of a method with an inner rule, over `sgd`.
fn state(model: &OnnxModel, method: &str) -> String {
    const BATCH: u64 = 128;
    let state = state_memory::of(model, method, methods::rule(method, None));
    let mut words = text::bytes(state.fixed);
    if state.per_training_sample > 0 {
        words += &format!(" and {} B for each training sample", state.per_training_sample);
    }
    match (state.batch, state.at(0, BATCH)) {
        (None, _) => words,
        (Some(_), Some(all)) => format!("{} at a batch size of {BATCH}", text::bytes(all)),
        (Some(_), None) => words + " and every layer's input and output of one batch",
    }
}

/// Why layers are left to the plain gradient, and how many.
fn plain_layers(model: &OnnxModel) -> BTreeMap<&str, usize> {
    let mut reasons = BTreeMap::new();
    for reason in model.analysis().layers.values().filter_map(|layer| layer.plain_because.as_deref()) {
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

fn remarks(model: &OnnxModel, color: bool) {
    let paint = |code: &str, word: &str| if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
    // One that was made many times is not told many times.
    const SHOWN: usize = 3;
    let repairs = &model.report().repairs;
    for same in repairs.chunk_by(|one, next| one.repair == next.repair) {
        for repair in same.iter().take(SHOWN) {
            let (code, line) = (repair.repair.code(), text::escape_lines(&repair.to_string()));
            print_line(&format!("  {} {line} (off: --no-repair {code})", paint("36", "repair:")));
        }
        if let (Some(more @ 1..), [first, ..]) = (same.len().checked_sub(SHOWN), same) {
            let code = first.repair.code();
            print_line(&format!("  {} {code}: and {more} more like these; all with --json", paint("36", "repair:")));
        }
    }
    if let Some(batch) = model.fixed_batch() {
        let (code, name) = (Repair::Rebatch.code(), Repair::Rebatch.name());
        print_line(&format!(
            "  {} {code} {name}: the file fixes the batch size {batch}; `train` and `eval` free it, if a check shows that every \
             sample's outputs stay the same (off: --no-repair {code})",
            paint("36", "repair:")
        ));
    }
    for warning in &model.report().warnings {
        print_line(&format!("  {} {}", paint("33", "warning:"), text::escape_lines(warning)));
    }
}
