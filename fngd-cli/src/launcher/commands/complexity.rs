//! `bench complexity`.

use super::engine;
use super::profile::refuse_existing;
use crate::launcher::arguments::{Axis, BenchComplexity, Global, Layers};
use crate::launcher::complexity::{csv, table};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::run_directory::write_whole;
use crate::launcher::{front, print_line, text};
use crate::protocol::{self, ChainKind, Event, Job};
use serde_json::json;

pub fn run(arguments: &BenchComplexity, global: &Global) -> Result<u8> {
    if let Some(path) = &arguments.csv {
        refuse_existing(path, arguments.force)?;
    }
    let job = Job::Complexity(protocol::Complexity {
        optimizers: arguments.optimizers.clone(),
        chains: match arguments.layers {
            Layers::Linear => vec![ChainKind::Linear],
            Layers::Convolution => vec![ChainKind::Convolution],
            Layers::Both => vec![ChainKind::Linear, ChainKind::Convolution],
        },
        axes: axes(&arguments.axis),
        device: global.device.clone().unwrap_or_else(|| "auto".to_owned()),
        threads: super::eval::threads(global)?,
    });
    let mut front = front::choose(global);
    let mut reports = Vec::new();
    engine(global)?.run(&job, &mut |event| {
        match event {
            Event::Complexity(report) => {
                if !global.json {
                    // At once: all of them together take minutes.
                    table::table(report).iter().for_each(|line| print_line(line));
                }
                reports.push(report.clone());
            }
            event => front.event(event),
        }
        Ok(())
    })?;
    front.end();
    if reports.is_empty() {
        return Err(Failure::new(Code::Internal, "the engine ended without a result"));
    }
    if global.json {
        print_line(&format!("{:#}", json!({ "schema": 1, "reports": reports })));
    } else {
        table::notes(&reports).iter().for_each(|line| print_line(line));
    }
    if let Some(path) = &arguments.csv {
        let name = text::name(&path.display().to_string());
        write_whole(path, csv::lines(&reports).as_bytes())
            .map_err(|error| Failure::new(Code::Environment, format!("cannot write {name}: {error}")))?;
        if !global.json {
            print_line(&format!("  saved  {name}"));
        }
    }
    Ok(0)
}

fn axes(typed: &[Axis]) -> Vec<protocol::Axis> {
    let is_asked_for = |axis: &protocol::Axis| {
        typed.iter().any(|typed| match typed {
            Axis::All => true,
            Axis::Batch => *axis == protocol::Axis::Batch,
            Axis::Positions => *axis == protocol::Axis::Positions,
            Axis::Width => *axis == protocol::Axis::Width,
            Axis::Depth => *axis == protocol::Axis::Depth,
        })
    };
    protocol::Axis::ALL.into_iter().filter(is_asked_for).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_come_in_one_order_and_once() {
        assert_eq!(axes(&[Axis::All, Axis::Width]), protocol::Axis::ALL);
        assert_eq!(axes(&[Axis::Width, Axis::Batch]), [protocol::Axis::Batch, protocol::Axis::Width]);
    }
}
