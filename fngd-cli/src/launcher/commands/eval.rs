//! `eval`: accuracy of a file or of a run.

use super::{checkpoint_of, engine, is_run, settings_of};
use crate::data::record;
use crate::launcher::arguments::{Eval, Global};
use crate::launcher::download::data_source;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::resolve::check_spec;
use crate::launcher::{front, model, print_line, text};
use crate::protocol::{Event, Job};
use crate::settings::ImportSettings;
use serde_json::json;

pub fn run(arguments: &Eval, global: &Global) -> Result<u8> {
    let job = job(arguments, global)?;
    let mut front = front::choose(global);
    let mut measured = None;
    engine(global)?.run(&job, &mut |event| {
        match event {
            Event::Evaluated { .. } => measured = Some(event.clone()),
            event => front.event(event),
        }
        Ok(())
    })?;
    front.end();
    let Some(Event::Evaluated { split, samples, loss, accuracy, top5, per_class, confusion }) = measured else {
        return Err(Failure::new(Code::Internal, "the engine ended without a result"));
    };
    if global.json {
        let document = json!({
            "schema": 1, "model": arguments.model, "split": split, "samples": samples, "loss": loss, "accuracy": accuracy,
            "top5": top5, "per_class": per_class, "confusion": confusion,
        });
        print_line(&format!("{document:#}"));
        return Ok(0);
    }
    let model = text::name(&arguments.model.display().to_string());
    print_line(&format!("  {model} on the {split} split, {} samples", text::count(samples)));
    print_line(&format!("  accuracy {}    top-5 {}    loss {loss:.4}", text::percent(accuracy), text::percent(top5)));
    if global.verbose > 0 {
        for (class, share) in per_class.iter().enumerate() {
            print_line(&format!("  class {class:>4}  {:>7}", text::percent(*share)));
        }
    }
    Ok(0)
}

fn job(arguments: &Eval, global: &Global) -> Result<Job> {
    if let Some(spec) = &arguments.data {
        check_spec(spec, "`--data`")?;
    }
    let resolved = if is_run(&arguments.model) { Some(settings_of(&arguments.model, global)?) } else { None };
    let settings = resolved.as_ref().map(|resolved| &resolved.settings);
    let flags = model::import(&arguments.import)?;
    let (model, import, checkpoint) = match settings {
        Some(_) if flags != ImportSettings::default() => {
            let message = "a run has its own repairs: leave out --no-repair, --restore-bias and --restore-bn";
            return Err(Failure::usage(message));
        }
        Some(settings) => {
            let checkpoint = checkpoint_of(&arguments.model, &arguments.ckpt)?;
            (settings.model.clone(), settings.import.clone(), Some(checkpoint))
        }
        None => (arguments.model.clone(), flags, None),
    };
    model::open(&model, &import, None)?;
    let Some(spec) = arguments.data.as_deref().or(settings.map(|settings| settings.data.spec.as_str())) else {
        return Err(Failure::usage("what shall it be measured on?").with_help("--data digits, cifar10, ..."));
    };
    let folder = arguments.data_dir.as_deref().or(settings.and_then(|settings| settings.data.dir.as_deref()));
    let run = if resolved.is_some() { Some(arguments.model.as_path()) } else { arguments.model.parent() };
    // An exported file beside its run's record was trained on what that says.
    let record = run.map(|run| run.join(record::FILE_NAME)).filter(|path| path.is_file());
    Ok(Job::Eval {
        model,
        import,
        record,
        checkpoint,
        data: data_source(spec, folder, global)?,
        split: arguments.split.clone(),
        batch: arguments.batch as usize,
        device: global.device.clone().unwrap_or_else(|| "auto".to_owned()),
        threads: threads(global)?,
    })
}

/// `--threads` as a number in its range.
pub fn threads(global: &Global) -> Result<Option<usize>> {
    let Some(typed) = &global.threads else { return Ok(None) };
    // OK because the table has this setting, and its form makes it a whole number.
    let key = crate::launcher::keys::find("train.threads").expect("the table has train.threads");
    let value = key.parse(typed).map_err(|expectation| Failure::usage(format!("`--threads` {expectation}")))?;
    Ok(value.as_integer().map(|threads| threads as usize))
}
