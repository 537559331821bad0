//! The table of phases.

use super::columns;
use crate::launcher::text;
use crate::protocol::ProfileReport;

/// What was measured, then a line for each phase with milliseconds and per cent of each column.
pub fn table(report: &ProfileReport) -> Vec<String> {
    let columns = columns(report);
    // Milliseconds and per cent: `   12.34   56.7 %`.
    const CELL: usize = 17;
    let widths: Vec<usize> = columns.iter().map(|column| column.heading().chars().count().max(CELL)).collect();
    let line = |label: &str, cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}", width = *width)).collect();
        format!("  {label:<12}  {}", cells.join("  ")).trim_end().to_owned()
    };
    let headings: Vec<String> = columns.iter().map(|column| column.heading()).collect();
    let mut lines = vec![subject(report), String::new(), line("ms a step", &headings)];
    let phases = columns.first().into_iter().flat_map(|column| &column.step.phases);
    for (phase, _) in phases {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| {
                let time = column.step.phase(phase);
                format!("{time:.2}  {:>5.1} %", 100.0 * time / column.step.milliseconds)
            })
            .collect();
        lines.push(line(phase, &cells));
    }
    let whole: Vec<String> = columns.iter().map(|column| format!("{:.2}  100.0 %", column.step.milliseconds)).collect();
    lines.push(line("step", &whole));
    let ratios: Vec<String> = columns.iter().map(|column| format!("{:.3}         ", column.step.ratio)).collect();
    lines.push(line(&format!("to {}", report.reference), &ratios));
    let steps: Vec<String> = columns.iter().map(|column| format!("{}         ", column.step.steps)).collect();
    lines.push(line("steps", &steps));
    lines
}

fn subject(report: &ProfileReport) -> String {
    let model = text::name(&report.model.display().to_string());
    let samples = match &report.data {
        Some(data) => format!("samples of {}", text::name(data)),
        None => "made-up samples".to_owned(),
    };
    let synchronised = if report.device.starts_with("cuda") { ", synchronised at every border" } else { "" };
    let threads = if report.threads == 1 { "thread" } else { "threads" };
    format!(
        "  {model}, batches of {} {samples}; {}, {} {threads}, libtorch {}{synchronised}",
        report.batch, report.device, report.threads, report.libtorch
    )
}

#[cfg(test)]
mod tests {
    use super::super::examples::report;
    use super::*;

    #[test]
    fn phases_of_each_kind_of_step_add_up_to_it() {
        let expected = [
            "  models/resnet20.onnx, batches of 128 made-up samples; cpu, 2 threads, libtorch 2.11.0",
            "",
            "  ms a step                   sgd         fngd later     fngd 1st epoch",
            "  data              0.00    0.0 %      0.00    0.0 %      0.00    0.0 %",
            "  forward           4.00   40.0 %      4.00   38.5 %      4.00   25.0 %",
            "  backward          5.00   50.0 %      5.00   48.1 %      5.00   31.2 %",
            "  gram              0.00    0.0 %      0.00    0.0 %      4.50   28.1 %",
            "  solve             0.00    0.0 %      0.00    0.0 %      1.00    6.2 %",
            "  precondition      0.00    0.0 %      0.50    4.8 %      0.50    3.1 %",
            "  update            0.90    9.0 %      0.80    7.7 %      0.80    5.0 %",
            "  other             0.10    1.0 %      0.10    1.0 %      0.20    1.2 %",
            "  step             10.00  100.0 %     10.40  100.0 %     16.00  100.0 %",
            "  to sgd           1.000              1.040              1.600",
            "  steps               20                 20                 20",
        ];
        assert_eq!(table(&report()), expected);
    }

    #[test]
    fn a_gpu_is_said_to_have_been_waited_for() {
        let report = ProfileReport { device: "cuda:0 A".to_owned(), data: Some("cifar10".to_owned()), ..report() };
        let expected = "  models/resnet20.onnx, batches of 128 samples of cifar10; cuda:0 A, 2 threads, libtorch 2.11.0, synchronised at every border";
        assert_eq!(table(&report)[0], expected);
    }
}
