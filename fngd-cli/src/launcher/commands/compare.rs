//! `compare`.

use super::engine;
use crate::launcher::arguments::Global;
use crate::launcher::cells::{self, CellResult, Options};
use crate::launcher::compare::arguments::Compare;
use crate::launcher::compare::plan::{self, Plan, Run};
use crate::launcher::compare::summary::Comparison;
use crate::launcher::compare::tuning::{self, Tuning};
use crate::launcher::compare::{self, REPORTS, methods, table};
use crate::launcher::engine::Engine;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::{front, keys, model, print_line, text};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::Path;

pub fn run(arguments: Compare, global: &Global) -> Result<u8> {
    match &arguments.resume {
        Some(folder) => {
            let directory = RunDirectory::open_by(folder, plan::FILE, "a comparison")?;
            let plan = Plan::read(directory.path())?;
            check_model(&plan)?;
            Work { directory, plan, retry_failed: arguments.retry_failed }.go(&mut engine(global)?, global)
        }
        None => {
            let (plan, folder) = self::plan(arguments, global)?;
            let mut engine = engine(global)?;
            let directory = RunDirectory::create_by(&folder.runs, folder.name.as_deref(), &folder.default)?;
            directory.write(plan::FILE, plan.to_toml()?.as_bytes())?;
            directory.write("cmdline.txt", super::train::command_line().as_bytes())?;
            Work { directory, plan, retry_failed: false }.go(&mut engine, global)
        }
    }
}

/// Where a comparison is going to be.
struct Folder {
    runs: std::path::PathBuf,
    name: Option<String>,
    /// Its name if none is given.
    default: String,
}

fn plan(arguments: Compare, global: &Global) -> Result<(Plan, Folder)> {
    let flags = &arguments.plan;
    let Some(list) = &flags.optimizers else {
        return Err(Failure::usage("which optimizers shall be compared?").with_help("--optimizers sgd,adamw,fngd"));
    };
    let rows = methods::parse(list)?;
    let reference = reference(&rows, flags.reference.as_deref())?;
    let target = flags.target.as_deref().map(target).transpose()?.flatten();
    let trials = flags.tune.as_deref().map(tuning::parse).transpose()?;
    let (seeds, require_target, keep_checkpoints) =
        (flags.seeds.unwrap_or(3), flags.require_target, flags.keep_checkpoints);
    let variables: Vec<(String, String)> =
        text::variables().into_iter().filter(|(name, _)| name.starts_with("FNGD_")).collect();
    let resolved = methods::settings(&rows, arguments, global, &variables)?;
    let mut front = front::choose(global);
    resolved.iter().flat_map(|row| &row.warnings).for_each(|warning| front.warning(warning));
    // OK because a list has at least two rows.
    let first = resolved[0].settings.clone();
    let model = model::open(&first.model, &first.import, first.train.freeze.as_deref())?;
    let seed = first.train.seed;
    let stem = first.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let settings = rows.iter().zip(resolved).map(|(row, resolved)| (row.label.clone(), resolved.settings));
    let plan = Plan {
        schema: 1,
        model_sha256: model.sha256().to_owned(),
        reference,
        target,
        seeds: (seed..seed + u64::from(seeds)).collect(),
        require_target,
        keep_checkpoints,
        tuning: trials.map(|trials| Tuning { trials, seed: seed + tuning::SEED_OFFSET }),
        methods: plan::methods(settings.collect()),
    };
    Ok((plan, Folder { runs: first.train.runs_dir, name: first.train.name, default: format!("{stem}-compare") }))
}

/// The row that the others are compared with.
fn reference(rows: &[methods::Typed], wanted: Option<&str>) -> Result<String> {
    let Some(wanted) = wanted else {
        let sgd = rows.iter().find(|row| row.label == "sgd");
        return Ok(sgd.unwrap_or(&rows[0]).label.clone());
    };
    if rows.iter().any(|row| row.label == wanted) {
        return Ok(wanted.to_owned());
    }
    let labels: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    Err(Failure::usage(format!(
        "`--reference` must be {}, found `{}`",
        text::alternatives(&labels),
        text::name(wanted)
    )))
}

/// `None` for `auto`.
fn target(typed: &str) -> Result<Option<f64>> {
    if typed == "auto" {
        return Ok(None);
    }
    // OK because the table has this setting.
    let key = keys::find("stop.val_acc").expect("the table has stop.val_acc");
    let value =
        key.parse(typed).map_err(|expectation| Failure::usage(format!("`--target` {expectation}, or `auto`")))?;
    Ok(value.as_float())
}

/// Runs that begin with other weights are no runs of the same comparison.
fn check_model(plan: &Plan) -> Result<()> {
    // OK because a plan has at least two methods.
    let settings = &plan.methods[0].settings;
    let model = model::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    if model.sha256() == plan.model_sha256 {
        return Ok(());
    }
    Err(Failure::new(Code::Model, format!("{} changed since the comparison was begun", settings.model.display()))
        .with_help("put the file back, or start another comparison"))
}

struct Work {
    directory: RunDirectory,
    plan: Plan,
    retry_failed: bool,
}

impl Work {
    fn go(self, engine: &mut Engine, global: &Global) -> Result<u8> {
        let plan = &self.plan;
        let folder = self.directory.path().to_owned();
        let trials = plan.tuning.map(|tuning| tuning::trials(plan, tuning)).unwrap_or_default();
        let count = plan.methods.len() * plan.seeds.len();
        if !global.quiet {
            let tuning = if trials.is_empty() { String::new() } else { format!(" after {} trials", trials.len()) };
            eprintln!("  {count} runs{tuning}, in {}", folder.display());
        }
        let trials = self.train(trials, engine, global)?;
        let rates = self.rates(&trials);
        let runs = self.train(plan.runs(&rates), engine, global)?;
        let machine = runs.iter().find_map(|(run, _)| machine(&folder, run)).unwrap_or(Value::Null);
        let comparison = Comparison::of(plan, &rates, &trials, &runs, machine);
        let command = std::fs::read_to_string(folder.join("cmdline.txt")).unwrap_or_default();
        compare::write(&comparison, &self.directory, &command)?;
        self.directory.is_latest();
        let missed = comparison.methods.iter().any(|method| method.seconds_to_target.is_none());
        let code = if plan.require_target && missed { Code::Target as u8 } else { 0 };
        if global.json {
            let mut document = json!(comparison);
            document["folder"] = json!(folder);
            document["exit_code"] = code.into();
            print_line(&format!("{document:#}"));
            return Ok(code);
        }
        let bold = std::io::stdout().is_terminal() && front::colors(global);
        print_line("");
        table::terminal(&comparison, bold).iter().for_each(|line| print_line(line));
        let word = text::shell(&folder.display().to_string());
        if !comparison.is_whole() {
            print_line(&format!("  retry   fngd-cli compare --resume {word} --retry-failed"));
        }
        print_line(&format!("  {}  -> {}/", REPORTS.join("  "), folder.display()));
        Ok(code)
    }

    fn train(&self, runs: Vec<Run>, engine: &mut Engine, global: &Global) -> Result<Vec<(Run, CellResult)>> {
        let folder = self.directory.path();
        let options = Options {
            retry_failed: self.retry_failed,
            keep_checkpoints: self.plan.keep_checkpoints,
            go_on: format!("fngd-cli compare --resume {}", text::shell(&folder.display().to_string())),
        };
        let planned: Vec<cells::Cell> = runs.iter().map(|run| run.cell.clone()).collect();
        let results = cells::run(folder, &planned, &options, engine, global)?;
        Ok(runs.into_iter().zip(results).collect())
    }

    /// The learning rate of each method: its own, or the best that was tried.
    fn rates(&self, trials: &[(Run, CellResult)]) -> Vec<f64> {
        let own = self.plan.own_rates();
        let rate = |(method, own): (usize, &f64)| {
            let tried = trials.iter().filter(|(run, _)| run.method == method);
            let tried: Vec<(f64, &CellResult)> =
                tried.filter_map(|(run, result)| Some((run.cell.settings.optimizer.lr?, result))).collect();
            tuning::best(&tried, *own).unwrap_or(*own)
        };
        own.iter().enumerate().map(rate).collect()
    }
}

/// env.json of a run.
fn machine(folder: &Path, run: &Run) -> Option<Value> {
    let path = folder.join(cells::FOLDER).join(&run.cell.name).join("env.json");
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}
