//! `bench step`.

use super::engine;
use crate::launcher::arguments::{BenchStep, Global};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{front, model, print_line, text};
use crate::protocol::{self, Event, Job};
use serde_json::Value;

pub fn run(arguments: &BenchStep, global: &Global) -> Result<u8> {
    model::open(&arguments.model, None)?;
    const KNOWN: [&str; 4] = ["sgd", "adamw", "fngd", "fngd-adamw"];
    for name in &arguments.optimizers {
        if !KNOWN.contains(&name.as_str()) {
            let message =
                format!("`--optimizers` must name {}, found `{}`", text::alternatives(&KNOWN), text::name(name));
            return Err(Failure::usage(message));
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
    if global.json || !result["optimizers"].is_array() {
        if result.is_object() {
            result["schema"] = 1.into();
        }
        print_line(&format!("{result:#}"));
        return Ok(0);
    }
    table(&result);
    Ok(0)
}

/// `NAME=SIZE`.
fn dimension(typed: &str) -> Result<(String, i64)> {
    let parsed = typed.split_once('=').and_then(|(name, size)| Some((name.to_owned(), size.parse().ok()?)));
    parsed.filter(|(name, size)| !name.is_empty() && *size >= 1).ok_or_else(|| {
        Failure::usage(format!("`--dim` must be NAME=SIZE, found `{}`", text::name(typed)))
            .with_help("such as --dim sequence=64")
    })
}

/// Every number of the first optimizer is a column; the rows are the optimizers.
fn table(result: &Value) {
    // OK because the caller looked.
    let rows = result["optimizers"].as_array().expect("`optimizers` is a list");
    let Some(Value::Object(first)) = rows.first() else { return };
    let columns: Vec<&String> = first.iter().filter(|(_, value)| value.is_number()).map(|(name, _)| name).collect();
    let cell = |value: &Value| value.as_f64().map_or("-".to_owned(), |number| format!("{number:.3}"));
    let name = |row: &Value| row["name"].as_str().or(row["optimizer"].as_str()).unwrap_or("?").to_owned();
    let width = |column: &str| column.len().max(10);
    let heading: String = columns.iter().map(|column| format!("  {column:>0$}", width(column))).collect();
    print_line(&format!("  {:<12}{heading}", "optimizer"));
    for row in rows {
        let cells: String =
            columns.iter().map(|column| format!("  {:>1$}", cell(&row[column.as_str()]), width(column))).collect();
        print_line(&format!("  {:<12}{cells}", name(row)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_have_a_name_and_a_size() {
        assert_eq!(dimension("sequence=64").unwrap(), ("sequence".to_owned(), 64));
        let failure = dimension("sequence=0").unwrap_err();
        assert_eq!(failure.message, "`--dim` must be NAME=SIZE, found `sequence=0`");
    }
}
