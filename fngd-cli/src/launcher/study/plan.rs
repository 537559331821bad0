//! Which variants a study trains, in which runs. Stored as study.toml, complete.

use crate::launcher::cells::{Cell, CellResult};
use crate::launcher::compare::plan::Method;
use crate::launcher::compare::tuning;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::text;
use crate::settings::ScheduleSettings;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file of the plan, in the folder of the study.
pub const FILE: &str = "study.toml";

/// A question that a study can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Gram matrices by layer, and how alike they are (Fig. 3)
    Gram,
    /// Shared weights against solved ones (Fig. 4)
    Sharing,
    /// How long the weights of epoch 1 stay right
    Drift,
    /// What a weight belongs to: slot, sample, or nothing
    Keys,
    /// What becomes of the factor 1/λ
    Scale,
    /// Empirical Fisher and improved empirical Fisher
    Fisher,
    /// Inner rules, with weighted samples and without
    Inner,
    /// The damping γ
    Damping,
    /// Half the epochs (the schedules of Tab. II)
    Schedule,
}

/// A study, before anything is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub schema: u32,
    /// Of the model file: every run must begin with the same weights.
    pub model_sha256: String,
    pub parts: Vec<Part>,
    pub seeds: Vec<u64>,
    /// Learning rates tried for each variant under each schedule; 1: nothing is tried.
    pub tune: u32,
    pub tuning_seed: u64,
    /// The first is that of all runs under one schedule.
    pub schedules: Vec<String>,
    pub variants: Vec<Method>,
}

/// The variants of each part: what the report calls them, and how `compare` would be told. [`HALF`] ends the
/// names of those with half of the epochs.
const VARIANTS: [(Part, &[(&str, &str)]); 9] = [
    (Part::Gram, &[("fngd", "fngd")]),
    (Part::Sharing, &[("sgd", "sgd"), ("fngd", "fngd"), ("ngd", "ngd")]),
    (Part::Drift, &[("fngd", "fngd")]),
    (
        Part::Keys,
        &[
            ("fngd", "fngd"),
            ("sample keys", "fngd:share=sample"),
            ("ngd", "ngd"),
            ("mean", "fngd:ablate=mean"),
            ("permuted", "fngd:ablate=permute"),
            ("uniform", "fngd:ablate=uniform"),
        ],
    ),
    (
        Part::Scale,
        &[("fngd", "fngd"), ("layer scale", "fngd:step_scale=layer"), ("slot scale", "fngd:step_scale=slot")],
    ),
    (Part::Fisher, &[("fngd", "fngd"), ("iEF", "fngd:fisher=ief")]),
    (
        Part::Inner,
        &[
            ("sgd", "sgd"),
            ("fngd", "fngd"),
            ("adamw", "adamw"),
            ("fngd over adamw", "fngd:inner=adamw"),
            ("muon", "muon"),
            ("fngd over muon", "fngd:inner=muon"),
        ],
    ),
    (
        Part::Damping,
        &[
            ("sgd", "sgd"),
            ("γ = 0.01", "fngd:damping=0.01"),
            ("γ = 0.1", "fngd:damping=0.1"),
            ("γ = 1", "fngd:damping=1"),
            ("γ = 10", "fngd:damping=10"),
        ],
    ),
    (
        Part::Schedule,
        &[
            ("sgd, steps", "sgd:schedule.kind=multistep"),
            ("sgd, steps, half", "sgd:schedule.kind=multistep"),
            ("fngd, steps", "fngd:schedule.kind=multistep"),
            ("fngd, steps, half", "fngd:schedule.kind=multistep"),
        ],
    ),
];

/// How the names of variants with half of the epochs end.
pub const HALF: &str = ", half";

/// Names of the variants of `parts`, each once, and how `compare` would be told.
pub fn variants(parts: &[Part]) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for (_, rows) in VARIANTS.iter().filter(|(part, _)| parts.contains(part)) {
        for (label, typed) in *rows {
            if found.iter().all(|(other, _)| other != label) {
                found.push((label, typed));
            }
        }
    }
    found
}

/// A run that was planned for a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Position in [`Plan::variants`].
    pub variant: usize,
    pub choice: Choice,
    pub cell: Cell,
}

/// What is tuned.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub rate: f64,
    pub schedule: String,
}

impl Plan {
    pub fn to_toml(&self) -> Result<String> {
        let text = toml::to_string(self);
        let text = text.map_err(|error| Failure::new(Code::Internal, format!("the plan as TOML: {error}")))?;
        Ok(format!("# The plan of this study. Go on with it: fngd-cli study --resume FOLDER\n\n{text}"))
    }

    /// The plan in this folder.
    pub fn read(folder: &Path) -> Result<Plan> {
        let path = folder.join(FILE);
        let shown = text::name(&folder.display().to_string());
        let source = std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("{shown} is not a study: cannot read its {FILE}: {error}"))
                .with_help("studies are made by `fngd-cli study`, in the folder `runs`")
        })?;
        toml::from_str(&source).map_err(|error| Failure::usage(format!("{}: {}", path.display(), error.message())))
    }

    /// Whether this part needs runs of its own, and not only a look at one.
    pub fn trains(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Gram | Part::Drift))
    }

    /// Whether runs are looked at from beside.
    pub fn observes(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Gram | Part::Drift))
    }

    pub fn variant(&self, label: &str) -> Option<usize> {
        self.variants.iter().position(|variant| variant.label == label)
    }

    /// What every variant has by itself.
    pub fn own(&self) -> Vec<Choice> {
        let own = |variant: &Method| Choice { rate: variant.rate(), schedule: variant.settings.schedule.kind.clone() };
        self.variants.iter().map(own).collect()
    }

    /// Every seed with `choices`, interleaved. Runs with the same choice have the same folder, and are made once.
    pub fn runs(&self, choices: &[Choice]) -> Vec<Run> {
        let of_seed =
            |seed: u64| choices.iter().enumerate().map(move |(variant, choice)| self.run(variant, choice, seed));
        self.seeds.iter().flat_map(|seed| of_seed(*seed)).collect()
    }

    /// The trials, interleaved. Variants that are about a schedule keep it.
    pub fn trials(&self) -> Vec<Run> {
        if self.tune < 2 {
            return Vec::new();
        }
        let mut trials = Vec::new();
        for number in 0..self.tune as usize {
            for schedule in &self.schedules {
                for (variant, own) in self.own().into_iter().enumerate() {
                    let fixed = own.schedule != self.schedules[0];
                    if fixed && *schedule != self.schedules[0] {
                        continue;
                    }
                    let schedule = if fixed { own.schedule } else { schedule.clone() };
                    let rate = tuning::grid(own.rate, self.tune)[number];
                    trials.push(self.run(variant, &Choice { rate, schedule }, self.tuning_seed));
                }
            }
        }
        trials
    }

    /// The best of the trials by validation accuracy; of equal ones the nearest to the variant's own. Its own if all failed.
    pub fn best(&self, trials: &[(Run, CellResult)]) -> Vec<Choice> {
        let best = |(variant, own): (usize, Choice)| {
            let finished = trials.iter().filter(|(run, result)| run.variant == variant && result.is_finished());
            let known = finished.filter_map(|(run, result)| Some((&run.choice, result.best()?.val_acc)));
            let distance =
                |choice: &Choice| ((choice.rate / own.rate).ln().abs(), u8::from(choice.schedule != own.schedule));
            let better = |left: (&'_ Choice, f64), right: (&'_ Choice, f64)| {
                let (near, far) = (distance(left.0), distance(right.0));
                let order = left.1.total_cmp(&right.1).then(far.0.total_cmp(&near.0)).then(far.1.cmp(&near.1));
                order.is_lt()
            };
            known
                .reduce(|left, right| if better(left, right) { right } else { left })
                .map_or(own.clone(), |(choice, _)| choice.clone())
        };
        self.own().into_iter().enumerate().map(best).collect()
    }

    fn run(&self, variant: usize, choice: &Choice, seed: u64) -> Run {
        let row = &self.variants[variant];
        let Choice { rate, schedule } = choice;
        let mut cell = row.cell(format!("{}.{schedule}.lr{rate}.seed{seed}", row.slug), *rate, seed);
        if cell.settings.schedule.kind != *schedule {
            let warmup = cell.settings.schedule.warmup.clone();
            cell.settings.schedule = ScheduleSettings { kind: schedule.clone(), warmup, ..ScheduleSettings::default() };
        }
        Run { variant, choice: choice.clone(), cell }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::launcher::compare::plan::methods;
    use crate::launcher::compare::plan::tests::settings;

    pub fn plan() -> Plan {
        let rows = [("sgd", "sgd"), ("fngd", "fngd"), ("ngd", "ngd")];
        Plan {
            schema: 1,
            model_sha256: "00".into(),
            parts: vec![Part::Sharing],
            seeds: vec![4, 5],
            tune: 3,
            tuning_seed: 1004,
            schedules: vec!["cosine".into(), "multistep".into()],
            variants: methods(rows.map(|(label, name)| (label.to_owned(), settings(name, 0.1))).to_vec()),
        }
    }

    #[test]
    fn every_variant_has_as_many_trials_and_runs() {
        let plan = plan();
        let trials = plan.trials();
        assert_eq!(trials.len(), 3 * 3 * 2);
        for variant in 0..3 {
            let own: Vec<_> = trials.iter().filter(|run| run.variant == variant).map(|run| &run.choice).collect();
            assert_eq!(
                own.iter().map(|choice| choice.rate).collect::<Vec<_>>(),
                [0.0316, 0.0316, 0.1, 0.1, 0.316, 0.316]
            );
            assert_eq!(own.iter().filter(|choice| choice.schedule == "multistep").count(), 3);
        }
        assert!(trials.iter().all(|run| run.cell.settings.train.seed == 1004));
        let names: Vec<String> = plan.runs(&plan.own()).into_iter().map(|run| run.cell.name).collect();
        assert_eq!(names[..2], ["sgd.cosine.lr0.1.seed4", "fngd.cosine.lr0.1.seed4"]);
        assert_eq!(names.len(), 6);
        assert!(Plan { tune: 1, ..plan }.trials().is_empty());
    }

    #[test]
    fn a_variant_that_is_about_a_schedule_keeps_it() {
        let mut plan = plan();
        plan.variants[0].settings.schedule.kind = "multistep".into();
        let trials = plan.trials();
        let kinds: Vec<&str> =
            trials.iter().filter(|run| run.variant == 0).map(|run| run.choice.schedule.as_str()).collect();
        assert_eq!(kinds, ["multistep"; 3]);
    }

    #[test]
    fn a_plan_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), plan().to_toml().unwrap()).unwrap();
        assert_eq!(Plan::read(folder.path()).unwrap(), plan());
        let other = Plan::read(Path::new("nowhere")).unwrap_err().message;
        assert!(other.starts_with("nowhere is not a study: cannot read its study.toml: "), "{other}");
    }

    #[test]
    fn parts_share_their_variants() {
        let found = variants(&[Part::Sharing, Part::Keys, Part::Schedule]);
        let labels: Vec<&str> = found.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels[..5], ["sgd", "fngd", "ngd", "sample keys", "mean"]);
        assert_eq!(found.last(), Some(&("fngd, steps, half", "fngd:schedule.kind=multistep")));
        for part in Part::value_variants() {
            assert!(VARIANTS.iter().any(|(known, _)| known == part), "{part:?}");
        }
    }
}
