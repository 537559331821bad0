//! The launcher: command line, settings, run directories, front ends. Nothing here touches libtorch.

mod arguments;
mod cells;
mod commands;
mod compare;
mod comparison;
mod complexity;
mod curves;
mod download;
mod engine;
mod export_check;
mod failure;
mod front;
mod keys;
mod knobs;
mod libtorch;
mod methods_page;
mod metrics;
mod model;
mod plot;
mod profile;
mod recipes;
mod recorder;
mod reference;
mod resolve;
mod run_directory;
mod study;
mod system;
mod tensorboard;
mod text;
mod training;

use arguments::{Cli, Command, Global};
use clap::Parser;
use failure::{Code, Failure, Result};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with exit code 0, mistakes to standard error with 2.
            let _ = error.print();
            if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
                let message = error.to_string();
                let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                print_line(&format!("{:#}", Failure::usage(first).to_json()));
            }
            return ExitCode::from(if error.use_stderr() { Code::Usage as u8 } else { 0 });
        }
    };
    let global = cli.global.clone();
    if global.verbose < 2 {
        // Where it happened, and no backtrace.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    }
    match std::panic::catch_unwind(|| run(cli)) {
        Ok(Ok(0)) if OUTPUT_LOST.load(Ordering::Relaxed) => ExitCode::from(Code::Environment as u8),
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(failure)) => report(&global, &failure),
        // The panic's message is on standard error already.
        Err(_) => report(
            &global,
            &Failure::new(Code::Internal, "a mistake in fngd-cli, not yours")
                .with_help("please report it, with the lines above and the command"),
        ),
    }
}

fn run(cli: Cli) -> Result<u8> {
    let Cli { global, command } = cli;
    let global = &global;
    match command {
        Command::Train(train) => commands::train::train(&train, global),
        Command::Compare(compare) => commands::compare::run(*compare, global),
        Command::Study(study) => commands::study::run(*study, global),
        Command::Resume(resume) => commands::train::resume(&resume, global),
        Command::Eval(eval) => commands::eval::run(&eval, global),
        Command::Export(export) => commands::export::run(&export, global),
        Command::Diff(diff) => commands::diff::run(&diff, global),
        Command::Inspect(inspect) => commands::inspect::run(&inspect, global),
        Command::Codegen(codegen) => commands::codegen::run(&codegen, global),
        Command::Optimizers(optimizers) => commands::optimizers::run(&optimizers, global),
        Command::Doctor => commands::doctor::run(global),
        Command::Data(data) => commands::data::run(&data, global),
        Command::Models(models) => commands::models::run(&models, global),
        Command::Profile(profile) => commands::profile::run(&profile, global),
        Command::Bench(arguments::Bench::Step(bench)) => commands::bench::run(&bench, global),
        Command::Bench(arguments::Bench::Complexity(bench)) => commands::complexity::run(&bench, global),
        Command::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "fngd-cli", &mut std::io::stdout());
            Ok(0)
        }
        Command::Reference { model, inputs, output, every_value } => {
            reference::run(&model, &inputs, &output, every_value).map(|()| 0)
        }
    }
}

fn report(global: &Global, failure: &Failure) -> ExitCode {
    eprint!("{}", failure.render(front::colors(global)));
    if global.json {
        print_line(&format!("{:#}", failure.to_json()));
    }
    ExitCode::from(failure.code as u8)
}

/// To standard output; a reader that is gone, such as `head`, is no error. A disk that is full is: see [`OUTPUT_LOST`].
fn print_line(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
        && !OUTPUT_LOST.swap(true, Ordering::Relaxed)
    {
        eprintln!("cannot write to standard output: {error}");
    }
}

/// Whether something that was asked for could not be printed: then a success is none.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);
