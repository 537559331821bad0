//! Loss and accuracy against epochs and against training seconds, as SVG and PNG.
//!
//! The font is in the program, so that a machine without fonts draws the same picture.

use crate::launcher::plot::{FAMILY, FONT};
use crate::protocol::EpochEvent;
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use std::ops::Range;
use std::sync::Once;

const SIZE: (u32, u32) = (1200, 860);

const INK: RGBColor = RGBColor(0x26, 0x2b, 0x33);
const FAINT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xec);
/// Colours that stay apart for colour-blind eyes, one a run; dark enough for a white page.
const RUNS: [RGBColor; 6] = [
    RGBColor(0x00, 0x5f, 0xb8),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x1b, 0x8a, 0x5a),
    RGBColor(0xb0, 0x2a, 0x7e),
    RGBColor(0x6a, 0x51, 0xa3),
    RGBColor(0x8c, 0x6d, 0x1f),
];

/// A run to draw.
#[derive(Debug, Clone)]
pub struct Run {
    /// In the legend: `fngd`.
    pub name: String,
    pub epochs: Vec<EpochEvent>,
}

type Error = Box<dyn std::error::Error>;

/// The picture as SVG.
pub fn svg(title: &str, runs: &[Run]) -> Result<String, Error> {
    use_font();
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (head, body) = area.split_vertically(84);
        heading(&head, title, runs)?;
        let panels = body.margin(0, 14, 18, 22).split_evenly((2, 2));
        let epoch = |event: &EpochEvent| event.epoch as f64;
        let seconds = |event: &EpochEvent| event.train_seconds;
        panel(&panels[0], runs, ("epoch", epoch), &LOSS)?;
        panel(&panels[1], runs, ("training seconds", seconds), &LOSS)?;
        panel(&panels[2], runs, ("epoch", epoch), &ACCURACY)?;
        panel(&panels[3], runs, ("training seconds", seconds), &ACCURACY)?;
        area.present()?;
    }
    Ok(picture)
}

/// What a panel shows: a name, the two series, and whether they are shares.
struct Quantity {
    name: &'static str,
    train: fn(&EpochEvent) -> f64,
    val: fn(&EpochEvent) -> f64,
    percent: bool,
}

const LOSS: Quantity =
    Quantity { name: "loss", train: |event| event.train_loss, val: |event| event.val_loss, percent: false };
const ACCURACY: Quantity = Quantity {
    name: "accuracy, %",
    train: |event| event.train_acc * 100.0,
    val: |event| event.val_acc * 100.0,
    percent: true,
};

fn use_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for style in [FontStyle::Normal, FontStyle::Bold] {
            // A font that is no font is caught by the tests; without it plotters draws no text.
            let _ = register_font(FAMILY, style, FONT);
        }
    });
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Title, a coloured line for each run, and what solid and dashed mean.
fn heading(area: &Area<'_>, title: &str, runs: &[Run]) -> Result<(), Error> {
    area.draw(&Text::new(title.to_owned(), (24, 16), (FAMILY, 22).into_font().color(&INK)))?;
    let label = (FAMILY, 15).into_font().color(&INK);
    let mut x = 24;
    for (run, color) in runs.iter().zip(RUNS.iter().cycle()) {
        for (words, solid) in [("validation", true), ("training", false)] {
            let text = format!("{} {words}", run.name);
            let line = vec![(x, 60), (x + 34, 60)];
            if solid {
                area.draw(&PathElement::new(line, color.stroke_width(3)))?;
            } else {
                area.draw(&DashedPathElement::new(line, 6, 4, color.mix(0.65).stroke_width(2)))?;
            }
            area.draw(&Text::new(text.clone(), (x + 42, 53), label.clone()))?;
            x += 42 + area.estimate_text_size(&text, &label)?.0 as i32 + 30;
        }
    }
    Ok(())
}

fn panel(
    area: &Area<'_>,
    runs: &[Run],
    (x_name, x_of): (&str, impl Fn(&EpochEvent) -> f64),
    quantity: &Quantity,
) -> Result<(), Error> {
    let points = |run: &Run, y_of: fn(&EpochEvent) -> f64| -> Vec<(f64, f64)> {
        run.epochs
            .iter()
            .map(|event| (x_of(event), y_of(event)))
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .collect()
    };
    let train: Vec<_> = runs.iter().map(|run| points(run, quantity.train)).collect();
    let val: Vec<_> = runs.iter().map(|run| points(run, quantity.val)).collect();
    let all = || train.iter().chain(&val).flatten().copied();
    let x_range = x_range(all().map(|(x, _)| x));
    let y_range =
        if quantity.percent { percent_range(all().map(|(_, y)| y)) } else { loss_range(all().map(|(_, y)| y)) };
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(16)
        .x_label_area_size(46)
        .y_label_area_size(62)
        .build_cartesian_2d(Ticks(x_range), Ticks(y_range))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .x_desc(x_name)
        .y_desc(quantity.name)
        .axis_desc_style((FAMILY, 15).into_font().color(&INK))
        .label_style((FAMILY, 13).into_font().color(&FAINT))
        .x_label_formatter(&short)
        .y_label_formatter(&short)
        .x_labels(8)
        .y_labels(6)
        .draw()?;
    for ((train, val), color) in train.iter().zip(&val).zip(RUNS.iter().cycle()) {
        chart.draw_series(DashedLineSeries::new(train.iter().copied(), 6, 4, color.mix(0.65).stroke_width(2)))?;
        chart.draw_series(LineSeries::new(val.iter().copied(), color.stroke_width(3)))?;
        if val.len() <= 40 {
            chart.draw_series(val.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
        }
    }
    Ok(())
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

fn x_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    0.0..bounds(values).map_or(1.0, |(_, high)| high.max(1e-3)) * 1.02
}

/// From zero where that costs little of the picture.
fn loss_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let Some((low, high)) = bounds(values) else { return 0.0..1.0 };
    let room = ((high - low) * 0.06).max(1e-6);
    let bottom = if low >= 0.0 && low < high * 0.5 { 0.0 } else { low - room };
    bottom..high + room
}

fn percent_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let Some((low, high)) = bounds(values) else { return 0.0..100.0 };
    let room = ((high - low) * 0.06).max(0.5);
    (low - room).max(0.0)..(high + room).min(100.5)
}

/// `0.05`, `2.5`, `1500`: as few digits as say it.
fn short(value: &f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// An axis with ticks at 1, 2 or 5 times a power of ten.
struct Ticks(Range<f64>);

impl Ranged for Ticks {
    type ValueType = f64;
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.0.start) / (self.0.end - self.0.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        ticks(&self.0, hint.max_num_points().min(8))
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Ticks {
    fn format(value: &f64) -> String {
        short(value)
    }
}

fn ticks(range: &Range<f64>, most: usize) -> Vec<f64> {
    let rough = (range.end - range.start) / most.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let first = (range.start / step).ceil() as i64;
    let last = (range.end / step).floor() as i64;
    (first..=last).map(|tick| tick as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::metrics::tests::epoch;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks(&(0.0..30.6), 8), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
        assert_eq!(ticks(&(0.0..1.0), 5).iter().map(short).collect::<Vec<_>>(), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
    }

    #[test]
    fn the_picture_has_axes_legend_and_pixels() {
        let runs = ["fngd", "sgd"].map(|name| Run { name: name.to_owned(), epochs: (1..=12).map(epoch).collect() });
        let picture = svg("resnet20 on cifar10", &runs).unwrap();
        for words in ["resnet20 on cifar10", "fngd validation", "sgd training", "training seconds", "accuracy, %"] {
            assert!(picture.contains(words), "{words}");
        }
        let png = crate::launcher::plot::png(&picture).unwrap();
        let decoded = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(decoded.dimensions(), (1800, 1290));
        for color in [RUNS[0], RUNS[1]] {
            assert!(decoded.pixels().any(|pixel| pixel.0 == [color.0, color.1, color.2]));
        }
    }

    #[test]
    fn the_font_is_a_font() {
        assert!(register_font("check", FontStyle::Normal, FONT).is_ok());
    }

    #[test]
    fn one_epoch_and_none_are_drawn_too() {
        for epochs in [vec![], vec![epoch(1)]] {
            assert!(svg("x", &[Run { name: "fngd".into(), epochs }]).unwrap().starts_with("<svg"));
        }
    }
}
