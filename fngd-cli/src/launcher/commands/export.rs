//! `export`: a run's checkpoint as an ONNX file.

use super::train::one_document;
use super::{checkpoint_of, engine, is_run, settings_of};
use crate::launcher::arguments::{Export, Global};
use crate::launcher::download::data_source;
use crate::launcher::export_check::{check_exports, check_json, describe_export, wrong};
use crate::launcher::failure::{Failure, Result};
use crate::launcher::recorder::Recorder;
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::{front, print_line};
use crate::protocol::{Event, Job};
use serde_json::json;

pub fn run(arguments: &Export, global: &Global) -> Result<u8> {
    if !is_run(&arguments.run) {
        let shown = arguments.run.display();
        return Err(Failure::usage(format!("{shown} is not a run directory: it has no config.toml"))
            .with_help("runs are made by `fngd-cli train`; the newest is runs/latest"));
    }
    let output =
        arguments.output.clone().unwrap_or_else(|| arguments.run.join(format!("export-{}.onnx", arguments.ckpt)));
    if output.exists() && !arguments.force {
        return Err(Failure::usage(format!("{} exists already", output.display())).with_help("--force replaces it"));
    }
    let mut resolved = settings_of(&arguments.run, global)?;
    resolved.settings.import.dynamic_batch |= arguments.dynamic_batch;
    let settings = &resolved.settings;
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::environment(format!("cannot make a temporary folder: {error}")))?;
    let job = Job::Export {
        settings: settings.clone(),
        data: data_source(&settings.data.spec, settings.data.dir.as_deref(), global)?,
        checkpoint: checkpoint_of(&arguments.run, &arguments.ckpt)?,
        output: output.clone(),
        reference: Some(scratch.path().join("reference.safetensors")),
    };
    let run = RunDirectory::open(&arguments.run)?;
    let mut front = front::choose(global);
    let mut recorder = Recorder::new(&run, settings);
    let mut edits = Vec::new();
    engine(global)?.run(&job, &mut |event| {
        front.event(event);
        if let Event::Exported { edits: made, path, reference } = event {
            edits.clone_from(made);
            recorder.exported.insert(path.clone(), reference.clone());
        }
        Ok(())
    })?;
    let checks = check_exports(&recorder, front.as_mut());
    front.end();
    let wrong = checks.iter().find_map(|(path, check)| wrong(path, check));
    if global.json {
        let checks: Vec<_> = checks.iter().map(|(path, check)| check_json(path, check)).collect();
        let mut result = json!({ "schema": 1, "file": output, "edits": edits, "checks": checks });
        if let Some(failure) = &wrong {
            result["error"] = failure.to_json()["error"].take();
        }
        return Ok(one_document(&result, wrong, 0, global));
    }
    for path in recorder.exported.keys() {
        let folder = path.parent().unwrap_or(std::path::Path::new("."));
        print_line(&format!("  saved   {}   in {}", describe_export(path, &checks), folder.display()));
    }
    for edit in &edits {
        print_line(&format!("  edit    {}", crate::launcher::text::escape_lines(edit)));
    }
    wrong.map_or(Ok(0), Err)
}
