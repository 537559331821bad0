//! What came of all mutants, counted.

use super::supervisor::Fate;
use super::worker::Stage;
use super::{Case, SEEDS};
use serde::Serialize;
use std::collections::BTreeMap;

/// The numbers, as `docs/support/hostile.json` has them. All but `slowest` and `peak_memory_mib` are the same in every run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// How many mutants were tried.
    pub mutants: u64,
    /// How many of them could be imported.
    pub imported: u64,
    /// How many of those were built, evaluated and trained for a step.
    pub ran: u64,
    /// How many went through nothing else, but have nothing that can be trained.
    pub without_training: u64,
    /// Refused by the importer, by kind of error.
    pub refused_by_import: BTreeMap<String, u64>,
    /// Refused later, by stage and kind of error.
    pub refused_later: BTreeMap<String, u64>,
    /// By the mutations: mutants, imported, ran.
    pub by_damage: BTreeMap<String, [u64; 3]>,
    /// By the seed file: mutants, imported, ran.
    pub by_seed: BTreeMap<String, [u64; 3]>,
    /// Panics, deaths, hangs and errors that do not say where.
    pub failures: Vec<Failure>,
    /// The mutant that took the most processor time, and how much.
    pub slowest: Option<(String, f64)>,
    /// The most memory that a worker used, libtorch included.
    pub peak_memory_mib: u64,
}

/// A mutant that did what none may do.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// `FILE#NUMBER`.
    pub mutant: String,
    /// Where.
    pub stage: Option<Stage>,
    /// What.
    pub what: String,
}

impl Report {
    pub(super) fn of(fates: &[(Case, Fate)]) -> Self {
        let mut report = Self::default();
        for (case, fate) in fates {
            report.add(*case, fate);
        }
        report
    }

    fn add(&mut self, case: Case, fate: &Fate) {
        self.mutants += 1;
        let reply = match fate {
            Fate::Died { stage, how } => {
                self.failures.push(Failure { mutant: case.to_string(), stage: Some(*stage), what: how.clone() });
                return;
            }
            Fate::Told(reply) => reply,
        };
        let stage = reply.refused.as_ref().map(|(stage, _)| *stage);
        let failures = reply.wrong.iter().map(|what| Failure { mutant: case.to_string(), stage, what: what.clone() });
        self.failures.extend(failures);
        let mut counts = [1, 0, 0];
        match &reply.refused {
            Some((Stage::Import, kind)) => *self.refused_by_import.entry(kind.clone()).or_default() += 1,
            refused => {
                self.imported += 1;
                counts[1] = 1;
                match refused {
                    None => {
                        self.ran += 1;
                        counts[2] = 1;
                    }
                    Some((_, kind)) if kind == "nothing to train" => self.without_training += 1,
                    Some((stage, kind)) => {
                        let stage = format!("{stage:?}").to_lowercase();
                        *self.refused_later.entry(format!("{stage}: {kind}")).or_default() += 1;
                    }
                }
            }
        }
        let add = |entry: &mut [u64; 3]| entry.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        add(self.by_seed.entry(SEEDS[case.seed].to_owned()).or_default());
        for damage in reply.damage.iter().collect::<std::collections::BTreeSet<_>>() {
            add(self.by_damage.entry(damage.clone()).or_default());
        }
        if self.slowest.as_ref().is_none_or(|(_, seconds)| reply.seconds > *seconds) {
            self.slowest = Some((case.to_string(), (reply.seconds * 1e3).round() / 1e3));
        }
        self.peak_memory_mib = self.peak_memory_mib.max(reply.peak_kib / 1024);
    }
}
