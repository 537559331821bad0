//! `profile`: where the time of a step goes.

use super::bench::dimension;
use super::engine;
use crate::launcher::arguments::{self, Global, OptimizerFlags, RunFlags, Train};
use crate::launcher::download::data_source;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::profile::{layers, phases, picture};
use crate::launcher::resolve::{Resolved, resolve};
use crate::launcher::{front, model, print_line, text};
use crate::protocol::{self, Event, Job, ProfileReport};
use crate::settings::OptimizerSettings;
use std::path::Path;

pub fn run(arguments: &arguments::Profile, global: &Global) -> Result<u8> {
    let mut front = front::choose(global);
    let resolved = settings(arguments, arguments.recipe.as_deref(), (&arguments.optimizer, &arguments.set), global)?;
    resolved.warnings.iter().for_each(|warning| front.warning(warning));
    let settings = resolved.settings;
    let against = against(arguments, &settings.optimizer, global)?;
    model::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    for path in arguments.trace.iter().chain(&arguments.plot) {
        refuse_existing(path, arguments.force)?;
    }
    let formats = arguments.plot.iter().map(|path| picture::Format::of(path)).collect::<Result<Vec<_>>>()?;
    let data_dir = settings.data.dir.as_deref();
    let data = arguments.data.spec.as_deref().map(|spec| data_source(spec, data_dir, global)).transpose()?;
    let job = Job::Profile(Box::new(protocol::Profile {
        settings,
        against,
        data,
        steps: arguments.steps as usize,
        dims: arguments.dims.iter().map(|dim| dimension(dim)).collect::<Result<_>>()?,
        trace: arguments.trace.clone(),
    }));
    let mut report = None;
    engine(global)?.run(&job, &mut |event| {
        match event {
            Event::Profile(found) => report = Some(found.clone()),
            event => front.event(event),
        }
        Ok(())
    })?;
    front.end();
    let report = report.ok_or_else(|| Failure::new(Code::Internal, "the engine ended without a result"))?;
    for (path, format) in arguments.plot.iter().zip(formats) {
        picture::write(path, format, &report)?;
    }
    show(&report, arguments, global);
    Ok(0)
}

fn show(report: &ProfileReport, arguments: &arguments::Profile, global: &Global) {
    if global.json {
        // OK because a report holds strings and numbers.
        let mut document = serde_json::to_value(report).expect("a report is JSON");
        document["schema"] = 1.into();
        print_line(&format!("{document:#}"));
        return;
    }
    phases::table(report).iter().for_each(|line| print_line(line));
    layers::tables(report, arguments.layers).iter().for_each(|line| print_line(line));
    for path in arguments.trace.iter().chain(&arguments.plot) {
        print_line(&format!("  saved  {}", text::name(&path.display().to_string())));
    }
}

/// What `train` with these flags would use.
fn settings(
    arguments: &arguments::Profile,
    recipe: Option<&str>,
    (optimizer, set): (&OptimizerFlags, &[String]),
    global: &Global,
) -> Result<Resolved> {
    let mut data = arguments.data.clone();
    // Settings name some data set; of this one nothing is read.
    data.spec.get_or_insert_with(|| "digits".to_owned());
    let train = Train {
        model: Some(arguments.model.clone()),
        recipe: recipe.map(str::to_owned),
        set: set.to_vec(),
        import: arguments.import.clone(),
        data,
        run: RunFlags { batch: arguments.batch.clone(), ..RunFlags::default() },
        optimizer: optimizer.clone(),
        ..Train::default()
    };
    resolve(&train, global, &[])
}

/// The methods to compare with, at their defaults, without the one that is asked about.
fn against(
    arguments: &arguments::Profile,
    asked: &OptimizerSettings,
    global: &Global,
) -> Result<Vec<OptimizerSettings>> {
    let mut methods = Vec::new();
    for name in &arguments.against {
        let flags = OptimizerFlags { name: Some(name.clone()), ..OptimizerFlags::default() };
        let settings = settings(arguments, None, (&flags, &[]), global).map_err(|failure| Failure {
            message: failure.message.replace("`--optimizer`", "`--against`"),
            ..failure
        })?;
        if settings.settings.optimizer != *asked {
            methods.push(settings.settings.optimizer);
        }
    }
    Ok(methods)
}

/// An error if a file that is to be written is there, unless it may be replaced.
pub fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    if !path.exists() || force {
        return Ok(());
    }
    Err(Failure::usage(format!("{} exists already", text::name(&path.display().to_string())))
        .with_help("--force replaces it; or give another name"))
}
