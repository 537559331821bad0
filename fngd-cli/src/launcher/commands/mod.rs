//! One file a command.

pub mod bench;
pub mod data;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod train;

use crate::launcher::arguments::Global;
use crate::launcher::engine::{self, Engine};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::resolve::Resolved;
use crate::launcher::{libtorch, text};
use crate::protocol::DataSource;
use std::path::{Path, PathBuf};

/// The engine with the libtorch that was found, ready to start.
fn engine(global: &Global) -> Result<Engine> {
    let program = engine::locate()?;
    let libtorch = libtorch::find(global.libtorch.as_deref())?;
    Ok(Engine { program, libtorch, log: None, keep_open: Vec::new(), echo: global.verbose >= 2 })
}

/// The model file, if it is one.
fn model_file(path: &Path) -> Result<()> {
    let shown = text::name(&path.display().to_string());
    let metadata = std::fs::metadata(path).map_err(|error| {
        let failure = Failure::new(Code::Model, format!("cannot read the model {shown}: {error}"));
        match nearest_file(path) {
            Some(nearest) => failure.with_help(format!("did you mean {}?", nearest.display())),
            None => failure.with_help("give the path of an ONNX file, relative to the current folder"),
        }
    })?;
    if metadata.is_file() {
        return Ok(());
    }
    Err(Failure::new(Code::Model, format!("the model {shown} is not a file"))
        .with_help("give the path of an ONNX file"))
}

/// A file in the same folder whose name is nearly the same.
fn nearest_file(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> =
        std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let models = names.iter().map(String::as_str).filter(|name| name.ends_with(".onnx"));
    text::nearest(path.file_name()?.to_str()?, models).map(|name| path.with_file_name(name))
}

/// Where a run's data are.
fn data_source(spec: &str, folder: Option<&Path>) -> Result<DataSource> {
    let path = spec.split_once(':').map(|(_, path)| PathBuf::from(path)).or_else(|| folder.map(Path::to_owned));
    Ok(DataSource { spec: spec.to_owned(), path })
}

/// The settings of a run directory.
fn settings_of(run: &Path, global: &Global) -> Result<Resolved> {
    Resolved::of_run(&run.join("config.toml"), None, global)
}

/// A run's checkpoint: `ckpt/best` and `ckpt/last` are lines with the name of a folder beside them.
fn checkpoint_of(run: &Path, which: &str) -> Result<PathBuf> {
    let pointer = run.join("ckpt").join(which);
    if pointer.is_dir() {
        return Ok(pointer);
    }
    let name = std::fs::read_to_string(&pointer).ok().filter(|name| !name.trim().is_empty() && !name.contains('/'));
    let folder = name.map(|name| run.join("ckpt").join(name.trim())).filter(|folder| folder.is_dir());
    folder.ok_or_else(|| {
        Failure::usage(format!("{} has no checkpoint `{which}`", run.display()))
            .with_help(format!("start the run again: fngd-cli train -c {}", run.join("config.toml").display()))
    })
}

/// Whether this is a run directory.
fn is_run(path: &Path) -> bool {
    path.join("config.toml").is_file()
}
