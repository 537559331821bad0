//! Two runs of one graph, value by value.

use crate::launcher::reference::NOTE;
use fngd_onnx::OnnxModel;
use fngd_onnx::graph::{Node, ValueId};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;
use std::collections::BTreeSet;

/// How far apart two elements may be.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Share of the element,
    pub relative: f64,
    /// plus share of the largest element of its tensor.
    pub of_largest: f64,
}

/// What comparing one value says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Agrees,
    Differs,
    /// The other run has another number of elements, or other dims.
    OtherDims(Vec<usize>),
    /// The other run has no such value.
    Missing,
    /// It is drawn at random, or computed from what is.
    Random,
}

/// One value of the graph.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub value: String,
    pub node: String,
    pub operator: String,
    pub dims: Vec<usize>,
    pub largest_difference: Option<f64>,
    pub largest_relative_difference: Option<f64>,
    pub verdict: Verdict,
    /// The node's position in the graph.
    #[serde(skip)]
    pub node_index: usize,
}

impl Row {
    pub fn is_different(&self) -> bool {
        matches!(self.verdict, Verdict::Differs | Verdict::OtherDims(_))
    }
}

/// All values that our run has, in the order of the graph; and what the other run says of itself.
pub fn compare(
    model: &OnnxModel,
    ours: &[u8],
    other: &[u8],
    tolerance: Tolerance,
) -> Result<(Vec<Row>, Option<String>), String> {
    let read =
        |bytes| SafeTensors::deserialize(bytes).map_err(|error| format!("cannot read a file of values: {error}"));
    let note =
        SafeTensors::read_metadata(other).ok().and_then(|(_, metadata)| metadata.metadata().clone()?.remove(NOTE));
    let (ours, other) = (read(ours)?, read(other)?);
    let graph = model.graph();
    let mut random = BTreeSet::new();
    let mut rows = Vec::new();
    for (node_index, node) in graph.nodes.iter().enumerate() {
        let is_random = draws(node) || node.inputs.iter().flatten().any(|input| random.contains(input));
        for output in node.outputs.iter().flatten() {
            if is_random {
                random.insert(*output);
            }
            let Some(info) = graph.values.get(output.0) else { continue };
            let name = format!("value.{}", info.name);
            let Ok(found) = ours.tensor(&name) else { continue };
            let mut row = Row {
                value: info.name.clone(),
                node: node.name.clone(),
                operator: node.op_type.clone(),
                dims: found.shape().to_vec(),
                largest_difference: None,
                largest_relative_difference: None,
                verdict: Verdict::Missing,
                node_index,
            };
            match other.tensor(&name) {
                _ if is_random => row.verdict = Verdict::Random,
                Ok(expected) if expected.shape() != found.shape() => {
                    row.verdict = Verdict::OtherDims(expected.shape().to_vec());
                }
                Ok(expected) => judge(&mut row, &numbers(&found)?, &numbers(&expected)?, tolerance),
                Err(_) => {}
            }
            rows.push(row);
        }
    }
    Ok((rows, note))
}

fn draws(node: &Node) -> bool {
    node.op_type.starts_with("Random") || ["Bernoulli", "Multinomial"].contains(&node.op_type.as_str())
}

fn judge(row: &mut Row, found: &[f64], expected: &[f64], tolerance: Tolerance) {
    let finite = expected.iter().filter(|value| value.is_finite());
    let scale = finite.fold(0.0, |scale: f64, value| scale.max(value.abs()));
    let (mut largest, mut relative, mut agrees): (f64, f64, bool) = (0.0, 0.0, true);
    for (&found, &expected) in found.iter().zip(expected) {
        if found == expected || (found.is_nan() && expected.is_nan()) {
            continue;
        }
        let difference = (found - expected).abs();
        // Written so that NaN does not agree.
        agrees &=
            expected.is_finite() && difference <= tolerance.of_largest * scale + tolerance.relative * expected.abs();
        let known = |difference: f64| if difference.is_nan() { f64::INFINITY } else { difference };
        largest = largest.max(known(difference));
        relative = relative.max(known(difference / expected.abs()));
    }
    (row.largest_difference, row.largest_relative_difference) = (Some(largest), Some(relative));
    row.verdict = if agrees { Verdict::Agrees } else { Verdict::Differs };
}

/// What goes into a node: each input's name, dims, and smallest and largest element.
pub fn inputs_of(model: &OnnxModel, node: usize, ours: &[u8]) -> Vec<String> {
    let graph = model.graph();
    let values = SafeTensors::deserialize(ours).ok();
    let Some(node) = graph.nodes.get(node) else { return Vec::new() };
    let describe = |id: &ValueId| {
        let name = &graph.values.get(id.0)?.name;
        let tensor = ["value", "input"].iter().find_map(|kind| {
            values
                .as_ref()?
                .tensor(&format!("{kind}.{name}"))
                .ok()
                .and_then(|view| Some((view.shape().to_vec(), numbers(&view).ok()?)))
        });
        let stored = || {
            let data = graph.initializers.get(id)?;
            let dims = data.dims.iter().map(|dim| *dim as usize).collect();
            let floats = data.floats().map(|values| values.into_iter().map(f64::from).collect());
            let numbers = floats.or_else(|| Some(data.integers()?.into_iter().map(|value| value as f64).collect()))?;
            Some((dims, numbers))
        };
        let Some((dims, numbers)) = tensor.or_else(stored) else { return Some(format!("`{name}`")) };
        let (least, most) = numbers
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(*value), most.max(*value)));
        let odd = numbers.iter().filter(|value| !value.is_finite()).count();
        let odd = if odd > 0 { format!(", {odd} not finite") } else { String::new() };
        Some(format!("`{name}` {dims:?} from {least:.4} to {most:.4}{odd}"))
    };
    node.inputs.iter().flatten().filter_map(describe).collect()
}

fn numbers(tensor: &TensorView<'_>) -> Result<Vec<f64>, String> {
    fn of<const N: usize, T: Into<f64>>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|chunk| from(*chunk).into()).collect()
    }
    let bytes = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F32 => of(bytes, f32::from_le_bytes),
        Dtype::F64 => of(bytes, f64::from_le_bytes),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|chunk| i64::from_le_bytes(*chunk) as f64).collect(),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|byte| f64::from(*byte)).collect(),
        other => return Err(format!("values of type {other:?} are not compared")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(found: &[f64], expected: &[f64]) -> (Verdict, f64) {
        let mut row = Row {
            value: String::new(),
            node: String::new(),
            operator: String::new(),
            dims: Vec::new(),
            largest_difference: None,
            largest_relative_difference: None,
            verdict: Verdict::Missing,
            node_index: 0,
        };
        judge(&mut row, found, expected, Tolerance { relative: 1e-3, of_largest: 1e-4 });
        (row.verdict, row.largest_difference.unwrap())
    }

    #[test]
    fn small_differences_agree_and_others_do_not() {
        assert_eq!(verdict(&[1.0, 1000.5], &[1.0, 1000.0]), (Verdict::Agrees, 0.5));
        assert_eq!(verdict(&[1.0, 1002.0], &[1.0, 1000.0]), (Verdict::Differs, 2.0));
        // Small beside the largest element: rounding in a sum.
        assert_eq!(verdict(&[0.05, 1000.0], &[0.0, 1000.0]), (Verdict::Agrees, 0.05));
        assert_eq!(verdict(&[f64::NAN, f64::INFINITY], &[f64::NAN, f64::INFINITY]), (Verdict::Agrees, 0.0));
        assert_eq!(verdict(&[f64::NAN], &[0.0]), (Verdict::Differs, f64::INFINITY));
        assert_eq!(verdict(&[f64::NEG_INFINITY], &[f64::INFINITY]), (Verdict::Differs, f64::INFINITY));
    }
}
