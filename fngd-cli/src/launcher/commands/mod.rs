//! One file a command.

pub mod bench;
pub mod codegen;
pub mod compare;
pub mod complexity;
pub mod data;
pub mod diff;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod models;
pub mod optimizers;
pub mod profile;
pub mod study;
pub mod train;

use crate::launcher::arguments::Global;
use crate::launcher::engine::{self, Engine};
use crate::launcher::failure::{Failure, Result};
use crate::launcher::libtorch;
use crate::launcher::resolve::Resolved;
use std::path::{Path, PathBuf};

/// The engine with the libtorch that was found, ready to start.
fn engine(global: &Global) -> Result<Engine> {
    let program = engine::locate()?;
    let libtorch = libtorch::find(global.libtorch.as_deref())?;
    Ok(Engine { program, libtorch, log: None, keep_open: Vec::new(), echo: global.verbose >= 2 })
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
