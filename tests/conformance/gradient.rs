//! The gradients of a case, beside differences of its outputs.
//!
//! The package has no gradients, so each case that passes is asked for them: along one direction for each float input, the derivative
//! by backpropagation must be what two difference quotients say. Inputs that nothing flows back to, such as the scales of Resize,
//! are left out.

use crate::Result;
use fngd_module::TrainableModule;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// Steps of the two difference quotients. Where these disagree, there is a corner or float32 is not enough.
const STEPS: [f64; 2] = [2e-3, 1e-3];

/// Largest relative difference between the quotients, and between them and the gradient. In float32, differences of such steps
/// have two digits.
const AGREE: f64 = 0.02;
const EQUAL: f64 = 0.04;

/// Below this, differences are noise.
const SMALLEST: f64 = 0.02;

/// How far the inputs are moved first: the package likes whole numbers, where many functions have corners.
const OFFSET: f64 = 0.03;

/// Whether some gradient could be compared; an error if one is wrong.
pub fn check(module: &TrainableModule, inputs: &[Tensor]) -> Result<bool> {
    let base = inputs.iter().map(off_corners).collect::<Result<Vec<_>>>()?;
    let mut compared = BTreeSet::new();
    for (number, input) in base.iter().enumerate() {
        if input.kind() == Kind::Float && input.numel() > 0 {
            compared.insert(check_one(module, &base, number).map_err(|error| format!("input {number}: {error}"))?);
        }
    }
    Ok(compared.contains(&true))
}

fn check_one(module: &TrainableModule, base: &[Tensor], number: usize) -> Result<bool> {
    let with = |tensor: &Tensor| -> Vec<Tensor> {
        let chosen = |other, input| if other == number { tensor } else { input };
        base.iter().enumerate().map(|(other, input)| chosen(other, input).shallow_clone()).collect()
    };
    let leaf = base[number].f_detach()?.f_set_requires_grad(true)?;
    // libtorch refuses gradients of what is never trained: running statistics, weights of classes.
    let Ok(outputs) = module.forward(&with(&leaf)) else { return Ok(false) };
    let flowing: Vec<bool> = outputs.iter().map(Tensor::requires_grad).collect();
    if !flowing.contains(&true) {
        return Ok(false);
    }
    // libtorch adds where in its own source it happened.
    let first_line = |error: tch::TchError| error.to_string().lines().next().unwrap_or_default().to_owned();
    weighted(&outputs, &flowing)?.f_backward().map_err(first_line)?;
    let gradient = leaf.grad();
    if !gradient.defined() {
        return Ok(false);
    }
    let direction = wave(&leaf)?;
    let derivative = value(&gradient.f_to_kind(Kind::Double)?.f_mul(&direction)?.f_sum(Kind::Double)?)?;
    let at = |step: f64| -> Result<f64> {
        let moved = leaf.f_detach()?.f_to_kind(Kind::Double)?.f_add(&direction.f_mul_scalar(step)?)?;
        let outputs = module.forward(&with(&moved.f_to_kind(Kind::Float)?))?;
        value(&weighted(&outputs, &flowing)?)
    };
    let quotient = |step: f64| -> Result<f64> { Ok((at(step)? - at(-step)?) / (2.0 * step)) };
    let (coarse, fine) = (quotient(STEPS[0])?, quotient(STEPS[1])?);
    if !is_close(coarse, fine, AGREE) {
        return Ok(false);
    }
    if !is_close(fine, derivative, EQUAL) {
        return Err(format!("the gradient gives {derivative}, differences give {coarse} and {fine}").into());
    }
    Ok(true)
}

fn is_close(left: f64, right: f64, tolerance: f64) -> bool {
    (left - right).abs() <= tolerance * left.abs().max(right.abs()).max(SMALLEST)
}

/// Floats moved by 1.5 to 3 hundredths, up or down.
fn off_corners(input: &Tensor) -> Result<Tensor> {
    if input.kind() != Kind::Float {
        return Ok(input.shallow_clone());
    }
    let wave = wave(input)?;
    let offset = wave.f_sign()?.f_add(&wave)?.f_mul_scalar(OFFSET / 2.0)?;
    Ok(input.f_to_kind(Kind::Double)?.f_add(&offset)?.f_to_kind(Kind::Float)?)
}

/// The sum of the outputs that count, each element with a weight of its own.
fn weighted(outputs: &[Tensor], counted: &[bool]) -> Result<Tensor> {
    let mut sum = Tensor::f_zeros([0i64; 0], (Kind::Double, Device::Cpu))?;
    for output in outputs.iter().zip(counted).filter(|(_, counted)| **counted).map(|(output, _)| output) {
        let weights = wave(output)?.f_add_scalar(0.3)?;
        sum = sum.f_add(&output.f_to_kind(Kind::Double)?.f_mul(&weights)?.f_sum(Kind::Double)?)?;
    }
    Ok(sum)
}

/// Float64 numbers from -1 to 1 of the size of `tensor`, without a visible rule.
fn wave(tensor: &Tensor) -> Result<Tensor> {
    let numbers = Tensor::f_arange_start(1, tensor.numel() as i64 + 1, (Kind::Double, tensor.device()))?;
    Ok(numbers.f_mul_scalar(12.9898)?.f_sin()?.f_reshape(tensor.size())?)
}

fn value(tensor: &Tensor) -> Result<f64> {
    Ok(f64::try_from(tensor)?)
}
