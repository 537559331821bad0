//! Stacked bars: the phases of each kind of step, as in the paper's Fig. 8.

use super::columns;
use crate::launcher::curves::{self, use_font};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::plot::{self, FAMILY};
use crate::launcher::text;
use crate::protocol::ProfileReport;
use plotters::prelude::*;
use std::path::Path;

/// What a picture is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Svg,
    Png,
}

impl Format {
    /// By the end of its name.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => {
                let name = text::name(&path.display().to_string());
                Err(Failure::usage(format!("`--plot` must end in .svg or .png, found `{name}`")))
            }
        }
    }
}

/// Draws and writes.
pub fn write(path: &Path, format: Format, report: &ProfileReport) -> Result<()> {
    let cannot = |error: &dyn std::fmt::Display| Failure::new(Code::Internal, format!("cannot draw: {error}"));
    let svg = svg(report).map_err(|error| cannot(&error))?;
    let bytes = match format {
        Format::Svg => svg.into_bytes(),
        Format::Png => plot::png(&svg).map_err(|error| cannot(&error))?,
    };
    std::fs::write(path, bytes).map_err(|error| {
        Failure::new(Code::Environment, format!("cannot write {}: {error}", text::name(&path.display().to_string())))
    })
}

/// A phase and its colour: first-order work in greys and blues, what second-order methods add in warm colours.
const PHASES: [(&str, RGBColor); 8] = [
    ("data", RGBColor(0xb8, 0xbe, 0xc8)),
    ("forward", RGBColor(0x8f, 0xb8, 0xde)),
    ("backward", RGBColor(0x2f, 0x6f, 0xb0)),
    ("gram", RGBColor(0xf2, 0xb1, 0x34)),
    ("solve", RGBColor(0xd9, 0x5f, 0x02)),
    ("precondition", RGBColor(0xb0, 0x2a, 0x2a)),
    ("update", RGBColor(0x1b, 0x8a, 0x5a)),
    ("other", RGBColor(0x5b, 0x62, 0x70)),
];

const INK: RGBColor = RGBColor(0x26, 0x2b, 0x33);
const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xec);
const WIDTH: i32 = 1100;
const LEFT: i32 = 200;
const RIGHT: i32 = 150;
const TOP: i32 = 110;
const BAR: i32 = 34;
const ROW: i32 = 52;

/// The picture: a bar for each kind of step, in milliseconds, with its ratio behind it.
fn svg(report: &ProfileReport) -> std::result::Result<String, Box<dyn std::error::Error>> {
    use_font();
    let columns = columns(report);
    let height = TOP + ROW * columns.len() as i32 + 60;
    let longest = columns.iter().map(|column| column.step.milliseconds).fold(f64::MIN_POSITIVE, f64::max);
    let ticks = curves::ticks(&(0.0..longest), 8);
    let x = |milliseconds: f64| LEFT + (f64::from(WIDTH - LEFT - RIGHT) * milliseconds / longest).round() as i32;
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let write = |text: String, at: (i32, i32), size: i32| {
            area.draw(&Text::new(text, at, (FAMILY, size).into_font().color(&INK)))
        };
        let model = report.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let data = report.data.as_deref().map_or_else(String::new, |data| format!(" on {data}"));
        write(format!("Where a step of {model}{data} goes: batch {}, {}", report.batch, report.device), (24, 18), 21)?;
        let mut legend = 24;
        for (phase, color) in PHASES {
            area.draw(&Rectangle::new([(legend, 58), (legend + 16, 74)], color.filled()))?;
            write(phase.to_owned(), (legend + 22, 58), 15)?;
            legend += 48 + 8 * phase.len() as i32;
        }
        let bottom = TOP + ROW * columns.len() as i32;
        for tick in ticks {
            area.draw(&PathElement::new(vec![(x(tick), TOP - 8), (x(tick), bottom)], GRID.stroke_width(1)))?;
            write(curves::short(&tick), (x(tick) - 8, bottom + 6), 13)?;
        }
        write("ms a step".to_owned(), (WIDTH - RIGHT + 12, bottom + 5), 14)?;
        for (row, column) in columns.iter().enumerate() {
            let top = TOP + ROW * row as i32;
            write(column.heading(), (24, top + 9), 16)?;
            let mut from = 0.0;
            for (phase, color) in PHASES {
                let to = from + column.step.phase(phase);
                area.draw(&Rectangle::new([(x(from), top), (x(to), top + BAR)], color.filled()))?;
                from = to;
            }
            let total = format!("{:.1} ms, {:.2}x", column.step.milliseconds, column.step.ratio);
            write(total, (x(from) + 8, top + 9), 14)?;
        }
        area.present()?;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::super::examples::report;
    use super::*;

    #[test]
    fn every_kind_of_step_has_its_bar_and_every_phase_its_colour() {
        let picture = svg(&report()).unwrap();
        for words in ["fngd later", "fngd 1st epoch", "16.0 ms, 1.60x", "precondition", "Where a step of resnet20 goes"]
        {
            assert!(picture.contains(words), "{words}");
        }
        let pixels = image::load_from_memory(&plot::png(&picture).unwrap()).unwrap().to_rgb8();
        for phase in ["forward", "backward", "gram", "solve", "precondition", "update"] {
            let (_, color) = PHASES.into_iter().find(|(name, _)| *name == phase).unwrap();
            let expected = [color.0, color.1, color.2];
            // More than the square of the legend, which is 16 x 16 at one and a half times the size.
            assert!(pixels.pixels().filter(|pixel| pixel.0 == expected).count() > 24 * 24, "{phase}");
        }
    }

    #[test]
    fn other_formats_are_refused() {
        assert_eq!(Format::of(Path::new("a/b.png")).unwrap(), Format::Png);
        let message = Format::of(Path::new("b.pdf")).unwrap_err().message;
        assert_eq!(message, "`--plot` must end in .svg or .png, found `b.pdf`");
    }
}
