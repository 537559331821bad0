//! Lines with bands over two axes, each linear or logarithmic.

use super::paper::{Frame, Paper};
use super::style;

/// Lines against a common axis.
#[derive(Debug, Clone)]
pub struct Lines {
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// A horizontal line with a name, such as a target.
    pub level: Option<(f64, String)>,
}

/// One axis.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    pub label: String,
    /// Logarithmic; what is not positive is left out.
    pub log: bool,
    /// `None`: what the data needs.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// Linear, as far as the data goes.
    pub fn new(label: &str) -> Axis {
        Axis { label: label.to_owned(), ..Axis::default() }
    }
}

/// A line, and the band that it lies in.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub style: usize,
    pub points: Vec<(f64, f64)>,
    /// Low and high at each x; may be empty.
    pub band: Vec<(f64, f64, f64)>,
}

impl Lines {
    pub(super) fn draw(&self, paper: &mut Paper, frame: Frame) {
        let area = frame.inside((66.0, 14.0, 20.0, 50.0));
        let xs = self.series.iter().flat_map(|series| series.points.iter().map(|(x, _)| *x));
        let ys = self.series.iter().flat_map(|series| {
            let band = series.band.iter().flat_map(|(_, low, high)| [*low, *high]);
            series.points.iter().map(|(_, y)| *y).chain(band)
        });
        let x = Ruler::new(&self.x, xs, (area.x, area.x + area.width));
        let y = Ruler::new(&self.y, ys.chain(self.level.iter().map(|level| level.0)), (area.y + area.height, area.y));
        for tick in x.ticks(area.width / 80.0) {
            let at = x.place(tick);
            paper.line((at, area.y), (at, area.y + area.height), "grid");
            paper.text((at, area.y + area.height + 17.0), &short(tick), "tick", "middle");
        }
        for tick in y.ticks(area.height / 45.0) {
            let at = y.place(tick);
            paper.line((area.x, at), (area.x + area.width, at), "grid");
            paper.text((area.x - 8.0, at + 4.0), &short(tick), "tick", "end");
        }
        paper.line((area.x, area.y), (area.x, area.y + area.height), "axis");
        paper.line((area.x, area.y + area.height), (area.x + area.width, area.y + area.height), "axis");
        paper.text((area.x + area.width / 2.0, area.y + area.height + 38.0), &self.x.label, "label", "middle");
        paper.upward((frame.x + 18.0, area.y + area.height / 2.0), &self.y.label, "label");
        let inside = |(px, py): &(f64, f64)| x.holds(*px) && y.holds(*py);
        for series in &self.series {
            let band: Vec<_> =
                series.band.iter().filter(|(px, low, high)| x.holds(*px) && y.holds(*low) && y.holds(*high)).collect();
            if band.len() > 1 {
                let up = band.iter().map(|(px, _, high)| (x.place(*px), y.place(*high)));
                let down = band.iter().rev().map(|(px, low, _)| (x.place(*px), y.place(*low)));
                let fill = format!("fill=\"{}\" fill-opacity=\"0.14\"", style::color(series.style));
                paper.path(&format!("{}Z", path(up.chain(down))), &fill);
            }
        }
        if let Some((value, name)) = self.level.as_ref().filter(|(value, _)| y.holds(*value)) {
            let at = y.place(*value);
            paper.line((area.x, at), (area.x + area.width, at), "level");
            paper.text((area.x + 6.0, at - 5.0), name, "tick", "start");
        }
        for series in &self.series {
            let points: Vec<(f64, f64)> = series
                .points
                .iter()
                .filter(|point| inside(point))
                .map(|(px, py)| (x.place(*px), y.place(*py)))
                .collect();
            if points.len() > 1 {
                paper.named_path(&path(points.iter().copied()), &style::stroke(series.style, 2.2), &series.name);
            }
            if points.len() <= 12 {
                points.iter().for_each(|point| paper.dot(*point, style::color(series.style)));
            }
        }
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let part = |(number, (x, y)): (usize, (f64, f64))| format!("{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" });
    points.enumerate().map(part).collect()
}

/// From values to pixels.
pub(super) struct Ruler {
    log: bool,
    range: (f64, f64),
    pixels: (f64, f64),
}

impl Ruler {
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Ruler {
        let usable = values.filter(|value| value.is_finite() && (!axis.log || *value > 0.0));
        let found = usable.fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((f64::min(low, value), f64::max(high, value)))
        });
        let given = axis.range.filter(|(low, high)| low < high && (!axis.log || *low > 0.0));
        let range = given.unwrap_or_else(|| match found {
            None => (0.1, 1.0),
            Some((low, high)) if axis.log => (low / 1.05, high * 1.05),
            Some((low, high)) => {
                let room = ((high - low) * 0.04).max(high.abs() * 1e-3).max(1e-9);
                // From zero where that costs little of the picture.
                let bottom = if low >= 0.0 && low < high * 0.35 { 0.0 } else { low - room };
                (bottom, high + room)
            }
        });
        Ruler { log: axis.log, range, pixels }
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        value.is_finite() && (self.range.0..=self.range.1).contains(&value)
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        let (low, high) = (scale(self.range.0), scale(self.range.1));
        self.pixels.0 + (scale(value) - low) / (high - low) * (self.pixels.1 - self.pixels.0)
    }

    /// At 1, 2 or 5 times a power of ten, about `most` of them.
    pub(super) fn ticks(&self, most: f64) -> Vec<f64> {
        let (low, high) = self.range;
        if !self.log {
            let rough = (high - low) / most.max(2.0);
            let power = 10f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
            let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
            let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
            return (first..=last).map(|tick| tick as f64 * step).collect();
        }
        let decades = (high / low).log10();
        let factors: &[f64] = if decades > most { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let every = ((decades / most.max(1.0)).ceil() as usize).max(1);
        let all = (first..=last).step_by(every).flat_map(|power| factors.iter().map(move |f| f * 10f64.powi(power)));
        all.filter(|tick| (low..=high).contains(tick)).collect()
    }
}

/// As few digits as say it.
pub(super) fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        return format!("{value:e}");
    }
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_place() {
        let linear = Ruler::new(&Axis { range: Some((0.0, 10.0)), ..Axis::new("") }, std::iter::empty(), (100.0, 0.0));
        assert_eq!((linear.place(0.0), linear.place(2.5), linear.place(10.0)), (100.0, 75.0, 0.0));
        assert_eq!(linear.ticks(5.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let log = Axis { range: Some((0.01, 100.0)), log: true, ..Axis::new("") };
        let log = Ruler::new(&log, std::iter::empty(), (0.0, 400.0));
        assert!((log.place(1.0) - 200.0).abs() < 1e-9);
        assert!(!log.holds(0.0) && !log.holds(f64::NAN));
        assert_eq!(log.ticks(3.0), [0.01, 1.0, 100.0]);
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([0.0, 0.25, 1500.0, 1e-5, -0.0].map(short), ["0", "0.25", "1500", "1e-5", "0"]);
    }
}
