//! `bench complexity`: how the time that a method adds to a step of SGD, and what it keeps, grow with batch, positions, width and depth.

mod chain;
mod exponent;
mod operations;
mod runner;

use super::checkpoint::RunState;
use super::failure::{Failure, Result};
use super::jobs::{Context, done};
use exponent::exponent;
use fngd_cli::protocol::{Axis, ChainKind, ChainSize, Complexity, ComplexityReport, Event, Growth, Status};
use runner::{Measured, Runner};

/// Every method that refreshes does so every so many steps.
const REFRESH_STEPS: usize = 10;

/// Steps of an epoch: one refresh period.
const SLOTS: usize = REFRESH_STEPS;

/// Turns of a refresh period each.
const ROUNDS: usize = 2;

/// Does the job; reports each axis of each chain as soon as it is measured.
pub fn run(context: &Context, job: &Complexity) -> Result<Status> {
    let mut methods = job.optimizers.clone();
    // Everything is measured against it.
    methods.retain(|name| name != "sgd");
    methods.insert(0, "sgd".to_owned());
    for &kind in &job.chains {
        for &axis in &job.axes {
            let rows = growths(context, &methods, kind, axis)?;
            context.events.emit(&Event::Complexity(ComplexityReport {
                chain: kind,
                axis,
                base: base(kind),
                refresh_steps: REFRESH_STEPS,
                device: context.fingerprint.device.clone(),
                processor: context.fingerprint.processor.clone(),
                threads: context.fingerprint.threads,
                rows,
            }));
        }
    }
    Ok(done(&context.events, Status::Finished, &RunState::default(), context.start))
}

/// The size that one axis of is varied.
fn base(kind: ChainKind) -> ChainSize {
    match kind {
        ChainKind::Linear => ChainSize { batch: 32, positions: 16, width: 128, depth: 4 },
        ChainKind::Convolution => ChainSize { batch: 32, positions: 64, width: 32, depth: 4 },
    }
}

fn sizes(kind: ChainKind, axis: Axis) -> &'static [i64] {
    match (kind, axis) {
        (_, Axis::Batch) => &[8, 16, 32, 64, 128],
        (ChainKind::Linear, Axis::Positions) => &[4, 8, 16, 32, 64],
        (ChainKind::Linear, Axis::Width) => &[32, 64, 128, 256, 512],
        (ChainKind::Convolution, Axis::Positions) => &[16, 64, 256, 1024],
        (ChainKind::Convolution, Axis::Width) => &[8, 16, 32, 64],
        (_, Axis::Depth) => &[2, 4, 8, 16],
    }
}

fn with(base: ChainSize, axis: Axis, size: i64) -> ChainSize {
    match axis {
        Axis::Batch => ChainSize { batch: size, ..base },
        Axis::Positions => ChainSize { positions: size, ..base },
        Axis::Width => ChainSize { width: size, ..base },
        Axis::Depth => ChainSize { depth: size, ..base },
    }
}

fn growths(context: &Context, methods: &[String], kind: ChainKind, axis: Axis) -> Result<Vec<Growth>> {
    let sizes = sizes(kind, axis);
    let points: Vec<Vec<Measured>> = sizes
        .iter()
        .map(|&size| measure(context, methods, kind, with(base(kind), axis, size)))
        .collect::<Result<_>>()?;
    let rows = points.first().map_or(0, Vec::len);
    if points.iter().any(|point| point.len() != rows) {
        return Err(Failure::internal("bench complexity: a method has other kinds of steps at another size"));
    }
    Ok((0..rows).map(|row| growth(&points, row, (kind, axis), sizes)).collect())
}

/// All methods at one size, in turns.
fn measure(context: &Context, methods: &[String], kind: ChainKind, size: ChainSize) -> Result<Vec<Measured>> {
    let build = |name: &String| Runner::build(name, (kind, size), context.device);
    let mut runners = methods.iter().map(build).collect::<Result<Vec<_>>>()?;
    runners.iter_mut().try_for_each(Runner::warm_up)?;
    for round in 0..ROUNDS {
        let count = runners.len();
        // Every other round backwards: none is always the one that comes after the slowest.
        for turn in 0..count {
            runners[if round % 2 == 0 { turn } else { count - 1 - turn }].round()?;
        }
    }
    let measured = runners.into_iter().map(Runner::measured).collect::<Result<Vec<_>>>()?;
    Ok(measured.concat())
}

/// One row: what SGD takes, or what another method adds to it.
fn growth(points: &[Vec<Measured>], row: usize, (kind, axis): (ChainKind, Axis), sizes: &[i64]) -> Growth {
    let own: Vec<&Measured> = points.iter().map(|point| &point[row]).collect();
    let sgd: Vec<&Measured> = points.iter().map(|point| &point[0]).collect();
    // OK because there is a point for each size, and no axis is without sizes.
    let (method, step_kind) = (own[0].method.clone(), own[0].kind);
    let slower_update = |own: &Measured, sgd: &Measured| Some(own.update? - sgd.update?);
    let added = |(own, sgd): (&&Measured, &&Measured)| own.preconditioning + slower_update(own, sgd).unwrap_or(0.0);
    let added_ms: Vec<f64> = own.iter().zip(&sgd).map(added).collect();
    let step_ms: Vec<f64> = own.iter().map(|point| point.step).collect();
    let state_bytes: Vec<u64> = own.iter().map(|point| point.state_bytes).collect();
    let added_bytes: Vec<f64> =
        own.iter().zip(&sgd).map(|(own, sgd)| own.state_bytes as f64 - sgd.state_bytes as f64).collect();
    let floats: Vec<f64> = sizes.iter().map(|size| *size as f64).collect();
    let formulas: Option<Vec<operations::Added>> = sizes
        .iter()
        .map(|&size| operations::added(&method, step_kind, kind, with(base(kind), axis, size), SLOTS))
        .collect();
    let expected = |of: fn(&operations::Added) -> f64| {
        let values: Vec<f64> = formulas.as_ref()?.iter().map(of).collect();
        exponent(&floats, &values)
    };
    let is_sgd = row == 0;
    let added_only = |exponent: Option<f64>| exponent.filter(|_| !is_sgd);
    Growth {
        method,
        kind: step_kind,
        sizes: sizes.to_vec(),
        step_exponent: exponent(&floats, &step_ms),
        added_exponent: added_only(exponent(&floats, &added_ms)),
        expected_exponent: expected(|added| added.operations),
        state_exponent: added_only(exponent(&floats, &added_bytes)),
        expected_state_exponent: expected(|added| added.numbers),
        step_ms,
        added_ms: if is_sgd { Vec::new() } else { added_ms },
        state_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fngd_cli::protocol::StepKind;

    fn point(size: f64) -> Vec<Measured> {
        let measured = |method: &str, kind, preconditioning, state_bytes| Measured {
            method: method.to_owned(),
            kind,
            step: 10.0 * size + preconditioning,
            preconditioning,
            update: (method != "kfac").then_some(1.0),
            state_bytes,
        };
        vec![
            measured("sgd", StepKind::Every, 0.0, 1000),
            measured("kfac", StepKind::Mean, 0.5 * size * size, 1000 + 8 * size as u64),
        ]
    }

    #[test]
    fn what_is_added_is_fitted_without_what_sgd_takes() {
        let sizes = [2, 4, 8, 16];
        let points: Vec<_> = sizes.iter().map(|&size| point(size as f64)).collect();
        let kfac = growth(&points, 1, (ChainKind::Linear, Axis::Depth), &sizes);
        assert_eq!(kfac.added_ms, [2.0, 8.0, 32.0, 128.0]);
        let near = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}");
        near(kfac.added_exponent, 2.0);
        near(kfac.expected_exponent, 1.0);
        near(kfac.state_exponent, 1.0);
        near(kfac.expected_state_exponent, 1.0);
        let sgd = growth(&points, 0, (ChainKind::Linear, Axis::Depth), &sizes);
        near(sgd.step_exponent, 1.0);
        assert_eq!((sgd.added_exponent, sgd.expected_exponent, sgd.added_ms), (None, None, vec![]));
    }

    #[test]
    fn every_axis_has_the_base_among_its_sizes() {
        for kind in [ChainKind::Linear, ChainKind::Convolution] {
            for axis in [Axis::Batch, Axis::Positions, Axis::Width, Axis::Depth] {
                let found = sizes(kind, axis).iter().filter(|size| with(base(kind), axis, **size) == base(kind));
                assert_eq!(found.count(), 1, "{kind:?} {axis:?}");
            }
        }
    }
}
