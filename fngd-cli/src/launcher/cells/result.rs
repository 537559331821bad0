//! What a cell's directory says about it.

use crate::launcher::failure::Code;
use crate::launcher::metrics;
use crate::launcher::training::RESULT;
use crate::protocol::{EpochEvent, Status, StepEvent};
use serde_json::Value;
use std::path::Path;

/// A cell as it is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct CellResult {
    pub name: String,
    pub state: CellState,
    /// Every epoch that was trained, in order.
    pub epochs: Vec<EpochEvent>,
    /// The best weights on the test split, where the data has one and the cell is finished.
    pub test: Option<Measured>,
    pub steps: u64,
    /// Steps of training alone; `None` if the cell is not finished.
    pub train_seconds: Option<f64>,
    pub wall_seconds: Option<f64>,
    /// What the very first step took, with everything that a process does once.
    pub first_step_seconds: Option<f64>,
    /// Whether it was interrupted, and went on in another process.
    pub resumed: bool,
    /// Most memory of the process. `None` on a GPU.
    pub peak_memory_mib: Option<f64>,
    /// Seconds per step by phase, without the very first step.
    pub phases: Vec<(String, f64)>,
    /// Steps that were left out because their gradient was not finite.
    pub skipped_steps: u64,
}

/// How far a cell is.
#[derive(Debug, Clone, PartialEq)]
pub enum CellState {
    /// Not begun, or without a checkpoint.
    Missing,
    /// Stopped, with a checkpoint to go on from.
    Stopped,
    /// Failed for a reason of its own.
    Failed {
        code: Code,
        message: String,
    },
    Finished(Status),
}

/// Loss and accuracies of one split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub loss: f64,
    pub accuracy: f64,
    pub top5: f64,
}

/// Whether a failure with this code says nothing about the other cells.
pub fn is_of_one_cell(code: Code) -> bool {
    matches!(code, Code::Diverged | Code::Memory | Code::Internal | Code::Model | Code::Usage)
}

impl CellState {
    /// A word for tables: `finished`, `diverged`, `out of memory`, `failed`, `stopped`, `missing`.
    pub fn word(&self) -> &'static str {
        match self {
            CellState::Missing => "missing",
            CellState::Stopped => "stopped",
            CellState::Failed { code: Code::Diverged, .. } => "diverged",
            CellState::Failed { code: Code::Memory, .. } => "out of memory",
            CellState::Failed { .. } => "failed",
            CellState::Finished(_) => "finished",
        }
    }
}

impl CellResult {
    /// The cell in this directory, which need not exist.
    pub fn read(path: &Path) -> CellResult {
        let document = std::fs::read_to_string(path.join(RESULT)).ok();
        let document: Value = document.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let has_checkpoint = path.join("ckpt").join("last").exists();
        let epochs = metrics::read(&path.join("metrics.csv")).unwrap_or_default();
        let timing = Timing::read(&path.join("metrics.jsonl"));
        let test = &document["test"];
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        CellResult {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            state: state(&document, has_checkpoint),
            test: test.is_object().then(|| Measured {
                loss: number(&test["loss"]),
                accuracy: number(&test["accuracy"]),
                top5: number(&test["top5"]),
            }),
            steps: document["steps"].as_u64().or(epochs.last().map(|epoch| epoch.step)).unwrap_or(0),
            train_seconds: document["train_seconds"].as_f64(),
            wall_seconds: document["wall_seconds"].as_f64(),
            resumed: document["resumed"].as_bool().unwrap_or(false),
            peak_memory_mib: document["peak_memory_mib"].as_f64(),
            first_step_seconds: timing.first_step_seconds,
            phases: timing.phases,
            skipped_steps: timing.skipped,
            epochs,
        }
    }

    /// Whether it was trained to its end.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, CellState::Finished(_))
    }

    /// The epoch with the best validation accuracy; of equal ones the first.
    pub fn best(&self) -> Option<&EpochEvent> {
        let better = |best: &'_ EpochEvent, epoch: &EpochEvent| epoch.val_acc > best.val_acc;
        self.epochs
            .iter()
            .filter(|epoch| !epoch.val_acc.is_nan())
            .reduce(|best, epoch| if better(best, epoch) { epoch } else { best })
    }
}

fn state(document: &Value, has_checkpoint: bool) -> CellState {
    let open = if has_checkpoint { CellState::Stopped } else { CellState::Missing };
    match document["status"].as_str() {
        Some("failed") => {
            let number = document["error"]["code"].as_u64().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            let code = Code::from_number(number);
            let message = document["error"]["message"].as_str().unwrap_or_default().to_owned();
            if is_of_one_cell(code) { CellState::Failed { code, message } } else { open }
        }
        Some(_) => match serde_json::from_value(document["status"].clone()) {
            Ok(Status::Interrupted | Status::Terminated) | Err(_) => open,
            Ok(status) => CellState::Finished(status),
        },
        None => open,
    }
}

/// What metrics.jsonl says about time.
#[derive(Debug, Default)]
struct Timing {
    first_step_seconds: Option<f64>,
    phases: Vec<(String, f64)>,
    skipped: u64,
}

impl Timing {
    fn read(path: &Path) -> Timing {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut timing = Timing::default();
        let mut sums: Vec<(String, f64)> = Vec::new();
        let (mut last_step, mut steps) = (0, 0);
        for event in text.lines().filter_map(|line| serde_json::from_str::<StepEvent>(line).ok()) {
            let made = event.step.saturating_sub(last_step);
            last_step = event.step;
            timing.skipped += event.skipped;
            if event.step == 1 {
                timing.first_step_seconds = Some(event.train_seconds);
                continue;
            }
            steps += made;
            for (position, (name, seconds)) in event.phases.into_iter().enumerate() {
                if sums.get(position).is_none() {
                    sums.push((name, 0.0));
                }
                sums[position].1 += seconds * made as f64;
            }
        }
        timing.phases = sums.into_iter().map(|(name, sum)| (name, sum / steps.max(1) as f64)).collect();
        timing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_is_what_its_result_says() {
        let failed =
            |code: u8| state(&json!({ "status": "failed", "error": { "code": code, "message": "why" } }), true);
        assert_eq!(failed(6), CellState::Failed { code: Code::Diverged, message: "why".into() });
        assert_eq!(failed(6).word(), "diverged");
        assert_eq!(failed(7).word(), "out of memory");
        // A full disk says nothing about the cell: it goes on when there is room.
        assert_eq!(failed(5), CellState::Stopped);
        assert_eq!(state(&json!({ "status": "interrupted" }), true), CellState::Stopped);
        assert_eq!(state(&json!({ "status": "target-reached" }), false), CellState::Finished(Status::TargetReached));
        assert_eq!(state(&Value::Null, false), CellState::Missing);
    }

    #[test]
    fn the_first_step_is_no_part_of_the_split() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step: u64, forward: f64, train: f64| {
            json!({
                "schema": 1, "epoch": 1, "step": step, "total_steps": 7, "loss": 1.0, "accuracy": 0.5, "learning_rate": 0.1,
                "images_per_second": 1.0, "gradient_norm": null, "phases": [["data", 0.5], ["forward", forward]],
                "solved": 0, "recalled": 0, "unknown": 0, "fallbacks": 0, "skipped": 1, "memory_mib": 1.0,
                "train_seconds": train, "wall_seconds": train, "layers": [],
            })
        };
        let text = format!("{}\n{}\n{}\n{{\"cut", line(1, 9.0, 9.5), line(5, 1.0, 15.5), line(7, 4.0, 24.5));
        std::fs::write(&path, text).unwrap();
        let timing = Timing::read(&path);
        assert_eq!(timing.first_step_seconds, Some(9.5));
        // 4 steps of 1 s and 2 of 4 s.
        assert_eq!(timing.phases, [("data".to_owned(), 0.5), ("forward".to_owned(), 2.0)]);
        assert_eq!(timing.skipped, 3);
    }
}
