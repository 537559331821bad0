//! `--optimizers`: the rows of the table, each a method with settings of its own.

use super::arguments::Compare;
use crate::launcher::arguments::{Global, OptimizerFlags, StopFlags, Train};
use crate::launcher::failure::{Failure, Result};
use crate::launcher::recipes::RECIPES;
use crate::launcher::resolve::{Resolved, resolve};
use crate::launcher::{keys, text};

/// A row as it was typed: `fngd:inner=muon`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    pub label: String,
    name: String,
    /// `optimizer.inner=muon`.
    set: Vec<String>,
}

/// Settings that must be the same for all, or nothing can be compared.
const COMMON: [&str; 10] = [
    "model",
    "import.",
    "data.",
    "train.seed",
    "train.runs_dir",
    "train.name",
    "optimizer.name",
    "stop.val_acc",
    "train.device",
    "train.threads",
];

/// The rows of a list such as `sgd,fngd:inner=muon:damping=0.1,adamw:betas=[0.9,0.95]`.
pub fn parse(list: &str) -> Result<Vec<Typed>> {
    let rows: Vec<Typed> = split_outside_brackets(list, ',')
        .into_iter()
        .map(str::trim)
        .filter(|row| !row.is_empty())
        .map(row)
        .collect::<Result<_>>()?;
    if rows.len() < 2 {
        return Err(
            Failure::usage("`--optimizers` must name at least two").with_help("such as --optimizers sgd,adamw,fngd")
        );
    }
    for (position, row) in rows.iter().enumerate() {
        if rows[..position].iter().any(|other| other.label == row.label) {
            return Err(Failure::usage(format!("`--optimizers` names `{}` twice", text::name(&row.label))));
        }
    }
    Ok(rows)
}

fn row(typed: &str) -> Result<Typed> {
    let mut parts = split_outside_brackets(typed, ':').into_iter();
    let name = parts.next().unwrap_or_default().to_owned();
    let shown = text::name(typed);
    let set = parts.map(|part| {
        let Some((key, value)) = part.split_once('=') else {
            return Err(Failure::usage(format!("`--optimizers`: `{}` in `{shown}` has no `=`", text::name(part)))
                .with_help("write settings of an optimizer as NAME:KEY=VALUE, such as fngd:damping=0.1"));
        };
        let full = if key.contains('.') || key == "model" { key.to_owned() } else { format!("optimizer.{key}") };
        if keys::find(&full).is_none() {
            let nearest = text::nearest(&full, keys::KEYS.iter().map(|key| key.name));
            return Err(Failure::usage(format!(
                "`--optimizers`: there is no setting `{}`, in `{shown}`",
                text::name(key)
            ))
            .with_maybe_help(
                nearest.map(|nearest| format!("did you mean `{}`?", nearest.trim_start_matches("optimizer."))),
            ));
        }
        if COMMON.iter().any(|common| full == *common || (common.ends_with('.') && full.starts_with(common))) {
            return Err(Failure::usage(format!("`--optimizers`: `{full}` must be the same for all, in `{shown}`")));
        }
        Ok(format!("{full}={value}"))
    });
    Ok(Typed { set: set.collect::<Result<_>>()?, name, label: typed.to_owned() })
}

/// `a,[b,c]` at the comma outside.
fn split_outside_brackets(text: &str, separator: char) -> Vec<&str> {
    let mut depth = 0usize;
    text.split(|character| {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == separator && depth == 0
    })
    .collect()
}

/// The settings of each row: what is common to all, then the row's own.
pub fn settings(
    rows: &[Typed],
    arguments: Compare,
    global: &Global,
    variables: &[(String, String)],
) -> Result<Vec<Resolved>> {
    let Compare { plan, import, data, run, .. } = arguments;
    let common = plan.set;
    if common.iter().any(|set| set.trim_start().starts_with("optimizer.name")) {
        return Err(Failure::usage("`--set optimizer.name` would train every row by one method")
            .with_help("leave it out: the list of optimizers names the methods"));
    }
    let mut train = Train {
        model: plan.model,
        config: plan.config,
        import,
        data,
        run,
        optimizer: OptimizerFlags { schedule: plan.schedule, warmup: plan.warmup, ..OptimizerFlags::default() },
        stop: StopFlags { max_steps: plan.max_steps, max_time: plan.max_time, ..StopFlags::default() },
        ..Train::default()
    };
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        // A row may be a recipe: its settings, the method's name among them, give way to whatever is typed.
        let is_recipe = RECIPES.iter().any(|recipe| recipe.name == row.name);
        train.recipe = is_recipe.then(|| row.name.clone());
        train.optimizer.name = (!is_recipe).then(|| row.name.clone());
        train.set = common.iter().chain(&row.set).cloned().collect();
        let resolved = resolve(&train, global, variables).map_err(|mut failure| {
            failure.message = format!("{}: {}", text::name(&row.label), failure.message);
            failure
        })?;
        if resolved.settings.stop.val_acc.is_some() {
            return Err(Failure::usage(
                "`stop.val_acc` would end runs at their target, before their final accuracy is known",
            )
            .with_help("leave it out: --target only measures when it is reached"));
        }
        if resolved.settings.data.val == 0.0 {
            return Err(Failure::usage(
                "`--val 0` validates on the test split, which must not choose rates and epochs here",
            )
            .with_help("hold a share of the training split out: --val 0.1"));
        }
        all.push(resolved);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_rows_with_settings() {
        let rows = parse("sgd, fngd:inner=muon:damping=0.1,adamw:betas=[0.9,0.95]:schedule.kind=linear").unwrap();
        let row = |position: usize| (rows[position].name.as_str(), rows[position].set.join(" "));
        assert_eq!(row(0), ("sgd", String::new()));
        assert_eq!(row(1), ("fngd", "optimizer.inner=muon optimizer.damping=0.1".to_owned()));
        assert_eq!(row(2), ("adamw", "optimizer.betas=[0.9,0.95] schedule.kind=linear".to_owned()));
        assert_eq!(rows[1].label, "fngd:inner=muon:damping=0.1");
    }

    #[test]
    fn mistakes_are_named() {
        let message = |list: &str| parse(list).unwrap_err().message;
        assert_eq!(message("sgd"), "`--optimizers` must name at least two");
        assert_eq!(message("sgd,sgd"), "`--optimizers` names `sgd` twice");
        assert_eq!(message("sgd,fngd:muon"), "`--optimizers`: `muon` in `fngd:muon` has no `=`");
        assert_eq!(message("sgd,fngd:dampin=1"), "`--optimizers`: there is no setting `dampin`, in `fngd:dampin=1`");
        assert_eq!(
            message("sgd,fngd:data.val=0.5"),
            "`--optimizers`: `data.val` must be the same for all, in `fngd:data.val=0.5`"
        );
        assert_eq!(parse("sgd,fngd:dampin=1").unwrap_err().help.unwrap(), "did you mean `damping`?");
    }

    fn resolved(list: &str, set: &[&str]) -> Result<Vec<Resolved>> {
        use clap::Parser;
        let global = crate::launcher::arguments::Cli::try_parse_from(["fngd-cli", "doctor"]).unwrap().global;
        let mut arguments = Compare::default();
        arguments.plan.model = Some("m.onnx".into());
        arguments.plan.set = set.iter().map(|&text| text.to_owned()).collect();
        arguments.data.spec = Some("digits".into());
        settings(&parse(list)?, arguments, &global, &[])
    }

    #[test]
    fn rows_share_what_is_common() {
        let all = resolved("sgd:lr=0.5,fngd:damping=0.25", &["train.epochs=3", "optimizer.weight_decay=0"]).unwrap();
        let optimizers: Vec<_> = all.iter().map(|row| &row.settings.optimizer).collect();
        assert_eq!((optimizers[0].lr, optimizers[1].lr), (Some(0.5), Some(0.1)));
        assert_eq!((optimizers[0].damping, optimizers[1].damping), (None, Some(0.25)));
        assert!(
            all.iter().all(|row| row.settings.train.epochs == 3 && row.settings.optimizer.weight_decay == Some(0.0))
        );
    }

    #[test]
    fn what_would_spoil_every_row_is_refused() {
        let set = |set: &str| resolved("sgd,fngd", &[set]).unwrap_err().message;
        assert_eq!(set("optimizer.name=kfac"), "`--set optimizer.name` would train every row by one method");
        assert_eq!(
            set("data.val=0"),
            "`--val 0` validates on the test split, which must not choose rates and epochs here"
        );
    }

    #[test]
    fn a_row_may_be_a_recipe() {
        let all = resolved("sgd,best:lr=0.5", &[]).unwrap();
        let optimizer = &all[1].settings.optimizer;
        assert_eq!((optimizer.name.as_str(), optimizer.inner.as_deref(), optimizer.lr), ("muon", None, Some(0.5)));
    }

    #[test]
    fn a_row_that_cannot_be_says_which() {
        let message = |list: &str, set: &[&str]| resolved(list, set).unwrap_err().message;
        assert_eq!(
            message("sgd,adamw:damping=1", &[]),
            "adamw:damping=1: `--set optimizer.damping` is not used by `adamw`"
        );
        assert!(message("sgd,adam", &[]).starts_with("adam: `--optimizer` must be `"));
        assert_eq!(
            message("sgd,adamw", &["stop.val_acc=0.5"]),
            "`stop.val_acc` would end runs at their target, before their final accuracy is known"
        );
    }
}
