//! The pictures of a comparison.

use super::summary::{Comparison, MethodSummary, Point};
use crate::launcher::plot::{Axis, Bar, Bars, Figure, Lines, Panel, Series, Stacks};

/// Loss and accuracy against epochs and training seconds: a line through the medians over seeds, in a band from the lowest seed to
/// the highest.
pub fn curves(comparison: &Comparison) -> Figure {
    let target = comparison.target.map(|target| (100.0 * target, "target".to_owned()));
    let loss = |point: &Point| point.train_loss;
    let accuracy = |point: &Point| 100.0 * point.val_acc;
    let lines = |x: X, y: fn(&Point) -> f64, y_axis: Axis, level: Option<(f64, String)>| {
        let series = comparison.methods.iter().enumerate().map(|(style, method)| series(method, style, x, y));
        let label = if x == X::Epoch { "epoch" } else { "training seconds (median of the seeds)" };
        Panel::Lines(Lines { x: Axis::new(label), y: y_axis, series: series.collect(), level })
    };
    let loss_axis = || Axis { log: true, ..Axis::new("training loss") };
    let accuracy_axis = || Axis::new("validation accuracy, %");
    Figure {
        title: format!("{} on {}", comparison.model, comparison.data),
        note: format!("median over {} seeds, band from lowest to highest", comparison.seeds.len()),
        legend: legend(comparison),
        panels: vec![
            lines(X::Epoch, loss, loss_axis(), None),
            lines(X::Seconds, loss, loss_axis(), None),
            lines(X::Epoch, accuracy, accuracy_axis(), target.clone()),
            lines(X::Seconds, accuracy, accuracy_axis(), target),
        ],
        columns: 2,
        panel: (600, 370),
    }
}

/// What the methods cost: memory, and the time of a step by phase.
pub fn cost(comparison: &Comparison) -> Figure {
    let bar = |(style, method): (usize, &MethodSummary)| {
        let all: Vec<f64> = method.runs.iter().filter_map(|run| run.memory_mib).collect();
        let range = (all.len() > 1)
            .then(|| (all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max)));
        Bar { name: method.label.clone(), style, value: method.memory_mib, range }
    };
    let parts = comparison.methods.iter().map(|method| &method.phases).find(|phases| !phases.is_empty());
    let parts: Vec<String> = parts.into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let row = |method: &MethodSummary| {
        (method.label.clone(), method.phases.iter().map(|(_, seconds)| 1000.0 * seconds).collect())
    };
    let height = 90 + 34 * comparison.methods.len() as u32;
    Figure {
        title: format!("{} on {}: memory, and where a step's time goes", comparison.model, comparison.data),
        note: "memory: the most that the process held, with libtorch and the data; time: mean of a step, without the first".to_owned(),
        legend: Vec::new(),
        panels: vec![
            Panel::Bars(Bars { label: "peak memory, MiB".into(), bars: comparison.methods.iter().enumerate().map(bar).collect() }),
            Panel::Stacks(Stacks { label: "ms a step".into(), parts, rows: comparison.methods.iter().map(row).collect() }),
        ],
        columns: 2,
        panel: (600, height.max(200)),
    }
}

fn legend(comparison: &Comparison) -> Vec<(String, usize)> {
    comparison.methods.iter().enumerate().map(|(style, method)| (method.label.clone(), style)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum X {
    Epoch,
    Seconds,
}

fn series(method: &MethodSummary, style: usize, x: X, y: fn(&Point) -> f64) -> Series {
    let (mut points, mut band) = (Vec::new(), Vec::new());
    let longest = method.runs.iter().map(|run| run.epochs.len()).max().unwrap_or(0);
    for position in 0..longest {
        let seeds: Vec<&Point> = method.runs.iter().filter_map(|run| run.epochs.get(position)).collect();
        let middle = |value: &dyn Fn(&Point) -> f64| {
            super::statistics::median(&seeds.iter().map(|point| value(point)).collect::<Vec<_>>())
        };
        let at = match x {
            X::Epoch => middle(&|point| point.epoch as f64),
            X::Seconds => middle(&|point| point.seconds),
        };
        let values: Vec<f64> = seeds.iter().map(|point| y(point)).filter(|value| value.is_finite()).collect();
        let (Some(at), Some(value)) = (at, super::statistics::median(&values)) else { continue };
        points.push((at, value));
        if values.len() > 1 {
            band.push((
                at,
                values.iter().copied().fold(f64::INFINITY, f64::min),
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ));
        }
    }
    Series { name: method.label.clone(), style, points, band }
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::comparison;
    use super::*;

    #[test]
    fn a_line_is_the_median_and_its_band_the_seeds() {
        let comparison = comparison(false);
        let fngd = series(&comparison.methods[0], 0, X::Seconds, |point| point.val_acc);
        assert_eq!(fngd.points[1], (2.0, 0.815));
        assert_eq!(fngd.band[1], (2.0, 0.8, 0.83));
        assert_eq!(fngd.points.len(), 4);
    }
}
