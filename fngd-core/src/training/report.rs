//! The latest step, for people.

use crate::optimizer::{LayerReport, StepReport, WeightSource};
use std::fmt;

/// What [`Fngd::report`](super::Fngd::report) says. Prints as a line on the step and a table of the layers' weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The epoch that was begun last.
    pub epoch: u64,
    /// Batches of it that are done.
    pub slot: u64,
    /// Steps of the whole run that are done.
    pub steps: u64,
    /// Learning rate of the latest step; of the next one, where this optimizer has made none.
    pub learning_rate: f64,
    /// What the latest step did.
    pub step: StepReport,
    /// The weights of its last batch, layer by layer; empty for SGD and AdamW.
    pub layers: Vec<LayerReport>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, slot, steps, learning_rate, step, layers } = self;
        write!(f, "step {steps} (epoch {epoch}, batch {slot}): learning rate {learning_rate:.3e}")?;
        if let Some(norm) = step.gradient_norm {
            write!(f, ", gradient norm {norm:.3e}")?;
        }
        if step.skipped {
            f.write_str(", skipped because the gradient is not finite")?;
        }
        if layers.is_empty() {
            return Ok(());
        }
        let width = layers.iter().map(|layer| layer.name.chars().count()).max().unwrap_or(0).max("layer".len());
        let head = ["source", "mean w", "std w", "min w", "damping"];
        write!(f, "\n{:width$}", "layer")?;
        head.iter().try_for_each(|title| write!(f, "  {title:>8}"))?;
        for layer in layers {
            let LayerReport { name, mean, std, min, damping, source, .. } = layer;
            let source = match source {
                WeightSource::Solved => "solved",
                WeightSource::Recalled => "recalled",
                WeightSource::Unknown => "unknown",
                WeightSource::Fallback => "fallback",
            };
            let damping = damping.map_or_else(|| "-".to_owned(), |damping| format!("{damping:.1e}"));
            write!(f, "\n{name:width$}  {source:>8}  {mean:>8.3}  {std:>8.3}  {min:>8.3}  {damping:>8}")?;
        }
        Ok(())
    }
}
