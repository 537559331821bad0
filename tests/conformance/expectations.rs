//! Which cases cannot pass, and why: `expectations.toml`.

use crate::Result;
use crate::cases::{Case, Cases};
use regex::Regex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The file, with every pattern compiled.
pub struct Expectations {
    counts: BTreeMap<String, usize>,
    exceptions: Vec<Exception>,
}

/// Cases that do not pass for one reason.
pub struct Exception {
    pub kind: Kind,
    pub reason: String,
    patterns: Vec<Regex>,
    except: Vec<Regex>,
}

/// What it means that a case does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It asks for something that training a network has no use for.
    NotApplicable,
    /// It should pass one day.
    Missing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    cases: BTreeMap<String, usize>,
    #[serde(default)]
    not_applicable: Vec<Group>,
    #[serde(default)]
    missing: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    reason: String,
    /// Regular expressions for the whole of `suite/name`.
    cases: Vec<String>,
    /// Those that these match are not meant.
    #[serde(default)]
    except: Vec<String>,
}

impl Exception {
    /// The pattern that means the case called `id`.
    fn pattern_for(&self, id: &str) -> Option<&Regex> {
        let is_excepted = self.except.iter().any(|pattern| pattern.is_match(id));
        self.patterns.iter().find(|pattern| !is_excepted && pattern.is_match(id))
    }
}

impl Expectations {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let file: File = toml::from_str(&std::fs::read_to_string(path)?)?;
        let compile = |kind: Kind, group: Group| -> Result<Exception> {
            let whole = |patterns: &[String]| -> Result<Vec<Regex>> {
                patterns.iter().map(|pattern| Ok(Regex::new(&format!("^(?:{pattern})$"))?)).collect()
            };
            Ok(Exception { kind, patterns: whole(&group.cases)?, except: whole(&group.except)?, reason: group.reason })
        };
        let not_applicable = file.not_applicable.into_iter().map(|group| compile(Kind::NotApplicable, group));
        let missing = file.missing.into_iter().map(|group| compile(Kind::Missing, group));
        Ok(Self { counts: file.cases, exceptions: not_applicable.chain(missing).collect::<Result<_>>()? })
    }

    /// Why `case` is not expected to pass.
    pub fn of(&self, case: &Case) -> Option<&Exception> {
        let id = case.id();
        self.exceptions.iter().find(|exception| exception.pattern_for(&id).is_some())
    }

    /// Whether the file fits the cases: as many as it says, every pattern is needed, no case has two reasons.
    pub fn check_against(&self, cases: &Cases) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut counts = BTreeMap::new();
        for case in &cases.list {
            *counts.entry(case.suite.clone()).or_default() += 1;
        }
        if counts != self.counts {
            wrong.push(format!("the suites have {counts:?} cases, expected {:?}", self.counts));
        }
        let ids: Vec<String> = cases.list.iter().map(Case::id).collect();
        let patterns = self.exceptions.iter().flat_map(|exception| exception.patterns.iter().chain(&exception.except));
        for pattern in patterns.filter(|pattern| !ids.iter().any(|id| pattern.is_match(id))) {
            wrong.push(format!("expectations.toml: no case is called `{pattern}`"));
        }
        for id in &ids {
            let matching: Vec<&str> =
                self.exceptions.iter().filter_map(|exception| exception.pattern_for(id)).map(Regex::as_str).collect();
            if matching.len() > 1 {
                wrong.push(format!("expectations.toml: {id} is meant by {}", matching.join(" and ")));
            }
        }
        wrong
    }
}
