//! Settings that belong together, by name: `--recipe`. Whatever a file, the environment or the command line says wins over them.

use crate::launcher::failure::{Failure, Result};
use crate::launcher::keys::{KEYS, Key};
use crate::launcher::resolve::{Origin, Values, word};
use crate::launcher::text;
use crate::methods;
use crate::settings::method_defaults;
use toml::Value;

/// A named bundle of settings.
#[derive(Debug)]
pub struct Recipe {
    pub name: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// Settings as somebody would type them.
    pub settings: &'static [(&'static str, &'static str)],
}

/// What `best` is: what does best with convolutions in docs/results.md. Weights on top of it made no clear difference.
const BEST: &[(&str, &str)] = &[("optimizer.name", "muon"), ("optimizer.lr", "0.02"), ("schedule.kind", "cosine")];

/// Every recipe.
pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "paper",
        summary: "the FNGD paper's for CIFAR: 100 epochs of 128 samples a batch, lr 0.1, a tenth of it from 50 % and from 75 % on",
        settings: &[
            ("train.epochs", "100"),
            ("train.batch", "128"),
            ("optimizer.name", "fngd"),
            ("optimizer.lr", "0.1"),
            ("optimizer.weight_decay", "0.0005"),
            ("schedule.kind", "multistep"),
            ("schedule.warmup", "0"),
        ],
    },
    Recipe {
        name: "best",
        summary: "Muon under a cosine schedule: ahead of the others on a small ResNet (docs/results.md)",
        settings: BEST,
    },
];

/// The recipe with this name.
///
/// # Errors
/// Names those there are.
pub fn find(name: &str) -> Result<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
        let names: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
        let message = format!("`--recipe` must be {}, found `{}`", text::alternatives(&names), text::name(name));
        let nearest = text::nearest(name, names);
        Failure::usage(message).with_maybe_help(nearest.map(|nearest| format!("did you mean `{nearest}`?")))
    })
}

/// Settings that mean one thing with one rule and another with another.
const OF_A_RULE: [&str; 6] = [
    "optimizer.lr",
    "optimizer.weight_decay",
    "optimizer.momentum",
    "optimizer.nesterov",
    "optimizer.betas",
    "optimizer.epsilon",
];

impl Recipe {
    /// Refuses a method that what the recipe still sets was not meant for.
    ///
    /// # Errors
    /// Says which setting is in the way.
    pub fn fit(&self, values: &Values) -> Result<()> {
        let of_recipe = |name: &str| self.settings.iter().find(|(known, _)| *known == name).map(|(_, typed)| *typed);
        let meant_for = of_recipe("optimizer.name").unwrap_or("fngd");
        let meant_for = methods::rule(meant_for, of_recipe("optimizer.inner"));
        let method = word(values, "optimizer.name", "fngd").to_owned();
        let rule = methods::rule(&method, Some(word(values, "optimizer.inner", "sgd"))).to_owned();
        let schedule = word(values, "schedule.kind", "cosine").to_owned();
        let usual = method_defaults(&method, &rule);
        let left = KEYS.iter().filter_map(|key| match values.get(key.name) {
            Some((value, Origin::Recipe(name))) => {
                Some((key, value, format!("the recipe `{name}` sets `{} = {value}`", key.name)))
            }
            _ => None,
        });
        if let Some((key, _, sets)) = left.clone().find(|(key, ..)| !key.user.covers(&method, &rule, &schedule)) {
            let users = text::alternatives(key.user.names());
            return Err(Failure::usage(format!("{sets}, which `{method}` does not use"))
                .with_help(format!("leave out --recipe, or choose what has it: {users}")));
        }
        let is_usual =
            |key: &Key, value: &Value| usual.iter().any(|(known, usual)| *known == key.name && usual == value);
        let mut of_other_rule = left.filter(|(key, value, _)| OF_A_RULE.contains(&key.name) && !is_usual(key, value));
        match of_other_rule.next().filter(|_| rule != meant_for) {
            None => Ok(()),
            Some((key, _, sets)) => {
                let shown = key.flag.unwrap_or(key.name);
                Err(Failure::usage(format!("{sets} for steps by `{meant_for}`; these would be by `{rule}`"))
                    .with_help(format!("say {shown} yourself, or leave out --recipe")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::keys;

    #[test]
    fn recipes_hold_settings_that_there_are() {
        for recipe in RECIPES {
            for (name, value) in recipe.settings {
                let key = keys::find(name).unwrap_or_else(|| panic!("{}: {name}", recipe.name));
                assert!(key.parse(value).is_ok(), "{}: {name} = {value}", recipe.name);
            }
        }
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        let failure = find("papre").unwrap_err();
        assert_eq!(failure.message, "`--recipe` must be `paper` or `best`, found `papre`");
        assert_eq!(failure.help.as_deref(), Some("did you mean `paper`?"));
        assert_eq!(find("best").unwrap().name, "best");
    }
}
