//! compare.md: the whole comparison, to paste into a page or an issue.

use super::summary::{Comparison, MethodSummary};
use super::table::{self, Table, three_digits};
use crate::launcher::text;
use serde_json::Value;

/// The document. `command`: what was typed.
pub fn document(comparison: &Comparison, command: &str) -> String {
    let mut out = format!(
        "# {} on {}: optimizers compared\n\n{}\n\n",
        comparison.model,
        comparison.data,
        table::head(comparison)
    );
    out += &table::table(comparison).markdown();
    out += "\n";
    for (label, verdict) in table::verdicts(comparison) {
        out += &format!("- **{label}** against {}: {verdict}.\n", comparison.reference);
    }
    out += &format!("\n{}\n", table::about_intervals(comparison));
    let tuning = table::about_tuning(comparison);
    out += &if comparison.trials.is_none() { format!("\n**{tuning}**\n") } else { format!("\n{tuning}\n") };
    let failures = table::failures(comparison);
    if !failures.is_empty() {
        out += "\nRuns that were not trained to their end; each counts as a miss:\n\n";
        failures.iter().for_each(|failure| out += &format!("- {failure}\n"));
    }
    out += "\n![Loss and accuracy](curves.svg)\n\n![Memory and time](cost.svg)\n\n## Every run\n\n";
    out += &runs(comparison).markdown();
    if comparison.trials.is_some() {
        out += "\n## Trials\n\nBest validation accuracy of each learning rate";
        out += &comparison.tuning_seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        out += ", with another validation split than the runs above. The test split has no say in it.\n\n";
        out += &trials(comparison).markdown();
    }
    out += "\n## What differs between the optimizers\n\n";
    out += &different(comparison).markdown();
    let same = |(key, value): (&String, &Value)| format!("`{key}` {}", shown(value));
    out += "\nThe same for all: ";
    out += &comparison.same.iter().map(same).collect::<Vec<_>>().join(", ");
    out += ".\n\n## Protocol\n\n";
    PROTOCOL.iter().for_each(|line| out += &format!("- {line}\n"));
    out += &format!("\nMachine: {}\n\nCommand:\n\n```sh\n{}\n```\n", machine(&comparison.machine), command.trim());
    out
}

/// What holds for every comparison.
pub const PROTOCOL: [&str; 7] = [
    "Every run begins with the weights of the model file: the spread over seeds is not that of initial weights.",
    "Runs are interleaved: every optimizer with the first seed, then every optimizer with the next.",
    "A seed fixes the validation split, the order of the batches, augmentation and dropout: they are the same for every optimizer.",
    "Seconds are of training steps alone: the clock stands still during evaluation, checkpoints and start-up, and starts after \
     the first step, which pays for what a process does once.",
    "Time to target: the first epoch's end with the target's validation accuracy; the median over seeds. A run that misses it or \
     fails took an infinite time.",
    "Accuracy is measured at the end, on the test split where there is one, with the weights of the best epoch by validation \
     accuracy. Nothing is chosen by it.",
    "± is the standard deviation over seeds; ~ marks a ratio whose interval includes 1.",
];

pub fn runs(comparison: &Comparison) -> Table {
    let headings = [
        "optimizer",
        "seed",
        "s to target",
        "epochs",
        "best val acc",
        "test acc",
        "training s",
        "first step s",
        "memory",
        "state",
    ];
    let optional = |value: Option<f64>| value.map_or("-".to_owned(), three_digits);
    let percent = |value: Option<f64>| value.map_or("-".to_owned(), |share| format!("{:.2} %", 100.0 * share));
    let of = |method: &MethodSummary| {
        let row = |run: &super::summary::RunSummary| {
            vec![
                method.label.clone(),
                run.seed.to_string(),
                run.seconds_to_target.map_or("∞".to_owned(), three_digits),
                run.epochs_to_target.map_or("-".to_owned(), |epochs| epochs.to_string()),
                percent(run.best_val_acc),
                percent(run.test_acc),
                optional(run.train_seconds),
                optional(run.first_step_seconds),
                run.memory_mib.map_or("-".to_owned(), |mib| text::bytes((mib * f64::from(1 << 20)) as u64)),
                if run.resumed { format!("{}, resumed", run.state) } else { run.state.clone() },
            ]
        };
        method.runs.iter().map(row).collect::<Vec<_>>()
    };
    Table { headings: headings.map(str::to_owned).to_vec(), rows: comparison.methods.iter().flat_map(of).collect() }
}

pub fn trials(comparison: &Comparison) -> Table {
    let most = comparison.methods.iter().map(|method| method.tuning.len()).max().unwrap_or(0);
    let mut headings = vec!["optimizer".to_owned(), "chosen".to_owned()];
    headings.extend((1..=most).map(|number| format!("trial {number}")));
    let row = |method: &MethodSummary| {
        let mut cells = vec![method.label.clone(), method.learning_rate.to_string()];
        cells.extend(method.tuning.iter().map(|trial| {
            let accuracy = trial.best_val_acc.map_or(trial.state.clone(), text::percent);
            format!("{}: {accuracy}", trial.learning_rate)
        }));
        cells.resize(2 + most, "-".to_owned());
        cells
    };
    Table { headings, rows: comparison.methods.iter().map(row).collect() }
}

pub fn different(comparison: &Comparison) -> Table {
    let mut headings = vec!["setting".to_owned()];
    headings.extend(comparison.methods.iter().map(|method| method.label.clone()));
    let row = |(key, values): (&String, &Vec<Value>)| {
        std::iter::once(format!("`{key}`")).chain(values.iter().map(shown)).collect()
    };
    Table { headings, rows: comparison.different.iter().map(row).collect() }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `Intel ..., 2 cores, 2 threads; cpu; libtorch 2.11.0; fngd 0.1.0 (a1b2c3d)`.
pub fn machine(document: &Value) -> String {
    let field = |name: &str| match &document[name] {
        Value::Null => "unknown".to_owned(),
        value => shown(value),
    };
    let commit = document["commit"].as_str().map(|commit| format!(" ({commit})")).unwrap_or_default();
    format!(
        "{}, {} cores, {} threads; device {}; libtorch {}; fngd {}{commit}",
        field("cpu"),
        field("cores"),
        field("threads"),
        field("device"),
        field("libtorch"),
        field("fngd")
    )
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::comparison;
    use super::*;

    #[test]
    fn everything_is_in_the_document() {
        let document = document(&comparison(true), "fngd-cli compare m.onnx\n");
        for part in [
            "# m.onnx on digits: optimizers compared\n",
            "| fngd:inner=muon | 8 | ∞ | - | 84.00 % | - | - | 0.500 | 400.0 MiB | diverged |\n",
            "- fngd:inner=muon seed 8: diverged (the loss is NaN)\n",
            "| `optimizer.lr` |",
            "**Learning rates are those given, not tuned:",
            "`train.epochs` 4",
            "```sh\nfngd-cli compare m.onnx\n```\n",
        ] {
            assert!(document.contains(part), "{part}\n{document}");
        }
    }
}
