//! What a method lets be set, out of the table of settings: for `optimizers`, for help and for documentation.

use crate::launcher::keys::{self, KEYS, Key, User};
use crate::methods;
use crate::settings::method_defaults;
use toml::Value;

/// A setting as one method has it.
#[derive(Debug)]
pub struct Knob {
    pub key: &'static Key,
    /// `None`: not set.
    pub default: Option<Value>,
    /// Whether it is the inner rule that uses it.
    pub of_rule: bool,
}

/// What `method` lets be set with this rule, in the order of the table.
pub fn of(method: &str, rule: &str) -> Vec<Knob> {
    let defaults = method_defaults(method, rule);
    let own = |key: &&Key| key.name.starts_with("optimizer.") && key.name != "optimizer.name";
    let used = KEYS.iter().filter(own).filter(|key| key.user.covers(method, rule, ""));
    let knob = |key: &'static Key| {
        let default = defaults.iter().find(|(name, _)| *name == key.name).map(|(_, value)| value.clone());
        let of_rule = method != rule && !matches!(key.user, User::Methods(_));
        Knob { key, default, of_rule }
    };
    used.map(knob).collect()
}

/// Help of a flag: what it is for and what it is where nobody says anything.
pub fn help(name: &str) -> String {
    // OK because a test asks for the help of every flag.
    let key = keys::find(name).expect("the table has every setting");
    let mut meaning = key.meaning.chars();
    let first = meaning.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let words = match &key.form {
        // Unless it explains them all already.
        keys::Form::Choice(words) if !words.iter().all(|word| key.meaning.contains(word)) => {
            format!(": {}", list(words))
        }
        keys::Form::Grammar(wanted, _) => format!(": {wanted}"),
        _ => String::new(),
    };
    format!("{first}{}{words}{}", meaning.as_str(), defaults(key)).replace('`', "")
}

/// ` [default: 0.1; 0.001 with adamw, 0.02 with muon]`: what most methods have, and who has something else.
fn defaults(key: &Key) -> String {
    let asked: Vec<&str> = match key.user {
        User::Methods(names) | User::Rules(names) => names.to_vec(),
        User::Everybody => methods::NAMES.iter().copied().filter(|name| !methods::has_inner(name)).collect(),
        User::Schedules(_) => Vec::new(),
    };
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for name in asked {
        let default = of(name, methods::rule(name, None)).into_iter().find(|knob| knob.key.name == key.name);
        let Some(value) = default.and_then(|knob| knob.default) else { continue };
        let value = show(&value);
        match found.iter_mut().find(|(known, _)| *known == value) {
            Some((_, names)) => names.push(name),
            None => found.push((value, vec![name])),
        }
    }
    let Some(most) = found.iter().map(|(_, names)| names.len()).max() else { return String::new() };
    let usual = found.iter().position(|(_, names)| names.len() == most).map(|index| found.remove(index).0);
    let others: Vec<String> = found.iter().map(|(value, names)| format!("{value} with {}", list(names))).collect();
    let others = if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
    format!(" [default: {}{others}]", usual.unwrap_or_default())
}

/// `a, b or c`.
pub fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// A value without quotes, and without zeros that hide its size.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        Value::Float(number) => number.to_string(),
        Value::Array(values) => values.iter().map(show).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_the_defaults_of_all_methods() {
        let lr = help("optimizer.lr");
        assert!(lr.starts_with("Learning rate, which the schedule starts from or rises to [default: 0.1; "), "{lr}");
        assert!(
            lr.contains("0.001 with adamw") && lr.contains("0.02 with muon") && lr.contains("0.003 with soap"),
            "{lr}"
        );
        assert_eq!(
            help("optimizer.inner"),
            "The rule that makes a step of the turned gradient: sgd, adamw or muon [default: sgd]"
        );
        assert!(help("optimizer.damping").contains("0.03 with eva"));
        assert_eq!(
            help("optimizer.ablate"),
            "Take something out of the weights, to see what it does: mean, permute or uniform"
        );
    }

    #[test]
    fn a_method_has_its_own_settings_and_those_of_its_rule() {
        let names = |method: &str, rule: &str, of_rule: bool| -> Vec<&str> {
            of(method, rule).iter().filter(|knob| knob.of_rule == of_rule).map(|knob| knob.key.name).collect()
        };
        let own = names("eva", "sgd", false);
        for name in ["inner", "damping", "decay", "statistics_every_steps", "kl_clip", "form"] {
            assert!(own.contains(&format!("optimizer.{name}").as_str()), "{name}: {own:?}");
        }
        assert!(!own.contains(&"optimizer.refresh_every_steps") && !own.contains(&"optimizer.lr"));
        assert!(names("eva", "muon", true).contains(&"optimizer.muon_scope"));
        assert!(names("sgd", "sgd", true).is_empty() && names("sgd", "sgd", false).contains(&"optimizer.momentum"));
    }

    #[test]
    fn every_setting_with_a_default_is_one_that_its_method_uses() {
        for method in methods::NAMES {
            let rules: &[&str] = if methods::has_inner(method) { methods::INNER } else { &[method] };
            for rule in rules {
                let known = of(method, rule);
                for (name, value) in method_defaults(method, rule) {
                    let knob = known.iter().find(|knob| knob.key.name == name);
                    let knob = knob.unwrap_or_else(|| panic!("{method} over {rule} does not use {name}"));
                    assert_eq!(knob.key.check(value.clone()), Ok(value), "{method}: {name}");
                }
                // Of the rest only an ablation has no default: it is off.
                let silent = known.iter().filter(|knob| knob.default.is_none()).map(|knob| knob.key.name);
                assert!(silent.into_iter().all(|name| name == "optimizer.ablate"), "{method} over {rule}");
            }
        }
    }
}
