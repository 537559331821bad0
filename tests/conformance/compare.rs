//! Whether an output is what it should be.
//!
//! As `onnx.backend.test.runner` does it: equal dimensions, and |found - expected| <= atol + rtol |expected| for every element. The
//! differences:
//!
//! - modules compute with float32 whatever the file declares, and with wider integers in place of unsigned ones: `expected` is
//!   taken through the same rule, and then the element types must be equal;
//! - where float16 is expected, the output is first rounded to it; where bfloat16 is, rtol is at least 2^-6, as in the runner;
//! - integers and booleans must be equal.

use crate::Result;
use fngd_onnx::graph::{ElementType, TensorData};
use tch::{Kind, Tensor};

/// Says what is wrong with `found`.
pub fn compare(found: &Tensor, expected: &TensorData, rtol: f64, atol: f64) -> Result<()> {
    let wanted = fngd_module::tensor(expected)?;
    if (found.kind(), found.size()) != (wanted.kind(), wanted.size()) {
        return Err(format!(
            "found {:?} {:?}, expected {:?} {:?}",
            found.kind(),
            found.size(),
            wanted.kind(),
            wanted.size()
        )
        .into());
    }
    if wanted.kind() != Kind::Float {
        return elements(&integers(found)?, &integers(&wanted)?, |found, expected| found == expected);
    }
    let (found, rtol) = match expected.element_type {
        ElementType::Float16 => (found.f_to_kind(Kind::Half)?, rtol),
        ElementType::Bfloat16 => (found.shallow_clone(), rtol.max(f64::powi(2.0, -6))),
        _ => (found.shallow_clone(), rtol),
    };
    elements(&floats(&found)?, &floats(&wanted)?, |found, expected| {
        found == expected
            || (found.is_nan() && expected.is_nan())
            || (found - expected).abs() <= atol + rtol * expected.abs()
    })
}

fn elements<T: Copy + std::fmt::Display>(found: &[T], expected: &[T], equal: impl Fn(T, T) -> bool) -> Result<()> {
    let mut wrong = found.iter().zip(expected).enumerate().filter(|(_, (found, expected))| !equal(**found, **expected));
    let Some((index, (first, wanted))) = wrong.next() else { return Ok(()) };
    let (more, all) = (wrong.count() + 1, found.len());
    Err(format!("{more} of {all} elements differ: number {index} is {first}, expected {wanted}").into())
}

fn floats(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(&tensor.f_detach()?.f_to_kind(Kind::Double)?.f_reshape([-1])?)?)
}

fn integers(tensor: &Tensor) -> Result<Vec<i64>> {
    Ok(Vec::<i64>::try_from(&tensor.f_to_kind(Kind::Int64)?.f_reshape([-1])?)?)
}
