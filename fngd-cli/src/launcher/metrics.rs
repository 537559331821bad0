//! `metrics.csv` (a row an epoch) and `metrics.jsonl` (a line an interval): appended, flushed, cut back on resume.

use crate::launcher::failure::{Failure, Result};
use crate::launcher::run_directory::{RunDirectory, write_whole};
use crate::protocol::{EpochEvent, StepEvent};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Columns of metrics.csv; documented, and never renamed.
pub const COLUMNS: &str = "epoch,step,samples,train_seconds,wall_seconds,lr,train_loss,train_acc,val_loss,val_acc,\
    images_per_s,data_pct,precond_pct,gpu_mem_mib";

/// The two open files.
#[derive(Debug)]
pub struct Metrics {
    csv: File,
    jsonl: File,
}

impl Metrics {
    /// Opens both; rows after `last_step` belong to a future that will now happen differently, and go.
    pub fn open(run: &RunDirectory, last_step: u64) -> Result<Metrics> {
        let csv = run.path().join("metrics.csv");
        let jsonl = run.path().join("metrics.jsonl");
        let step_of_row = |line: &str| line.split(',').nth(1).and_then(|step| step.parse().ok());
        let step_of_line = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).ok().and_then(|line| line.get("step")?.as_u64())
        };
        cut_back(&csv, last_step, 1, step_of_row)?;
        cut_back(&jsonl, last_step, 0, step_of_line)?;
        let is_new = std::fs::metadata(&csv).map_or(true, |csv| csv.len() == 0);
        let mut metrics = Metrics { csv: run.append("metrics.csv")?, jsonl: run.append("metrics.jsonl")? };
        if is_new {
            metrics.csv.write_all(format!("{COLUMNS}\n").as_bytes()).map_err(|error| cannot("metrics.csv", &error))?;
        }
        Ok(metrics)
    }

    pub fn step(&mut self, step: &StepEvent) -> Result<()> {
        let mut line = serde_json::to_value(step).map_err(|error| cannot("metrics.jsonl", &error.into()))?;
        line["schema"] = 1.into();
        // One write call, so that a kill leaves a whole line or a cut one, never two mixed.
        self.jsonl.write_all(format!("{line}\n").as_bytes()).map_err(|error| cannot("metrics.jsonl", &error))
    }

    pub fn epoch(&mut self, epoch: &EpochEvent) -> Result<()> {
        self.csv.write_all(format!("{}\n", row(epoch)).as_bytes()).map_err(|error| cannot("metrics.csv", &error))
    }
}

/// The epochs of a metrics.csv; a row that a kill cut short is left out.
pub fn read(path: &Path) -> std::io::Result<Vec<EpochEvent>> {
    Ok(std::fs::read_to_string(path)?.lines().skip(1).filter_map(parse).collect())
}

fn row(epoch: &EpochEvent) -> String {
    let EpochEvent { epoch: number, step, samples, train_seconds, wall_seconds, lr, .. } = epoch;
    let EpochEvent { train_loss, train_acc, val_loss, val_acc, images_per_s, data_pct, precond_pct, .. } = epoch;
    let memory = epoch.gpu_mem_mib.map(|mib| format!("{mib:.1}")).unwrap_or_default();
    format!(
        "{number},{step},{samples},{train_seconds:.3},{wall_seconds:.3},{lr:.8},{train_loss:.6},{train_acc:.6},{val_loss:.6},\
         {val_acc:.6},{images_per_s:.1},{data_pct:.2},{precond_pct:.2},{memory}"
    )
}

fn parse(row: &str) -> Option<EpochEvent> {
    let fields: Vec<&str> = row.split(',').collect();
    let real = |position: usize| fields.get(position)?.parse::<f64>().ok();
    let whole = |position: usize| fields.get(position)?.parse::<u64>().ok();
    Some(EpochEvent {
        epoch: whole(0)?,
        step: whole(1)?,
        samples: whole(2)?,
        train_seconds: real(3)?,
        wall_seconds: real(4)?,
        lr: real(5)?,
        train_loss: real(6)?,
        train_acc: real(7)?,
        val_loss: real(8)?,
        val_acc: real(9)?,
        images_per_s: real(10)?,
        data_pct: real(11)?,
        precond_pct: real(12)?,
        gpu_mem_mib: fields.get(13)?.parse().ok(),
        best: false,
    })
}

/// Keeps the first `header` lines and those whose step is known and at most `last_step`.
fn cut_back(path: &Path, last_step: u64, header: usize, step_of: impl Fn(&str) -> Option<u64>) -> Result<()> {
    let shown = path.display().to_string();
    let old = match std::fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(&shown, &error)),
    };
    let keep = |(number, line): &(usize, &str)| *number < header || step_of(line).is_some_and(|step| step <= last_step);
    let kept: String = old.lines().enumerate().filter(keep).map(|(_, line)| format!("{line}\n")).collect();
    if kept != old {
        write_whole(path, kept.as_bytes()).map_err(|error| cannot(&shown, &error))?;
    }
    Ok(())
}

fn cannot(file: &str, error: &std::io::Error) -> Failure {
    Failure::environment(format!("cannot write {file}: {error}"))
        .with_help("make room, then go on from the last checkpoint with `fngd-cli resume RUN`")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn epoch(number: u64) -> EpochEvent {
        EpochEvent {
            epoch: number,
            step: number * 10,
            samples: number * 1280,
            train_seconds: number as f64 * 1.25,
            wall_seconds: number as f64 * 1.5,
            lr: 0.1,
            train_loss: 2.0 / number as f64,
            train_acc: 1.0 - 0.9 / number as f64,
            val_loss: 2.25 / number as f64,
            val_acc: 1.0 - 0.95 / number as f64,
            images_per_s: 1024.0,
            data_pct: 1.5,
            precond_pct: 4.25,
            gpu_mem_mib: None,
            best: false,
        }
    }

    #[test]
    fn a_row_has_the_documented_columns() {
        assert_eq!(row(&epoch(2)).split(',').count(), COLUMNS.split(',').count());
        assert_eq!(
            row(&epoch(2)),
            "2,20,2560,2.500,3.000,0.10000000,1.000000,0.550000,1.125000,0.525000,1024.0,1.50,4.25,"
        );
    }

    #[test]
    fn rows_come_back() {
        let mut on_gpu = epoch(4);
        on_gpu.gpu_mem_mib = Some(612.5);
        assert_eq!(parse(&row(&epoch(2))), Some(epoch(2)));
        assert_eq!(parse(&row(&on_gpu)).unwrap().gpu_mem_mib, Some(612.5));
        assert_eq!(parse("3,30,38"), None);
    }

    #[test]
    fn resume_forgets_what_came_after_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("metrics.csv");
        let rows: String = (1..=4).map(|number| row(&epoch(number)) + "\n").collect();
        std::fs::write(&csv, format!("{COLUMNS}\n{rows}5,50,6")).unwrap();
        let step = |line: &str| line.split(',').nth(1).and_then(|step| step.parse().ok());
        cut_back(&csv, 20, 1, step).unwrap();
        assert_eq!(read(&csv).unwrap().iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), [1, 2]);
    }
}
