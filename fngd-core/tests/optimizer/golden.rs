//! Ten steps of every rule against torch 2.11.0.

use crate::problems::{Leaves, assert_close};
use fngd_core::optimizer::{AdamwConfig, Groups, Method, SgdConfig, StepOptions, build};
use fngd_core::state::{self, TensorMap};
use fngd_core::{Parameter, Result, Role};
use tch::{Kind, Tensor};

const STEPS: i64 = 10;
const SIZES: [(&str, &[i64]); 2] = [("weight", &[4, 3]), ("bias", &[4])];

/// The settings of `make_optimizers.py`, under the same names.
fn settings() -> Vec<(&'static str, Method, f64)> {
    let sgd = |momentum, nesterov, weight_decay| Method::Sgd(SgdConfig { momentum, nesterov, weight_decay });
    let adamw = AdamwConfig::default();
    vec![
        ("sgd", sgd(0.0, false, 0.0), 0.1),
        ("sgd_decay", sgd(0.0, false, 0.05), 0.1),
        ("momentum", sgd(0.9, false, 0.0), 0.1),
        ("momentum_decay", sgd(0.9, false, 5e-4), 0.1),
        ("nesterov", sgd(0.9, true, 0.05), 0.1),
        ("adamw", Method::Adamw(adamw), 0.01),
        ("adamw_no_decay", Method::Adamw(AdamwConfig { weight_decay: 0.0, ..adamw }), 0.01),
        ("adamw_betas", Method::Adamw(AdamwConfig { beta1: 0.8, beta2: 0.95, epsilon: 1e-4, weight_decay: 0.1 }), 0.01),
    ]
}

#[test]
fn rules_equal_torch_in_float32() -> Result<()> {
    compare("f32", Kind::Float, 1e-6)
}

#[test]
fn rules_equal_torch_in_float64() -> Result<()> {
    compare("f64", Kind::Double, 1e-14)
}

fn compare(precision: &str, kind: Kind, tolerance: f64) -> Result<()> {
    let mut golden = TensorMap::new(&state::from_bytes(include_bytes!("optimizers.safetensors"))?)?.split(precision);
    let (mut start, mut grads) = (golden.split("start"), golden.split("grads"));
    let start = SIZES.map(|(name, size)| start.take(name, kind, size).unwrap());
    let grads = SIZES.map(|(name, size)| grads.take(name, kind, &stacked(size)).unwrap());
    for (setting, method, learning_rate) in settings() {
        let leaf = |index: usize| start[index].copy().set_requires_grad(true);
        let model = Leaves(vec![
            Parameter { name: "weight".to_owned(), tensor: leaf(0), role: Role::Weight },
            Parameter { name: "bias".to_owned(), tensor: leaf(1), role: Role::Bias },
        ]);
        // torch has one group here, so the bias decays as well.
        let mut optimizer = build(&model, &method, &Groups::decay_all(), &StepOptions::default())?;
        let mut golden = golden.split(setting);
        let expected = SIZES.map(|(name, size)| golden.take(name, kind, &stacked(size)).unwrap());
        for step in 0..STEPS {
            let dot = |index: usize| (&model.0[index].tensor * grads[index].get(step)).sum(kind);
            optimizer.backward(&(dot(0) + dot(1)), 1)?;
            optimizer.step(learning_rate)?;
            for (index, parameter) in model.0.iter().enumerate() {
                let what = format!("{precision} {setting}, step {step}, `{}`", parameter.name);
                assert_close(&what, &parameter.tensor.detach(), &expected[index].get(step), tolerance);
            }
        }
    }
    // Every setting of the script is tested here.
    golden.finish()
}

fn stacked(size: &[i64]) -> Vec<i64> {
    [&[STEPS], size].concat()
}

#[test]
fn golden_files_are_whole() {
    // Start and gradients, then the trajectories: for each of two parameters in two precisions.
    let names = state::from_bytes(include_bytes!("optimizers.safetensors")).unwrap();
    assert_eq!(names.len(), 2 * 2 * (2 + settings().len()));
    assert!(names.iter().all(|(_, tensor): &(String, Tensor)| bool::try_from(tensor.isfinite().all()).unwrap()));
}
