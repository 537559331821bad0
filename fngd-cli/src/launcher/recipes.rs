//! Settings that belong together, by name: `--recipe`. Whatever a file, the environment or the command line says wins over them.

use crate::launcher::failure::{Failure, Result};
use crate::launcher::text;

/// A named bundle of settings.
#[derive(Debug)]
pub struct Recipe {
    pub name: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// Settings as somebody would type them.
    pub settings: &'static [(&'static str, &'static str)],
}

/// The strongest combination that was measured on ResNet-20 and CIFAR-10 (docs/results.md).
const BEST: &[(&str, &str)] =
    &[("optimizer.name", "fngd"), ("optimizer.inner", "muon"), ("optimizer.lr", "0.02"), ("schedule.kind", "cosine")];

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
    Recipe { name: "best", summary: "the strongest combination that we measured on small images", settings: BEST },
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
