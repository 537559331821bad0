//! Settings from where they come: built-in < recipe < file < `FNGD_*` variable < flag < `--set`. Each keeps its origin.

use crate::launcher::arguments::{Global, Train};
use crate::launcher::failure::{Failure, Result};
use crate::launcher::keys::{self, KEYS, Key, User};
use crate::launcher::recipes::Recipe;
use crate::launcher::{recipes, text};
use crate::methods::{self, has_inner};
use crate::settings::{DataSettings, Settings, StopSettings, method_defaults};
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Default of the chosen method or schedule.
    DefaultOf(String),
    /// The recipe with this name.
    Recipe(&'static str),
    File {
        path: String,
        line: usize,
    },
    Variable(String),
    Flag(&'static str),
    Set,
}

/// Settings, complete and checked.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub settings: Settings,
    /// What the user should hear once.
    pub warnings: Vec<String>,
    values: Values,
}

/// Settings so far, and where each comes from.
pub type Values = BTreeMap<&'static str, (Value, Origin)>;

/// Settings of `train`.
pub fn resolve(train: &Train, global: &Global, variables: &[(String, String)]) -> Result<Resolved> {
    let mut values = Values::new();
    let recipe = train.recipe.as_deref().map(recipes::find).transpose()?;
    if let Some(recipe) = recipe {
        read_recipe(recipe, &mut values)?;
    }
    if let Some(path) = &train.config {
        read_file(path, &mut values)?;
    }
    read_variables(variables, &mut values)?;
    read_flags(train, global, &mut values)?;
    read_set(&train.set, &mut values)?;
    if let Some(recipe) = recipe {
        recipe.fit(&values)?;
    }
    let warnings = drop_unused(&mut values)?;
    fill_defaults(&mut values);
    require(&values)?;
    let settings = assemble(&values)?;
    Ok(Resolved { settings, warnings, values })
}

impl Resolved {
    /// The settings of a run directory, with the changes that `resume` allows.
    pub fn of_run(config: &Path, epochs: Option<&str>, global: &Global) -> Result<Resolved> {
        let train = Train {
            config: Some(config.to_owned()),
            run: crate::launcher::arguments::RunFlags { epochs: epochs.map(str::to_owned), ..Default::default() },
            ..Train::default()
        };
        resolve(&train, global, &[])
    }

    /// Where a value comes from.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.values.get(name).map(|(_, origin)| origin)
    }

    /// The settings whose names begin with `section`, in the order of the table.
    pub fn of_section(&self, section: &str) -> impl Iterator<Item = (&'static Key, &Value, &Origin)> {
        let inside = KEYS.iter().filter(move |key| key.name.starts_with(section));
        inside.filter_map(|key| self.values.get(key.name).map(|(value, origin)| (key, value, origin)))
    }

    /// `config.toml`: every value, and after it where it came from.
    pub fn to_toml(&self) -> String {
        let mut out = "# The settings of this run, complete; after each value, where it came from.\n\
            # Run it again: fngd-cli train -c config.toml\n"
            .to_owned();
        let mut section = "";
        for key in KEYS {
            let Some((value, origin)) = self.values.get(key.name) else { continue };
            let (this, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if this != section || section.is_empty() {
                section = this;
                out += "\n";
                if !this.is_empty() {
                    out += &format!("[{this}]\n");
                }
            }
            out += &format!("{:<32}  # {}\n", format!("{name} = {value}"), text::name(&origin.to_string()));
        }
        out
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::DefaultOf(who) => write!(f, "default of {who}"),
            Origin::Recipe(name) => write!(f, "recipe {name}"),
            Origin::File { path, line } => write!(f, "{path}, line {line}"),
            Origin::Variable(name) => write!(f, "{name}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Set => write!(f, "--set"),
        }
    }
}

/// How a message names a setting: by what the user typed.
fn spoken(key: &Key, origin: &Origin) -> String {
    match origin {
        Origin::Flag(flag) => format!("`{flag}`"),
        Origin::Variable(name) => format!("`{name}`"),
        Origin::File { path, line } => format!("{path}, line {line}: `{}`", key.name),
        Origin::Set => format!("`--set {}`", key.name),
        Origin::Recipe(name) => format!("recipe `{name}`: `{}`", key.name),
        Origin::Default | Origin::DefaultOf(_) => format!("`{}`", key.name),
    }
}

fn insert(
    values: &mut Values,
    key: &'static Key,
    value: std::result::Result<Value, String>,
    origin: Origin,
) -> Result<()> {
    let value = value.map_err(|expectation| Failure::usage(format!("{} {expectation}", spoken(key, &origin))))?;
    values.insert(key.name, (value, origin));
    Ok(())
}

fn read_recipe(recipe: &'static Recipe, values: &mut Values) -> Result<()> {
    for (name, typed) in recipe.settings {
        // OK because a test looks up every setting of every recipe.
        let key = keys::find(name).expect("recipes name settings of the table");
        insert(values, key, key.parse(typed), Origin::Recipe(recipe.name))?;
    }
    Ok(())
}

fn read_file(path: &Path, values: &mut Values) -> Result<()> {
    const MOST_BYTES: u64 = 1 << 20;
    let shown = path.display().to_string();
    let cannot = |why: String| Failure::usage(format!("cannot read the settings file {}: {why}", text::name(&shown)));
    let metadata = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if !metadata.is_file() {
        return Err(cannot("it is not a file".to_owned()));
    }
    if metadata.len() > MOST_BYTES {
        return Err(cannot(format!("it has {}, at most 1.0 MiB is read", text::bytes(metadata.len()))));
    }
    let source = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    let line_of = |offset: usize| source[..offset.min(source.len())].matches('\n').count() + 1;
    let broken = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        Failure::usage(format!("{shown}, line {line}: {}", error.message()))
    };
    let spans = toml::de::DeTable::parse(&source).map_err(broken)?;
    let table: Table = toml::from_str(&source).map_err(broken)?;
    let unknown = |name: &str, line: usize| {
        let nearest = text::nearest(name, KEYS.iter().map(|key| key.name));
        Failure::usage(format!("{shown}, line {line}: there is no setting `{}`", text::name(name)))
            .with_maybe_help(nearest.map(|nearest| format!("did you mean `{nearest}`?")))
    };
    for (name, value) in spans.get_ref() {
        let line = line_of(name.span().start);
        let name = name.get_ref().as_ref();
        // OK because both tables are parses of the same text.
        let plain = &table[name];
        if let (Some(inner), Value::Table(section)) = (value.get_ref().as_table(), plain) {
            if !KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(known, _)| known == name)) {
                let nearest = text::nearest(name, ["import", "data", "train", "optimizer", "schedule", "stop"]);
                return Err(Failure::usage(format!(
                    "{shown}, line {line}: there is no section `[{}]`",
                    text::name(name)
                ))
                .with_maybe_help(nearest.map(|nearest| format!("did you mean `[{nearest}]`?"))));
            }
            for entry in inner.keys() {
                let line = line_of(entry.span().start);
                let full = format!("{name}.{}", entry.get_ref());
                let key = keys::find(&full).ok_or_else(|| unknown(&full, line))?;
                let value = section[entry.get_ref().as_ref()].clone();
                insert(values, key, key.check(value), Origin::File { path: shown.clone(), line })?;
            }
        } else {
            let key = keys::find(name).ok_or_else(|| unknown(name, line))?;
            insert(values, key, key.check(plain.clone()), Origin::File { path: shown.clone(), line })?;
        }
    }
    Ok(())
}

fn read_variables(variables: &[(String, String)], values: &mut Values) -> Result<()> {
    const SECTIONS: [&str; 6] =
        ["FNGD_IMPORT_", "FNGD_DATA_", "FNGD_TRAIN_", "FNGD_OPTIMIZER_", "FNGD_SCHEDULE_", "FNGD_STOP_"];
    // Says where data is downloaded from; no setting, because it changes no result.
    const MIRROR: &str = "FNGD_DATA_MIRROR";
    for (name, value) in variables.iter().filter(|(name, _)| name != MIRROR) {
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *name) {
            insert(values, key, key.parse(value), Origin::Variable(name.clone()))?;
        } else if SECTIONS.iter().any(|section| name.starts_with(section)) {
            let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
            let nearest = text::nearest(name, known.iter().map(String::as_str));
            return Err(Failure::usage(format!("the environment has `{}`, which is no setting", text::name(name)))
                .with_maybe_help(nearest.map(|nearest| format!("did you mean `{nearest}`? Else unset it"))));
        }
    }
    Ok(())
}

fn read_flags(train: &Train, global: &Global, values: &mut Values) -> Result<()> {
    let model = train.model.as_ref().map(|path| path.display().to_string());
    let (data, run, optimizer, stop) = (&train.data, &train.run, &train.optimizer, &train.stop);
    let on = |switch: bool| switch.then(|| "true".to_owned());
    let (restore_bias, restore_bn, dynamic_batch) =
        (on(train.import.restore_bias), on(train.import.restore_bn), on(train.dynamic_batch));
    let flags = [
        ("model", &model),
        ("import.skip_repairs", &train.import.no_repair),
        ("import.restore_bias", &restore_bias),
        ("import.restore_batch_norm", &restore_bn),
        ("import.dynamic_batch", &dynamic_batch),
        ("data.spec", &data.spec),
        ("data.dir", &data.dir),
        ("data.val", &data.val),
        ("data.aug", &data.aug),
        ("train.epochs", &run.epochs),
        ("train.batch", &run.batch),
        ("train.accumulation", &run.accum),
        ("train.seed", &run.seed),
        ("train.device", &global.device),
        ("train.threads", &global.threads),
        ("train.label_smoothing", &run.label_smoothing),
        ("train.clip_norm", &run.clip_norm),
        ("train.classes", &run.classes),
        ("train.freeze", &run.freeze),
        ("train.max_steps", &stop.max_steps),
        ("train.runs_dir", &run.runs_dir),
        ("train.name", &run.name),
        ("optimizer.name", &optimizer.name),
        ("optimizer.lr", &optimizer.lr),
        ("optimizer.weight_decay", &optimizer.wd),
        ("optimizer.momentum", &optimizer.momentum),
        ("optimizer.inner", &optimizer.inner),
        ("optimizer.graft", &optimizer.graft),
        ("optimizer.damping", &optimizer.damping),
        ("optimizer.share", &optimizer.share),
        ("optimizer.ablate", &optimizer.ablate),
        ("optimizer.refresh", &optimizer.refresh),
        ("optimizer.step_scale", &optimizer.step_scale),
        ("optimizer.fisher", &optimizer.fisher),
        ("schedule.kind", &optimizer.schedule),
        ("schedule.warmup", &optimizer.warmup),
        ("stop.val_acc", &stop.target),
        ("stop.patience", &stop.patience),
        ("stop.max_time", &stop.max_time),
    ];
    for (name, typed) in flags {
        let Some(typed) = typed else { continue };
        // OK because a test compares this list with the table.
        let key = keys::find(name).expect("the list names settings of the table");
        insert(values, key, key.parse(typed), Origin::Flag(key.flag.unwrap_or(key.name)))?;
    }
    Ok(())
}

fn read_set(set: &[String], values: &mut Values) -> Result<()> {
    for assignment in set {
        let (name, value) = assignment.split_once('=').ok_or_else(|| {
            Failure::usage(format!("`--set {}` has no `=`", text::name(assignment)))
                .with_help("write it as --set optimizer.lr=0.1")
        })?;
        let name = name.trim();
        let key = keys::find(name).ok_or_else(|| {
            let nearest = text::nearest(name, KEYS.iter().map(|key| key.name));
            Failure::usage(format!("`--set`: there is no setting `{}`", text::name(name)))
                .with_maybe_help(nearest.map(|nearest| format!("did you mean `{nearest}`?")))
        })?;
        insert(values, key, key.parse(value), Origin::Set)?;
    }
    Ok(())
}

/// The word that a setting has now, or its default.
pub fn word<'a>(values: &'a Values, name: &str, default: &'a str) -> &'a str {
    values.get(name).and_then(|(value, _)| value.as_str()).unwrap_or(default)
}

/// A setting that does nothing is an error where the user just typed it. In a file written for another method it is
/// left out, and said.
fn drop_unused(values: &mut Values) -> Result<Vec<String>> {
    let method = word(values, "optimizer.name", "fngd").to_owned();
    let inner = word(values, "optimizer.inner", "sgd").to_owned();
    let schedule = word(values, "schedule.kind", "cosine").to_owned();
    let replaced = |name: &str| values.get(name).is_some_and(|(_, origin)| !matches!(origin, Origin::File { .. }));
    let chosen_here = [replaced("optimizer.name") || replaced("optimizer.inner"), replaced("schedule.kind")];
    let base = methods::rule(&method, Some(&inner));
    let mut warnings = Vec::new();
    for key in KEYS {
        let Some((_, origin)) = values.get(key.name) else { continue };
        let used = key.user.covers(&method, base, &schedule);
        let (what, chosen_here) = match key.user {
            User::Schedules(_) => (format!("the schedule `{schedule}`"), chosen_here[1]),
            _ if has_inner(&method) => (format!("`{method}` over `{inner}`"), chosen_here[0]),
            _ => (format!("`{method}`"), chosen_here[0]),
        };
        if used {
            let suspicious = matches!(key.name, "optimizer.lr" | "optimizer.weight_decay");
            if suspicious && chosen_here && matches!(origin, Origin::File { .. }) {
                warnings.push(format!("{} was not chosen for {what}, and is kept", spoken(key, origin)));
            }
            continue;
        }
        let message = format!("{} is not used by {what}", spoken(key, origin));
        if matches!(origin, Origin::File { .. }) && chosen_here {
            warnings.push(format!("{message}, and is left out"));
            values.remove(key.name);
        } else {
            let kind = if matches!(key.user, User::Schedules(_)) { "schedule" } else { "method" };
            let users = text::alternatives(key.user.names());
            return Err(
                Failure::usage(message).with_help(format!("leave it out, or choose a {kind} that has it: {users}"))
            );
        }
    }
    Ok(warnings)
}

fn fill_defaults(values: &mut Values) {
    let method = word(values, "optimizer.name", "fngd").to_owned();
    let inner = word(values, "optimizer.inner", "sgd").to_owned();
    let schedule = word(values, "schedule.kind", "cosine").to_owned();
    let base = methods::rule(&method, Some(&inner)).to_owned();
    if base == "shampoo" && word(values, "optimizer.graft", "sgd") == "adam" {
        let rate = Value::from(crate::settings::SHAMPOO_ADAM_LEARNING_RATE);
        values.entry("optimizer.lr").or_insert((rate, Origin::DefaultOf("shampoo with adam's graft".to_owned())));
    }
    for (name, value) in method_defaults(&method, &base) {
        values.entry(name).or_insert((value, Origin::DefaultOf(method.clone())));
    }
    for (name, value) in crate::settings::schedule_defaults(&schedule) {
        values.entry(name).or_insert((value, Origin::DefaultOf(schedule.clone())));
    }
    let defaults = Settings {
        model: Default::default(),
        import: Default::default(),
        data: DataSettings { spec: String::new(), ..DataSettings::default() },
        train: Default::default(),
        optimizer: Default::default(),
        schedule: Default::default(),
        stop: StopSettings::default(),
    };
    // OK because `Settings` is plain numbers, texts and lists.
    let defaults = Table::try_from(defaults).expect("settings are valid TOML");
    for key in KEYS {
        let Some((section, name)) = key.name.split_once('.') else { continue };
        let default = defaults.get(section).and_then(|section| section.get(name));
        if let Some(default) = default.filter(|default| default.as_str() != Some("")) {
            values.entry(key.name).or_insert((default.clone(), Origin::Default));
        }
    }
}

fn require(values: &Values) -> Result<()> {
    if !values.contains_key("model") {
        return Err(Failure::usage("which model shall be trained?")
            .with_help("fngd-cli train MODEL.onnx --data digits, or `model` in a settings file"));
    }
    let Some((Value::String(spec), origin)) = values.get("data.spec") else {
        return Err(Failure::usage("what shall it be trained on?")
            .with_help("--data digits, cifar10, cifar100, mnist, fashion-mnist, folder:PATH or npz:PATH"));
    };
    check_spec(spec, &spoken(&KEYS[1], origin))
}

/// Whether a data set can be meant by this text.
pub fn check_spec(spec: &str, who: &str) -> Result<()> {
    match crate::data::Spec::parse(spec) {
        Ok(_) => Ok(()),
        Err(error) => {
            let mut failure = crate::launcher::download::failure(&error);
            failure.message = format!("{who}: {}", failure.message);
            Err(failure)
        }
    }
}

fn assemble(values: &Values) -> Result<Settings> {
    let mut table = Table::new();
    for (name, (value, _)) in values {
        match name.split_once('.') {
            Some((section, name)) => {
                let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(section) = section {
                    section.insert(name.to_owned(), value.clone());
                }
            }
            None => drop(table.insert((*name).to_owned(), value.clone())),
        }
    }
    // Every value fits its form, so this fails only if the table of keys and `Settings` disagree.
    table
        .try_into()
        .map_err(|error| Failure::new(crate::launcher::failure::Code::Internal, format!("settings: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::arguments::Cli;
    use crate::launcher::keys::Form;
    use clap::Parser;

    fn of(set: &[String]) -> Result<Resolved> {
        let global = Cli::parse_from(["fngd-cli", "doctor"]).global;
        let usual = ["model=m.onnx", "data.spec=digits"].map(str::to_owned);
        resolve(
            &Train { set: usual.into_iter().chain(set.iter().cloned()).collect(), ..Train::default() },
            &global,
            &[],
        )
    }

    /// Something that the setting may be.
    fn sample(key: &Key) -> &'static str {
        match &key.form {
            Form::Choice(words) => words[0],
            Form::Whole(..) => "7",
            Form::Real(..) => "0.5",
            Form::Switch => "true",
            Form::Reals(..) => "0.5,0.5",
            Form::Text | Form::Grammar(..) | Form::Words(..) => "never",
        }
    }

    #[test]
    fn a_knob_that_a_method_does_not_have_is_an_error_that_names_those_who_do() {
        let keys = || KEYS.iter().filter(|key| key.name.starts_with("optimizer.") && key.name != "optimizer.name");
        for method in methods::NAMES {
            let rules: &[&str] = if has_inner(method) { methods::INNER } else { &[method] };
            for (rule, key) in rules.iter().flat_map(|rule| keys().map(move |key| (rule, key))) {
                let mut set = vec![format!("optimizer.name={method}"), format!("{}={}", key.name, sample(key))];
                if has_inner(method) && key.name != "optimizer.inner" {
                    set.push(format!("optimizer.inner={rule}"));
                }
                let found = of(&set);
                if key.user.covers(method, rule, "cosine") {
                    let found = found.unwrap_or_else(|failure| panic!("{set:?}: {failure:?}"));
                    assert_eq!(found.origin(key.name), Some(&Origin::Set), "{set:?}");
                    continue;
                }
                let Err(failure) = found else { panic!("{set:?} was taken") };
                let who = if has_inner(method) { format!("`{method}` over `{rule}`") } else { format!("`{method}`") };
                assert_eq!(failure.message, format!("`--set {}` is not used by {who}", key.name));
                let users = text::alternatives(key.user.names());
                assert_eq!(
                    failure.help,
                    Some(format!("leave it out, or choose a method that has it: {users}")),
                    "{}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn every_method_resolves_to_all_of_its_defaults() {
        for method in methods::NAMES {
            let resolved = of(&[format!("optimizer.name={method}")]).unwrap();
            for (name, value) in method_defaults(method, methods::rule(method, None)) {
                assert_eq!(resolved.values[name], (value, Origin::DefaultOf((*method).to_owned())), "{method}: {name}");
            }
        }
    }
}
