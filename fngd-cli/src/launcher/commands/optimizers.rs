//! `optimizers`: the catalogue of methods, as a list, one by one, and as a page of the documentation.

use crate::launcher::arguments::{Global, Optimizers};
use crate::launcher::failure::{Failure, Result};
use crate::launcher::knobs::{self, Knob, show};
use crate::launcher::recipes::{RECIPES, Recipe};
use crate::launcher::{methods_page, print_line};
use crate::methods::{self, Kind, METHODS, MethodEntry};
use crate::state_memory::numbers_per_parameter;
use serde_json::{Value, json};

pub fn run(arguments: &Optimizers, global: &Global) -> Result<u8> {
    if arguments.markdown {
        print_line(methods_page::render().trim_end());
        return Ok(0);
    }
    let entry = arguments.name.as_deref().map(found).transpose()?;
    if global.json {
        let document = match entry {
            Some(entry) => json!({ "schema": 1, "method": with_settings(entry) }),
            None if arguments.recipes => {
                json!({ "schema": 1, "recipes": RECIPES.iter().map(recipe_json).collect::<Vec<_>>() })
            }
            None => json!({ "schema": 1, "methods": METHODS.iter().map(with_settings).collect::<Vec<_>>() }),
        };
        print_line(&format!("{document:#}"));
        return Ok(0);
    }
    let lines = match entry {
        Some(entry) => one(entry),
        None if arguments.recipes => recipes(),
        None => list(),
    };
    lines.iter().for_each(|line| print_line(line));
    Ok(0)
}

fn found(name: &str) -> Result<&'static MethodEntry> {
    methods::find(name).ok_or_else(|| {
        let known = crate::launcher::text::alternatives(methods::NAMES);
        Failure::usage(format!("the method must be {known}, found `{}`", crate::launcher::text::name(name)))
    })
}

/// What `numbers a parameter` means.
pub const TYPICAL: &str =
    "of a 3x3 convolution from 64 to 64 channels at 8x8 positions, batches of 128 out of 45,000 samples";

/// Two lines a method.
fn list() -> Vec<String> {
    let mut lines = vec![format!("  {:<9} {:>6}  {}", "method", "state*", "what it does")];
    for entry in METHODS {
        let MethodEntry { name, summary, state, cost, source, in_paper, .. } = entry;
        lines.push(format!(
            "  {name:<9} {:>6.2}  {summary} ({source}; FNGD paper: {in_paper})",
            numbers_per_parameter(name)
        ));
        lines.push(format!("  {:<16}  state: {state}; cost: {cost}", ""));
    }
    lines.push(String::new());
    lines.push(format!("  * numbers that a method remembers for each parameter {TYPICAL};"));
    lines.push(
        "    those of an inner rule (sgd 1, adamw 2, muon 1) come on top. d outputs, p inputs, T positions, B samples."
            .to_owned(),
    );
    lines.push(String::new());
    lines.push(
        "  All of one: fngd-cli optimizers NAME     its state for a model: fngd-cli inspect MODEL.onnx -o NAME"
            .to_owned(),
    );
    lines
}

/// Everything about one method.
fn one(entry: &MethodEntry) -> Vec<String> {
    let mut lines = vec![format!("  {}   {}", entry.name, entry.summary), String::new()];
    let mut fact = |label: &str, text: &str| lines.push(format!("  {label:<12} {text}"));
    for (index, line) in entry.formula.iter().enumerate() {
        fact(if index == 0 { "formula" } else { "" }, line);
    }
    fact("source", &entry.source.to_string());
    fact("FNGD paper", entry.in_paper);
    fact(
        "state",
        &format!("{} ({:.2} numbers for each parameter {TYPICAL})", entry.state, numbers_per_parameter(entry.name)),
    );
    fact("cost", entry.cost);
    fact("defaults", entry.defaults);
    for (index, line) in entry.differences.iter().enumerate() {
        fact(if index == 0 { "differences" } else { "" }, &line.replace('`', ""));
    }
    let all = knobs::of(entry.name, methods::rule(entry.name, None));
    let (of_rule, own): (Vec<Knob>, Vec<Knob>) = all.into_iter().partition(|knob| knob.of_rule);
    lines.push(String::new());
    lines.push(format!("  {:<24} {:<14} {:<38} meaning", "setting", "default", "values"));
    lines.extend(own.iter().map(row));
    if !of_rule.is_empty() {
        lines.push(format!("  of the inner rule sgd; others are {}:", knobs::list(&methods::INNER[1..])));
        lines.extend(of_rule.iter().map(row));
    }
    lines.push(String::new());
    lines.push("  A setting without a flag: --set optimizer.NAME=VALUE".to_owned());
    lines
}

fn row(knob: &Knob) -> String {
    let default = knob.default.as_ref().map_or("-".to_owned(), show);
    let (name, values) = (spoken(knob), knob.key.form.wanted().replace('`', ""));
    format!("  {name:<24} {default:<14} {values:<38} {}", knob.key.meaning.replace('`', ""))
}

/// The flag, or the name in config.toml without its section.
fn spoken(knob: &Knob) -> &'static str {
    knob.key.flag.unwrap_or_else(|| knob.key.name.trim_start_matches("optimizer."))
}

fn recipes() -> Vec<String> {
    let mut lines = Vec::new();
    for Recipe { name, summary, settings } in RECIPES {
        lines.push(format!("  {name:<8} {summary}"));
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.push(format!("  {:<8} {}", "", settings.join(" ")));
    }
    lines.push(String::new());
    lines.push(
        "  Use one with: fngd-cli train MODEL.onnx --data SPEC --recipe NAME; what you say yourself wins".to_owned(),
    );
    lines
}

fn recipe_json(recipe: &Recipe) -> Value {
    let settings: serde_json::Map<String, Value> =
        recipe.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    json!({ "name": recipe.name, "summary": recipe.summary, "settings": settings })
}

fn with_settings(entry: &MethodEntry) -> Value {
    let setting = |knob: &Knob| {
        json!({
            "name": knob.key.name,
            "flag": knob.key.flag,
            "default": knob.default,
            "values": knob.key.form.wanted(),
            "meaning": knob.key.meaning,
            "of_inner_rule": knob.of_rule,
        })
    };
    let settings: Vec<Value> = knobs::of(entry.name, methods::rule(entry.name, None)).iter().map(setting).collect();
    json!({
        "name": entry.name,
        "kind": match entry.kind { Kind::Rule { .. } => "rule", Kind::Weighted | Kind::Layerwise => "method" },
        "inner": if methods::has_inner(entry.name) { methods::INNER } else { &[] },
        "summary": entry.summary,
        "formula": entry.formula,
        "source": { "authors": entry.source.authors, "year": entry.source.year, "place": entry.source.place },
        "in_paper": entry.in_paper,
        "state": entry.state,
        "state_numbers_per_parameter": numbers_per_parameter(entry.name),
        "cost": entry.cost,
        "defaults": entry.defaults,
        "differences": entry.differences,
        "settings": settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_method_with_its_source() {
        let lines = list();
        for entry in METHODS {
            let line = lines.iter().find(|line| line.trim_start().split(' ').next() == Some(entry.name)).unwrap();
            assert!(line.contains(entry.summary) && line.contains(&entry.source.to_string()), "{line}");
        }
    }

    #[test]
    fn a_method_shows_its_settings_with_range_and_default() {
        let lines = one(methods::find("kfac").unwrap()).join("\n");
        for part in [
            "--damping                0.003          a number in [0.0001, 1000000]",
            "refresh_every_steps      10             a whole number from 1 to 1000000",
            "inverse                  eigen          eigen or cholesky",
            "of the inner rule sgd; others are adamw or muon:\n",
            "--momentum               0.9            a number in [0, 1)",
        ] {
            assert!(lines.contains(part), "{part}\n{lines}");
        }
        assert!(!lines.contains("muon_scope") && !lines.contains("--share"), "{lines}");
    }

    #[test]
    fn json_has_the_same() {
        let document = with_settings(methods::find("sgd").unwrap());
        assert_eq!((&document["kind"], &document["inner"]), (&json!("rule"), &json!([])));
        let lr = &document["settings"][0];
        assert_eq!((&lr["name"], &lr["flag"], &lr["default"]), (&json!("optimizer.lr"), &json!("--lr"), &json!(0.1)));
    }
}
