//! A matrix of numbers as coloured cells.

use super::lines::short;
use super::paper::{Frame, Paper};

/// A matrix to look at.
#[derive(Debug, Clone)]
pub struct Heat {
    pub title: String,
    /// Names of rows and columns; empty: none are written.
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Row by row, all of the same length; what is not finite is grey.
    pub values: Vec<Vec<f64>>,
    /// What the ends of the scale stand for; `None`: the data's smallest and largest (about zero: the same on both sides).
    pub range: Option<(f64, f64)>,
    pub scale: Scale,
    /// Write each number into its cell.
    pub numbers: bool,
}

/// Which colours stand for small and large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Light to dark.
    Sequential,
    /// Blue for negative, white for zero, red for positive.
    Diverging,
}

impl Heat {
    pub(super) fn draw(&self, paper: &mut Paper, frame: Frame) {
        paper.text((frame.x + 20.0, frame.y + 20.0), &self.title, "label", "start");
        let widest =
            |names: &[String]| names.iter().map(|name| super::paper::text_width(name, 12.0)).fold(0.0, f64::max);
        let left = 20.0 + if self.rows.is_empty() { 0.0 } else { (widest(&self.rows) + 10.0).min(frame.width * 0.4) };
        let bottom =
            if self.columns.is_empty() { 16.0 } else { (widest(&self.columns) + 18.0).min(frame.height * 0.4) };
        let area = frame.inside((left, 32.0, 74.0, bottom));
        let (height, width) = (self.values.len(), self.values.first().map_or(0, Vec::len));
        if width == 0 {
            return;
        }
        // Square cells, so that a symmetric matrix looks like one.
        let side = (area.width / width as f64).min(area.height / height as f64);
        let range = self.bounds();
        for (row, values) in self.values.iter().enumerate() {
            for (column, value) in values.iter().enumerate().take(width) {
                let cell = Frame {
                    x: area.x + column as f64 * side,
                    y: area.y + row as f64 * side,
                    width: side,
                    height: side,
                };
                let (fill, dark) = self.color(*value, range);
                // A little larger, so that no seams show.
                paper.rectangle(Frame { width: side + 0.4, height: side + 0.4, ..cell }, &fill);
                if self.numbers && value.is_finite() && side >= 26.0 {
                    let class = if dark { "light" } else { "tick" };
                    let at = (cell.x + side / 2.0, cell.y + side / 2.0 + 4.0);
                    paper.text(at, &format!("{value:.2}"), class, "middle");
                }
            }
        }
        for (row, name) in self.rows.iter().enumerate().take(height) {
            paper.text((area.x - 6.0, area.y + (row as f64 + 0.5) * side + 4.0), name, "tick", "end");
        }
        let below = area.y + height as f64 * side;
        for (column, name) in self.columns.iter().enumerate().take(width) {
            let half = super::paper::text_width(name, 12.0) / 2.0;
            paper.upward((area.x + (column as f64 + 0.5) * side + 4.0, below + 8.0 + half), name, "tick");
        }
        self.bar(paper, (area.x + width as f64 * side + 12.0, area.y), height as f64 * side, range);
    }

    /// The scale, beside the matrix.
    fn bar(&self, paper: &mut Paper, (x, y): (f64, f64), height: f64, range: (f64, f64)) {
        const STEPS: usize = 40;
        let step = height / STEPS as f64;
        for number in 0..STEPS {
            let share = 1.0 - (number as f64 + 0.5) / STEPS as f64;
            let (fill, _) = self.color(range.0 + share * (range.1 - range.0), range);
            paper.rectangle(Frame { x, y: y + number as f64 * step, width: 12.0, height: step + 0.4 }, &fill);
        }
        paper.text((x + 16.0, y + 10.0), &short(range.1), "tick", "start");
        paper.text((x + 16.0, y + height), &short(range.0), "tick", "start");
    }

    fn bounds(&self) -> (f64, f64) {
        let finite = self.values.iter().flatten().copied().filter(|value| value.is_finite());
        let (low, high) = self.range.unwrap_or_else(|| {
            let (low, high) =
                finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
            match self.scale {
                Scale::Sequential => (low, high),
                Scale::Diverging => {
                    let far = low.abs().max(high.abs());
                    (-far, far)
                }
            }
        });
        if low < high { (low, high) } else { (0.0, 1.0) }
    }

    /// The colour of a value, and whether it is a dark one.
    fn color(&self, value: f64, (low, high): (f64, f64)) -> (String, bool) {
        if !value.is_finite() {
            return ("#c9ccd2".to_owned(), false);
        }
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        // Even steps of lightness, which also a grey print keeps.
        let stops: &[[f64; 3]] = match self.scale {
            Scale::Sequential => &[
                [247.0, 251.0, 255.0],
                [168.0, 206.0, 228.0],
                [66.0, 133.0, 188.0],
                [8.0, 72.0, 139.0],
                [4.0, 30.0, 66.0],
            ],
            Scale::Diverging => &[
                [5.0, 72.0, 140.0],
                [120.0, 171.0, 213.0],
                [250.0, 250.0, 250.0],
                [231.0, 139.0, 111.0],
                [158.0, 26.0, 40.0],
            ],
        };
        let place = share * (stops.len() - 1) as f64;
        let first = (place.floor() as usize).min(stops.len() - 2);
        let part = place - first as f64;
        let mixed: Vec<f64> =
            stops[first].iter().zip(stops[first + 1]).map(|(from, to)| from + part * (to - from)).collect();
        let text: String = mixed.iter().map(|channel| format!("{:02x}", channel.round() as u8)).collect();
        let lightness = 0.3 * mixed[0] + 0.59 * mixed[1] + 0.11 * mixed[2];
        (format!("#{text}"), lightness < 140.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heat(values: Vec<Vec<f64>>, scale: Scale) -> Heat {
        Heat { title: String::new(), rows: vec![], columns: vec![], values, range: None, scale, numbers: false }
    }

    #[test]
    fn ends_and_middle_have_their_colours() {
        let sequential = heat(vec![vec![1.0, 3.0]], Scale::Sequential);
        assert_eq!(sequential.bounds(), (1.0, 3.0));
        assert_eq!(sequential.color(1.0, (1.0, 3.0)), ("#f7fbff".to_owned(), false));
        assert_eq!(sequential.color(3.0, (1.0, 3.0)), ("#041e42".to_owned(), true));
        let diverging = heat(vec![vec![-1.0, 3.0]], Scale::Diverging);
        assert_eq!(diverging.bounds(), (-3.0, 3.0));
        assert_eq!(diverging.color(0.0, (-3.0, 3.0)).0, "#fafafa");
        assert_eq!(diverging.color(f64::NAN, (-3.0, 3.0)).0, "#c9ccd2");
    }
}
