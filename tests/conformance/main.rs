//! The backend tests of the onnx package, which we did not write, through the importer and the executor.
//!
//! `make conformance` makes the cases (`make.py`), runs this, and writes `docs/support/conformance.json`. Every case runs, also
//! those that `expectations.toml` says cannot pass: these must end in an error, and a case that crashes, panics, hangs or takes
//! too much memory fails whatever is expected of it.
//!
//!     cargo test -p fngd-tests --test conformance                      all cases; is the report up to date?
//!     cargo test -p fngd-tests --test conformance -- --write           all cases; write the report
//!     cargo test -p fngd-tests --test conformance -- test_gelu         only these, one line for each

mod cases;
mod compare;
mod expectations;
mod gradient;
mod own;
mod report;
mod run;
mod verdict;
mod workers;

use cases::Cases;
use expectations::Expectations;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use workers::Answer;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == workers::FLAG) {
        workers::serve();
        return ExitCode::SUCCESS;
    }
    match check(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases; false if one of them is not as expected.
fn check(arguments: &[String]) -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Some(cases) = Cases::load(&root.join("target/conformance"))? else {
        println!("conformance: not run, because the cases are not there: `make conformance` makes them");
        return Ok(true);
    };
    let expectations = Expectations::load(&root.join("tests/conformance/expectations.toml"))?;
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen: Vec<_> = cases
        .list
        .iter()
        .filter(|case| filters.is_empty() || filters.iter().any(|filter| case.id().contains(filter.as_str())))
        .collect();
    own::check()?;
    let answers = workers::run(&cases.folder, &chosen, workers::LONGEST)?;
    if !filters.is_empty() {
        for (case, answer) in chosen.iter().zip(&answers) {
            println!("{}: {answer}", case.id());
        }
    }
    let (sorted, mut wrong) = verdict::sort(&chosen, &answers, &expectations);
    if filters.is_empty() {
        wrong.extend(expectations.check_against(&cases));
        let text = report::json(&cases, &sorted);
        wrong.extend(store(&root.join("docs/support/conformance.json"), &text, arguments)?);
        if wrong.is_empty() {
            let gradients = answers.iter().filter(|answer| **answer == Answer::Passed(true)).count();
            println!("{}\ngradients compared with differences of outputs: {gradients} cases", report::table(&sorted));
        }
    }
    for line in &wrong {
        println!("{line}");
    }
    if !wrong.is_empty() {
        println!("{} of {} cases: not as expected", wrong.len(), chosen.len());
    }
    Ok(wrong.is_empty())
}

/// Writes the report if that was asked for; else says so if it would change.
fn store(path: &PathBuf, text: &str, arguments: &[String]) -> Result<Option<String>> {
    if arguments.iter().any(|argument| argument == "--write") {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, text)?;
        return Ok(None);
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    Ok((stored != text).then(|| format!("{} is not up to date: run `make conformance`", path.display())))
}
