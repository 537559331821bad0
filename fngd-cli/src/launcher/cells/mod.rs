//! Training runs as the cells of a plan: each an ordinary run directory, trained once.
//!
//! `run` may be called again and again with the same cells: finished ones are skipped, one that was stopped goes on from its
//! checkpoint, and one that failed stays as it failed. Ctrl-C ends the cell that trains with a checkpoint, and the whole plan.

mod progress;
pub mod result;

pub use progress::Progress;
#[cfg(test)]
pub use result::Measured;
pub use result::{CellResult, CellState};

use crate::launcher::arguments::Global;
use crate::launcher::download::data_source;
use crate::launcher::engine::Engine;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::training::{Place, RESULT, Training};
use crate::launcher::{system, text};
use crate::protocol::{DataSource, Status};
use crate::settings::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use toml::{Table, Value};

/// The folder of the cells, in the folder of their plan.
pub const FOLDER: &str = "cells";

/// One training run of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Its folder: a file name, unique in the plan.
    pub name: String,
    /// All of its settings; `train.runs_dir` and `train.name` are replaced by where the cell is.
    pub settings: Settings,
}

/// How a plan is worked through.
#[derive(Debug, Clone)]
pub struct Options {
    /// Train cells that failed once more.
    pub retry_failed: bool,
    /// Keep the checkpoints of finished cells.
    pub keep_checkpoints: bool,
    /// What the user types to go on after an interruption.
    pub go_on: String,
}

/// Trains what is not trained yet, in the order of `cells`, below `folder`. The results are in the same order.
///
/// # Errors
/// What would stop the next cell too: an interruption (130, 143), the data, the machine. Diverged, out of memory and the like are
/// results, not errors. A cell whose directory was made with other settings is an error that names the first that differs.
pub fn run(
    folder: &Path,
    cells: &[Cell],
    options: &Options,
    engine: &mut Engine,
    global: &Global,
) -> Result<Vec<CellResult>> {
    let root = folder.join(FOLDER);
    let cells: Vec<Cell> = cells.iter().map(|cell| placed(cell, &root)).collect();
    for cell in &cells {
        check_stored(cell, &root)?;
    }
    let data = sources(&cells, global)?;
    let stop = StopFlag::listen()?;
    let mut progress = Progress::choose(global, cells.len());
    let mut results: Vec<CellResult> = Vec::with_capacity(cells.len());
    for (cell, data) in cells.iter().zip(data) {
        let path = root.join(&cell.name);
        let before = CellResult::read(&path);
        let result = match before.state {
            CellState::Finished(_) => {
                forget_checkpoints(&path, options);
                before
            }
            CellState::Failed { .. } if !options.retry_failed => before,
            _ => {
                if let Some(code) = stop.heard() {
                    progress.end();
                    return Err(stopped(code, &results, &cells, options));
                }
                progress.start(&cell.name);
                if let Err(failure) = train(cell, &path, data, before, engine, &mut progress) {
                    progress.end();
                    return Err(match failure.code {
                        code @ (Code::Interrupted | Code::Terminated) => stopped(code, &results, &cells, options),
                        _ => in_cell(failure, cell, options),
                    });
                }
                forget_checkpoints(&path, options);
                CellResult::read(&path)
            }
        };
        progress.ended(&result);
        results.push(result);
    }
    progress.end();
    Ok(results)
}

fn placed(cell: &Cell, root: &Path) -> Cell {
    let mut cell = cell.clone();
    cell.settings.train.runs_dir = root.to_owned();
    cell.settings.train.name = Some(cell.name.clone());
    cell
}

/// Trains a cell from its start or from its checkpoint. A failure of this cell alone is no error: it is in its result.
fn train(
    cell: &Cell,
    path: &Path,
    data: DataSource,
    before: CellResult,
    engine: &mut Engine,
    progress: &mut Progress,
) -> Result<()> {
    let diverged = matches!(before.state, CellState::Failed { code: Code::Diverged, .. });
    let resume = path.join("ckpt").join("last").exists() && !diverged;
    let run = if resume {
        let run = RunDirectory::open(path)?;
        if matches!(before.state, CellState::Failed { .. }) {
            // It says "failed" until the cell has another result, and the next one may be that it was killed.
            remove_if_there(&path.join(RESULT))?;
        }
        run
    } else {
        if path.join("config.toml").is_file() {
            // Nothing to go on from. The lock says whether somebody is just making it.
            let opened = RunDirectory::open(path)?;
            std::fs::remove_dir_all(path).map_err(|error| cannot_remove(path, &error))?;
            drop(opened);
        }
        let run = RunDirectory::create(&cell.settings)?;
        run.write("config.toml", config(&cell.settings)?.as_bytes())?;
        run
    };
    let training =
        Training { run: &run, settings: &cell.settings, data, resume, require_target: false, place: Place::Cell };
    match training.go(engine, progress) {
        Ok(trained) => match trained.outcome.status {
            Status::Interrupted => Err(Failure::new(Code::Interrupted, "stopped by Ctrl-C")),
            Status::Terminated => Err(Failure::new(Code::Terminated, "stopped by SIGTERM")),
            _ => Ok(()),
        },
        Err(failure) if result::is_of_one_cell(failure.code) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn config(settings: &Settings) -> Result<String> {
    let text = toml::to_string(settings)
        .map_err(|error| Failure::new(Code::Internal, format!("settings as TOML: {error}")))?;
    Ok(format!("# The settings of this run, complete. Run it by itself: fngd-cli train -c config.toml\n\n{text}"))
}

/// The data of each cell; each set is looked for (and downloaded) once.
fn sources(cells: &[Cell], global: &Global) -> Result<Vec<DataSource>> {
    let mut known: BTreeMap<(String, Option<PathBuf>), DataSource> = BTreeMap::new();
    let mut found = Vec::with_capacity(cells.len());
    for Cell { settings, .. } in cells {
        let key = (settings.data.spec.clone(), settings.data.dir.clone());
        if !known.contains_key(&key) {
            known.insert(key.clone(), data_source(&key.0, key.1.as_deref(), global)?);
        }
        found.push(known[&key].clone());
    }
    Ok(found)
}

/// Whether a cell that is there was made with the settings that are asked for now.
fn check_stored(cell: &Cell, root: &Path) -> Result<()> {
    let path = root.join(&cell.name).join("config.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    let damaged = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let stored: Settings = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    let Some((key, then, now)) = first_difference(&stored, &cell.settings)? else { return Ok(()) };
    let message = format!("{} was made with {key} = {then}, asked for is {now}", root.join(&cell.name).display());
    Err(Failure::usage(message).with_help("the cells of a plan keep their settings; start another one for others"))
}

/// The first setting that differs, but for where the run is: its name, and both values.
fn first_difference(stored: &Settings, wanted: &Settings) -> Result<Option<(String, String, String)>> {
    let flat = |settings: &Settings| -> Result<BTreeMap<String, String>> {
        let mut settings = settings.clone();
        settings.train.runs_dir = PathBuf::new();
        settings.train.name = None;
        let table = Table::try_from(settings)
            .map_err(|error| Failure::new(Code::Internal, format!("settings as TOML: {error}")))?;
        let mut flat = BTreeMap::new();
        for (name, value) in table {
            match value {
                Value::Table(section) => {
                    flat.extend(section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value.to_string())));
                }
                value => drop(flat.insert(name, value.to_string())),
            }
        }
        Ok(flat)
    };
    let (stored, wanted) = (flat(stored)?, flat(wanted)?);
    let value = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_else(|| "nothing".into());
    let key = stored.keys().chain(wanted.keys()).find(|key| stored.get(*key) != wanted.get(*key));
    Ok(key.map(|key| (key.clone(), value(&stored, key), value(&wanted, key))))
}

fn forget_checkpoints(path: &Path, options: &Options) {
    if !options.keep_checkpoints && !matches!(CellResult::read(path).state, CellState::Failed { .. }) {
        // Only room is at stake.
        let _ = std::fs::remove_dir_all(path.join("ckpt"));
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cannot_remove(path, &error)),
        _ => Ok(()),
    }
}

fn cannot_remove(path: &Path, error: &std::io::Error) -> Failure {
    Failure::environment(format!("cannot remove {}: {error}", text::name(&path.display().to_string())))
}

fn stopped(code: Code, results: &[CellResult], cells: &[Cell], options: &Options) -> Failure {
    let by = if code == Code::Interrupted { "Ctrl-C" } else { "SIGTERM" };
    let message = format!("stopped by {by}, after {} of {} runs", results.len(), cells.len());
    Failure::new(code, message).with_help(format!("go on with: {}", options.go_on))
}

fn in_cell(mut failure: Failure, cell: &Cell, options: &Options) -> Failure {
    failure.message = format!("{}: {}", cell.name, failure.message);
    let go_on = format!("then go on with: {}", options.go_on);
    let help = failure.help.take().map_or(go_on.clone(), |help| format!("{help}\n      {go_on}"));
    failure.with_help(help)
}

/// Signals between two cells, when no engine is there to hear them.
struct StopFlag {
    flags: Vec<(Code, Arc<AtomicBool>)>,
}

impl StopFlag {
    fn listen() -> Result<StopFlag> {
        let signals =
            [(libc::SIGINT, Code::Interrupted), (libc::SIGHUP, Code::Terminated), (libc::SIGTERM, Code::Terminated)];
        let mut flags = Vec::new();
        for (signal, code) in signals.into_iter().filter(|(signal, _)| !system::is_ignored(*signal)) {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(|error| Failure::new(Code::Internal, format!("cannot listen to signals: {error}")))?;
            flags.push((code, flag));
        }
        Ok(StopFlag { flags })
    }

    fn heard(&self) -> Option<Code> {
        self.flags.iter().find(|(_, flag)| flag.load(Ordering::SeqCst)).map(|(code, _)| *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DataSettings;

    fn settings() -> Settings {
        Settings {
            model: "m.onnx".into(),
            import: Default::default(),
            data: DataSettings::default(),
            train: Default::default(),
            optimizer: Default::default(),
            schedule: Default::default(),
            stop: Default::default(),
        }
    }

    #[test]
    fn settings_survive_their_file() {
        let mut settings = settings();
        settings.optimizer.betas = Some([0.9, 0.95]);
        settings.optimizer.lr = Some(1e-7 / 3.0);
        let text = config(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
    }

    #[test]
    fn another_setting_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(FOLDER);
        let cell = placed(&Cell { name: "a".into(), settings: settings() }, &root);
        let run = RunDirectory::create(&cell.settings).unwrap();
        run.write("config.toml", config(&cell.settings).unwrap().as_bytes()).unwrap();
        check_stored(&cell, &root).unwrap();
        let mut other = cell.clone();
        other.settings.optimizer.lr = Some(0.5);
        let failure = check_stored(&other, &root).unwrap_err();
        let path = root.join("a");
        let expected = format!("{} was made with optimizer.lr = nothing, asked for is 0.5", path.display());
        assert_eq!(failure.message, expected);
        let mut elsewhere = cell;
        elsewhere.settings.train.runs_dir = "somewhere/else".into();
        check_stored(&elsewhere, &root).unwrap();
    }
}
