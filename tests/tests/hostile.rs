//! A slice of `make hostile`, which tries more of the same.

use fngd_tests::hostile::{SEEDS, supervisor};
use std::path::Path;

#[test]
fn broken_files_end_in_an_error_or_in_a_model_that_runs() {
    const MUTANTS: u64 = 1_500;
    let program = Path::new(env!("CARGO_BIN_EXE_hostile"));
    let report = supervisor::run(program, 0..MUTANTS / SEEDS.len() as u64, 2);
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    // Otherwise the mutants would test the first check only.
    assert_eq!(report.mutants, MUTANTS);
    assert!(report.imported > MUTANTS / 4 && report.ran > MUTANTS / 10, "{report:#?}");
    assert!(report.peak_memory_mib < 2048, "{report:#?}");
}
