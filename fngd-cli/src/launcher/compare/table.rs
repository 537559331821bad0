//! The table of a comparison and the sentences below it, for a terminal and for Markdown.

use super::statistics::{Interval, Spread, all_of_one_sign};
use super::summary::{Comparison, MethodSummary};
use crate::launcher::text;

/// Headings and cells: text first, then numbers.
pub struct Table {
    pub headings: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// A row for each method.
pub fn table(comparison: &Comparison) -> Table {
    let accuracy = if comparison.has_test() { "test acc" } else { "best val acc" };
    let headings = [
        "optimizer",
        "time to target",
        &format!("vs {}", comparison.reference),
        "epochs",
        accuracy,
        "s/epoch",
        "memory",
        "tuned",
    ];
    let row = |method: &MethodSummary| {
        vec![
            method.label.clone(),
            time_to_target(method),
            ratio(method),
            method.epochs_to_target.map_or("-".to_owned(), |epochs| format!("{epochs}")),
            method.test_acc.or(method.best_val_acc).map_or("-".to_owned(), accuracy_cell),
            method.seconds_per_epoch.map_or("-".to_owned(), three_digits),
            method.memory_mib.map_or("-".to_owned(), |mib| text::bytes((mib * f64::from(1 << 20)) as u64)),
            comparison.trials.map_or("no".to_owned(), |trials| trials.to_string()),
        ]
    };
    Table { headings: headings.map(str::to_owned).to_vec(), rows: comparison.methods.iter().map(row).collect() }
}

/// Widest label in a terminal; the others are cut.
const WIDEST_LABEL: usize = 22;

impl Table {
    /// Lines of at most 100 characters, in columns.
    pub fn lines(&self) -> Vec<String> {
        let cut = |cell: &str| -> String {
            if cell.chars().count() <= WIDEST_LABEL {
                cell.to_owned()
            } else {
                cell.chars().take(WIDEST_LABEL - 1).chain(['…']).collect()
            }
        };
        let all = || std::iter::once(&self.headings).chain(&self.rows);
        let cells: Vec<Vec<String>> = all().map(|row| row.iter().map(|cell| cut(cell)).collect()).collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let mut line = format!("  {:<1$}", row[0], widths[0]);
            row.iter().zip(&widths).skip(1).for_each(|(cell, width)| line += &format!("  {cell:>width$}"));
            line
        };
        cells.iter().map(line).collect()
    }

    /// The same as Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            format!("| {} |\n", cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "))
        };
        let rule = std::iter::once(":--".to_owned()).chain(self.headings.iter().skip(1).map(|_| "--:".to_owned()));
        let mut out = line(&self.headings) + &line(&rule.collect::<Vec<_>>());
        self.rows.iter().for_each(|row| out += &line(row));
        out
    }
}

fn escape(cell: &str) -> String {
    cell.replace('|', "\\|").replace('~', "\\~")
}

/// `24.1 s ±0.6`; `24.1 s 2/3` where some seeds missed; `∞`.
fn time_to_target(method: &MethodSummary) -> String {
    let Some(median) = method.seconds_to_target else {
        return if method.reached == 0 {
            "∞".to_owned()
        } else {
            format!("∞ {}/{}", method.reached, method.runs.len())
        };
    };
    if method.reached < method.runs.len() {
        return format!("{} {}/{}", seconds(median), method.reached, method.runs.len());
    }
    let sd = method.seconds_to_target_spread.and_then(|spread| spread.sd);
    let digits = if median < 10.0 { 2 } else { 1 };
    seconds(median) + &sd.map(|sd| format!(" ±{sd:.digits$}")).unwrap_or_default()
}

/// `0.41 s`, `24.1 s`, `3:07`.
fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { text::duration(seconds) }
}

/// `1.92x`; `1.02x ~` where the difference is not clear.
fn ratio(method: &MethodSummary) -> String {
    let Some(against) = &method.against else { return "1.00x".to_owned() };
    let Some(speed_up) = against.speed_up else { return "-".to_owned() };
    let unclear = if against.speed_is_clear { "" } else { " ~" };
    match speed_up.estimate {
        0.0 => format!("-{unclear}"),
        infinite if infinite.is_infinite() => format!("∞{unclear}"),
        ratio => format!("{ratio:.2}x{unclear}"),
    }
}

/// `70.1 ±0.2 %`.
fn accuracy_cell(spread: Spread) -> String {
    let sd = spread.sd.map(|sd| format!(" ±{:.1}", 100.0 * sd)).unwrap_or_default();
    format!("{:.1}{sd} %", 100.0 * spread.mean)
}

/// `0.123`, `12.3`, `1234`.
pub fn three_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

/// What is compared: the first line.
pub fn head(comparison: &Comparison) -> String {
    let target = match comparison.target {
        Some(target) if comparison.target_is_given => format!("val acc >= {}", precise_percent(target)),
        Some(target) => format!("val acc >= {}, the median best of {}", precise_percent(target), comparison.reference),
        None => format!("none, since no run of {} was finished", comparison.reference),
    };
    let seeds = comparison.seeds.len();
    format!("{} on {}, {}.  Target: {target}", comparison.model, comparison.data, plural(seeds, "seed"))
}

fn precise_percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// A sentence or two for each method but the reference.
pub fn verdicts(comparison: &Comparison) -> Vec<(String, String)> {
    let what = if comparison.has_test() { "test acc" } else { "best val acc" };
    let verdict = |method: &MethodSummary| {
        let against = method.against.as_ref()?;
        let time = match against.speed_up {
            _ if comparison.target.is_none() => "no target".to_owned(),
            None => "neither reaches the target in its median run".to_owned(),
            Some(interval) => speed(interval, against.speed_is_clear, &comparison.reference),
        };
        let accuracy = against.accuracy.map(|interval| {
            let points = |share: f64| format!("{:+.1}", 100.0 * share).replace('-', "−");
            let numbers =
                format!("{} points [{}, {}]", points(interval.estimate), points(interval.low), points(interval.high));
            if against.accuracy_is_clear {
                format!("{what} {numbers}")
            } else {
                format!("{what}: no clear difference, {numbers}")
            }
        });
        Some((method.label.clone(), [Some(time), accuracy].into_iter().flatten().collect::<Vec<_>>().join("; ")))
    };
    comparison.methods.iter().filter_map(verdict).collect()
}

fn speed(interval: Interval, clear: bool, reference: &str) -> String {
    let number = |ratio: f64| if ratio.is_infinite() { "∞".to_owned() } else { format!("{ratio:.2}") };
    let range = format!("[{}, {}]", number(interval.low), number(interval.high));
    let unclear = if clear { "" } else { ", no clear difference" };
    match interval.estimate {
        0.0 => format!("does not reach the target in its median run{unclear}"),
        infinite if infinite.is_infinite() => {
            format!("reaches the target, {reference} does not in its median run{unclear}")
        }
        ratio if clear => format!("{ratio:.2}x as fast to the target {range}"),
        ratio => format!("time to target: no clear difference, {ratio:.2}x {range}"),
    }
}

/// What the intervals are worth.
pub fn about_intervals(comparison: &Comparison) -> String {
    let n = comparison.seeds.len();
    if n < 2 {
        return "One seed has no spread: nothing here is a clear difference. --seeds 3 is the least that says something.".to_owned();
    }
    let chance = all_of_one_sign(n);
    let caution = if chance > 0.05 {
        format!(
            " With {n} seeds they are too narrow: {n} differences of one sign come by chance in {:.0} % of comparisons.",
            100.0 * chance
        )
    } else {
        String::new()
    };
    format!("In brackets: 95 % bootstrap intervals over {n} seeds, paired by seed.{caution}")
}

/// Whether and how learning rates were chosen.
pub fn about_tuning(comparison: &Comparison) -> String {
    match comparison.trials {
        None => "Learning rates are those given, not tuned: `--tune lr=5` gives each optimizer the same 5 trials."
            .to_owned(),
        Some(trials) => {
            let rate = |method: &MethodSummary| {
                let edge = if method.rate_is_at_edge { " (edge of its grid)" } else { "" };
                format!("{} {}{edge}", method.label, method.learning_rate)
            };
            let rates: Vec<String> = comparison.methods.iter().map(rate).collect();
            format!(
                "Learning rates, the best of {trials} trials each by val acc on another seed: {}.",
                rates.join(", ")
            )
        }
    }
}

/// Runs that were not trained to their end.
pub fn failures(comparison: &Comparison) -> Vec<String> {
    let failure = |method: &MethodSummary| {
        let bad = method.runs.iter().filter(|run| run.state != "finished");
        let line = |run: &super::summary::RunSummary| {
            let why = run.message.as_deref().and_then(|message| message.lines().next()).map(text::name);
            format!(
                "{} seed {}: {}{}",
                method.label,
                run.seed,
                run.state,
                why.map(|why| format!(" ({why})")).unwrap_or_default()
            )
        };
        bad.map(line).collect::<Vec<_>>()
    };
    comparison.methods.iter().flat_map(failure).collect()
}

/// Everything that a terminal shows.
pub fn terminal(comparison: &Comparison, bold: bool) -> Vec<String> {
    let mut lines = vec![format!("  {}", head(comparison)), String::new()];
    lines.extend(table(comparison).lines());
    lines.push(String::new());
    let verdicts = verdicts(comparison);
    let widest = verdicts.iter().map(|(label, _)| label.chars().count().min(WIDEST_LABEL)).max().unwrap_or(0);
    for (label, verdict) in &verdicts {
        lines.extend(wrapped(&format!("  {label:<widest$}  "), verdict));
    }
    lines.extend(failures(comparison).into_iter().flat_map(|failure| wrapped("  ", &failure)));
    lines.extend(wrapped("  ", &about_intervals(comparison)));
    let tuning = wrapped("  ", &about_tuning(comparison));
    let loud = bold && comparison.trials.is_none();
    lines.extend(tuning.into_iter().map(|line| if loud { format!("\x1b[1m{line}\x1b[0m") } else { line }));
    lines
}

/// Lines of at most 100 characters; those after the first are indented like the text of the first.
fn wrapped(first: &str, text: &str) -> Vec<String> {
    const WIDTH: usize = 100;
    let indent = first.chars().count();
    let mut lines = vec![first.to_owned()];
    let mut length = indent;
    for word in text.split(' ') {
        let needed = word.chars().count() + usize::from(length > indent);
        if length > indent && length + needed > WIDTH {
            lines.push(" ".repeat(indent));
            length = indent;
        }
        // OK because `lines` is never empty.
        let line = lines.last_mut().unwrap();
        if length > indent {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += word.chars().count();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::comparison;
    use super::*;

    #[test]
    fn a_terminal_shows_table_and_verdicts() {
        let shown = terminal(&comparison(false), false);
        assert_eq!(
            shown,
            [
                "  m.onnx on digits, 2 seeds.  Target: val acc >= 82 %",
                "",
                "  optimizer        time to target  vs sgd  epochs     test acc  s/epoch     memory  tuned",
                "  fngd:inner=muon    3.00 s ±1.41       ∞       3  79.0 ±1.4 %     1.00  400.0 MiB     no",
                "  sgd                       ∞ 1/2   1.00x       -  75.5 ±0.7 %     1.00  400.0 MiB     no",
                "",
                "  fngd:inner=muon  reaches the target, sgd does not in its median run; test acc +3.5 points [+3.0,",
                "                   +4.0]",
                "  In brackets: 95 % bootstrap intervals over 2 seeds, paired by seed. With 2 seeds they are too",
                "  narrow: 2 differences of one sign come by chance in 50 % of comparisons.",
                "  Learning rates are those given, not tuned: `--tune lr=5` gives each optimizer the same 5 trials.",
            ]
        );
    }

    #[test]
    fn failed_runs_are_shown() {
        assert_eq!(failures(&comparison(true)), ["fngd:inner=muon seed 8: diverged (the loss is NaN)"]);
    }

    #[test]
    fn no_line_is_wider_than_100() {
        let mut wide = comparison(true);
        wide.methods[0].label = "fngd:inner=muon:damping=0.001:muon_scale=match-rms".to_owned();
        wide.methods[0].memory_mib = Some(99_999.0);
        wide.methods[0].seconds_to_target = Some(99_999.0);
        wide.reference = "sgd".to_owned();
        for line in terminal(&wide, false) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn a_clear_difference_is_said_as_one() {
        let interval = Interval { estimate: 1.9, low: 1.7, high: 2.1 };
        assert_eq!(speed(interval, true, "sgd"), "1.90x as fast to the target [1.70, 2.10]");
        assert_eq!(speed(interval, false, "sgd"), "time to target: no clear difference, 1.90x [1.70, 2.10]");
    }

    #[test]
    fn markdown_has_the_same_cells() {
        let markdown = table(&comparison(false)).markdown();
        let lines: Vec<_> = markdown.lines().collect();
        assert_eq!(lines[1], "| :-- | --: | --: | --: | --: | --: | --: | --: |");
        assert_eq!(lines[3], "| sgd | ∞ 1/2 | 1.00x | - | 75.5 ±0.7 % | 1.00 | 400.0 MiB | no |");
    }
}
