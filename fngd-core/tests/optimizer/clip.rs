//! Clipping by the global norm.

use crate::problems::{Leaves, assert_close};
use fngd_core::optimizer::{Groups, Method, Optimizer, SgdConfig, StepOptions, build};
use fngd_core::{Parameter, Result, Role};
use tch::{Kind, Tensor};

/// Two parameters at 0 whose gradient is (3, 0) and (4): of norm 5.
fn three_four_five(options: StepOptions) -> (Leaves, Box<dyn Optimizer>) {
    let leaf = |size: i64| Tensor::zeros([size], (Kind::Double, tch::Device::Cpu)).set_requires_grad(true);
    let model = Leaves(vec![
        Parameter { name: "a".to_owned(), tensor: leaf(2), role: Role::Weight },
        Parameter { name: "b".to_owned(), tensor: leaf(1), role: Role::Weight },
    ]);
    let plain = Method::Sgd(SgdConfig { momentum: 0.0, nesterov: false, weight_decay: 0.0 });
    let optimizer = build(&model, &plain, &Groups::default(), &options).unwrap();
    (model, optimizer)
}

fn loss(model: &Leaves) -> Tensor {
    (&model.0[0].tensor * Tensor::from_slice(&[3.0, 0.0])).sum(Kind::Double) + model.0[1].tensor.sum(Kind::Double) * 4.0
}

#[test]
fn a_long_gradient_is_scaled_to_the_limit() -> Result<()> {
    let (model, mut optimizer) = three_four_five(StepOptions { clip_norm: Some(1.0), ..Default::default() });
    optimizer.backward(&loss(&model), 1)?;
    let report = optimizer.step(1.0)?;
    assert_eq!(report.gradient_norm, Some(5.0));
    assert_close("a", &model.0[0].tensor.detach(), &Tensor::from_slice(&[-0.6, 0.0]), 1e-6);
    assert_close("b", &model.0[1].tensor.detach(), &Tensor::from_slice(&[-0.8]), 1e-6);
    Ok(())
}

#[test]
fn a_short_gradient_is_not_touched() -> Result<()> {
    let (model, mut optimizer) = three_four_five(StepOptions { clip_norm: Some(6.0), ..Default::default() });
    optimizer.backward(&loss(&model), 1)?;
    assert_eq!(optimizer.step(1.0)?.gradient_norm, Some(5.0));
    assert_eq!(Vec::<f64>::try_from(model.0[0].tensor.detach())?, [-3.0, 0.0]);
    Ok(())
}

#[test]
fn clipping_refuses_nan_even_without_the_guard() -> Result<()> {
    let (model, mut optimizer) = three_four_five(StepOptions { clip_norm: Some(1.0), guard: false });
    optimizer.backward(&(loss(&model) * f64::NAN), 1)?;
    assert!(optimizer.step(1.0)?.skipped);
    assert_eq!(Vec::<f64>::try_from(model.0[0].tensor.detach())?, [0.0, 0.0]);
    Ok(())
}

#[test]
fn without_guard_and_clipping_no_norm_is_computed() -> Result<()> {
    let (model, mut optimizer) = three_four_five(StepOptions { clip_norm: None, guard: false });
    optimizer.backward(&(loss(&model) * f64::NAN), 1)?;
    let report = optimizer.step(1.0)?;
    assert_eq!((report.gradient_norm, report.skipped), (None, false));
    assert!(Vec::<f64>::try_from(model.0[0].tensor.detach())?[0].is_nan());
    Ok(())
}

#[test]
fn a_step_without_any_gradient_has_norm_zero() -> Result<()> {
    let (_, mut optimizer) = three_four_five(StepOptions::default());
    let report = optimizer.step(1.0)?;
    assert_eq!((report.gradient_norm, report.skipped), (Some(0.0), false));
    Ok(())
}
