//! `train` and `resume`.

use super::{checkpoint_of, engine};
use crate::launcher::arguments::{Global, Resume, Train};
use crate::launcher::download::data_source;
use crate::launcher::engine::Engine;
use crate::launcher::export_check::describe_export;
use crate::launcher::failure::{Failure, Result};
use crate::launcher::front::{self, FrontEnd};
use crate::launcher::keys::User;
use crate::launcher::knobs::show;
use crate::launcher::resolve::{Origin, Resolved, resolve};
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::training::{Place, Trained, Training};
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
    if arguments.dry_run {
        return dry_run(&resolved, data, &mut engine, front::choose(global).as_mut(), global);
    }
    let run = RunDirectory::create(settings)?;
    run.write("config.toml", resolved.to_toml().as_bytes())?;
    run.write("cmdline.txt", command_line().as_bytes())?;
    run.write("model.json", format!("{:#}\n", model::document(&model)).as_bytes())?;
    drop(model);
    let require_target = arguments.stop.require_target;
    let training = Training { run: &run, settings, data, resume: false, require_target, place: Place::Own };
    work(&training, &resolved, &mut engine, global)
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
    let training = Training { run: &run, settings, data, resume: true, require_target: false, place: Place::Own };
    work(&training, &resolved, &mut engine, global)
}

/// Trains, then says what came of it.
fn work(training: &Training<'_>, resolved: &Resolved, engine: &mut Engine, global: &Global) -> Result<u8> {
    let mut front = front::choose(global);
    front.fact("run", &training.run.path().display().to_string());
    announce(resolved, front.as_mut());
    let trained = training.go(engine, front.as_mut())?;
    if global.json {
        return Ok(one_document(&trained.result, trained.wrong, trained.code, global));
    }
    summary(&trained, training.run.path());
    trained.wrong.map_or(Ok(trained.code), Err)
}

fn summary(trained: &Trained<'_>, run: &Path) {
    let Trained { recorder, outcome, checks, drawn, .. } = trained;
    let run = run.display();
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
        export: false,
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

/// Prints the result with its error inside, so that standard output stays one JSON document; returns the exit code.
pub fn one_document(result: &Value, wrong: Option<Failure>, code: u8, global: &Global) -> u8 {
    print_line(&format!("{result:#}"));
    wrong.map_or(code, |failure| {
        eprint!("{}", failure.render(front::colors(global)));
        failure.code as u8
    })
}

/// The exact command, quoted for a shell.
pub fn command_line() -> String {
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
}
