//! The pictures of a study.

use super::drift::drift;
use super::layers::Pairs;
use super::observation::Observation;
use super::observed::Observed;
use super::plan::{self, Part};
use super::results::{Results, Row, Terms};
use super::similarity::{mean, reordered};
use crate::launcher::compare::statistics::{Spread, median};
use crate::launcher::plot::{Axis, Bar, Bars, Figure, Heat, Lines, Panel, Scale, Series};
use crate::protocol::EpochEvent;

/// Layers that are shown of a deep model, evenly spread.
const MOST_LAYERS: usize = 8;
/// Samples that are shown of a Gram matrix.
const MOST_SAMPLES: usize = 64;

/// Fig. 3: the Gram matrix of every layer, each divided by its Frobenius norm (the paper's λ is in proportion to it), the samples
/// ordered by class.
pub fn grams(observation: &Observation, epochs: u64) -> Option<Figure> {
    let moment = observation.moments.get(&epochs)?;
    let size = observation.labels.len();
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by_key(|sample| (observation.labels[*sample], *sample));
    let shown: Vec<usize> = spread(size, MOST_SAMPLES).into_iter().map(|place| order[place]).collect();
    let panel = |layer: usize| {
        let gram = &moment.grams[layer];
        let norm = gram.iter().map(|value| value * value).sum::<f64>().sqrt();
        let values = reordered(gram, size, &shown);
        let values: Vec<Vec<f64>> =
            values.chunks(shown.len()).map(|row| row.iter().map(|k| k / norm).collect()).collect();
        let far = quantile(values.iter().flatten().map(|value| value.abs()).collect(), 0.98);
        Panel::Heat(Heat {
            title: short(&observation.layers[layer]),
            rows: Vec::new(),
            columns: Vec::new(),
            values,
            range: Some((-far, far)),
            scale: Scale::Diverging,
            numbers: false,
        })
    };
    let layers = spread(observation.layers.len(), MOST_LAYERS);
    Some(Figure {
        title: format!("Gram matrices of the first step's batch, {}", when(epochs)),
        note: format!(
            "K / |K|, samples ordered by class, {} of {size}; colours end where 2 % of the entries lie beyond",
            shown.len()
        ),
        legend: Vec::new(),
        columns: layers.len().min(4),
        panels: layers.into_iter().map(panel).collect(),
        panel: (300, 270),
    })
}

/// How alike every two layers are: Gram matrices, and weights.
pub fn pairs(observed: &Observed, epochs: u64) -> Option<Figure> {
    let all: Vec<Pairs> =
        observed.seeds.iter().filter_map(|seed| Some(Pairs::of(seed.moments.get(&epochs)?))).collect();
    let layers: Vec<String> = observed.seeds.first()?.layers.iter().map(|layer| short(layer)).collect();
    let heat = |title: &str, of: &dyn Fn(&Pairs) -> &Vec<Vec<f64>>, scale, range| {
        let cell = |row: usize, column: usize| mean(all.iter().map(|pairs| of(pairs)[row][column]));
        let values = (0..layers.len()).map(|row| (0..layers.len()).map(|column| cell(row, column)).collect()).collect();
        let names = if layers.len() <= 24 { layers.clone() } else { Vec::new() };
        let numbers = layers.len() <= 12;
        Panel::Heat(Heat {
            title: title.into(),
            rows: names.clone(),
            columns: names,
            values,
            range: Some(range),
            scale,
            numbers,
        })
    };
    (!all.is_empty()).then(|| Figure {
        title: format!("How alike layers are, {}", when(epochs)),
        note: format!("mean over {} seeds", all.len()),
        legend: Vec::new(),
        panels: vec![
            heat("cosine of Gram matrices", &|pairs| &pairs.gram, Scale::Sequential, (0.0, 1.0)),
            heat("the same, samples of one shuffled", &|pairs| &pairs.shuffled, Scale::Sequential, (0.0, 1.0)),
            heat("correlation of w", &|pairs| &pairs.correlation, Scale::Diverging, (-1.0, 1.0)),
        ],
        columns: 3,
        panel: (430, 400),
    })
}

/// What is left of the weights of epoch 1 in later ones, layer by layer.
pub fn drifts(observed: &Observed) -> Option<Figure> {
    let later = observed.last_epoch()?;
    let all: Vec<_> = observed.seeds.iter().filter_map(|seed| drift(seed, later)).collect();
    let layers = observed.seeds.first()?.layers.len();
    let series = |name: &str, style: usize, of: &dyn Fn(&super::drift::Drift) -> f64| Series {
        name: name.into(),
        style,
        points: (0..layers).map(|layer| ((layer + 1) as f64, mean(all.iter().map(|seed| of(&seed[layer]))))).collect(),
        band: Vec::new(),
    };
    let names = ["same batch of samples", "sample key", "slot key", "w = 1", "mean of the layer"];
    Some(Figure {
        title: format!("Weights of epoch 1 against those solved in epoch {later}"),
        note: "left: 1 would be no drift, 0 nothing in common; right: a lower line is nearer to the right weights"
            .into(),
        legend: names.iter().enumerate().map(|(style, name)| ((*name).to_owned(), style)).collect(),
        panels: vec![
            Panel::Lines(Lines {
                x: Axis::new("layer"),
                y: Axis::new("correlation of w"),
                series: vec![
                    series(names[0], 0, &|drift| drift.same_batch),
                    series(names[1], 1, &|drift| drift.sample.correlation),
                    series(names[2], 2, &|drift| drift.slot.correlation),
                ],
                level: Some((0.0, "nothing in common".into())),
            }),
            Panel::Lines(Lines {
                x: Axis::new("layer"),
                y: Axis::new("relative error against w of the later epoch"),
                series: vec![
                    series(names[1], 1, &|drift| drift.sample.change),
                    series(names[2], 2, &|drift| drift.slot.change),
                    series(names[3], 3, &|drift| drift.ones),
                    series(names[4], 4, &|drift| drift.mean),
                ],
                level: None,
            }),
        ],
        columns: 2,
        panel: (560, 360),
    })
}

/// Fig. 4: accuracy against epochs and training time, of the variants of a part, under one schedule.
pub fn curves(part: Part, results: &Results) -> Option<Figure> {
    let rows = rows_of(part, results.rows(Terms::Same));
    let lines = |x: fn(&EpochEvent) -> f64, label: &str| {
        let series = rows.iter().enumerate().map(|(style, row)| series(row, style, x));
        Panel::Lines(Lines {
            x: Axis::new(label),
            y: Axis::new("validation accuracy, %"),
            series: series.collect(),
            level: None,
        })
    };
    (!rows.is_empty()).then(|| Figure {
        title: format!("{}: accuracy under one schedule", title(part)),
        note: "median over seeds, band from lowest to highest".into(),
        legend: rows.iter().enumerate().map(|(style, row)| (row.label.clone(), style)).collect(),
        panels: vec![
            lines(|epoch| epoch.epoch as f64, "epoch"),
            lines(|epoch| epoch.train_seconds, "training seconds"),
        ],
        columns: 2,
        panel: (560, 360),
    })
}

/// Errors of the variants of a part, under both terms.
pub fn errors(part: Part, results: &Results) -> Option<Figure> {
    let panel = |terms: Terms| {
        let rows = rows_of(part, results.rows(terms));
        let bar = |(style, row): (usize, &&Row)| {
            let errors: Vec<f64> = row.accuracies().iter().map(|accuracy| 100.0 - accuracy).collect();
            let range = errors.iter().copied().filter(|error| error.is_finite()).fold(None, |range, error| {
                let (low, high) = range.unwrap_or((error, error));
                Some((f64::min(low, error), f64::max(high, error)))
            });
            Bar { name: row.label.clone(), style, value: Spread::of(&errors).map(|spread| spread.mean), range }
        };
        let bars: Vec<Bar> = rows.iter().enumerate().map(bar).collect();
        (!bars.is_empty()).then(|| Panel::Bars(Bars { label: format!("error, %, {}", terms.words()), bars }))
    };
    let panels: Vec<Panel> = [Terms::Same, Terms::Best].into_iter().filter_map(panel).collect();
    let bars = rows_of(part, results.rows(Terms::Same)).len() as u32;
    let split = if results.has_test { "test" } else { "validation" };
    (!panels.is_empty()).then(|| Figure {
        title: format!("{}: {split} error", title(part)),
        note: "mean over seeds, whisker from lowest to highest; shorter is better".into(),
        legend: Vec::new(),
        columns: panels.len(),
        panels,
        panel: (560, 90 + 34 * bars.max(2)),
    })
}

/// A part's name in the report.
pub fn title(part: Part) -> &'static str {
    match part {
        Part::Gram => "Gram matrices by layer",
        Part::Sharing => "Shared against solved weights",
        Part::Drift => "Drift of the weights",
        Part::Keys => "What a weight belongs to",
        Part::Scale => "The factor 1/λ",
        Part::Fisher => "Which Fisher matrix",
        Part::Inner => "Inner rules",
        Part::Damping => "Damping γ",
        Part::Schedule => "Half the epochs",
    }
}

/// `before the first step`, `after epoch 3`.
pub fn when(epochs: u64) -> String {
    if epochs == 0 { "before the first step".to_owned() } else { format!("after epoch {epochs}") }
}

/// The rows of a part's variants.
pub fn rows_of(part: Part, rows: &[Row]) -> Vec<&Row> {
    let labels = plan::variants(&[part]);
    labels.into_iter().filter_map(|(label, _)| rows.iter().find(|row| row.label == label)).collect()
}

fn series(row: &Row, style: usize, x: fn(&EpochEvent) -> f64) -> Series {
    let longest = row.runs.iter().map(|run| run.epochs.len()).max().unwrap_or(0);
    let (mut points, mut band) = (Vec::new(), Vec::new());
    for position in 0..longest {
        let seeds: Vec<&EpochEvent> = row.runs.iter().filter_map(|run| run.epochs.get(position)).collect();
        let accuracies: Vec<f64> =
            seeds.iter().map(|epoch| 100.0 * epoch.val_acc).filter(|value| value.is_finite()).collect();
        let at = median(&seeds.iter().map(|epoch| x(epoch)).collect::<Vec<_>>());
        let (Some(at), Some(middle)) = (at, median(&accuracies)) else { continue };
        points.push((at, middle));
        let low = accuracies.iter().copied().fold(f64::INFINITY, f64::min);
        band.push((at, low, accuracies.iter().copied().fold(f64::NEG_INFINITY, f64::max)));
    }
    Series { name: row.label.clone(), style, points, band }
}

/// At most `most` of `count` places, evenly spread, the first and the last among them.
fn spread(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    (0..most).map(|place| place * (count - 1) / (most - 1)).collect()
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (share * values.len() as f64) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().filter(|value| *value > 0.0).unwrap_or(1.0)
}

/// The end of a long name, which is what tells layers apart.
fn short(name: &str) -> String {
    const LONGEST: usize = 18;
    let count = name.chars().count();
    if count <= LONGEST {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(count - LONGEST + 1).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::super::claims::tests::results;
    use super::*;

    #[test]
    fn places_are_spread() {
        assert_eq!(spread(3, 8), [0, 1, 2]);
        assert_eq!(spread(20, 4), [0, 6, 12, 19]);
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.98), 3.0);
        assert_eq!(short("conv1"), "conv1");
        assert_eq!(short("stages.0.blocks.1.conv1"), "….0.blocks.1.conv1");
    }

    #[test]
    fn bars_are_errors_and_lines_the_medians() {
        let results = results();
        let Some(Figure { panels, .. }) = errors(Part::Sharing, &results) else { panic!("there are runs") };
        let [Panel::Bars(same), Panel::Bars(_)] = &panels[..] else { panic!("{panels:?}") };
        let (value, range) = (same.bars[0].value.unwrap(), same.bars[0].range.unwrap());
        assert!((value - 9.0).abs() < 1e-9 && (range.0 - 8.0).abs() < 1e-9 && (range.1 - 10.0).abs() < 1e-9);
        assert!(curves(Part::Sharing, &results).unwrap().svg().contains("ngd"));
        assert!(curves(Part::Fisher, &Results::default()).is_none());
    }

    #[test]
    fn samples_are_ordered_by_class() {
        let moment = super::super::observation::Moment {
            grams: vec![vec![4.0, 1.0, 2.0, 1.0, 9.0, 3.0, 2.0, 3.0, 16.0]],
            weights: vec![vec![1.0; 3]],
        };
        let observation = Observation {
            layers: vec!["a".into()],
            labels: vec![1, 0, 1],
            moments: [(0, moment)].into(),
            ..Observation::default()
        };
        let figure = grams(&observation, 0).unwrap();
        let Panel::Heat(heat) = &figure.panels[0] else { panic!("{figure:?}") };
        let norm = (16.0f64 + 81.0 + 256.0 + 2.0 * (1.0 + 4.0 + 9.0)).sqrt();
        assert_eq!(heat.values[0], [9.0 / norm, 1.0 / norm, 3.0 / norm]);
        assert_eq!(figure.title, "Gram matrices of the first step's batch, before the first step");
    }
}
