//! The work of one run: the engine trains, and what it says becomes the files of the run directory.

use crate::launcher::engine::{Engine, Outcome};
use crate::launcher::export_check::{Check, check_exports, check_json, wrong};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::front::FrontEnd;
use crate::launcher::recorder::Recorder;
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::text;
use crate::protocol::{DataSource, Event, Job, Status};
use crate::settings::Settings;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The file with a run's final numbers.
pub const RESULT: &str = "result.json";

/// A run that is going to be trained.
pub struct Training<'a> {
    /// Has its config.toml already.
    pub run: &'a RunDirectory,
    pub settings: &'a Settings,
    pub data: DataSource,
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Below `stop.val_acc` the exit code is 8.
    pub require_target: bool,
    pub place: Place,
}

/// Where a run belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To itself: it writes ONNX files, draws its curves, and `runs/latest` leads to it.
    Own,
    /// To a plan of many: only its numbers are wanted.
    Cell,
}

/// A run that came to its end, or was stopped.
pub struct Trained<'a> {
    pub recorder: Recorder<'a>,
    pub outcome: Outcome,
    /// How each exported file was checked.
    pub checks: Vec<(String, Check)>,
    /// The pictures that were drawn.
    pub drawn: Vec<&'static str>,
    /// What result.json has.
    pub result: Value,
    /// The exit code.
    pub code: u8,
    /// An exported file that computes something else than what was trained.
    pub wrong: Option<Failure>,
}

impl<'a> Training<'a> {
    /// Trains to the end. A failure is in result.json too.
    pub fn go(&self, engine: &mut Engine, front: &mut dyn FrontEnd) -> Result<Trained<'a>> {
        engine.log = Some(self.run.append("run.log")?);
        engine.keep_open = vec![self.run.lock_descriptor()];
        let is_own = self.place == Place::Own;
        let job = Job::Train {
            settings: self.settings.clone(),
            data: self.data.clone(),
            run: self.run.path().to_owned(),
            resume: self.resume,
            dry_run: false,
            export: is_own,
        };
        let mut recorder = Recorder::new(self.run, self.settings);
        let outcome = engine.run(&job, &mut |event| {
            if is_own && matches!(event, Event::Plan(_)) {
                // A run whose model or data could not be read is not what `latest` should lead to.
                self.run.is_latest();
            }
            front.event(event);
            recorder.event(event)
        });
        front.end();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                // The failure is what matters; what can be kept of the run is kept.
                let _ = if is_own { recorder.draw() } else { Ok(Vec::new()) };
                let mut result = self.result(&recorder, None, &[], failure.code as u8);
                result["error"] = failure.to_json()["error"].take();
                let _ = self.run.write(RESULT, format!("{result:#}\n").as_bytes());
                return Err(with_resume(failure, &recorder, self.run.path()));
            }
        };
        let checks = check_exports(&recorder, front);
        let drawn = if is_own { recorder.draw()? } else { Vec::new() };
        let code = self.code(&outcome, &recorder, &checks);
        let mut result = self.result(&recorder, Some(&outcome), &checks, code);
        let wrong = checks.iter().find_map(|(path, check)| wrong(path, check));
        if let Some(failure) = &wrong {
            result["error"] = failure.to_json()["error"].take();
        }
        self.run.write(RESULT, format!("{result:#}\n").as_bytes())?;
        Ok(Trained { recorder, outcome, checks, drawn, result, code, wrong })
    }

    fn code(&self, outcome: &Outcome, recorder: &Recorder<'_>, checks: &[(String, Check)]) -> u8 {
        let best = recorder.best().map_or(0.0, |best| best.val_acc);
        let missed = self.require_target && self.settings.stop.val_acc.is_some_and(|target| best < target);
        match outcome.status {
            Status::Interrupted => Code::Interrupted as u8,
            Status::Terminated => Code::Terminated as u8,
            _ if checks.iter().any(|(_, check)| matches!(check, Check::Differs { .. })) => Code::Internal as u8,
            _ if missed => Code::Target as u8,
            _ => 0,
        }
    }

    /// `result.json`.
    fn result(
        &self,
        recorder: &Recorder<'_>,
        outcome: Option<&Outcome>,
        checks: &[(String, Check)],
        code: u8,
    ) -> Value {
        let settings = self.settings;
        let best = recorder.best();
        let test = recorder
            .evaluated
            .get("test")
            .map(|(loss, accuracy, top5)| json!({ "loss": loss, "accuracy": accuracy, "top5": top5 }));
        let exported: Vec<&Path> = recorder.exported.keys().map(PathBuf::as_path).collect();
        json!({
            "schema": 1,
            "status": outcome.map_or(json!("failed"), |outcome| json!(outcome.status)),
            "exit_code": code,
            "run": self.run.path(),
            "model": settings.model,
            "data": settings.data.spec,
            "optimizer": settings.optimizer.name,
            "seed": settings.train.seed,
            "epochs": outcome.map(|outcome| outcome.epochs),
            "steps": outcome.map(|outcome| outcome.steps),
            "best_val_acc": best.as_ref().map(|best| best.val_acc),
            "best_epoch": best.as_ref().map(|best| best.epoch),
            "test": test,
            "train_seconds": outcome.map(|outcome| outcome.train_seconds),
            "wall_seconds": outcome.map(|outcome| outcome.wall_seconds),
            "peak_memory_mib": recorder.peak_mib.into_iter().chain(self.earlier_peak()).reduce(f64::max),
            "resumed": self.resume,
            "exported": exported,
            "checks": checks.iter().map(|(path, check)| check_json(path, check)).collect::<Vec<_>>(),
            "checkpoint": recorder.checkpoint,
            "warnings": recorder.warnings,
        })
    }

    /// What a session before this one took at most.
    fn earlier_peak(&self) -> Option<f64> {
        let text = std::fs::read_to_string(self.run.path().join(RESULT)).ok().filter(|_| self.resume)?;
        serde_json::from_str::<Value>(&text).ok()?["peak_memory_mib"].as_f64()
    }
}

/// Adds the way back to a failure that does not name it yet.
fn with_resume(failure: Failure, recorder: &Recorder<'_>, run: &Path) -> Failure {
    let known =
        failure.help.as_deref().is_some_and(|help| help.contains("fngd-cli resume") || help.contains("no checkpoint"));
    if known || recorder.checkpoint.is_none() {
        return failure;
    }
    let word = text::shell(&run.display().to_string());
    let resume = format!("go on from the last checkpoint with: fngd-cli resume {word}");
    let help = failure.help.as_ref().map_or(resume.clone(), |help| format!("{help}\n      {resume}"));
    failure.with_help(help)
}
