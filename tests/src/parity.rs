//! Our outputs, loss and gradients of a file of the large corpus against PyTorch's, the way `tests/corpus/check.py` compares them.

use crate::reference::{Failure, Held, Reference, training_pass};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Kind, Tensor};

const OUTPUTS: f64 = 1e-4;
const GRADIENTS: f64 = 1e-3;
/// A gradient is compared relative to its norm, but to no less than this part of the largest norm.
const FLOOR: f64 = 1e-3;

/// What is wrong with our reading of `NAME.onnx`, which lies beside `NAME.safetensors`; nothing, if all is well.
///
/// # Errors
/// If the file cannot be imported, built or run.
pub fn shortcomings(path: &Path) -> Result<Vec<String>, Failure> {
    let reference = Reference::read(&path.with_extension("safetensors"))?;
    // The reference is the network in the file: BatchNormalization may be folded, a tied weight copied, a bias left out.
    let repairs = Repairs::default().without(Repair::BatchNorm).without(Repair::Retie).without(Repair::Bias);
    let model = OnnxModel::open(path, &ImportOptions { repairs, ..ImportOptions::default() })?;
    let mut module = TrainableModule::build(&model, &BuildOptions::default())?;
    let mut wrong = untrained(&reference, &model);

    let inputs = reference.inputs(&model, "input")?;
    let output = tch::no_grad(|| module.forward(&inputs))?.swap_remove(0);
    let expected = reference.get("output").ok_or("no `output`")?;
    let apart = (&output - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
    if !within(apart, OUTPUTS) {
        wrong.push(format!("outputs differ by {apart:.0e}"));
    }
    let found: BTreeMap<String, Tensor> =
        training_pass(&mut module, &reference, &inputs, &model)?.into_iter().collect();
    let expected = reference.get("loss").ok_or("no `loss`")?.double_value(&[0]);
    let apart = (found["loss"].double_value(&[]) - expected).abs() / expected.abs();
    if !within(apart, GRADIENTS) {
        wrong.push(format!("loss differs by {apart:.0e}"));
    }
    wrong.extend(gradients(&reference, &found)?);
    Ok(wrong)
}

/// Not so for what is not a number.
fn within(apart: f64, limit: f64) -> bool {
    apart <= limit
}

/// Parameters of PyTorch that are not trained, and what is trained beside them.
fn untrained(reference: &Reference, model: &OnnxModel) -> Vec<String> {
    let held = &reference.facts().held;
    let is_parameter =
        |held: &Held| held.sources.iter().any(|source| reference.facts().parameters.contains_key(source));
    let expected: BTreeSet<&str> =
        held.iter().filter(|(_, held)| is_parameter(held)).map(|(name, _)| name.as_str()).collect();
    let trained: BTreeSet<&str> =
        model.parameters().iter().filter(|row| row.trainable).map(|row| row.name.as_str()).collect();
    let missing = expected.difference(&trained).map(|name| format!("{name} is not trained"));
    missing.chain(trained.difference(&expected).map(|name| format!("{name} is trained"))).collect()
}

fn gradients(reference: &Reference, found: &BTreeMap<String, Tensor>) -> Result<Vec<String>, Failure> {
    let facts = reference.facts();
    let mut total: BTreeMap<&str, Tensor> = BTreeMap::new();
    for (name, held) in &facts.held {
        let Some(gradient) = found.get(&format!("grad.{name}")) else { continue };
        let index = reference.get(&format!("index.{name}"));
        for (source, part) in held.sources.iter().zip(parts(held, &gradient.to_kind(Kind::Double), index, reference)?) {
            let sum = total.remove(source.as_str()).map_or_else(|| part.shallow_clone(), |sum| sum + &part);
            total.insert(source, sum);
        }
    }
    let floor = FLOOR * facts.norms.values().copied().fold(0.0, f64::max);
    let mut wrong = Vec::new();
    for (name, norm) in &facts.norms {
        let expected = reference.get(&format!("grad.{name}")).ok_or("a gradient is missing")?;
        let Some(gradient) = total.get(name.as_str()) else {
            wrong.push(format!("{name} gets no gradient"));
            continue;
        };
        let apart =
            (gradient.reshape([-1]) - expected.to_kind(Kind::Double)).norm().double_value(&[]) / norm.max(floor);
        if !within(apart, GRADIENTS) {
            wrong.push(format!("gradient of {name} differs by {apart:.0e}"));
        }
    }
    Ok(wrong)
}

/// What the gradient of an initializer contributes to that of each tensor it holds.
fn parts(
    held: &Held,
    gradient: &Tensor,
    index: Option<&Tensor>,
    reference: &Reference,
) -> Result<Vec<Tensor>, Failure> {
    let elements =
        |name: &String| reference.facts().parameters.get(name).map_or(0, |size| size.iter().product::<i64>());
    match held.kind.as_str() {
        "same" => Ok(vec![gradient.shallow_clone()]),
        "transposed" => Ok(vec![gradient.tr().contiguous()]),
        "gather" => {
            let index = index.ok_or("a gather without an index")?.reshape([-1]);
            let zeros = Tensor::zeros([elements(&held.sources[0])], (Kind::Double, gradient.device()));
            Ok(vec![zeros.index_add(0, &index, &gradient.reshape([-1]))])
        }
        // One part per source, each the gates one after the other.
        "gates" | "biases" => {
            let back: Vec<i64> = (0..held.gates.len() as i64)
                .map(|gate| held.gates.iter().position(|&other| other == gate).map_or(0, |position| position as i64))
                .collect();
            let rows = gradient.reshape([held.sources.len() as i64, held.gates.len() as i64, -1]);
            let part = |source: usize| rows.select(0, source as i64).index_select(0, &Tensor::from_slice(&back));
            Ok((0..held.sources.len()).map(part).collect())
        }
        other => Err(format!("kind `{other}`").into()),
    }
}
