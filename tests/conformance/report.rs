//! The counts, for people and as `docs/support/conformance.json`. Equal results give equal bytes.

use crate::cases::Cases;
use crate::expectations::Kind;
use crate::verdict::Sorted;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Report<'a> {
    onnx: &'a str,
    command: &'static str,
    suites: BTreeMap<&'a str, Counts>,
    /// By the operator that a case of suite `node` is about.
    operators: BTreeMap<&'a str, Counts>,
    not_applicable: BTreeMap<&'a str, usize>,
    missing: BTreeMap<&'a str, Vec<String>>,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Counts {
    cases: usize,
    pass: usize,
    not_applicable: usize,
    missing: usize,
}

impl Counts {
    fn add(&mut self, exception: Option<Kind>) {
        self.cases += 1;
        *match exception {
            None => &mut self.pass,
            Some(Kind::NotApplicable) => &mut self.not_applicable,
            Some(Kind::Missing) => &mut self.missing,
        } += 1;
    }
}

/// The report as it is checked in.
pub fn json(cases: &Cases, sorted: &[Sorted]) -> String {
    let (mut operators, mut not_applicable, mut missing) =
        (BTreeMap::<&str, Counts>::new(), BTreeMap::new(), BTreeMap::<&str, Vec<String>>::new());
    for (case, exception) in sorted {
        for operator in &case.operators {
            operators.entry(operator).or_default().add(exception.map(|(kind, _)| kind));
        }
        match exception {
            None => (),
            Some((Kind::NotApplicable, reason)) => *not_applicable.entry(*reason).or_default() += 1,
            Some((Kind::Missing, reason)) => missing.entry(*reason).or_default().push(case.id()),
        }
    }
    let suites = suites(sorted);
    let report = Report { onnx: &cases.onnx, command: "make conformance", suites, operators, not_applicable, missing };
    // OK because the report is maps of strings to numbers and strings.
    serde_json::to_string_pretty(&report).expect("plain data") + "\n"
}

/// One line for each suite.
pub fn table(sorted: &[Sorted]) -> String {
    let mut lines = vec![format!("{:<18}{:>7}{:>7}{:>16}{:>9}", "suite", "cases", "pass", "not applicable", "missing")];
    for (suite, counts) in suites(sorted) {
        let Counts { cases, pass, not_applicable, missing } = counts;
        lines.push(format!("{suite:<18}{cases:>7}{pass:>7}{not_applicable:>16}{missing:>9}"));
    }
    lines.join("\n")
}

fn suites<'a>(sorted: &[Sorted<'a>]) -> BTreeMap<&'a str, Counts> {
    let mut suites = BTreeMap::<&str, Counts>::new();
    for (case, exception) in sorted {
        suites.entry(&case.suite).or_default().add(exception.map(|(kind, _)| kind));
    }
    suites
}
