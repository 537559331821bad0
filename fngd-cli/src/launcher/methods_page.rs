//! docs/methods.md, made from the catalogue, the table of settings and the recipes. A test compares.

use crate::launcher::commands::optimizers::TYPICAL;
use crate::launcher::knobs::{self, Knob, show};
use crate::launcher::recipes::RECIPES;
use crate::methods::{self, METHODS, MethodEntry};
use crate::state_memory::numbers_per_parameter;

const INTRODUCTION: &str = "<!-- Made by `make methods`: change the catalogue (fngd-cli/src/methods), the table of settings \
(fngd-cli/src/launcher/keys.rs) or the recipes, not this file. -->

# The methods of training

`fngd-cli train MODEL.onnx --data SPEC -o NAME` trains by one of these. `fngd-cli optimizers` lists them, `fngd-cli optimizers NAME` says \
what stands below of one.

A method is two things put together. The first makes a direction out of a batch: the plain gradient, FNGD's weighted one, or one turned \
by a curvature that is kept of each linear and convolution layer. The second, the rule, makes a step of the direction. Rules (`sgd`, \
`adamw`, `muon`, `shampoo`, `soap`) take the plain gradient when they are named by `-o`. The other methods take their rule from \
`--inner` (`sgd`, `adamw` or `muon`; by default `sgd`), so that what weighting or curvature does and what the rule does can be told \
apart: compare `-o fngd --inner muon` with `-o muon`. Learning rate, weight decay and momentum have the defaults of the rule.

In the formulas ∇ is the gradient of a layer as a matrix of d outputs by p inputs (patches, for a convolution; a bias counts as one \
more input), a batch has B samples, a layer T positions a sample, λ is the damping, η the learning rate, ω the weight decay. \
Normalisation, embeddings, biases that stand alone, and layers whose batch axis is not known (`fngd-cli inspect` lists them) train with \
the plain gradient under every method. A setting that the chosen method does not use is an error, so none is silently without effect.
";

const COUNTERS: &str = "## What is counted

`metrics.jsonl`, and `--progress json`, say in each of their lines how the layers fared since the last one:

| counter | `fngd`, `ngd` | methods that keep a curvature | `shampoo`, `soap` |
|---|---|---|---|
| `solved` | weights were solved for | factors were made anew, or a running mean (`eva`) took in a batch | - |
| `recalled` | weights came from the bank | factors of an earlier step were used | - |
| `unknown` | the bank has nothing for this slot, or the batch axis is not known: w = 1 | there is no factor yet, or the batch axis is \
not known: plain gradient | - |
| `fallbacks` | the Gram matrix was zero or not finite: w = 1 | a factorisation failed in float64 too: the previous factor stays | the \
same, of a root or a basis |
| `retried` | - | a factorisation failed in the layer's own precision and succeeded in float64 | the same |

The first time that one of the last two is not zero, a warning says so, and where. `skipped` counts steps whose gradient was not finite; \
they change nothing.
";

/// The whole page.
pub fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    page += "\n## All of them\n\n| method | what it does | state* | source | FNGD paper |\n|---|---|---:|---|---|\n";
    for entry in METHODS {
        let MethodEntry { name, summary, source, in_paper, .. } = entry;
        let numbers = numbers_per_parameter(name);
        page += &format!("| [`{name}`](#{name}) | {summary} | {numbers:.2} | {source} | {in_paper} |\n");
    }
    page += &format!(
        "\n\\* Numbers that the method remembers for each parameter {TYPICAL}. Those of an inner rule come on top: 1 with `sgd` or \
         `muon`, 2 with `adamw`. `fngd-cli inspect MODEL.onnx -o NAME` says how much it is for a model.\n\n"
    );
    page += COUNTERS;
    page += "\n## Recipes\n\n`--recipe NAME` sets what belongs together. Whatever a file, the environment or the command line says \
             wins over it; where the two do not fit, an error says what is in the way.\n\n| recipe | what it is | settings |\n|---|---|---|\n";
    for recipe in RECIPES {
        let settings: Vec<String> = recipe.settings.iter().map(|(name, value)| format!("`{name} = {value}`")).collect();
        page += &format!("| `{}` | {} | {} |\n", recipe.name, recipe.summary, settings.join(", "));
    }
    METHODS.iter().for_each(|entry| page += &section(entry));
    page
}

fn section(entry: &MethodEntry) -> String {
    let MethodEntry { name, summary, formula, source, in_paper, state, cost, defaults, differences, .. } = entry;
    let mut text = format!("\n## {name}\n\n{}.\n\n```text\n{}\n```\n\n", sentence(summary), formula.join("\n"));
    text += &format!(
        "- Source: {source}. In the FNGD paper: {in_paper}.\n- State: {state}. Cost: {cost}.\n- Defaults: {defaults}.\n"
    );
    differences.iter().for_each(|difference| text += &format!("- {}.\n", sentence(difference)));
    text += "\n| setting | flag | default | values | meaning |\n|---|---|---|---|---|\n";
    let all = knobs::of(name, methods::rule(name, None));
    all.iter().filter(|knob| !knob.of_rule).for_each(|knob| text += &row(knob));
    if methods::has_inner(name) {
        text += "\nand those of the inner rule.\n";
    }
    text
}

fn row(knob: &Knob) -> String {
    let name = knob.key.name.trim_start_matches("optimizer.");
    let flag = knob.key.flag.map_or("".to_owned(), |flag| format!("`{flag}`"));
    let default = knob.default.as_ref().map_or("not set".to_owned(), |value| format!("`{}`", show(value)));
    format!("| `{name}` | {flag} | {default} | {} | {} |\n", knob.key.form.wanted(), knob.key.meaning)
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().to_string() + characters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_what_the_catalogue_says() {
        // Beside this crate, in the workspace.
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/methods.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == super::render(), "docs/methods.md is not what the catalogue says: make methods");
    }
}
