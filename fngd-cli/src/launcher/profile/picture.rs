//! Stacked bars: the phases of each kind of step, as in the paper's Fig. 8.

use super::columns;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::plot::{Figure, Panel, Stacks, png};
use crate::launcher::run_directory::write_whole;
use crate::launcher::text;
use crate::protocol::ProfileReport;
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
    let svg = figure(report).svg();
    let bytes = match format {
        Format::Svg => svg.into_bytes(),
        Format::Png => {
            png(&svg).map_err(|error| Failure::new(Code::Internal, format!("cannot draw the picture: {error}")))?
        }
    };
    let name = text::name(&path.display().to_string());
    write_whole(path, &bytes).map_err(|error| Failure::new(Code::Environment, format!("cannot write {name}: {error}")))
}

fn figure(report: &ProfileReport) -> Figure {
    const ROW: u32 = 46;
    let columns = columns(report);
    let phases = columns.first().map_or(&[][..], |column| &column.step.phases);
    let parts: Vec<String> = phases.iter().map(|(phase, _)| phase.clone()).collect();
    let rows = columns.iter().map(|column| {
        let lengths = parts.iter().map(|phase| column.step.phase(phase)).collect();
        (format!("{}, {:.2}x", column.heading(), column.step.ratio), lengths)
    });
    let rows: Vec<(String, Vec<f64>)> = rows.collect();
    let height = 100 + ROW * rows.len() as u32;
    let model = report.model.file_stem().unwrap_or_default().to_string_lossy();
    let samples = report.data.as_ref().map_or("made-up samples".to_owned(), |data| format!("samples of {data}"));
    Figure {
        title: format!("Where the time of a step goes: {model}"),
        note: format!("batches of {} {samples}; {}, {} threads", report.batch, report.device, report.threads),
        panels: vec![Panel::Stacks(Stacks { label: "ms a step".to_owned(), parts, rows })],
        columns: 1,
        panel: (980, height),
        ..Figure::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::report;
    use super::*;

    #[test]
    fn every_kind_of_step_has_its_bar_and_every_phase_its_colour() {
        let figure = figure(&report());
        let [Panel::Stacks(stacks)] = &figure.panels[..] else { panic!("{figure:?}") };
        let names: Vec<&str> = stacks.rows.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sgd, 1.00x", "fngd later, 1.04x", "fngd 1st epoch, 1.60x"]);
        assert_eq!(stacks.parts, ["data", "forward", "backward", "gram", "solve", "precondition", "update", "other"]);
        assert_eq!(stacks.rows[2].1, [0.0, 4.0, 5.0, 4.5, 1.0, 0.5, 0.8, 0.2]);
        let picture = figure.svg();
        for words in ["Where the time of a step goes: resnet20", "batches of 128 made-up samples; cpu, 2 threads"] {
            assert!(picture.contains(words), "{words}");
        }
    }

    #[test]
    fn pictures_are_written_in_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        for (name, start) in [("a.svg", &b"<svg"[..]), ("a.png", b"\x89PNG")] {
            let path = folder.path().join(name);
            write(&path, Format::of(&path).unwrap(), &report()).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(start), "{name}");
        }
    }

    #[test]
    fn other_formats_are_refused() {
        let message = Format::of(Path::new("b.pdf")).unwrap_err().message;
        assert_eq!(message, "`--plot` must end in .svg or .png, found `b.pdf`");
    }
}
