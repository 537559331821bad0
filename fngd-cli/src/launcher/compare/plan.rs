//! The plan of a comparison: which runs, with which settings, in which order. Stored as plan.toml, complete.

use super::tuning::Tuning;
use crate::launcher::cells::Cell;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::text;
use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file of the plan, in the folder of the comparison.
pub const FILE: &str = "plan.toml";

/// A comparison, before anything is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub schema: u32,
    /// Of the model file: every run must begin with the same weights.
    pub model_sha256: String,
    /// The label of what the others are compared with.
    pub reference: String,
    /// Validation accuracy; `None`: the reference's median best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    pub seeds: Vec<u64>,
    pub require_target: bool,
    pub keep_checkpoints: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
    pub methods: Vec<Method>,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    pub label: String,
    /// The folder's part of its runs' names.
    pub slug: String,
    /// With the first seed.
    pub settings: Settings,
}

/// A run of a method.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Position in [`Plan::methods`].
    pub method: usize,
    pub seed: u64,
    pub cell: Cell,
}

impl Plan {
    /// The runs that count, interleaved: one seed of every method, then the next seed. `rates`: the learning rate of each method.
    pub fn runs(&self, rates: &[f64]) -> Vec<Run> {
        let of_seed = |seed: u64| {
            self.methods.iter().zip(rates).enumerate().map(move |(method, (row, rate))| Run {
                method,
                seed,
                cell: row.cell(format!("{}.seed{seed}", row.slug), *rate, seed),
            })
        };
        self.seeds.iter().flat_map(|seed| of_seed(*seed)).collect()
    }

    /// The learning rates that the methods have by themselves.
    pub fn own_rates(&self) -> Vec<f64> {
        self.methods.iter().map(Method::rate).collect()
    }

    /// Which row is the reference.
    pub fn reference(&self) -> usize {
        self.methods.iter().position(|row| row.label == self.reference).unwrap_or(0)
    }

    pub fn to_toml(&self) -> Result<String> {
        let text = toml::to_string(self);
        let text = text.map_err(|error| Failure::new(Code::Internal, format!("the plan as TOML: {error}")))?;
        Ok(format!("# The plan of this comparison. Go on with it: fngd-cli compare --resume FOLDER\n\n{text}"))
    }

    /// The plan in this folder.
    pub fn read(folder: &Path) -> Result<Plan> {
        let path = folder.join(FILE);
        let shown = text::name(&folder.display().to_string());
        let source = std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("{shown} is not a comparison: cannot read its {FILE}: {error}"))
                .with_help("comparisons are made by `fngd-cli compare`, in the folder `runs`")
        })?;
        toml::from_str(&source).map_err(|error| Failure::usage(format!("{}: {}", path.display(), error.message())))
    }
}

impl Method {
    /// Its own learning rate.
    pub fn rate(&self) -> f64 {
        // OK because resolved settings have a learning rate for every method.
        self.settings.optimizer.lr.unwrap_or(f64::NAN)
    }

    /// A run with this rate and seed.
    pub fn cell(&self, name: String, rate: f64, seed: u64) -> Cell {
        let mut settings = self.settings.clone();
        settings.optimizer.lr = Some(rate);
        settings.train.seed = seed;
        Cell { name, settings }
    }
}

/// Rows with names for their folders, all different.
pub fn methods(rows: Vec<(String, Settings)>) -> Vec<Method> {
    let mut methods: Vec<Method> = Vec::with_capacity(rows.len());
    for (label, settings) in rows {
        let plain: String = label
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' })
            .take(80)
            .collect();
        let mut slug = plain.clone();
        let mut number = 2;
        while methods.iter().any(|other| other.slug == slug) {
            slug = format!("{plain}-{number}");
            number += 1;
        }
        methods.push(Method { label, slug, settings });
    }
    methods
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn settings(name: &str, rate: f64) -> Settings {
        let mut settings = Settings {
            model: "m.onnx".into(),
            import: Default::default(),
            data: Default::default(),
            train: Default::default(),
            optimizer: Default::default(),
            schedule: Default::default(),
            stop: Default::default(),
        };
        settings.optimizer.name = name.to_owned();
        settings.optimizer.lr = Some(rate);
        settings.train.epochs = 4;
        settings
    }

    pub fn plan() -> Plan {
        let rows = [("sgd", "sgd", 0.1), ("fngd:inner=muon", "fngd", 0.02)];
        Plan {
            schema: 1,
            model_sha256: "00".into(),
            reference: "sgd".into(),
            target: None,
            seeds: vec![7, 8],
            require_target: false,
            keep_checkpoints: false,
            tuning: None,
            methods: methods(rows.map(|(label, name, rate)| (label.to_owned(), settings(name, rate))).to_vec()),
        }
    }

    #[test]
    fn runs_are_interleaved_and_differ_in_seed_and_method_alone() {
        let runs = plan().runs(&[0.1, 0.5]);
        let names: Vec<_> = runs.iter().map(|run| run.cell.name.as_str()).collect();
        assert_eq!(names, ["sgd.seed7", "fngd-inner-muon.seed7", "sgd.seed8", "fngd-inner-muon.seed8"]);
        assert_eq!(runs[3].cell.settings.optimizer.lr, Some(0.5));
        let mut changed = runs[3].cell.settings.clone();
        changed.train.seed = 7;
        assert_eq!(changed, runs[1].cell.settings);
    }

    #[test]
    fn a_plan_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { target: Some(0.68), tuning: Some(Tuning { trials: 5, seed: 1000 }), ..plan() };
        std::fs::write(folder.path().join(FILE), plan.to_toml().unwrap()).unwrap();
        assert_eq!(Plan::read(folder.path()).unwrap(), plan);
        let other = Plan::read(Path::new("nowhere")).unwrap_err().message;
        assert!(other.starts_with("nowhere is not a comparison: cannot read its plan.toml: "), "{other}");
    }

    #[test]
    fn folders_have_names_of_their_own() {
        let rows = ["a:b=1", "a-b=1"].map(|label| (label.to_owned(), settings("sgd", 0.1)));
        let slugs: Vec<_> = methods(rows.to_vec()).into_iter().map(|row| row.slug).collect();
        assert_eq!(slugs, ["a-b-1", "a-b-1-2"]);
    }
}
