//! Parameter groups.

use crate::problems::{Leaves, Mlp, train_step};
use fngd_core::optimizer::{AdamwConfig, Groups, Method, SgdConfig, StepOptions, build};
use fngd_core::{Inventory, Parameter, Result, Role};
use tch::{Kind, Tensor};

fn scales(groups: &Groups) -> Vec<(f64, f64)> {
    let parameters = Inventory::of(&Mlp::new(Kind::Float)).parameters;
    let grouped = groups.assign(&parameters).unwrap();
    grouped.iter().map(|one| (one.weight_decay_scale, one.learning_rate_scale)).collect()
}

#[test]
fn biases_do_not_decay_by_default() {
    assert_eq!(scales(&Groups::default()), [(1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (1.0, 1.0)]);
    assert_eq!(scales(&Groups::decay_all()), [(1.0, 1.0); 5]);
}

#[test]
fn the_last_rule_wins_setting_by_setting() {
    let groups = Groups::default().learning_rate("head", 10.0).weight_decay("head.bias", 0.5);
    assert_eq!(scales(&groups), [(1.0, 1.0), (0.0, 1.0), (1.0, 10.0), (0.5, 10.0), (1.0, 1.0)]);
}

#[test]
fn the_scales_reach_the_update() -> Result<()> {
    let sgd = Method::Sgd(SgdConfig { momentum: 0.0, nesterov: false, weight_decay: 0.5 });
    let adamw = Method::Adamw(AdamwConfig { weight_decay: 0.5, ..Default::default() });
    for method in [sgd, adamw] {
        let leaf = |name: &str, role| Parameter {
            name: name.to_owned(),
            tensor: Tensor::from_slice(&[2.0f64]).set_requires_grad(true),
            role,
        };
        let model = Leaves(vec![leaf("w", Role::Weight), leaf("b", Role::Bias), leaf("fast", Role::Weight)]);
        let groups = Groups::default().learning_rate("fast", 3.0);
        let mut optimizer = build(&model, &method, &groups, &StepOptions::default())?;
        // The gradient is zero, so only decay moves anything: by 0.1 · 0.5 · 2, not at all, and three times as far.
        let loss = model.0.iter().map(|one| one.tensor.sum(Kind::Double)).sum::<Tensor>() * 0.0;
        optimizer.backward(&loss, 1)?;
        optimizer.step(0.1)?;
        let values: Vec<f64> = model.0.iter().map(|one| one.tensor.double_value(&[0])).collect();
        for (value, expected) in values.iter().zip([1.9, 2.0, 1.7]) {
            assert!((value - expected).abs() < 1e-12, "{method:?}: {values:?}");
        }
    }
    Ok(())
}

#[test]
fn decay_on_and_off_train_differently() -> Result<()> {
    let method = Method::Sgd(SgdConfig { weight_decay: 0.1, ..Default::default() });
    let trained = |groups: &Groups| -> Result<Vec<Tensor>> {
        let model = Mlp::new(Kind::Float);
        let mut optimizer = build(&model, &method, groups, &StepOptions::default())?;
        train_step(&model, &mut *optimizer, 0, 0.1)?;
        Ok(model.values())
    };
    let (spared, all) = (trained(&Groups::default())?, trained(&Groups::decay_all())?);
    assert!(spared[0].equal(&all[0]), "weights decay in both");
    assert!(!spared[1].equal(&all[1]), "biases decay only in one");
    Ok(())
}

#[test]
fn mistakes_are_named() {
    let parameters = Inventory::of(&Mlp::new(Kind::Float)).parameters;
    let message = |groups: Groups| groups.assign(&parameters).unwrap_err().to_string();
    assert_eq!(
        message(Groups::default().weight_decay("hid", 0.0)),
        "group `hid`: the model has no parameter of this name"
    );
    assert_eq!(
        message(Groups::default().learning_rate(Role::Weight, -1.0)),
        "group weight: scale must be >= 0 and finite, found -1"
    );
}
