//! The table of settings: name, flag, form, and who uses it. Everything that reads or prints a setting reads this table.

use crate::launcher::text;
use crate::methods;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use toml::Value;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name in config.toml, such as `optimizer.lr`.
    pub name: &'static str,
    /// Its flag, where it has one.
    pub flag: Option<&'static str>,
    /// Which values it takes.
    pub form: Form,
    /// Who uses it.
    pub user: User,
    /// What it is for, without a full stop.
    pub meaning: &'static str,
}

/// Which values a setting takes.
#[derive(Debug)]
pub enum Form {
    /// Any text but the empty one.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number in this range.
    Whole(u64, u64),
    /// A finite number in this range.
    Real(Bound<f64>, Bound<f64>),
    /// `true` or `false`.
    Switch,
    /// Numbers, each in this range; the first number is how many (0: any).
    Reals(usize, Bound<f64>, Bound<f64>),
    /// Text with a grammar: what it must be, and whether it is.
    Grammar(&'static str, fn(&str) -> bool),
    /// Words of a grammar, any number of them: what each must be, and whether it is.
    Words(&'static str, fn(&str) -> bool),
}

/// Who uses a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Everybody,
    /// The rules with these names, alone or under a method.
    Rules(&'static [&'static str]),
    /// The methods with these names.
    Methods(&'static [&'static str]),
    /// The schedules with these names.
    Schedules(&'static [&'static str]),
}

/// Methods that keep running averages of a curvature.
const AVERAGED: &[&str] = &["kfac", "eva", "mbf"];
/// Methods whose published implementation is not what their paper says.
const PUBLISHED: &[&str] = &["kfac", "eva"];
/// Methods that factorise something every few steps.
const REFRESHED: &[&str] = &["kfac", "skfac", "tengrad", "hylo", "mbf", "seng"];
/// The rules with a momentum, and those with Adam's averages.
const WITH_MOMENTUM: User = User::Rules(&["sgd", "muon", "shampoo"]);
const WITH_AVERAGES: User = User::Rules(&["adamw", "muon", "soap"]);
const MUON: User = User::Rules(&["muon"]);
const SHAMPOO: User = User::Rules(&["shampoo"]);
const SOAP: User = User::Rules(&["soap"]);
const SCHEDULES: &[&str] = &["cosine", "constant", "linear", "step", "multistep", "one-cycle"];

const ZERO: Bound<f64> = Included(0.0);
const ONE: Bound<f64> = Included(1.0);
const ABOVE_ZERO: Bound<f64> = Excluded(0.0);
const BELOW_ONE: Bound<f64> = Excluded(1.0);

const fn key(name: &'static str, flag: Option<&'static str>, form: Form, user: User, meaning: &'static str) -> Key {
    Key { name, flag, form, user, meaning }
}

/// Every setting, in the order of config.toml.
pub const KEYS: &[Key] = &[
    key("model", Some("MODEL"), Form::Text, User::Everybody, "the ONNX file to train"),
    key(
        "import.skip_repairs",
        Some("--no-repair"),
        Form::Words(
            "`R1` to `R10`, or `unmerge`, `identity`, `retie`, `rebatch`, `batch-norm`, `bias`, `constant`, `head`, `tail` or `mode`",
            |text| text.parse::<fngd_onnx::Repair>().is_ok(),
        ),
        User::Everybody,
        "repairs that are not made",
    ),
    key(
        "import.restore_bias",
        Some("--restore-bias"),
        Form::Switch,
        User::Everybody,
        "give every linear layer and convolution without bias one (R6)",
    ),
    key(
        "import.restore_batch_norm",
        Some("--restore-bn"),
        Form::Switch,
        User::Everybody,
        "put a BatchNormalization behind every convolution that may have lost one (R5)",
    ),
    key(
        "import.dynamic_batch",
        Some("--dynamic-batch"),
        Form::Switch,
        User::Everybody,
        "written files take any batch size, where R4 freed it",
    ),
    key(
        "data.spec",
        Some("--data"),
        Form::Text,
        User::Everybody,
        "what to train on: a name, `folder:PATH` or `npz:PATH`",
    ),
    key("data.dir", Some("--data-dir"), Form::Text, User::Everybody, "where named data sets are"),
    key(
        "data.val",
        Some("--val"),
        Form::Real(ZERO, BELOW_ONE),
        User::Everybody,
        "share of the training split held out for validation; 0 validates on the test split",
    ),
    key(
        "data.aug",
        Some("--aug"),
        Form::Choice(&["none", "basic", "standard", "strong"]),
        User::Everybody,
        "augmentation: `basic` flips, `standard` crops too, `strong` also cuts out",
    ),
    key("train.epochs", Some("--epochs"), Form::Whole(1, 1_000_000), User::Everybody, "passes over the training split"),
    key("train.batch", Some("--batch"), Form::Whole(1, 1_000_000), User::Everybody, "samples in a batch"),
    key("train.accumulation", Some("--accum"), Form::Whole(1, 65_536), User::Everybody, "batches in a step"),
    key(
        "train.seed",
        Some("--seed"),
        Form::Whole(0, i64::MAX as u64),
        User::Everybody,
        "seeds a new head, shuffling, augmentation, dropout and the draws of a method",
    ),
    key(
        "train.device",
        Some("--device"),
        Form::Grammar("`auto`, `cpu`, `cuda` or `cuda:N`", is_device),
        User::Everybody,
        "where to compute",
    ),
    key("train.threads", Some("--threads"), Form::Whole(1, 1_024), User::Everybody, "threads of libtorch"),
    key("train.channels_last", None, Form::Switch, User::Everybody, "lay out images with their channels last"),
    key(
        "train.label_smoothing",
        Some("--label-smoothing"),
        Form::Real(ZERO, BELOW_ONE),
        User::Everybody,
        "share of the target that goes to all classes alike",
    ),
    key(
        "train.clip_norm",
        Some("--clip-norm"),
        Form::Real(ABOVE_ZERO, Unbounded),
        User::Everybody,
        "largest gradient norm",
    ),
    key(
        "train.classes",
        Some("--classes"),
        Form::Grammar("`auto`, `keep` or a number", is_classes),
        User::Everybody,
        "a head of the wrong width: `auto` replaces it, `keep` refuses, a number is its width",
    ),
    key(
        "train.freeze",
        Some("--freeze"),
        Form::Grammar("a regular expression", is_regex),
        User::Everybody,
        "parameters whose name matches do not train",
    ),
    key(
        "train.log_every_steps",
        None,
        Form::Whole(1, 1_000_000),
        User::Everybody,
        "steps between two lines of metrics.jsonl",
    ),
    key("train.save_every_epochs", None, Form::Whole(1, 1_000_000), User::Everybody, "epochs between checkpoints"),
    key(
        "train.save_every_steps",
        None,
        Form::Whole(1, 1_000_000_000),
        User::Everybody,
        "steps between checkpoints within an epoch",
    ),
    key(
        "train.max_steps",
        Some("--max-steps"),
        Form::Whole(1, 1_000_000_000),
        User::Everybody,
        "end after this many steps in all",
    ),
    key("train.runs_dir", Some("--runs-dir"), Form::Text, User::Everybody, "where run directories are made"),
    key(
        "train.name",
        Some("--name"),
        Form::Grammar("a file name without `/`", is_file_name),
        User::Everybody,
        "name of the run directory",
    ),
    key("optimizer.name", Some("--optimizer"), Form::Choice(methods::NAMES), User::Everybody, "the method"),
    key(
        "optimizer.lr",
        Some("--lr"),
        Form::Real(ABOVE_ZERO, Unbounded),
        User::Everybody,
        "learning rate, which the schedule starts from or rises to",
    ),
    key("optimizer.weight_decay", Some("--wd"), Form::Real(ZERO, Unbounded), User::Everybody, "weight decay"),
    key("optimizer.momentum", Some("--momentum"), Form::Real(ZERO, BELOW_ONE), WITH_MOMENTUM, "momentum"),
    key("optimizer.nesterov", None, Form::Switch, WITH_MOMENTUM, "look ahead: Nesterov's form of the momentum"),
    key(
        "optimizer.betas",
        None,
        Form::Reals(2, ZERO, BELOW_ONE),
        WITH_AVERAGES,
        "weight of the past in the averages of gradients and of their squares",
    ),
    key(
        "optimizer.epsilon",
        None,
        Form::Real(ABOVE_ZERO, ONE),
        WITH_AVERAGES,
        "added to the root of the averaged squares",
    ),
    key("optimizer.decay_all", None, Form::Switch, User::Everybody, "decay biases and normalisation parameters too"),
    key(
        "optimizer.inner",
        Some("--inner"),
        Form::Choice(methods::INNER),
        User::Methods(methods::TAPPED),
        "the rule that makes a step of the turned gradient",
    ),
    key(
        "optimizer.damping",
        Some("--damping"),
        Form::Real(Included(1e-4), Included(1e6)),
        User::Methods(methods::TAPPED),
        "damping: γ, relative to the size of the Gram matrix (fngd, ngd), or λ, added to the curvature (others)",
    ),
    key(
        "optimizer.share",
        Some("--share"),
        Form::Choice(&["slot", "sample", "none"]),
        User::Methods(&["fngd"]),
        "what shares the weights: `slot`, a place in a batch of an epoch (paper), `sample`, or `none`",
    ),
    key(
        "optimizer.ablate",
        Some("--ablate"),
        Form::Choice(&["mean", "permute", "uniform"]),
        User::Methods(methods::WEIGHTED),
        "take something out of the weights, to see what it does",
    ),
    key(
        "optimizer.refresh",
        Some("--refresh"),
        Form::Grammar("`first-epoch`, `every-N-epochs` or `never`", is_refresh),
        User::Methods(&["fngd"]),
        "when weights are solved for",
    ),
    key(
        "optimizer.step_scale",
        Some("--step-scale"),
        Form::Choice(&["absorb", "layer", "slot"]),
        User::Methods(methods::WEIGHTED),
        "what becomes of the factor 1/λ: dropped, one a layer, or one a layer and slot",
    ),
    key(
        "optimizer.fisher",
        Some("--fisher"),
        Form::Choice(&["ef", "ief"]),
        User::Methods(methods::WEIGHTED),
        "`ef`, the empirical Fisher matrix, or `ief`, its improved form (arXiv 2406.06420)",
    ),
    key(
        "optimizer.gram_memory_mib",
        None,
        Form::Whole(1, 1_048_576),
        User::Methods(&["fngd", "ngd", "tengrad"]),
        "most memory that forming one Gram matrix may take, in MiB",
    ),
    key(
        "optimizer.decay",
        None,
        Form::Real(ZERO, BELOW_ONE),
        User::Methods(AVERAGED),
        "weight of the past in running averages",
    ),
    key(
        "optimizer.statistics_every_steps",
        None,
        Form::Whole(1, 1_000_000),
        User::Methods(&["kfac", "eva", "mbf", "shampoo"]),
        "steps from one look at gradients (shampoo), or at inputs and output gradients, to the next",
    ),
    key(
        "optimizer.refresh_every_steps",
        None,
        Form::Whole(1, 1_000_000),
        User::Methods(REFRESHED),
        "steps from one factorisation to the next",
    ),
    key(
        "optimizer.kl_clip",
        None,
        Form::Real(ZERO, Unbounded),
        User::Methods(methods::LAYERWISE),
        "κ, the longest step in the metric of the curvature; 0 does not clip",
    ),
    key(
        "optimizer.inverse",
        None,
        Form::Choice(&["eigen", "cholesky"]),
        User::Methods(&["kfac"]),
        "how the damped factors are inverted",
    ),
    key(
        "optimizer.form",
        None,
        Form::Choice(&["textbook", "published"]),
        User::Methods(PUBLISHED),
        "as its paper has it, or as its published implementation",
    ),
    key(
        "optimizer.ratio",
        None,
        Form::Real(ABOVE_ZERO, ONE),
        User::Methods(&["hylo"]),
        "share of the batch that is kept",
    ),
    key(
        "optimizer.rows",
        None,
        Form::Choice(&["kis", "kid"]),
        User::Methods(&["hylo"]),
        "how it is chosen: `kis`, drawn by importance, or `kid`, by interpolative decomposition",
    ),
    key(
        "optimizer.rank",
        None,
        Form::Whole(1, 4096),
        User::Methods(&["seng"]),
        "largest rank of a sample's gradient of a layer",
    ),
    key(
        "optimizer.sketch_size",
        None,
        Form::Whole(1, 1_000_000),
        User::Methods(&["seng"]),
        "most outputs, and most inputs, of a layer that its sketch takes",
    ),
    key("optimizer.newton_schulz_steps", None, Form::Whole(1, 99), MUON, "steps of the Newton-Schulz iteration"),
    key(
        "optimizer.muon_scale",
        None,
        Form::Choice(&["original", "match-rms"]),
        MUON,
        "step of a d × p matrix: √max(1, d/p), or 0.2·√max(d, p), which is as long as Adam's",
    ),
    key(
        "optimizer.muon_scope",
        None,
        Form::Choice(&["hidden", "all"]),
        MUON,
        "which weights are orthogonalised: all but the first and the last, or all",
    ),
    key("optimizer.muon_precision", None, Form::Choice(&["full", "bfloat16"]), MUON, "what the iteration computes in"),
    key(
        "optimizer.rest_lr_scale",
        None,
        Form::Real(ZERO, Unbounded),
        MUON,
        "learning rate of what is left to AdamW, as a share of its own",
    ),
    key(
        "optimizer.graft",
        Some("--graft"),
        Form::Choice(&["sgd", "adam", "none"]),
        SHAMPOO,
        "where the length of a step comes from; with `adam` the learning rate is 0.0001 by default",
    ),
    key("optimizer.block_size", None, Form::Whole(1, 8192), SHAMPOO, "largest side of a block"),
    key("optimizer.roots_every_steps", None, Form::Whole(1, 1_000_000), SHAMPOO, "steps between two that take roots"),
    key(
        "optimizer.basis_every_steps",
        None,
        Form::Whole(1, 1_000_000),
        SOAP,
        "steps between two that refine the basis",
    ),
    key(
        "optimizer.largest_factor",
        None,
        Form::Whole(1, 1_000_000),
        SOAP,
        "dimensions larger than this keep the identity as their basis",
    ),
    key("schedule.kind", Some("--schedule"), Form::Choice(SCHEDULES), User::Everybody, "learning rate over time"),
    key(
        "schedule.warmup",
        Some("--warmup"),
        Form::Grammar("a share such as `5%`, epochs such as `2ep`, or a number of steps", is_warmup),
        User::Everybody,
        "rising phase at the start",
    ),
    key("schedule.every_epochs", None, Form::Whole(1, 1_000_000), User::Schedules(&["step"]), "epochs between decays"),
    key(
        "schedule.milestones",
        None,
        Form::Reals(0, ABOVE_ZERO, BELOW_ONE),
        User::Schedules(&["multistep"]),
        "where to decay, as shares of the run",
    ),
    key(
        "schedule.factor",
        None,
        Form::Real(ABOVE_ZERO, ONE),
        User::Schedules(&["step", "multistep"]),
        "factor of each decay",
    ),
    key(
        "stop.val_acc",
        Some("--target"),
        Form::Real(ABOVE_ZERO, ONE),
        User::Everybody,
        "stop at this validation accuracy",
    ),
    key(
        "stop.patience",
        Some("--patience"),
        Form::Whole(1, 1_000_000),
        User::Everybody,
        "stop after this many epochs without a better validation accuracy",
    ),
    key(
        "stop.max_time",
        Some("--max-time"),
        Form::Grammar("a time such as `90s`, `30m` or `2h`", |text| seconds(text).is_some()),
        User::Everybody,
        "stop after this much time",
    ),
];

/// The setting with this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl User {
    /// Whether a run with this method, rule and schedule uses the setting.
    pub fn covers(self, method: &str, rule: &str, schedule: &str) -> bool {
        match self {
            User::Everybody => true,
            User::Rules(names) => names.contains(&rule),
            User::Methods(names) => names.contains(&method),
            User::Schedules(names) => names.contains(&schedule),
        }
    }

    /// The names of those who use it; none if that is everybody.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            User::Everybody => &[],
            User::Rules(names) | User::Methods(names) | User::Schedules(names) => names,
        }
    }
}

impl Key {
    /// `FNGD_OPTIMIZER_LR`.
    pub fn variable(&self) -> String {
        format!("FNGD_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The value that `typed` stands for, or what was expected.
    pub fn parse(&self, typed: &str) -> Result<Value, String> {
        let typed = typed.trim();
        let value = match &self.form {
            Form::Whole(..) => typed.replace('_', "").parse().map(Value::Integer).ok(),
            Form::Real(..) if self.name == "stop.val_acc" => accuracy(typed).map(Value::Float),
            Form::Real(..) => typed.parse().map(Value::Float).ok(),
            Form::Switch => typed.parse().map(Value::Boolean).ok(),
            Form::Reals(..) => typed
                .trim_matches(['[', ']'])
                .split(',')
                .map(|number| number.trim().parse().map(Value::Float))
                .collect::<Result<_, _>>()
                .map(Value::Array)
                .ok(),
            Form::Words(..) => {
                let words = typed.split(',').map(str::trim).filter(|word| !word.is_empty());
                Some(Value::Array(words.map(|word| Value::String(word.to_owned())).collect()))
            }
            Form::Text | Form::Choice(_) | Form::Grammar(..) => Some(Value::String(typed.to_owned())),
        };
        self.check(value.ok_or_else(|| self.expectation(typed))?)
    }

    /// `value` in its usual type, or what was expected.
    pub fn check(&self, value: Value) -> Result<Value, String> {
        let found = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let fits = match (&self.form, value) {
            (Form::Text, Value::String(text)) => (!text.is_empty()).then_some(Value::String(text)),
            (Form::Choice(words), Value::String(word)) => words.contains(&word.as_str()).then_some(Value::String(word)),
            (Form::Grammar(_, fits), Value::String(text)) => fits(&text).then_some(Value::String(text)),
            (Form::Grammar(_, fits), Value::Integer(number)) => {
                let text = number.to_string();
                fits(&text).then_some(Value::String(text))
            }
            (Form::Words(_, fits), Value::Array(words)) => {
                words.iter().all(|word| word.as_str().is_some_and(fits)).then_some(Value::Array(words))
            }
            (Form::Whole(least, most), Value::Integer(number)) => u64::try_from(number)
                .is_ok_and(|number| (*least..=*most).contains(&number))
                .then_some(Value::Integer(number)),
            (Form::Real(low, high), value) => number(&value, *low, *high).map(Value::Float),
            (Form::Switch, Value::Boolean(on)) => Some(Value::Boolean(on)),
            (Form::Reals(length, low, high), Value::Array(values)) if *length == 0 || values.len() == *length => {
                let numbers: Option<Vec<Value>> =
                    values.iter().map(|value| number(value, *low, *high).map(Value::Float)).collect();
                numbers.filter(|numbers| !numbers.is_empty()).map(Value::Array)
            }
            _ => None,
        };
        fits.ok_or_else(|| self.expectation(&found))
    }

    /// `must be ..., found ...`.
    fn expectation(&self, found: &str) -> String {
        format!("must be {}, found `{}`", self.form.wanted(), text::name(found))
    }
}

impl Form {
    /// Which values it takes, for people.
    pub fn wanted(&self) -> String {
        match self {
            Form::Text => "a text".to_owned(),
            Form::Choice(words) => text::alternatives(words),
            Form::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Form::Real(low, high) => format!("a number {}", interval(*low, *high)),
            Form::Switch => "`true` or `false`".to_owned(),
            Form::Reals(0, low, high) => format!("a list of numbers {}", interval(*low, *high)),
            Form::Reals(length, low, high) => format!("{length} numbers {}", interval(*low, *high)),
            Form::Grammar(wanted, _) | Form::Words(wanted, _) => (*wanted).to_owned(),
        }
    }
}

/// Seconds of `90s`, `30m`, `2h`, `1h30m`; at least one.
pub fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..unit].parse().ok()?;
        let scale = match &rest[unit..=unit] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(scale)?)?;
        rest = &rest[unit + 1..];
    }
    (total > 0).then_some(total)
}

/// `0.9`, `90%`, `acc=0.9` or `val_acc=0.9`.
fn accuracy(typed: &str) -> Option<f64> {
    let typed = typed.strip_prefix("val_acc=").or_else(|| typed.strip_prefix("acc=")).unwrap_or(typed);
    match typed.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => typed.parse().ok(),
    }
}

fn number(value: &Value, low: Bound<f64>, high: Bound<f64>) -> Option<f64> {
    let number = match value {
        Value::Float(number) => *number,
        Value::Integer(number) => *number as f64,
        _ => return None,
    };
    let inside = std::ops::RangeBounds::contains(&(low, high), &number);
    (number.is_finite() && inside).then_some(number)
}

fn interval(low: Bound<f64>, high: Bound<f64>) -> String {
    match (low, high) {
        (Included(low), Unbounded) => format!(">= {low}"),
        (Excluded(low), Unbounded) => format!("> {low}"),
        (Included(low), Included(high)) => format!("in [{low}, {high}]"),
        (Included(low), Excluded(high)) => format!("in [{low}, {high})"),
        (Excluded(low), Included(high)) => format!("in ({low}, {high}]"),
        (Excluded(low), Excluded(high)) => format!("in ({low}, {high})"),
        (Unbounded, _) => "of any size".to_owned(),
    }
}

fn is_device(text: &str) -> bool {
    matches!(text, "auto" | "cpu" | "cuda") || text.strip_prefix("cuda:").is_some_and(|n| n.parse::<u8>().is_ok())
}

fn is_classes(text: &str) -> bool {
    matches!(text, "auto" | "keep") || text.parse::<u32>().is_ok_and(|classes| classes >= 2)
}

fn is_regex(text: &str) -> bool {
    regex::Regex::new(text).is_ok()
}

fn is_refresh(text: &str) -> bool {
    let every = text.strip_prefix("every-").and_then(|rest| rest.strip_suffix("-epochs"));
    matches!(text, "first-epoch" | "never") || every.is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n >= 1))
}

fn is_warmup(text: &str) -> bool {
    if let Some(percent) = text.strip_suffix('%') {
        return percent.trim().parse::<f64>().is_ok_and(|percent| (0.0..=100.0).contains(&percent));
    }
    match text.strip_suffix("ep") {
        Some(epochs) => epochs.trim().parse::<f64>().is_ok_and(|epochs| epochs.is_finite() && epochs >= 0.0),
        None => text.parse::<u64>().is_ok(),
    }
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.') && text.len() <= 200 && !text.contains(['/', '\0', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DataSettings, OptimizerSettings, ScheduleSettings, Settings, StopSettings, TrainSettings};
    use std::collections::BTreeSet;

    /// Every field filled, so that no field can hide from serialisation.
    fn full() -> Settings {
        Settings {
            model: "m.onnx".into(),
            import: crate::settings::ImportSettings::default(),
            data: DataSettings { spec: "digits".into(), dir: Some("d".into()), val: 0.1, aug: "none".into() },
            train: TrainSettings {
                threads: Some(1),
                clip_norm: Some(1.0),
                freeze: Some("a".into()),
                save_every_steps: Some(1),
                max_steps: Some(1),
                name: Some("n".into()),
                ..TrainSettings::default()
            },
            optimizer: OptimizerSettings {
                name: "fngd".into(),
                lr: Some(0.1),
                weight_decay: Some(0.0),
                momentum: Some(0.9),
                nesterov: Some(false),
                betas: Some([0.9, 0.999]),
                epsilon: Some(1e-8),
                decay_all: Some(false),
                inner: Some("sgd".into()),
                damping: Some(0.1),
                share: Some("slot".into()),
                ablate: Some("mean".into()),
                refresh: Some("never".into()),
                step_scale: Some("absorb".into()),
                fisher: Some("ef".into()),
                gram_memory_mib: Some(512),
                decay: Some(0.95),
                statistics_every_steps: Some(1),
                refresh_every_steps: Some(10),
                kl_clip: Some(1e-3),
                inverse: Some("eigen".into()),
                form: Some("textbook".into()),
                ratio: Some(0.1),
                rows: Some("kis".into()),
                rank: Some(4),
                sketch_size: Some(256),
                newton_schulz_steps: Some(5),
                muon_scale: Some("original".into()),
                muon_scope: Some("hidden".into()),
                muon_precision: Some("full".into()),
                rest_lr_scale: Some(0.05),
                graft: Some("sgd".into()),
                block_size: Some(128),
                roots_every_steps: Some(10),
                basis_every_steps: Some(10),
                largest_factor: Some(10_000),
            },
            schedule: ScheduleSettings {
                every_epochs: Some(1),
                milestones: Some(vec![0.5]),
                factor: Some(0.1),
                ..ScheduleSettings::default()
            },
            stop: StopSettings { val_acc: Some(0.9), patience: Some(1), max_time: Some("1h".into()) },
        }
    }

    #[test]
    fn the_table_has_every_setting_and_no_other() {
        let table = toml::Table::try_from(full()).unwrap();
        let mut fields = BTreeSet::new();
        for (name, value) in &table {
            match value {
                Value::Table(section) => fields.extend(section.keys().map(|key| format!("{name}.{key}"))),
                _ => drop(fields.insert(name.clone())),
            }
        }
        assert_eq!(fields, KEYS.iter().map(|key| key.name.to_owned()).collect());
    }

    #[test]
    fn the_table_accepts_every_default() {
        let table = toml::Table::try_from(full()).unwrap();
        for key in KEYS {
            let value = match key.name.split_once('.') {
                Some((section, name)) => table[section][name].clone(),
                None => table[key.name].clone(),
            };
            assert_eq!(key.check(value.clone()), Ok(value), "{}", key.name);
        }
    }

    #[test]
    fn every_setting_says_what_it_is_for() {
        for key in KEYS {
            assert!(!key.meaning.is_empty() && !key.meaning.ends_with('.'), "{}", key.name);
            assert!(key.user.names().iter().all(|name| !name.is_empty()), "{}", key.name);
            let known = |name: &&str| methods::find(name).is_some();
            if let User::Rules(names) | User::Methods(names) = key.user {
                assert!(names.iter().all(known), "{}: {names:?}", key.name);
            }
        }
    }

    #[test]
    fn wrong_values_say_what_was_expected() {
        let message = |name: &str, typed: &str| find(name).unwrap().parse(typed).unwrap_err();
        assert_eq!(message("train.epochs", "0"), "must be a whole number from 1 to 1000000, found `0`");
        assert_eq!(message("train.epochs", "ten"), "must be a whole number from 1 to 1000000, found `ten`");
        assert_eq!(message("train.threads", "1000000"), "must be a whole number from 1 to 1024, found `1000000`");
        assert_eq!(message("optimizer.lr", "-0.1"), "must be a number > 0, found `-0.1`");
        assert_eq!(message("optimizer.lr", "nan"), "must be a number > 0, found `nan`");
        assert_eq!(message("optimizer.momentum", "1"), "must be a number in [0, 1), found `1.0`");
        assert_eq!(message("optimizer.betas", "0.9"), "must be 2 numbers in [0, 1), found `[0.9]`");
        assert_eq!(
            message("optimizer.name", "adam"),
            format!("must be {}, found `adam`", text::alternatives(methods::NAMES))
        );
        assert_eq!(message("train.freeze", "("), "must be a regular expression, found `(`");
        assert_eq!(message("train.device", "gpu"), "must be `auto`, `cpu`, `cuda` or `cuda:N`, found `gpu`");
        let wrong = "must be `R1` to `R10`, or `unmerge`, `identity`, `retie`, `rebatch`, `batch-norm`, `bias`, `constant`, `head`, `tail` or `mode`, found `[\"R4\", \"R11\"]`";
        assert_eq!(message("import.skip_repairs", "R4, R11"), wrong);
        assert_eq!(message("stop.max_time", "0s"), "must be a time such as `90s`, `30m` or `2h`, found `0s`");
        assert_eq!(message("stop.val_acc", "120%"), "must be a number in (0, 1], found `1.2`");
    }

    #[test]
    fn times_and_accuracies() {
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("90"), None);
        assert_eq!(seconds("3d"), None);
        assert_eq!(seconds("99999999999999999999h"), None);
        assert_eq!(find("stop.val_acc").unwrap().parse("acc=75%"), Ok(Value::Float(0.75)));
        assert_eq!(find("schedule.warmup").unwrap().check(Value::Integer(500)), Ok(Value::String("500".into())));
    }
}
