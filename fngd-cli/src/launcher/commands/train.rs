//! `train` and `resume`.

use super::{checkpoint_of, engine};
use crate::launcher::arguments::{Global, Resume, Train};
use crate::launcher::download::data_source;
use crate::launcher::engine::{Engine, Outcome};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::front::{self, FrontEnd};
use crate::launcher::keys::User;
use crate::launcher::knobs::show;
use crate::launcher::recorder::Recorder;
use crate::launcher::reference::{self, Check};
use crate::launcher::resolve::{Origin, Resolved, resolve};
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::{model, print_line, text};
use crate::protocol::{DataSource, Event, Job, Status};
use serde_json::{Value, json};
use std::path::Path;

/// `train`.
pub fn train(arguments: &Train, global: &Global) -> Result<u8> {
    let variables: Vec<(String, String)> =
        text::variables().into_iter().filter(|(name, _)| name.starts_with("FNGD_")).collect();
    let resolved = resolve(arguments, global, &variables)?;
    let settings = &resolved.settings;
    if arguments.stop.require_target && settings.stop.val_acc.is_none() {
        return Err(Failure::usage("`--require-target` without a target").with_help("say which: --target val_acc=0.9"));
    }
    let model = model::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    // What is missing on this machine is said before anything is downloaded.
    let mut engine = engine(global)?;
    if !arguments.dry_run {
        RunDirectory::check(settings)?;
    }
    let data = data_source(&settings.data.spec, settings.data.dir.as_deref(), global)?;
    let mut front = front::choose(global);
    if arguments.dry_run {
        return dry_run(&resolved, data, &mut engine, front.as_mut(), global);
    }
    let run = RunDirectory::create(settings)?;
    run.write("config.toml", resolved.to_toml().as_bytes())?;
    run.write("cmdline.txt", command_line().as_bytes())?;
    run.write("model.json", format!("{:#}\n", model::document(&model)).as_bytes())?;
    drop(model);
    let work =
        Work { run: &run, resolved: &resolved, data, resume: false, require_target: arguments.stop.require_target };
    work.go(&mut engine, front.as_mut(), global)
}

/// `resume`.
pub fn resume(arguments: &Resume, global: &Global) -> Result<u8> {
    let run = RunDirectory::open(&arguments.run)?;
    let config = run.path().join("config.toml");
    let resolved = Resolved::of_run(&config, arguments.epochs.as_deref(), global)?;
    checkpoint_of(run.path(), "last")?;
    let settings = &resolved.settings;
    model::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    let mut engine = engine(global)?;
    let data = data_source(&settings.data.spec, settings.data.dir.as_deref(), global)?;
    if arguments.epochs.is_some() {
        let old = std::fs::read_to_string(&config).unwrap_or_default();
        run.write("config.toml", with_epochs(&old, settings.train.epochs).as_bytes())?;
    }
    use std::io::Write;
    // Only a note for people; a full disk shows where it matters.
    let _ = run.append("cmdline.txt")?.write_all(command_line().as_bytes());
    let work = Work { run: &run, resolved: &resolved, data, resume: true, require_target: false };
    work.go(&mut engine, front::choose(global).as_mut(), global)
}

struct Work<'a> {
    run: &'a RunDirectory,
    resolved: &'a Resolved,
    data: DataSource,
    resume: bool,
    require_target: bool,
}

impl Work<'_> {
    fn go(self, engine: &mut Engine, front: &mut dyn FrontEnd, global: &Global) -> Result<u8> {
        let settings = &self.resolved.settings;
        engine.log = Some(self.run.append("run.log")?);
        engine.keep_open = vec![self.run.lock_descriptor()];
        front.fact("run", &self.run.path().display().to_string());
        announce(self.resolved, front);
        let job = Job::Train {
            settings: settings.clone(),
            data: self.data.clone(),
            run: self.run.path().to_owned(),
            resume: self.resume,
            dry_run: false,
        };
        let mut recorder = Recorder::new(self.run, settings);
        let outcome = engine.run(&job, &mut |event| {
            if matches!(event, Event::Plan(_)) {
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
                let _ = recorder.draw();
                let mut result = self.result(&recorder, None, &[], failure.code as u8);
                result["error"] = failure.to_json()["error"].take();
                let _ = self.run.write("result.json", format!("{result:#}\n").as_bytes());
                return Err(with_resume(failure, &recorder, self.run.path()));
            }
        };
        let checks = check_exports(&recorder, front);
        let drawn = recorder.draw()?;
        let code = self.code(&outcome, &recorder, &checks);
        let mut result = self.result(&recorder, Some(&outcome), &checks, code);
        let wrong = checks.iter().find_map(|(path, check)| wrong(path, check));
        if let Some(failure) = &wrong {
            result["error"] = failure.to_json()["error"].take();
        }
        self.run.write("result.json", format!("{result:#}\n").as_bytes())?;
        if global.json {
            return Ok(one_document(&result, wrong, code, global));
        }
        self.summary(&recorder, &outcome, &checks, &drawn);
        wrong.map_or(Ok(code), Err)
    }

    fn code(&self, outcome: &Outcome, recorder: &Recorder<'_>, checks: &[(String, Check)]) -> u8 {
        let best = recorder.best().map_or(0.0, |best| best.val_acc);
        let missed = self.require_target && self.resolved.settings.stop.val_acc.is_some_and(|target| best < target);
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
        let settings = &self.resolved.settings;
        let best = recorder.best();
        let test = recorder
            .evaluated
            .get("test")
            .map(|(loss, accuracy, top5)| json!({ "loss": loss, "accuracy": accuracy, "top5": top5 }));
        let exported: Vec<&Path> = recorder.exported.keys().map(std::path::PathBuf::as_path).collect();
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
            "exported": exported,
            "checks": checks.iter().map(|(path, check)| check_json(path, check)).collect::<Vec<_>>(),
            "checkpoint": recorder.checkpoint,
            "warnings": recorder.warnings,
        })
    }

    fn summary(&self, recorder: &Recorder<'_>, outcome: &Outcome, checks: &[(String, Check)], drawn: &[&str]) {
        let run = self.run.path().display();
        let ending = match outcome.status {
            Status::Finished => None,
            Status::TargetReached => Some("target reached"),
            Status::NoImprovement => Some("stopped: no better validation accuracy for a while"),
            Status::TimeIsUp => Some("stopped: the time is up"),
            Status::Interrupted => Some("stopped by Ctrl-C; checkpoint saved"),
            Status::Terminated => Some("stopped by SIGTERM; checkpoint saved"),
        };
        print_line("");
        if let Some(ending) = ending {
            print_line(&format!("  {ending}, after step {}", text::count(outcome.steps)));
        }
        let mut numbers = Vec::new();
        if let Some(best) = recorder.best() {
            numbers.push(format!("best val acc {} (epoch {})", text::percent(best.val_acc), best.epoch));
        }
        if let Some((_, accuracy, _)) = recorder.evaluated.get("test") {
            numbers.push(format!("test acc {}", text::percent(*accuracy)));
        }
        let (training, wall) = (text::duration(outcome.train_seconds), text::duration(outcome.wall_seconds));
        numbers.push(format!("training {training}, wall {wall}"));
        print_line(&format!("  {}", numbers.join("    ")));
        let mut saved: Vec<String> = recorder.exported.keys().map(|path| describe_export(path, checks)).collect();
        if !drawn.is_empty() {
            saved.push(drawn.join("   "));
        }
        for (position, line) in saved.iter().enumerate() {
            let label = if position == 0 { "saved" } else { "" };
            let folder = if position + 1 == saved.len() { format!("   in {run}") } else { String::new() };
            print_line(&format!("  {label:<7} {line}{folder}"));
        }
        let word = text::shell(&run.to_string());
        if matches!(outcome.status, Status::Interrupted | Status::Terminated) {
            print_line(&format!("  resume  fngd-cli resume {word}"));
        } else {
            // Without a test split, `eval` needs to be told what to measure on.
            let split = if recorder.evaluated.contains_key("test") { "" } else { " --split val" };
            print_line(&format!("  next    fngd-cli eval {word}{split} · fngd-cli export {word}"));
        }
    }
}

/// Imports, makes one step, prints the plan, and leaves nothing behind.
fn dry_run(
    resolved: &Resolved,
    data: DataSource,
    engine: &mut Engine,
    front: &mut dyn FrontEnd,
    global: &Global,
) -> Result<u8> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::environment(format!("cannot make a temporary folder: {error}")))?;
    announce(resolved, front);
    let job = Job::Train {
        settings: resolved.settings.clone(),
        data,
        run: folder.path().to_owned(),
        resume: false,
        dry_run: true,
    };
    let mut plan = Value::Null;
    engine.run(&job, &mut |event| {
        if let Event::Plan(found) = event {
            plan = json!(found);
        }
        front.event(event);
        Ok(())
    })?;
    front.end();
    if global.json {
        print_line(&format!("{:#}", json!({ "schema": 1, "settings": resolved.settings, "plan": plan })));
    } else {
        print_line(&resolved.to_toml());
        print_line("# Dry run: everything fits, nothing was written.");
    }
    Ok(0)
}

/// What is going to be done, before the engine speaks.
fn announce(resolved: &Resolved, front: &mut dyn FrontEnd) {
    let settings = &resolved.settings;
    front.fact(
        "data",
        &format!("{}, augmentation {}, seed {}", settings.data.spec, settings.data.aug, settings.train.seed),
    );
    let optimizer = &settings.optimizer;
    let is_default = matches!(resolved.origin("optimizer.lr"), Some(Origin::Default | Origin::DefaultOf(_)));
    let lr = optimizer.lr.unwrap_or_default();
    let schedule = format!("{}, warm-up {}", settings.schedule.kind, settings.schedule.warmup);
    let mut knobs = vec![format!("lr {lr}{} → {schedule}", if is_default { " (default)" } else { "" })];
    // Everything of the method itself, the usual knobs of its rule, and whatever was chosen.
    const USUAL: [&str; 3] = ["optimizer.momentum", "optimizer.weight_decay", "optimizer.betas"];
    for (key, value, origin) in resolved.of_section("optimizer.") {
        let is_default = matches!(origin, Origin::Default | Origin::DefaultOf(_));
        if matches!(key.name, "optimizer.name" | "optimizer.lr") {
            continue;
        }
        if !is_default || matches!(key.user, User::Methods(_)) || USUAL.contains(&key.name) {
            let name = key.name.trim_start_matches("optimizer.");
            knobs.push(format!("{} {}", name.replace('_', " "), show(value)));
        }
    }
    front.fact(&optimizer.name, &knobs.join("   "));
    for warning in &resolved.warnings {
        front.warning(warning);
    }
}

/// Has tract run every exported file that came with a reference.
pub fn check_exports(recorder: &Recorder<'_>, front: &mut dyn FrontEnd) -> Vec<(String, Check)> {
    let mut checks = Vec::new();
    for (path, reference) in &recorder.exported {
        let Some(reference) = reference else { continue };
        let check = reference::check(path, reference);
        if let Check::Unavailable(why) = &check {
            front.warning(&format!("{} could not be checked by tract: {why}", file_name(path)));
        }
        if matches!(check, Check::Agrees { .. }) {
            // It has served; after any other answer somebody may want to look at it.
            let _ = std::fs::remove_file(reference);
        }
        checks.push((file_name(path), check));
    }
    checks
}

/// `best.onnx (checked by tract: max |Δ| vs trained graph 2.4e-6)`.
pub fn describe_export(path: &Path, checks: &[(String, Check)]) -> String {
    let name = file_name(path);
    match checks.iter().find(|(checked, _)| *checked == name).map(|(_, check)| check) {
        Some(Check::Agrees { max_difference }) => {
            format!("{name} (checked by tract: max |Δ| vs trained graph {max_difference:.1e})")
        }
        Some(Check::Differs { .. }) => format!("{name} (WRONG: see below)"),
        Some(Check::Unavailable(_)) => format!("{name} (not checked)"),
        None => name,
    }
}

/// A file that computes something else than what was trained is no result.
pub fn wrong(path: &str, check: &Check) -> Option<Failure> {
    let Check::Differs { output, max_difference } = check else { return None };
    let message =
        format!("{path} run by tract differs from the trained graph: output `{output}`, max |Δ| {max_difference:.1e}");
    Some(
        Failure::new(Code::Internal, message)
            .with_help("do not use the file; the checkpoints are sound. Please report it, with the model if you can"),
    )
}

/// Prints the result with its error inside, so that standard output stays one JSON document; returns the exit code.
pub fn one_document(result: &Value, wrong: Option<Failure>, code: u8, global: &Global) -> u8 {
    print_line(&format!("{result:#}"));
    wrong.map_or(code, |failure| {
        eprint!("{}", failure.render(front::colors(global)));
        failure.code as u8
    })
}

pub fn check_json(path: &str, check: &Check) -> Value {
    match check {
        Check::Agrees { max_difference } => {
            json!({ "file": path, "by": "tract", "agrees": true, "max_difference": max_difference })
        }
        Check::Differs { output, max_difference } => {
            json!({ "file": path, "by": "tract", "agrees": false, "output": output, "max_difference": max_difference })
        }
        Check::Unavailable(why) => json!({ "file": path, "by": "tract", "agrees": null, "why": why }),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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

/// The exact command, quoted for a shell.
fn command_line() -> String {
    let words = std::env::args_os().map(|word| text::shell(&word.to_string_lossy()));
    words.collect::<Vec<_>>().join(" ") + "\n"
}

fn with_epochs(config: &str, epochs: u64) -> String {
    let line = |line: &str| match line.strip_prefix("epochs = ") {
        Some(_) => format!("{:<32}  # resume --epochs\n", format!("epochs = {epochs}")),
        None => format!("{line}\n"),
    };
    config.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_changes_one_line_of_the_settings() {
        let changed = with_epochs("[train]\nepochs = 3   # default\nbatch = 2\n", 5);
        assert_eq!(changed, format!("[train]\n{:<32}  # resume --epochs\nbatch = 2\n", "epochs = 5"));
    }

    #[test]
    fn exports_say_how_they_were_checked() {
        let checks = |check| [("best.onnx".to_owned(), check)];
        let path = Path::new("runs/a/best.onnx");
        assert_eq!(
            describe_export(path, &checks(Check::Agrees { max_difference: 2.4e-6 })),
            "best.onnx (checked by tract: max |Δ| vs trained graph 2.4e-6)"
        );
        let differs = Check::Differs { output: "y".into(), max_difference: 0.5 };
        assert_eq!(
            wrong("best.onnx", &differs).unwrap().message,
            "best.onnx run by tract differs from the trained graph: output `y`, max |Δ| 5.0e-1"
        );
    }
}
