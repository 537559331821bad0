//! `bench step`.

use super::engine;
use crate::launcher::arguments::{BenchStep, Global};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{front, model, print_line, text};
use crate::methods;
use crate::protocol::{self, Event, Job};
use serde_json::Value;

pub fn run(arguments: &BenchStep, global: &Global) -> Result<u8> {
    model::open(&arguments.model, &Default::default(), None)?;
    let all = arguments.optimizers == ["all"];
    let optimizers = if all { every_method() } else { arguments.optimizers.clone() };
    for name in &optimizers {
        if methods::split(name).is_none() {
            let inner = text::alternatives(methods::INNER);
            let message = format!(
                "`--optimizers` must be all or name {}, found `{}`",
                text::alternatives(methods::NAMES),
                text::name(name)
            );
            return Err(Failure::usage(message)
                .with_help(format!("`fngd-muon` is `fngd` over the inner rule `muon`; others are {inner}")));
        }
    }
    let job = Job::BenchStep(protocol::BenchStep {
        model: arguments.model.clone(),
        optimizers,
        batch: arguments.batch as usize,
        rounds: arguments.rounds as usize,
        steps_per_round: arguments.steps as usize,
        channels_last: !arguments.channels_first,
        device: global.device.clone().unwrap_or_else(|| "auto".to_owned()),
        threads: super::eval::threads(global)?,
        dims: arguments.dims.iter().map(|dim| dimension(dim)).collect::<Result<_>>()?,
    });
    let mut front = front::choose(global);
    let mut result = None;
    engine(global)?.run(&job, &mut |event| {
        match event {
            Event::Bench(value) => result = Some(value.clone()),
            event => front.event(event),
        }
        Ok(())
    })?;
    front.end();
    let mut result = result.ok_or_else(|| Failure::new(Code::Internal, "the engine ended without a result"))?;
    match result["optimizers"].as_array() {
        Some(rows) if !global.json => {
            table(rows).iter().chain(&notes(rows)).for_each(|line| print_line(line));
        }
        _ => {
            if result.is_object() {
                result["schema"] = 1.into();
            }
            print_line(&format!("{result:#}"));
        }
    }
    Ok(0)
}

/// SGD first: ratios are to the first.
fn every_method() -> Vec<String> {
    let others = methods::NAMES.iter().filter(|name| **name != "sgd");
    std::iter::once(&"sgd").chain(others).map(|name| (*name).to_owned()).collect()
}

/// `NAME=SIZE`.
pub fn dimension(typed: &str) -> Result<(String, i64)> {
    let parsed = typed.split_once('=').and_then(|(name, size)| Some((name.to_owned(), size.parse().ok()?)));
    parsed.filter(|(name, size)| !name.is_empty() && *size >= 1).ok_or_else(|| {
        Failure::usage(format!("`--dim` must be NAME=SIZE, found `{}`", text::name(typed)))
            .with_help("such as --dim sequence=64")
    })
}

/// Heading, field and decimals of each column. Ratios are to the first optimizer.
const COLUMNS: [(&str, &str, usize); 15] = [
    ("step ms", "step_ms", 2),
    ("ratio", "ratio", 3),
    // Between two refreshes, some methods observe at some steps only.
    ("observe ms", "statistics_ms", 2),
    ("every", "statistics_every", 0),
    ("refresh ms", "refresh_ms", 2),
    ("every", "refresh_every", 0),
    ("mean ms", "mean_ms", 2),
    ("ratio", "mean_ratio", 3),
    ("paper", "paper_ratio", 2),
    ("1st epoch ms", "first_epoch_ms", 2),
    ("ratio", "first_epoch_ratio", 3),
    ("peak MiB", "peak_mib", 0),
    ("ratio", "peak_ratio", 3),
    ("1st epoch MiB", "first_epoch_peak_mib", 0),
    ("ratio", "first_epoch_peak_ratio", 3),
];

fn has(rows: &[Value], field: &str) -> bool {
    rows.iter().any(|row| row[field].is_number())
}

/// What the columns mean that not every table has.
fn notes(rows: &[Value]) -> Vec<String> {
    let mut notes = Vec::new();
    if has(rows, "refresh_ms") {
        notes.push("  mean = step, observe and refresh, each as often as it comes: ((n - 1) * step + refresh) / n, from medians of each round".to_owned());
    }
    if has(rows, "paper_ratio") {
        notes.push("  paper = time of an epoch / SGD-m's, arXiv 2403.03473, Table III, on other hardware".to_owned());
    }
    notes
}

/// A line for each optimizer; a column that nobody has, such as memory on a GPU, is left out.
fn table(rows: &[Value]) -> Vec<String> {
    // Without steps that refresh, a mean tells no more than the step.
    let tells = |field: &str| has(rows, if field.starts_with("mean") { "refresh_ms" } else { field });
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(_, field, _)| tells(field)).collect();
    let width = |heading: &str| heading.len().max(7);
    let mut heading = format!("  {:<12}", "optimizer");
    heading.extend(columns.iter().map(|(heading, ..)| format!("  {heading:>0$}", width(heading))));
    let mut lines = vec![heading];
    for row in rows {
        let mut line = format!("  {:<12}", row["name"].as_str().unwrap_or("?"));
        for (heading, field, decimals) in &columns {
            let cell = row[field].as_f64().map_or("-".to_owned(), |number| format!("{number:.decimals$}"));
            line += &format!("  {cell:>0$}", width(heading));
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_time_and_memory_with_their_ratios() {
        let mut rows = [
            serde_json::json!({ "name": "sgd", "step_ms": 10.0, "ratio": 1.0, "peak_mib": 400.4, "peak_ratio": 1.0 }),
            serde_json::json!({
                "name": "fngd", "step_ms": 10.5, "ratio": 1.05, "first_epoch_ms": 18.25, "first_epoch_ratio": 1.8,
                "peak_mib": 410.0, "peak_ratio": 1.025, "images_per_s": 12.0,
            }),
        ];
        assert_eq!(
            table(&rows),
            [
                "  optimizer     step ms    ratio  1st epoch ms    ratio  peak MiB    ratio",
                "  sgd             10.00    1.000             -        -       400    1.000",
                "  fngd            10.50    1.050         18.25    1.800       410    1.025",
            ]
        );
        for row in &mut rows {
            (row["peak_mib"], row["peak_ratio"]) = (Value::Null, Value::Null);
        }
        assert_eq!(table(&rows)[0], "  optimizer     step ms    ratio  1st epoch ms    ratio");
    }

    #[test]
    fn a_mean_is_shown_where_some_steps_refresh() {
        let rows = [
            serde_json::json!({ "name": "sgd", "step_ms": 10.0, "ratio": 1.0, "mean_ms": 10.0, "mean_ratio": 1.0 }),
            serde_json::json!({
                "name": "kfac", "step_ms": 14.0, "ratio": 1.4, "refresh_ms": 34.0, "refresh_every": 10,
                "mean_ms": 16.0, "mean_ratio": 1.6, "paper_ratio": 1.71,
            }),
        ];
        assert_eq!(
            table(&rows),
            [
                "  optimizer     step ms    ratio  refresh ms    every  mean ms    ratio    paper",
                "  sgd             10.00    1.000           -        -    10.00    1.000        -",
                "  kfac            14.00    1.400       34.00       10    16.00    1.600     1.71",
            ]
        );
        assert_eq!(notes(&rows).len(), 2);
        assert_eq!(notes(&rows[..1]), [""; 0]);
    }

    #[test]
    fn dimensions_have_a_name_and_a_size() {
        assert_eq!(dimension("sequence=64").unwrap(), ("sequence".to_owned(), 64));
        let failure = dimension("sequence=0").unwrap_err();
        assert_eq!(failure.message, "`--dim` must be NAME=SIZE, found `sequence=0`");
    }
}
