//! The gradient of every operator against differences of its values.

mod cases;

use cases::{Known, build, cases};
use fngd_module::TrainableModule;
use serde_json::Value;
use tch::{Kind, Tensor, no_grad};

/// How far an element is moved. Values are float32: less would drown in rounding.
const STEP: f64 = 2e-3;
/// Inputs of more elements are tried at this many, evenly spaced.
const MOST_ELEMENTS: i64 = 8;

/// Steeper than anything here: a jump.
const STEEPEST: f64 = 100.0;

/// Inputs that steer an operator and are no data: nothing is learned there.
fn settings(op_type: &str) -> &'static [usize] {
    match op_type {
        "BatchNormalization" => &[3, 4],
        "NegativeLogLikelihoodLoss" | "Pad" | "SoftmaxCrossEntropyLoss" => &[2],
        "Resize" | "Upsample" => &[1, 2],
        "RoiAlign" => &[1],
        _ => &[],
    }
}

/// Elements whose gradient lies outside what their neighbourhood allows.
fn wrong_gradients(case: &Value) -> Result<Vec<String>, fngd_module::Error> {
    let (module, inputs) = build(case, Known::Nothing)?;
    // Their positions in the node: inputs that a case leaves out have none here.
    let present = case["inputs"].as_array().expect("inputs").iter().enumerate().filter(|(_, input)| !input.is_null());
    let settings = settings(case["op_type"].as_str().expect("op_type"));
    let is_data: Vec<bool> = present.map(|(position, _)| !settings.contains(&position)).collect();
    let inputs: Vec<Tensor> = inputs
        .into_iter()
        .zip(&is_data)
        .map(|(x, &is_data)| if is_data && x.kind() == Kind::Float { x.set_requires_grad(true) } else { x })
        .collect();
    let loss = loss(&module, &inputs)?;
    if !loss.requires_grad() {
        return Ok(Vec::new());
    }
    loss.backward();
    let here = loss.double_value(&[]);
    let mut wrong = Vec::new();
    for (position, input) in inputs.iter().enumerate().filter(|(_, input)| input.requires_grad()) {
        let grad = input.grad();
        let count = input.numel() as i64;
        for element in (0..count).step_by((count / MOST_ELEMENTS).max(1) as usize) {
            let found = if grad.defined() { grad.reshape([-1]).double_value(&[element]) } else { 0.0 };
            let moved = |by: f64| -> Result<f64, fngd_module::Error> {
                let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach().copy()).collect();
                let _ = no_grad(|| inputs[position].view([-1]).get(element).g_add_scalar_(by));
                Ok(no_grad(|| self::loss(&module, &inputs))?.double_value(&[]))
            };
            let (behind, ahead) = (moved(-STEP)?, moved(STEP)?);
            let (left, right) = ((here - behind) / STEP, (ahead - here) / STEP);
            if left.abs().max(right.abs()) > STEEPEST {
                continue;
            }
            // At a kink, every slope between those of both sides is a gradient.
            let slack = 1e-2 * (1.0 + left.abs().max(right.abs()));
            if !(left.min(right) - slack..=left.max(right) + slack).contains(&found) {
                wrong.push(format!("input {position}, element {element}: {found}, values give {left} to {right}"));
            }
        }
    }
    Ok(wrong)
}

/// A number that depends on every output differently.
fn loss(module: &TrainableModule, inputs: &[Tensor]) -> Result<Tensor, fngd_module::Error> {
    let mut sum = Tensor::from(0f64);
    for output in module.forward(inputs)?.iter().filter(|output| output.kind() == Kind::Float) {
        let weights = (Tensor::arange(output.numel() as i64, (Kind::Double, output.device())) * 1.7).sin() + 0.3;
        sum += (output.to_kind(Kind::Double).reshape([-1]) * weights).sum(Kind::Double);
    }
    Ok(sum)
}

#[test]
fn gradients_are_the_slopes_of_the_values() {
    // Their rounding has no slope: `quantise.rs` looks at what their gradient is instead.
    let rounded = ["QuantizeLinear", "DynamicQuantizeLinear"];
    tch::set_num_threads(1);
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in cases() {
        let op_type = case["op_type"].as_str().expect("op_type");
        if rounded.contains(&op_type) {
            continue;
        }
        let name = case["name"].as_str().expect("name");
        // Equal elements change places when one is moved, so their neighbourhood says nothing.
        if name == "TopK-24 first of equals" {
            continue;
        }
        match wrong_gradients(&case) {
            Ok(wrong) => failures.extend(wrong.first().map(|text| format!("{name}: {} elements, {text}", wrong.len()))),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
        compared += 1;
    }
    assert!(compared > 300, "only {compared} cases");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
