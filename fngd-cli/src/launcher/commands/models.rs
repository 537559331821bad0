//! `models list` and `models make`.

use super::engine;
use crate::launcher::arguments::{Global, MakeModel, Models};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{front, model, print_line, text};
use crate::protocol::{self, Event, Job, KnownModel};
use fngd_onnx::OnnxModel;
use fngd_onnx::graph::{Dim, ValueInfo};
use serde_json::json;
use std::path::{Path, PathBuf};

pub fn run(command: &Models, global: &Global) -> Result<u8> {
    match command {
        Models::List => list(global),
        Models::Make(make) => self::make(make, global),
    }
}

fn list(global: &Global) -> Result<u8> {
    let found = ask(&Job::ListModels, global, |event| match event {
        Event::Models { models } => Some(models.clone()),
        _ => None,
    })?;
    if global.json {
        print_line(&format!("{:#}", json!({ "schema": 1, "models": found })));
    } else {
        table(&found).iter().for_each(|line| print_line(line));
        print_line("\n  Write one with: fngd-cli models make NAME -o FILE.onnx");
    }
    Ok(0)
}

fn table(models: &[KnownModel]) -> Vec<String> {
    let inputs = |model: &KnownModel| model.inputs.join(", ");
    let longest = |column: &dyn Fn(&KnownModel) -> usize| models.iter().map(column).max().unwrap_or(0);
    let (name_width, input_width) =
        (longest(&|model| model.name.len()), longest(&|model| inputs(model).len()).clamp(5, 48));
    let header =
        format!("  {:<name_width$}  {:>11}  {:<input_width$}  {:>7}", "name", "parameters", "input", "classes");
    let row = |model: &KnownModel| {
        let (parameters, classes) = (text::count(model.parameters), text::count(model.classes));
        format!(
            "  {:<name_width$}  {parameters:>11}  {:<input_width$}  {classes:>7}  {}",
            model.name,
            inputs(model),
            model.description
        )
    };
    std::iter::once(header).chain(models.iter().map(row)).collect()
}

fn make(arguments: &MakeModel, global: &Global) -> Result<u8> {
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.onnx", arguments.name)));
    if output.exists() && !arguments.force {
        return Err(Failure::usage(format!("{} exists already", text::name(&output.display().to_string())))
            .with_help("--force replaces it; -o FILE gives another name"));
    }
    let job = Job::MakeModel(protocol::MakeModel {
        name: arguments.name.clone(),
        output,
        classes: arguments.classes,
        seed: arguments.seed,
        replace: arguments.force,
    });
    let (path, classes) = ask(&job, global, |event| match event {
        Event::Made { path, classes } => Some((path.clone(), *classes)),
        _ => None,
    })?;
    // As every other command will see it.
    let model = model::open(&path, &Default::default(), None)?;
    let parameters: u64 =
        model.parameters().iter().filter(|row| row.trainable).map(|row| row.dims.iter().product::<u64>()).sum();
    let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let next = next_command(&model, &path);
    if global.json {
        let document = json!({
            "schema": 1, "model": arguments.name, "file": path, "classes": classes, "seed": arguments.seed,
            "parameters": parameters, "bytes": bytes, "sha256": model.sha256(), "next": next,
        });
        print_line(&format!("{document:#}"));
        return Ok(0);
    }
    let shown = text::name(&path.display().to_string());
    print_line(&format!("  saved   {shown}   {} parameters, {}", text::count(parameters), text::bytes(bytes)));
    print_line(&format!("  sha256  {}", model.sha256()));
    print_line(&format!("  next    {next}"));
    Ok(0)
}

/// Training, where there is data of this size by name.
fn next_command(model: &OnnxModel, path: &Path) -> String {
    let path = text::shell(&path.display().to_string());
    let classes = model.classes().unwrap_or(0);
    let data = match model.inputs() {
        [input] => match sample(input)[..] {
            [1, 8, 8] => Some("digits"),
            [3, 32, 32] if classes == 100 => Some("cifar100"),
            [3, 32, 32] => Some("cifar10"),
            _ => None,
        },
        _ => None,
    };
    match data {
        Some(data) => format!("fngd-cli train {path} --data {data}"),
        None => format!("fngd-cli inspect {path}"),
    }
}

/// Sizes behind the batch, as far as they are fixed.
fn sample(input: &ValueInfo) -> Vec<u64> {
    let dims = input.dims.iter().flatten().skip(1);
    dims.filter_map(|dim| if let Dim::Known(size) = dim { Some(*size) } else { None }).collect()
}

/// The engine's one answer to a job.
fn ask<T>(job: &Job, global: &Global, answer: impl Fn(&Event) -> Option<T>) -> Result<T> {
    let mut front = front::choose(global);
    let mut found = None;
    engine(global)?.run(job, &mut |event| {
        match answer(event) {
            Some(answer) => found = Some(answer),
            // Nothing is computed whose device one would want to know.
            None if matches!(event, Event::Hello { .. }) => (),
            None => front.event(event),
        }
        Ok(())
    })?;
    front.end();
    found.ok_or_else(|| Failure::new(Code::Internal, "the engine ended without a result"))
}
