//! A table for each axis of each chain.

use crate::launcher::text;
use crate::protocol::{Axis, ChainSize, ComplexityReport, Growth};

const NAME: usize = 16;
const CELL: usize = 9;

/// A line for each method: milliseconds at each size, and exponents.
pub fn table(report: &ComplexityReport) -> Vec<String> {
    let Some(sgd) = report.rows.first() else { return Vec::new() };
    let mut head = format!("  {:<NAME$}", format!("{} =", report.axis.word()));
    head.extend(sgd.sizes.iter().map(|size| format!("{size:>CELL$}")));
    head += "   grows as  expected   state at most  grows as  expected";
    let mut lines = vec![String::new(), format!("  {}", title(report)), head];
    lines.extend(report.rows.iter().map(row));
    lines
}

/// What is in the tables, once behind them.
pub fn notes(reports: &[ComplexityReport]) -> Vec<String> {
    let Some(report) = reports.first() else { return Vec::new() };
    vec![
        String::new(),
        "  sgd: ms of a step; the others: ms that they add to it (gram, solve, precondition, slower update).".to_owned(),
        "  Exponents are of the larger half of the sizes; expected: of the multiply-adds in the formulas; -: lost in the noise.".to_owned(),
        format!(
            "  Methods that refresh do it every {} steps. {}, {} threads.",
            report.refresh_steps, report.device, report.threads
        ),
    ]
}

fn title(report: &ComplexityReport) -> String {
    let ChainSize { batch, positions, width, depth } = report.base;
    let fixed = [
        (Axis::Batch, format!("batch {batch}")),
        (Axis::Positions, format!("{positions} positions")),
        (Axis::Width, format!("width {width}")),
        (Axis::Depth, format!("{depth} layers")),
    ];
    let fixed: Vec<String> = fixed.into_iter().filter(|(axis, _)| *axis != report.axis).map(|(_, text)| text).collect();
    format!("{}, growing {}: {}", report.chain.name(), report.axis.word(), fixed.join(", "))
}

fn row(row: &Growth) -> String {
    let is_sgd = row.added_ms.is_empty();
    let times = if is_sgd { &row.step_ms } else { &row.added_ms };
    let exponent = |exponent: Option<f64>| {
        exponent.map_or("-".to_owned(), |exponent| format!("{:.2}", (exponent * 100.0).round() / 100.0 + 0.0))
    };
    let grows = if is_sgd { row.step_exponent } else { row.added_exponent };
    let state = row.state_bytes.iter().max().map_or_else(String::new, |bytes| text::bytes(*bytes));
    let mut line = format!("  {:<NAME$}", row.label());
    line.extend(times.iter().map(|time| format!("{time:>CELL$.3}")));
    line += &format!("  {:>9}  {:>8}", exponent(grows), exponent(row.expected_exponent));
    line += &format!("  {state:>14}  {:>8}", exponent(row.state_exponent));
    line + &format!("  {:>8}", exponent(row.expected_state_exponent))
}

#[cfg(test)]
mod tests {
    use super::super::examples::report;
    use super::*;

    #[test]
    fn a_line_for_each_method() {
        let expected = [
            "",
            "  linear layers, growing batch: 16 positions, width 128, 4 layers",
            "  batch =                 8       16       32   grows as  expected   state at most  grows as  expected",
            "  sgd                 1.000    2.000    4.000       1.00         -         2.0 KiB         -         -",
            "  fngd 1st epoch      0.500    1.000    2.250       1.25      1.00         5.0 MiB      0.50         -",
        ];
        assert_eq!(table(&report()), expected);
    }

    #[test]
    fn the_notes_say_what_the_numbers_are() {
        assert_eq!(notes(&[report()])[3], "  Methods that refresh do it every 10 steps. cpu, 2 threads.");
        assert!(notes(&[]).is_empty());
    }
}
