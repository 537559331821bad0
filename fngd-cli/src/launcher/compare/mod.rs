//! `compare`: the same model trained with several optimizers, and what of the differences is more than chance.
//!
//! A plan ([`plan`]) has rows ([`methods`]) and runs, which are trained as [cells](crate::launcher::cells). What came of them is
//! summed up ([`summary`], with the [`statistics`]) and written for people ([`table`], [`markdown`], [`html`]) and programs ([`csv`]).

pub mod arguments;
mod csv;
mod figures;
mod html;
mod markdown;
pub mod methods;
pub mod plan;
pub mod statistics;
pub mod summary;
pub mod table;
pub mod tuning;

pub use markdown::machine;

use crate::launcher::failure::{Failure, Result};
use crate::launcher::plot;
use crate::launcher::run_directory::RunDirectory;
use serde_json::json;
use summary::Comparison;

/// What a comparison leaves in its folder, but for the plan and the cells.
pub const REPORTS: [&str; 3] = ["compare.md", "compare.csv", "compare.html"];

/// Writes tables, pictures and pages. `command`: what was typed.
pub fn write(comparison: &Comparison, folder: &RunDirectory, command: &str) -> Result<()> {
    let text = |name: &str, text: String| folder.write(name, text.as_bytes());
    text("compare.csv", csv::methods(comparison))?;
    text("runs.csv", csv::runs(comparison))?;
    text("epochs.csv", csv::epochs(comparison))?;
    text("compare.json", format!("{:#}\n", json!(comparison)))?;
    for (name, figure) in [("curves", figures::curves(comparison)), ("cost", figures::cost(comparison))] {
        let svg = figure.svg();
        let png = plot::png(&svg).map_err(|error| Failure::environment(format!("cannot draw {name}.png: {error}")))?;
        folder.write(&format!("{name}.png"), &png)?;
        text(&format!("{name}.svg"), svg)?;
    }
    text("compare.md", markdown::document(comparison, command))?;
    text("compare.html", html::document(comparison, command))
}
