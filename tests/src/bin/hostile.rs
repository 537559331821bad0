//! `make hostile`: 20,000 broken and hostile model files.
//!
//!     hostile run MUTANTS [FILE]    try so many, and write what came of them
//!     hostile show SEED NUMBER      what one mutant is, and what becomes of it
//!     hostile make SEED NUMBER OUT  write one mutant to a file

use fngd_tests::hostile::{self, Case, SEEDS, mutate, supervisor, worker};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // OK because a process that runs has a file that can be named.
    let program = std::env::current_exe().expect("this program's path");
    let case = |seed: &str, number: &str| {
        let seed = SEEDS.iter().position(|known| known.ends_with(seed)).expect("the end of a seed file's path");
        Case { seed, number: number.parse().expect("a number") }
    };
    let bytes_of = |case: Case| {
        let seed = std::fs::read(hostile::root().join(SEEDS[case.seed])).expect("the seed file is there");
        mutate::mutant(case, &seed)
    };
    match arguments.as_slice() {
        ["worker"] => worker::run(),
        ["run", mutants, file @ ..] => {
            let mutants: u64 = mutants.parse().expect("a number of mutants");
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            let report = supervisor::run(&program, 0..mutants.div_ceil(SEEDS.len() as u64), workers);
            let text = serde_json::to_string_pretty(&report).expect("a report is JSON") + "\n";
            match file {
                [] => print!("{text}"),
                [file, ..] => std::fs::write(file, text).expect("the report can be written"),
            }
            for failure in &report.failures {
                eprintln!("{}: {:?}: {}", failure.mutant, failure.stage, failure.what);
            }
            let (imported, ran, failures) = (report.imported, report.ran, report.failures.len());
            eprintln!("{} mutants, {imported} imported, {ran} ran, {failures} failures", report.mutants);
            return ExitCode::from(u8::from(failures > 0));
        }
        ["show", seed, number] => {
            let case = case(seed, number);
            println!("{case}: {}", bytes_of(case).damage.join(", "));
            println!("{:#?}", supervisor::run_cases(&program, vec![case], 1));
        }
        ["make", seed, number, out] => {
            std::fs::write(out, bytes_of(case(seed, number)).bytes).expect("the mutant can be written");
        }
        _ => {
            eprintln!("usage: hostile run MUTANTS [FILE] | show SEED NUMBER | make SEED NUMBER OUT");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
