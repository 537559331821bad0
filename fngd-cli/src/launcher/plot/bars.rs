//! Horizontal bars: single ones, and ones of several parts.

use super::lines::{Axis, Ruler, short};
use super::paper::{self, Frame, Paper};
use super::style;

/// A bar for each name.
#[derive(Debug, Clone)]
pub struct Bars {
    /// What the length is, with its unit.
    pub label: String,
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    pub name: String,
    pub style: usize,
    /// `None`: there is no value, and that is said.
    pub value: Option<f64>,
    /// A whisker from low to high.
    pub range: Option<(f64, f64)>,
}

/// Bars of several parts, which have the colours of the styles 0, 1, 2 ...
#[derive(Debug, Clone)]
pub struct Stacks {
    pub label: String,
    /// Names of the parts.
    pub parts: Vec<String>,
    /// Name of each bar, and the length of each of its parts.
    pub rows: Vec<(String, Vec<f64>)>,
}

impl Bars {
    pub(super) fn draw(&self, paper: &mut Paper, frame: Frame) {
        let names: Vec<&str> = self.bars.iter().map(|bar| bar.name.as_str()).collect();
        let longest = self.bars.iter().flat_map(|bar| [bar.value, bar.range.map(|range| range.1)]).flatten();
        let (rows, ruler) = grid(paper, frame, &names, &self.label, longest.fold(0.0, f64::max));
        for (bar, row) in self.bars.iter().zip(rows) {
            let Some(value) = bar.value.filter(|value| value.is_finite()) else {
                paper.text((row.x + 6.0, row.y + row.height / 2.0 + 4.0), "–", "tick", "start");
                continue;
            };
            let end = ruler.place(value);
            paper.rectangle(Frame { width: (end - row.x).max(0.5), ..row }, style::color(bar.style));
            let mut far = end;
            if let Some((low, high)) = bar.range {
                let (low, high) = (ruler.place(low.max(0.0)), ruler.place(high));
                let middle = row.y + row.height / 2.0;
                paper.line((low, middle), (high, middle), "whisker");
                [low, high].iter().for_each(|x| paper.line((*x, middle - 4.0), (*x, middle + 4.0), "whisker"));
                far = far.max(high);
            }
            paper.text((far + 6.0, row.y + row.height / 2.0 + 4.0), &three_digits(value), "tick", "start");
        }
    }
}

impl Stacks {
    pub(super) fn draw(&self, paper: &mut Paper, frame: Frame) {
        let names: Vec<&str> = self.rows.iter().map(|(name, _)| name.as_str()).collect();
        let mut x = frame.x + 20.0;
        for (number, part) in self.parts.iter().enumerate() {
            paper.rectangle(Frame { x, y: frame.y + 8.0, width: 11.0, height: 11.0 }, style::color(number));
            paper.text((x + 16.0, frame.y + 18.0), part, "tick", "start");
            x += 30.0 + paper::text_width(part, 12.0);
        }
        let total = |parts: &[f64]| parts.iter().filter(|part| part.is_finite()).sum::<f64>();
        let longest = self.rows.iter().map(|(_, parts)| total(parts)).fold(0.0, f64::max);
        let below = Frame { y: frame.y + 22.0, height: frame.height - 22.0, ..frame };
        let (rows, ruler) = grid(paper, below, &names, &self.label, longest);
        for ((_, parts), row) in self.rows.iter().zip(rows) {
            let mut start = 0.0;
            for (number, part) in parts.iter().enumerate().filter(|(_, part)| part.is_finite() && **part > 0.0) {
                let (left, right) = (ruler.place(start), ruler.place(start + part));
                paper.rectangle(Frame { x: left, width: right - left, ..row }, style::color(number));
                start += part;
            }
            paper.text(
                (ruler.place(start) + 6.0, row.y + row.height / 2.0 + 4.0),
                &three_digits(start),
                "tick",
                "start",
            );
        }
    }
}

/// Axis, grid and names; where each bar goes.
fn grid(paper: &mut Paper, frame: Frame, names: &[&str], label: &str, longest: f64) -> (Vec<Frame>, Ruler) {
    let widest = names.iter().map(|name| paper::text_width(name, 13.0)).fold(40.0, f64::max);
    let area = frame.inside(((widest + 24.0).min(frame.width * 0.45), 14.0, 64.0, 50.0));
    let axis = Axis { range: Some((0.0, if longest > 0.0 { longest } else { 1.0 })), ..Axis::new(label) };
    let ruler = Ruler::new(&axis, std::iter::empty(), (area.x, area.x + area.width));
    for tick in ruler.ticks(area.width / 80.0) {
        let at = ruler.place(tick);
        paper.line((at, area.y), (at, area.y + area.height), "grid");
        paper.text((at, area.y + area.height + 17.0), &short(tick), "tick", "middle");
    }
    paper.line((area.x, area.y), (area.x, area.y + area.height), "axis");
    paper.text((area.x + area.width / 2.0, area.y + area.height + 38.0), label, "label", "middle");
    let step = area.height / names.len().max(1) as f64;
    let thick = (step * 0.62).min(30.0);
    let rows = names.iter().enumerate().map(|(number, name)| {
        let y = area.y + step * (number as f64 + 0.5) - thick / 2.0;
        paper.text((area.x - 8.0, y + thick / 2.0 + 4.5), name, "legend", "end");
        Frame { x: area.x, y, width: area.width, height: thick }
    });
    (rows.collect(), ruler)
}

/// `0.123`, `12.3`, `1234`.
fn three_digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}
