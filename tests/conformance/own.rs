//! Does the harness see what it is there to see? Checked before every run, with cases that end badly on purpose.

use crate::cases::Case;
use crate::workers::{self, Answer};
use crate::{Result, compare};
use fngd_onnx::graph::TensorData;
use std::path::Path;
use std::time::Duration;
use tch::Tensor;

/// No suite has this name.
const SUITE: &str = "own";

/// Workers that panic, die, hang or ask for 64 GiB are noticed; outputs that are wrong in one respect are refused.
pub fn check() -> Result<()> {
    let case =
        |name: &str| Case { suite: SUITE.into(), name: name.into(), operators: Vec::new(), rtol: 0.0, atol: 0.0 };
    let cases = ["abort", "fill", "hang", "panic", "pass"].map(case);
    let found = workers::run(Path::new("none"), &cases.each_ref(), Duration::from_secs(3))?;
    let [abort, fill, hang, panic, pass] = found.as_slice() else { return Err("not five answers".into()) };
    let is = |answer: &Answer, text: &str| matches!(answer, Answer::Broke(why) if why.contains(text));
    if !(is(abort, "signal")
        && is(fill, "memory allocation of 68719476736 bytes failed")
        && is(hang, "no end")
        && is(panic, "on purpose")
        && *pass == Answer::Passed(false))
    {
        return Err(format!("the harness does not see broken workers: {found:?}").into());
    }
    let expected = TensorData::from_floats(vec![2], &[1.0, f32::NAN]);
    let equal = |values: &Tensor| compare::compare(values, &expected, 1e-3, 1e-7).is_ok();
    let good = equal(&Tensor::from_slice(&[1.0005f32, f32::NAN]));
    let bad = [
        Tensor::from_slice(&[1.01f32, f32::NAN]),
        Tensor::from_slice(&[1.0f32, 0.0]),
        Tensor::from_slice(&[f32::INFINITY, f32::NAN]),
        Tensor::from_slice(&[1.0f64, f64::NAN]),
        Tensor::from_slice(&[1.0f32, f32::NAN]).f_reshape([1, 2])?,
    ];
    if !good || bad.iter().any(equal) {
        return Err("the harness does not tell right outputs from wrong ones".into());
    }
    Ok(())
}

/// In the worker: what `case` is there for, if it is one of these.
pub fn run(case: &Case) -> bool {
    if case.suite == SUITE {
        match case.name.as_str() {
            "abort" => std::process::abort(),
            "fill" => drop(vec![1u8; 64 << 30]),
            "hang" => std::thread::sleep(Duration::from_secs(3600)),
            "panic" => panic!("on purpose"),
            _ => (),
        }
    }
    case.suite == SUITE
}
