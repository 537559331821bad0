//! `study`.

use super::engine;
use crate::launcher::arguments::Global;
use crate::launcher::cells::{self, Cell, CellResult, Options};
use crate::launcher::compare::arguments::{Compare, PlanFlags};
use crate::launcher::compare::plan::Method;
use crate::launcher::compare::{self, methods, tuning};
use crate::launcher::download::data_source;
use crate::launcher::engine::Engine;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::study::arguments::Study;
use crate::launcher::study::observation::Observation;
use crate::launcher::study::observed::Observed;
use crate::launcher::study::plan::{self, Part, Plan, Run};
use crate::launcher::study::report::{REPORTS, Report, sentence};
use crate::launcher::study::results::{Results, Terms, rows};
use crate::launcher::{keys, model, print_line, text};
use crate::protocol::{self, Event, Job, Status};
use crate::settings::Settings;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The folder of what was measured from beside, in the folder of the study.
const OBSERVATIONS: &str = "observations";

pub fn run(arguments: Study, global: &Global) -> Result<u8> {
    if let Some(folder) = &arguments.resume {
        let directory = RunDirectory::open_by(folder, plan::FILE, "a study")?;
        let plan = Plan::read(directory.path())?;
        check_model(&plan)?;
        return Work { directory, plan }.go(&mut engine(global)?, global);
    }
    let dry_run = arguments.plan.dry_run;
    let (plan, place) = self::plan(arguments, global)?;
    let mut engine = engine(global)?;
    if dry_run {
        return self::dry_run(&plan, &mut engine, global);
    }
    let directory = RunDirectory::create_by(&place.0, place.1.as_deref(), "study")?;
    directory.write(plan::FILE, plan.to_toml()?.as_bytes())?;
    directory.write("cmdline.txt", super::train::command_line().as_bytes())?;
    Work { directory, plan }.go(&mut engine, global)
}

/// The plan, and where it goes: the folder of runs, and its name.
fn plan(arguments: Study, global: &Global) -> Result<(Plan, (PathBuf, Option<String>))> {
    let Study { plan: flags, import, data, run, .. } = arguments;
    let mut parts = if flags.parts.is_empty() { Part::value_variants().to_vec() } else { flags.parts };
    parts.sort_unstable();
    parts.dedup();
    let schedules = schedules(flags.schedules)?;
    let (seeds, tune) = (flags.seeds.unwrap_or(3), flags.tune.unwrap_or(3));
    let common = Compare {
        plan: PlanFlags {
            model: flags.model,
            config: flags.config,
            set: flags.set,
            schedule: Some(schedules[0].clone()),
            ..PlanFlags::default()
        },
        import,
        data,
        run,
        ..Compare::default()
    };
    let variants = variants(&parts, common, flags.damping, global)?;
    // OK because every part has a variant.
    let first = &variants[0].settings;
    let model = model::open(&first.model, &first.import, first.train.freeze.as_deref())?;
    let place = (first.train.runs_dir.clone(), first.train.name.clone());
    let seed = first.train.seed;
    let plan = Plan {
        schema: 1,
        model_sha256: model.sha256().to_owned(),
        parts,
        seeds: (seed..seed + u64::from(seeds)).collect(),
        tune,
        tuning_seed: seed + tuning::SEED_OFFSET,
        schedules,
        variants,
    };
    Ok((plan, place))
}

fn schedules(typed: Vec<String>) -> Result<Vec<String>> {
    if typed.is_empty() {
        return Ok(["cosine", "multistep"].map(str::to_owned).to_vec());
    }
    // OK because the table has this setting.
    let key = keys::find("schedule.kind").expect("the table has schedule.kind");
    for name in &typed {
        key.parse(name).map_err(|expectation| Failure::usage(format!("`--schedules` {expectation}")))?;
    }
    Ok(typed)
}

/// The variants with all their settings.
fn variants(parts: &[Part], common: Compare, damping: Option<f64>, global: &Global) -> Result<Vec<Method>> {
    let wanted = plan::variants(parts);
    let list = told(&wanted);
    let variables: Vec<(String, String)> =
        text::variables().into_iter().filter(|(name, _)| name.starts_with("FNGD_")).collect();
    let resolved = methods::settings(&methods::parse(&list.join(","))?, common, global, &variables)?;
    let rows = wanted.into_iter().map(|(label, typed)| {
        // OK because every variant is in the list, and each row of the list has its settings.
        let row = list.iter().position(|listed| *listed == typed).expect("the list has every variant");
        let mut settings = resolved[row].settings.clone();
        if label.ends_with(plan::HALF) {
            settings.train.epochs = settings.train.epochs.div_ceil(2);
        }
        let weights = matches!(settings.optimizer.name.as_str(), "fngd" | "ngd") && !typed.contains("damping=");
        if let Some(damping) = damping.filter(|_| weights) {
            settings.optimizer.damping = Some(damping);
        }
        (label.to_owned(), settings)
    });
    let mut variants = compare::plan::methods(rows.collect());
    // A folder whose name begins with a dash is taken for an option.
    for variant in &mut variants {
        if let Some(damping) = variant.label.strip_prefix("γ = ") {
            variant.slug = format!("damping-{damping}");
        }
    }
    Ok(variants)
}

/// What `compare` is told for these variants: each once, and at least two.
fn told(variants: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    // Half of the epochs is nothing that a list could say: such variants are told like those with all of them.
    let mut list: Vec<&str> = Vec::new();
    for (_, typed) in variants.iter().chain(&[("", "sgd"), ("", "fngd")]) {
        if !list.contains(typed) {
            list.push(typed);
        }
    }
    list
}

/// Runs that begin with other weights are no runs of the same study.
fn check_model(plan: &Plan) -> Result<()> {
    // OK because a plan has at least one variant.
    let settings = &plan.variants[0].settings;
    let model = model::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    if model.sha256() == plan.model_sha256 {
        return Ok(());
    }
    Err(Failure::new(Code::Model, format!("{} changed since the study was begun", settings.model.display()))
        .with_help("put the file back, or start another study"))
}

struct Work {
    directory: RunDirectory,
    plan: Plan,
}

impl Work {
    fn go(self, engine: &mut Engine, global: &Global) -> Result<u8> {
        let folder = self.directory.path().to_owned();
        if !global.quiet {
            eprintln!("  {}, in {}", counts(&self.plan).words(), folder.display());
        }
        let observed = if self.plan.observes() { self.observe(engine, global)? } else { Observed::default() };
        let results = if self.plan.trains() { self.train(engine, global)? } else { Results::default() };
        let command = std::fs::read_to_string(folder.join("cmdline.txt")).unwrap_or_default();
        let machine = machine(&folder);
        let report = Report { plan: &self.plan, results: &results, observed: &observed, command: &command, machine };
        report.write(&self.directory)?;
        self.directory.is_latest();
        let findings = report.findings();
        if global.json {
            let rows = findings.iter().map(|(terms, finding)| {
                let mut row = json!(finding);
                row["terms"] = json!(terms.map(Terms::words));
                row["verdict"] = json!(finding.verdict());
                row["sentence"] = json!(finding.sentence());
                row
            });
            let document = json!({ "schema": 1, "folder": folder, "findings": rows.collect::<Vec<Value>>() });
            print_line(&format!("{document:#}"));
            return Ok(0);
        }
        print_line("");
        findings.iter().for_each(|finding| print_line(&format!("  {}", sentence(finding))));
        print_line(&format!("\n  {}  -> {}/", REPORTS.join("  "), folder.display()));
        Ok(0)
    }

    /// Trials, the runs under one schedule, and those of each one's best.
    fn train(&self, engine: &mut Engine, global: &Global) -> Result<Results> {
        let plan = &self.plan;
        let own = plan.own();
        let trials = self.cells(plan.trials(), engine, global)?;
        let same = self.cells(plan.runs(&own), engine, global)?;
        let mut results = Results::default();
        if !trials.is_empty() {
            let best = plan.best(&trials);
            let runs = self.cells(plan.runs(&best), engine, global)?;
            results.best = rows(plan, &best, runs);
        }
        results.same = rows(plan, &own, same);
        results.has_test = results.same.iter().flat_map(|row| &row.runs).any(|run| run.test.is_some());
        Ok(results)
    }

    fn cells(&self, runs: Vec<Run>, engine: &mut Engine, global: &Global) -> Result<Vec<(Run, CellResult)>> {
        let folder = self.directory.path();
        let options = Options { retry_failed: false, keep_checkpoints: false, go_on: self.go_on() };
        let planned: Vec<Cell> = runs.iter().map(|run| run.cell.clone()).collect();
        let results = cells::run(folder, &planned, &options, engine, global)?;
        Ok(runs.into_iter().zip(results).collect())
    }

    /// Looks at a run of each seed from beside. What is there is kept.
    fn observe(&self, engine: &mut Engine, global: &Global) -> Result<Observed> {
        let folder = self.directory.path().join(OBSERVATIONS);
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::environment(format!("cannot make {}: {error}", folder.display())))?;
        let mut observed = Observed::default();
        for seed in &self.plan.seeds {
            let path = folder.join(format!("seed{seed}.safetensors"));
            if !path.exists() {
                if !global.quiet {
                    eprintln!("  looking at the run of seed {seed}");
                }
                self.look(*seed, path.clone(), engine, global)?;
            }
            observed.seeds.push(Observation::read(&path)?);
        }
        Ok(observed)
    }

    fn look(&self, seed: u64, output: PathBuf, engine: &mut Engine, global: &Global) -> Result<()> {
        // OK because the parts that look have this variant.
        let variant = self.plan.variant("fngd").expect("a study that looks has fngd");
        let mut settings = self.plan.variants[variant].settings.clone();
        settings.train.seed = seed;
        let data = data_source(&settings.data.spec, settings.data.dir.as_deref(), global)?;
        let (epochs, moments) = looks(settings.train.epochs);
        engine.log = Some(self.directory.append("observations.log")?);
        engine.keep_open = vec![self.directory.lock_descriptor()];
        let job = Job::Observe(protocol::Observe { settings, data, epochs, moments, output });
        let outcome = engine.run(&job, &mut |event| {
            if let Event::Warning { message } = event
                && global.verbose > 0
            {
                eprintln!("  {message}");
            }
            Ok(())
        })?;
        match outcome.status {
            Status::Interrupted | Status::Terminated => {
                let code = if outcome.status == Status::Interrupted { Code::Interrupted } else { Code::Terminated };
                Err(Failure::new(code, format!("stopped while looking at the run of seed {seed}"))
                    .with_help(format!("go on with: {}", self.go_on())))
            }
            _ => Ok(()),
        }
    }

    fn go_on(&self) -> String {
        format!("fngd-cli study --resume {}", text::shell(&self.directory.path().display().to_string()))
    }
}

/// The epochs that are solved afresh, and the moments when layers are compared: the first, the second, the middle, the last.
fn looks(epochs: u64) -> (Vec<u64>, Vec<u64>) {
    let mut chosen = vec![1, 2, epochs.div_ceil(2), epochs];
    chosen.retain(|epoch| (1..=epochs).contains(epoch));
    chosen.sort_unstable();
    chosen.dedup();
    let moments = std::iter::once(0).chain(chosen.iter().copied()).collect();
    (chosen, moments)
}

/// How many runs a plan has at most.
struct Counts {
    trials: usize,
    runs: usize,
    best: usize,
    looks: usize,
}

fn counts(plan: &Plan) -> Counts {
    let trains = plan.trains();
    let trials = if trains { plan.trials().len() } else { 0 };
    let runs = if trains { plan.variants.len() * plan.seeds.len() } else { 0 };
    Counts {
        trials,
        runs,
        best: if trials > 0 { runs } else { 0 },
        looks: if plan.observes() { plan.seeds.len() } else { 0 },
    }
}

impl Counts {
    fn words(&self) -> String {
        let Counts { trials, runs, best, looks } = self;
        let mut words = Vec::new();
        if *runs > 0 {
            words.push(format!("{runs} runs under one schedule"));
        }
        if *trials > 0 {
            words.push(format!("{trials} trials, and at most {best} runs of what they choose"));
        }
        if *looks > 0 {
            words.push(format!("{looks} runs looked at"));
        }
        words.join(", ")
    }
}

/// Trains one epoch to know how long all would take, and writes nothing.
fn dry_run(plan: &Plan, engine: &mut Engine, global: &Global) -> Result<u8> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::environment(format!("cannot make a temporary folder: {error}")))?;
    // OK because a plan has at least one variant.
    let mut settings: Settings = plan.variants[0].settings.clone();
    let epochs = settings.train.epochs;
    settings.train.epochs = 1;
    let data = data_source(&settings.data.spec, settings.data.dir.as_deref(), global)?;
    let job =
        Job::Train { settings, data, run: folder.path().to_owned(), resume: false, dry_run: false, export: false };
    let start = Instant::now();
    let outcome = engine.run(&job, &mut |_| Ok(()))?;
    let (wall, epoch) = (start.elapsed().as_secs_f64(), outcome.train_seconds);
    let counts = counts(plan);
    let seconds = estimate(&counts, (wall - epoch).max(0.0), epoch, epochs as f64);
    let parts: Vec<Value> = plan.parts.iter().map(|part| json!(part)).collect();
    if global.json {
        let Counts { trials, runs, best, looks } = counts;
        print_line(&format!(
            "{:#}",
            json!({
                "schema": 1, "parts": parts, "variants": plan.variants.iter().map(|row| &row.label).collect::<Vec<_>>(),
                "seeds": plan.seeds, "runs": runs, "trials": trials, "best": best, "looks": looks, "seconds": seconds,
            })
        ));
        return Ok(0);
    }
    let names: Vec<&str> = plan.variants.iter().map(|row| row.label.as_str()).collect();
    let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
    print_line(&format!("  parts      {}", parts.join(", ")));
    print_line(&format!("  variants   {}", names.join(" · ")));
    print_line(&format!("  runs       {}", counts.words()));
    print_line(&format!(
        "  time       about {} ({:.2} s an epoch, measured with `{}`; solving costs more)",
        text::duration(seconds),
        epoch,
        names[0]
    ));
    Ok(0)
}

/// Seconds of everything: each run starts and trains; one that is looked at solves in a few epochs, which costs about two each.
fn estimate(counts: &Counts, start: f64, epoch: f64, epochs: f64) -> f64 {
    const LOOKED_AT: f64 = 4.0;
    let runs = (counts.trials + counts.runs + counts.best) as f64;
    runs * (start + epochs * epoch) + counts.looks as f64 * (start + (epochs + 2.0 * LOOKED_AT.min(epochs)) * epoch)
}

/// What the runs ran on, in a sentence.
fn machine(folder: &Path) -> String {
    let first = std::fs::read_dir(folder.join(cells::FOLDER)).ok().into_iter().flatten().flatten();
    let mut environments = first.map(|entry| entry.path().join("env.json"));
    let found = environments.find_map(|path| std::fs::read_to_string(path).ok());
    let found: Value = found.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    compare::machine(&found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::arguments::{DataFlags, RunFlags};

    #[test]
    fn a_run_is_looked_at_where_it_begins_and_ends() {
        assert_eq!(looks(1), (vec![1], vec![0, 1]));
        assert_eq!(looks(2), (vec![1, 2], vec![0, 1, 2]));
        assert_eq!(looks(9), (vec![1, 2, 5, 9], vec![0, 1, 2, 5, 9]));
    }

    #[test]
    fn every_part_has_settings_and_half_of_the_epochs_where_it_says_so() {
        use clap::Parser;
        let cli = crate::launcher::arguments::Cli::try_parse_from(["fngd-cli", "doctor"]).unwrap();
        let resolve = |parts: &[Part]| {
            let plan = PlanFlags { model: Some("m.onnx".into()), ..PlanFlags::default() };
            let run = RunFlags { epochs: Some("9".into()), ..RunFlags::default() };
            let data = DataFlags { spec: Some("digits".into()), ..DataFlags::default() };
            variants(parts, Compare { plan, run, data, ..Compare::default() }, Some(0.2), &cli.global).unwrap()
        };
        for part in Part::value_variants() {
            assert!(!resolve(&[*part]).is_empty(), "{part:?}");
        }
        let all = resolve(Part::value_variants());
        for row in &all {
            let (label, settings) = (&row.label, &row.settings);
            assert_eq!(settings.train.epochs, if label.ends_with(", half") { 5 } else { 9 }, "{label}");
            let weighted = matches!(settings.optimizer.name.as_str(), "fngd" | "ngd");
            let damping = label.strip_prefix("γ = ").map_or(0.2, |typed| typed.parse().unwrap());
            assert_eq!(settings.optimizer.damping, weighted.then_some(damping), "{label}");
            assert!(row.slug.starts_with(|first: char| first.is_ascii_alphanumeric()), "{}", row.slug);
        }
        let named = |label: &str| all.iter().find(|row| row.label == label).unwrap().settings.clone();
        assert_eq!(named("sgd, steps, half").schedule.kind, "multistep");
        assert_eq!(named("fngd over muon").optimizer.inner.as_deref(), Some("muon"));
        assert_eq!(named("permuted").optimizer.ablate.as_deref(), Some("permute"));
    }

    #[test]
    fn time_is_added_up() {
        let counts = Counts { trials: 6, runs: 3, best: 3, looks: 1 };
        // 12 runs of 1 + 10 · 2 = 21 s, and one of 1 + 18 · 2 = 37 s.
        assert_eq!(estimate(&counts, 1.0, 2.0, 10.0), 289.0);
        assert_eq!(
            counts.words(),
            "3 runs under one schedule, 6 trials, and at most 3 runs of what they choose, 1 runs looked at"
        );
    }
}
