//! `doctor`: what is installed, what is missing, and the command that fixes it.

use crate::launcher::arguments::Global;
use crate::launcher::engine::{self, Engine};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{front, libtorch, print_line, system, text};
use crate::protocol::{Event, Job};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One line of the report.
#[derive(Debug)]
struct Line {
    what: &'static str,
    text: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Warning,
    Bad,
}

pub fn run(global: &Global) -> Result<u8> {
    let mut lines = vec![good("launcher", format!("fngd-cli {}", env!("CARGO_PKG_VERSION")))];
    let mut helps = Vec::new();
    for outcome in [engine_line(), libtorch_line(global), probe(global)] {
        match outcome {
            Ok(found) => lines.extend(found),
            Err((what, failure)) => {
                lines.push(Line { what, text: failure.message, state: State::Bad });
                helps.extend(failure.help);
            }
        }
    }
    lines.push(folder_line("cache", libtorch::cache_folder()));
    lines.push(folder_line("runs", Some(PathBuf::from("runs"))));
    let bad = lines.iter().any(|line| line.state == State::Bad);
    if global.json {
        print_line(&format!("{:#}", document(&lines, &helps, !bad)));
    } else {
        show(&lines, &helps, bad, front::colors(global));
    }
    Ok(if bad { Code::Environment as u8 } else { 0 })
}

type Found = std::result::Result<Vec<Line>, (&'static str, Failure)>;

fn good(what: &'static str, text: String) -> Line {
    Line { what, text, state: State::Good }
}

fn engine_line() -> Found {
    let path = engine::locate().map_err(|failure| ("engine", failure))?;
    Ok(vec![good("engine", short(&path))])
}

fn libtorch_line(global: &Global) -> Found {
    let found = libtorch::find(global.libtorch.as_deref()).map_err(|failure| ("libtorch", failure))?;
    let version = found.version.clone().unwrap_or_else(|| "of unknown version".to_owned());
    let text = format!("{} wanted, {version} in {} ({})", libtorch::WANTED, short(&found.folder), found.named_by);
    let state = if found.version.is_some() { State::Good } else { State::Warning };
    Ok(vec![Line { what: "libtorch", text, state }])
}

/// Starts the engine and asks it what it sees. Where engine or libtorch are missing, that was said already.
fn probe(global: &Global) -> Found {
    let (Ok(program), Ok(libtorch)) = (engine::locate(), libtorch::find(global.libtorch.as_deref())) else {
        return Ok(Vec::new());
    };
    let mut engine = Engine { program, libtorch, log: None, keep_open: Vec::new(), echo: global.verbose >= 2 };
    let mut lines = Vec::new();
    let listen = &mut |event: &Event| {
        if let Event::Hello { libtorch, device, device_reason, threads, cuda_devices, .. } = event {
            lines.push(good("starts", format!("libtorch {libtorch}, {threads} threads")));
            lines.push(good("device", front::device_line(device, device_reason, cuda_devices)));
        }
        Ok(())
    };
    engine.run(&Job::Probe, listen).map_err(|failure| ("starts", failure))?;
    Ok(lines)
}

fn folder_line(what: &'static str, folder: Option<PathBuf>) -> Line {
    let Some(folder) = folder else {
        let text = "there is no home folder: set FNGD_CACHE".to_owned();
        return Line { what, text, state: State::Warning };
    };
    let existing =
        folder.ancestors().find(|path| path.exists()).map(Path::to_owned).unwrap_or_else(|| PathBuf::from("."));
    let existing = if existing.as_os_str().is_empty() { PathBuf::from(".") } else { existing };
    let free = system::free_bytes(&existing).map_or(String::new(), |bytes| format!(", {} free", text::bytes(bytes)));
    match tempfile::tempfile_in(&existing) {
        Ok(_) => good(what, format!("{} (writable{free})", short(&folder))),
        Err(error) => Line { what, text: format!("{}: {error}", short(&folder)), state: State::Bad },
    }
}

/// With `~` for the home folder, so that the report can be pasted anywhere.
fn short(path: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.as_os_str().len() > 1);
    match home.and_then(|home| path.strip_prefix(home).map(Path::to_owned).ok()) {
        Some(inside) => format!("~/{}", inside.display()),
        None => path.display().to_string(),
    }
}

fn document(lines: &[Line], helps: &[String], ready: bool) -> Value {
    let state = |state| match state {
        State::Good => "ok",
        State::Warning => "warning",
        State::Bad => "error",
    };
    let lines: Vec<Value> =
        lines.iter().map(|line| json!({ "what": line.what, "state": state(line.state), "text": line.text })).collect();
    json!({ "schema": 1, "ready": ready, "checks": lines, "help": helps })
}

fn show(lines: &[Line], helps: &[String], bad: bool, color: bool) {
    for line in lines {
        let (code, word) = match line.state {
            State::Good => ("32", "ok"),
            State::Warning => ("33", "warning"),
            State::Bad => ("31", "error"),
        };
        let word = if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        let mut rows = line.text.lines();
        let first = rows.next().unwrap_or_default();
        print_line(&format!("  {:<9} {first:<78} {word}", line.what));
        rows.for_each(|row| print_line(&format!("            {row}")));
    }
    for help in helps {
        print_line(&format!("  help: {help}"));
    }
    print_line(if bad { "  Not ready." } else { "  Ready." });
}
