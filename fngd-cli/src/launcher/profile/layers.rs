//! The tables of layers.

use super::columns;
use crate::launcher::text;
use crate::protocol::{LayerProfile, ProfileReport, StepProfile};

/// Phases of a layer that have a column, with its heading. `backward` of a layer is the gradient of its own parameters.
const PHASES: [(&str, &str); 5] = [
    ("forward", "forward"),
    ("backward", "own gradient"),
    ("gram", "gram"),
    ("solve", "solve"),
    ("precondition", "precondition"),
];

/// For each kind of step of the method that was asked about: the `most` layers that take the most time.
pub fn tables(report: &ProfileReport, most: usize) -> Vec<String> {
    let asked = report.methods.first().map(|method| method.name.as_str());
    let columns = columns(report).into_iter().filter(|column| Some(column.method) == asked);
    columns.flat_map(|column| table(&column.heading(), column.step, most)).collect()
}

fn table(heading: &str, step: &StepProfile, most: usize) -> Vec<String> {
    let mut layers: Vec<&LayerProfile> = step.layers.iter().filter(|layer| layer.total() > 0.0).collect();
    if layers.is_empty() || most == 0 {
        return Vec::new();
    }
    layers.sort_by(|one, other| other.total().total_cmp(&one.total()));
    let (shown, rest) = layers.split_at(most.min(layers.len()));
    let phases: Vec<_> =
        PHASES.into_iter().filter(|(phase, _)| layers.iter().any(|layer| layer.phase(phase).is_some())).collect();
    let grams = layers.iter().any(|layer| layer.phase("gram").is_some() && layer.gram_method.is_some());
    let name = |layer: &LayerProfile| text::name(&layer.name);
    let width = |text: &dyn Fn(&LayerProfile) -> String, least: usize| {
        shown.iter().map(|layer| text(layer).chars().count()).max().unwrap_or(0).max(least)
    };
    let names = width(&name, 5);
    let weights = width(&|layer| shape(&layer.weight), 6);
    let inputs = width(&|layer| shape(&layer.activations), 5);
    let title = match rest.len() {
        0 => format!("  {heading}: the layers, ms a step"),
        _ => format!("  {heading}: the {} most expensive of {} layers, ms a step", shown.len(), layers.len()),
    };
    let mut head = format!("  {:<names$}  {:<weights$}  {:<inputs$}", "layer", "weight", "input");
    head.extend(phases.iter().map(|(_, heading)| format!("  {heading:>0$}", heading.len().max(7))));
    head += "    total  of step";
    if grams {
        head += "  gram by";
    }
    let row = |layer: &LayerProfile| {
        let mut line = format!(
            "  {:<names$}  {:<weights$}  {:<inputs$}",
            name(layer),
            shape(&layer.weight),
            shape(&layer.activations)
        );
        for (phase, heading) in &phases {
            let cell = layer.phase(phase).map_or("-".to_owned(), |time| format!("{time:.2}"));
            line += &format!("  {cell:>0$}", heading.len().max(7));
        }
        line += &format!("  {:>7.2}  {:>5.1} %", layer.total(), 100.0 * layer.total() / step.milliseconds);
        if let Some(method) = layer.gram_method.as_ref().filter(|_| grams) {
            line += &format!("  {method}");
        }
        line
    };
    let mut lines = vec![String::new(), title, head];
    lines.extend(shown.iter().map(|layer| row(layer)));
    if !rest.is_empty() {
        let total: f64 = rest.iter().map(|layer| layer.total()).sum();
        let share = 100.0 * total / step.milliseconds;
        lines.push(format!("  the other {}: {total:.2} ms, {share:.1} % of the step", rest.len()));
    }
    lines
}

/// `16x3x3x3`.
fn shape(size: &[i64]) -> String {
    size.iter().map(i64::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::super::examples::report;
    use super::*;

    #[test]
    fn the_most_expensive_layers_come_first() {
        let expected = [
            "",
            "  fngd later: the layers, ms a step",
            "  layer  weight    input       forward  own gradient  precondition    total  of step",
            "  conv1  16x3x3x3  128x3x8x8      2.00          3.00          0.50     5.50   52.9 %",
            "  fc     10x64     128x64x8x8     0.25          0.25             -     0.50    4.8 %",
            "",
            "  fngd 1st epoch: the layers, ms a step",
            "  layer  weight    input       forward  own gradient     gram    solve  precondition    total  of step  gram by",
            "  conv1  16x3x3x3  128x3x8x8      2.00             -     4.00     1.00          0.50     7.50   46.9 %  instantiate",
            "  fc     10x64     128x64x8x8     0.25          0.25     0.50        -             -     1.00    6.2 %  khatri-rao",
        ];
        assert_eq!(tables(&report(), 10), expected);
    }

    #[test]
    fn those_that_are_left_out_are_summed_up() {
        let lines = tables(&report(), 1);
        assert_eq!(lines[1], "  fngd later: the 1 most expensive of 2 layers, ms a step");
        assert_eq!(lines[4], "  the other 1: 0.50 ms, 4.8 % of the step");
        assert!(tables(&report(), 0).is_empty());
    }
}
