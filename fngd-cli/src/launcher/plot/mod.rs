//! Pictures of results, as SVG text and as PNG: lines with bands, bars, stacked bars, heat maps.
//!
//! A [`Figure`] is a title, a legend and panels in columns. The same description always gives the same bytes.

mod bars;
mod heat;
mod lines;
mod paper;
mod raster;
mod style;

pub use bars::{Bar, Bars, Stacks};
pub use heat::{Heat, Scale};
pub use lines::{Axis, Lines, Series};
pub use paper::escape;
pub use raster::{FAMILY, FONT, png};
pub use style::{color, dash};

use paper::{Frame, Paper};

/// A picture.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    pub title: String,
    /// A line below the title; may be empty.
    pub note: String,
    /// Names of styles, in the order of their numbers; may be empty.
    pub legend: Vec<(String, usize)>,
    pub panels: Vec<Panel>,
    /// Panels side by side; at least 1.
    pub columns: usize,
    /// Size of a panel, in pixels.
    pub panel: (u32, u32),
}

/// One of the drawings of a figure.
#[derive(Debug, Clone)]
pub enum Panel {
    Lines(Lines),
    Bars(Bars),
    Stacks(Stacks),
    Heat(Heat),
}

impl Figure {
    /// The picture as an SVG document.
    pub fn svg(&self) -> String {
        let columns = self.columns.max(1);
        let rows = self.panels.len().div_ceil(columns).max(1);
        let (width, height) = (f64::from(self.panel.0), f64::from(self.panel.1));
        let total = columns as f64 * width;
        let mut head = Paper::default();
        head.text((20.0, 30.0), &self.title, "title", "start");
        let mut y = 30.0;
        if !self.note.is_empty() {
            y += 21.0;
            head.text((20.0, y), &self.note, "note", "start");
        }
        let mut x = 20.0;
        for (row, (name, style)) in self.legend.iter().enumerate() {
            let needed = 38.0 + paper::text_width(name, 13.0) + 22.0;
            if row == 0 || x + needed > total - 10.0 {
                (x, y) = (20.0, y + 24.0);
            }
            head.path(&format!("M{x:.0} {:.0}h30", y - 4.5), &style::stroke(*style, 2.5));
            head.text((x + 38.0, y), name, "legend", "start");
            x += needed;
        }
        let top = y + 12.0;
        let mut body = Paper::default();
        for (position, panel) in self.panels.iter().enumerate() {
            let (row, column) = (position / columns, position % columns);
            let frame = Frame { x: column as f64 * width, y: top + row as f64 * height, width, height };
            match panel {
                Panel::Lines(lines) => lines.draw(&mut body, frame),
                Panel::Bars(bars) => bars.draw(&mut body, frame),
                Panel::Stacks(stacks) => stacks.draw(&mut body, frame),
                Panel::Heat(heat) => heat.draw(&mut body, frame),
            }
        }
        paper::document((total, top + rows as f64 * height + 6.0), &[head, body])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One panel of each kind.
    fn figure() -> Figure {
        let line = |offset: f64| Series {
            name: format!("a<b {offset}"),
            style: offset as usize,
            points: (1..=9).map(|x| (f64::from(x), offset + f64::from(x * x))).collect(),
            band: (1..=9)
                .map(|x| (f64::from(x), offset + f64::from(x * x) - 2.0, offset + f64::from(x * x) + 2.0))
                .collect(),
        };
        let lines = Lines {
            x: Axis::new("epoch"),
            y: Axis { log: true, ..Axis::new("loss") },
            series: vec![line(1.0), line(9.0)],
            level: Some((20.0, "target".into())),
        };
        let bars = Bars {
            label: "memory, MiB".into(),
            bars: vec![
                Bar { name: "sgd".into(), style: 0, value: Some(400.0), range: Some((390.0, 405.0)) },
                Bar { name: "failed".into(), style: 9, value: None, range: None },
            ],
        };
        let stacks = Stacks {
            label: "ms a step".into(),
            parts: vec!["forward".into(), "backward".into()],
            rows: vec![("sgd".into(), vec![3.0, 5.0]), ("fngd".into(), vec![3.0, 5.5])],
        };
        let heat = Heat {
            title: "similarity".into(),
            rows: vec!["conv1".into(), "conv2".into()],
            columns: vec!["conv1".into(), "conv2".into()],
            values: vec![vec![1.0, 0.25], vec![0.25, f64::NAN]],
            range: Some((0.0, 1.0)),
            scale: Scale::Sequential,
            numbers: true,
        };
        Figure {
            title: "A & B".into(),
            note: String::new(),
            legend: vec![("a<b".into(), 1), ("c".into(), 9)],
            panels: vec![Panel::Lines(lines), Panel::Bars(bars), Panel::Stacks(stacks), Panel::Heat(heat)],
            columns: 2,
            panel: (560, 380),
        }
    }

    #[test]
    fn a_figure_is_well_formed_and_becomes_pixels() {
        let svg = figure().svg();
        assert!(svg.contains("A &amp; B") && svg.contains("a&lt;b"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(png(&svg).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(svg, figure().svg());
    }

    #[test]
    fn an_empty_figure_is_one_too() {
        let lines =
            Lines { x: Axis::new("x"), y: Axis { log: true, ..Axis::new("y") }, series: Vec::new(), level: None };
        let panels = vec![
            Panel::Lines(lines),
            Panel::Bars(Bars { label: "a".into(), bars: Vec::new() }),
            Panel::Heat(Heat {
                title: "h".into(),
                rows: vec![],
                columns: vec![],
                values: vec![],
                range: None,
                scale: Scale::Diverging,
                numbers: false,
            }),
        ];
        let figure = Figure { panels, columns: 1, panel: (300, 200), ..Figure::default() };
        assert!(png(&figure.svg()).is_ok());
    }
}
