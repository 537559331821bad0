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
    for name in &arguments.optimizers {
        if methods::split(name).is_none() {
            let inner = text::alternatives(methods::INNER);
            let message = format!(
                "`--optimizers` must name {}, found `{}`",
                text::alternatives(methods::NAMES),
                text::name(name)
            );
            return Err(Failure::usage(message)
                .with_help(format!("`fngd-muon` is `fngd` over the inner rule `muon`; others are {inner}")));
        }
    }
    let job = Job::BenchStep(protocol::BenchStep {
        model: arguments.model.clone(),
        optimizers: arguments.optimizers.clone(),
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
        Some(rows) if !global.json => table(rows).iter().for_each(|line| print_line(line)),
        _ => {
            if result.is_object() {
                result["schema"] = 1.into();
            }
            print_line(&format!("{result:#}"));
        }
    }
    Ok(0)
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
const COLUMNS: [(&str, &str, usize); 10] = [
    ("step ms", "step_ms", 2),
    ("ratio", "ratio", 3),
    // Only of methods some of whose steps do more than the others: the median does not see those.
    ("mean ms", "mean_ms", 2),
    ("ratio", "mean_ratio", 3),
    ("1st epoch ms", "first_epoch_ms", 2),
    ("ratio", "first_epoch_ratio", 3),
    ("peak MiB", "peak_mib", 0),
    ("ratio", "peak_ratio", 3),
    ("1st epoch MiB", "first_epoch_peak_mib", 0),
    ("ratio", "first_epoch_peak_ratio", 3),
];

/// A line for each optimizer; a column that nobody has, such as memory on a GPU, is left out.
fn table(rows: &[Value]) -> Vec<String> {
    let has = |field: &str| rows.iter().any(|row| row[field].is_number());
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(_, field, _)| has(field)).collect();
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
    fn dimensions_have_a_name_and_a_size() {
        assert_eq!(dimension("sequence=64").unwrap(), ("sequence".to_owned(), 64));
        let failure = dimension("sequence=0").unwrap_err();
        assert_eq!(failure.message, "`--dim` must be NAME=SIZE, found `sequence=0`");
    }
}
