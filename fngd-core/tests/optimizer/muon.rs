//! Muon against its formula by singular values, and against torch 2.11.0.

use crate::problems::{Leaves, assert_close, assert_same, muon, noise, step_along};
use fngd_core::optimizer::{
    AdamwConfig, Groups, Method, MuonConfig, MuonPrecision, MuonScale, MuonScope, Optimizer, StepOptions, build,
};
use fngd_core::state::{self, TensorMap};
use fngd_core::{Parameter, Result, Role};
use tch::{Kind, Tensor};

const RATE: f64 = 0.02;

fn leaf(name: &str, start: &Tensor, role: Role) -> Parameter {
    Parameter { name: name.to_owned(), tensor: start.copy().set_requires_grad(true), role }
}

fn optimizer(model: &Leaves, config: MuonConfig) -> Box<dyn Optimizer> {
    build(model, &Method::Muon(config), &Groups::decay_all(), &StepOptions::default()).unwrap()
}

/// Newton-Schulz changes nothing but the singular values, each by the polynomial s ← as + bs³ + cs⁵.
fn by_singular_values(matrix: &Tensor, steps: u32) -> Tensor {
    let (left, mut values, right) = matrix.svd(true, true);
    values = &values / matrix.square().sum(Kind::Double).sqrt();
    for _ in 0..steps {
        values = 3.4445 * &values - 4.7750 * values.pow_tensor_scalar(3) + 2.0315 * values.pow_tensor_scalar(5);
    }
    left.matmul(&values.diag(0)).matmul(&right.transpose(0, 1))
}

#[test]
fn it_is_its_formula() -> Result<()> {
    // High, wide, square, a convolution, and one that is one column.
    for size in [&[6i64, 4][..], &[3, 5], &[4, 4], &[4, 2, 3, 1], &[5, 1]] {
        for config in [
            muon(),
            MuonConfig { nesterov: false, momentum: 0.8, ..muon() },
            MuonConfig { scale: MuonScale::MatchRms, weight_decay: 0.3, ..muon() },
            MuonConfig { newton_schulz_steps: 2, ..muon() },
        ] {
            let start = noise(size, 1).remove(0).cos();
            let model = Leaves(vec![leaf("weight", &start, Role::Weight)]);
            let mut optimizer = optimizer(&model, config);
            let (mut weight, mut momentum) = (start.copy(), start.zeros_like());
            for gradient in noise(size, 6) {
                momentum = config.momentum * momentum + &gradient;
                let ahead = if config.nesterov { &gradient + config.momentum * &momentum } else { momentum.copy() };
                let matrix = ahead.flatten(1, -1);
                let [rows, columns] = [matrix.size()[0] as f64, matrix.size()[1] as f64];
                let scale = match config.scale {
                    MuonScale::Original => f64::sqrt(f64::max(1.0, rows / columns)),
                    MuonScale::MatchRms => 0.2 * f64::sqrt(f64::max(rows, columns)),
                };
                let direction = by_singular_values(&matrix, config.newton_schulz_steps).reshape(size);
                weight = weight * (1.0 - RATE * config.weight_decay) - RATE * scale * direction;
                step_along(&model, &mut *optimizer, &[gradient], RATE)?;
                assert_close(&format!("{size:?} {config:?}"), &model.0[0].tensor.detach(), &weight, 1e-12);
            }
        }
    }
    Ok(())
}

#[test]
fn singular_values_are_brought_near_one() -> Result<()> {
    let start = Tensor::zeros([8, 6], (Kind::Double, tch::Device::Cpu));
    let model = Leaves(vec![leaf("weight", &start, Role::Weight)]);
    let config = MuonConfig { weight_decay: 0.0, scale: MuonScale::Original, ..muon() };
    step_along(&model, &mut *optimizer(&model, config), &noise(&[8, 6], 1), 1.0)?;
    let (_, values, _) = model.0[0].tensor.detach().svd(true, true);
    let values = Vec::<f64>::try_from(values / f64::sqrt(8.0 / 6.0))?;
    assert!(values[0] < 1.3 && values[5] > 0.6, "{values:?}");
    Ok(())
}

#[test]
fn a_gradient_of_zeros_moves_nothing() -> Result<()> {
    let start = noise(&[3, 4], 1).remove(0);
    for precision in [MuonPrecision::Full, MuonPrecision::Bfloat16] {
        let model = Leaves(vec![leaf("weight", &start, Role::Weight)]);
        let mut optimizer = optimizer(&model, MuonConfig { precision, weight_decay: 0.0, ..muon() });
        step_along(&model, &mut *optimizer, &[start.zeros_like()], RATE)?;
        assert_same(&[model.0[0].tensor.detach()], &[start.copy()]);
    }
    Ok(())
}

/// Stem, two hidden weights of one shape, a table, a scale, a bias, and the head.
fn network() -> Leaves {
    let leaves = [
        ("stem", &[4i64, 2, 3, 3][..], Role::Weight),
        ("bias", &[4], Role::Bias),
        ("one", &[4, 4], Role::Weight),
        ("two", &[4, 4], Role::Weight),
        ("table", &[5, 4], Role::Embedding),
        ("scale", &[4], Role::Normalisation),
        ("head", &[3, 4], Role::Weight),
    ];
    Leaves(leaves.map(|(name, size, role)| leaf(name, &noise(size, 1)[0], role)).into())
}

#[test]
fn what_is_no_hidden_matrix_is_adamws() -> Result<()> {
    let (model, other) = (network(), network());
    let config = MuonConfig { rest_learning_rate_scale: 0.25, ..MuonConfig::default() };
    let mut muon = optimizer(&model, config);
    let mut adamw = build(&other, &Method::Adamw(config.rest), &Groups::decay_all(), &StepOptions::default())?;
    for step in 1..=3 {
        let grads: Vec<Tensor> = model.0.iter().map(|one| noise(&one.tensor.size(), step).remove(0)).collect();
        step_along(&model, &mut *muon, &grads, 0.04)?;
        step_along(&other, &mut *adamw, &grads, 0.01)?;
    }
    for (one, other) in model.0.iter().zip(&other.0) {
        let is_equal = one.tensor.equal(&other.tensor);
        assert_eq!(is_equal, !matches!(one.name.as_str(), "one" | "two"), "{}", one.name);
    }
    Ok(())
}

#[test]
fn matrices_of_one_shape_do_not_meet() -> Result<()> {
    let model = network();
    let mut together = optimizer(&model, MuonConfig::default());
    let grads: Vec<Tensor> =
        model.0.iter().enumerate().map(|(at, one)| noise(&one.tensor.size(), at as u64 + 1).remove(at)).collect();
    step_along(&model, &mut *together, &grads, RATE)?;
    for at in [2, 3] {
        let alone = Leaves(vec![network().0.remove(at)]);
        let mut optimizer = optimizer(&alone, MuonConfig { scope: MuonScope::All, ..MuonConfig::default() });
        step_along(&alone, &mut *optimizer, &grads[at..=at], RATE)?;
        assert_close("alone", &model.0[at].tensor.detach(), &alone.0[0].tensor.detach(), 1e-15);
    }
    Ok(())
}

#[test]
fn it_equals_torch() -> Result<()> {
    let plain = MuonConfig { weight_decay: 0.0, scope: MuonScope::All, ..MuonConfig::default() };
    let settings = [
        ("muon", plain),
        ("muon_heavy_ball", MuonConfig { nesterov: false, momentum: 0.9, ..plain }),
        ("muon_match_rms", MuonConfig { scale: MuonScale::MatchRms, weight_decay: 0.1, ..plain }),
        ("muon_two_steps", MuonConfig { newton_schulz_steps: 2, weight_decay: 0.1, ..plain }),
    ];
    let sizes = [("high", [6i64, 4]), ("wide", [3, 5])];
    let golden = TensorMap::new(&state::from_bytes(include_bytes!("muon.safetensors"))?)?;
    let mut all = golden;
    // Rounding to bfloat16 is a matter of 2⁻⁸ of a step, and torch rounds a momentum that is smaller by 1 − μ.
    let precisions = [
        ("f32", Kind::Float, MuonPrecision::Full, 2e-6),
        ("f64", Kind::Double, MuonPrecision::Full, 1e-14),
        ("bf16", Kind::Float, MuonPrecision::Bfloat16, 2e-3),
    ];
    for (name, kind, precision, tolerance) in precisions {
        let mut golden = all.split(name);
        let (mut start, mut grads) = (golden.split("start"), golden.split("grads"));
        let start = sizes.map(|(name, size)| start.take(name, kind, &size).unwrap());
        let grads = sizes.map(|(name, [rows, columns])| grads.take(name, kind, &[10, rows, columns]).unwrap());
        for (setting, config) in settings {
            let model = Leaves(vec![leaf("high", &start[0], Role::Weight), leaf("wide", &start[1], Role::Weight)]);
            let mut optimizer = optimizer(&model, MuonConfig { precision, ..config });
            let mut golden = golden.split(setting);
            let expected = sizes.map(|(name, [rows, columns])| golden.take(name, kind, &[10, rows, columns]).unwrap());
            for step in 0..10 {
                step_along(&model, &mut *optimizer, &[grads[0].get(step), grads[1].get(step)], RATE)?;
                for (index, parameter) in model.0.iter().enumerate() {
                    let what = format!("{name} {setting}, step {step}, `{}`", parameter.name);
                    assert_close(&what, &parameter.tensor.detach(), &expected[index].get(step), tolerance);
                }
            }
        }
        golden.finish()?;
    }
    all.finish()
}

#[test]
fn settings_have_ranges() {
    let message = |config: MuonConfig| config.build().unwrap_err().to_string();
    let base = MuonConfig::default();
    assert_eq!(message(MuonConfig { momentum: 1.0, ..base }), "momentum must be in [0, 1), found 1");
    assert_eq!(message(MuonConfig { momentum: 0.0, ..base }), "nesterov needs momentum > 0, found 0");
    assert_eq!(
        message(MuonConfig { newton_schulz_steps: 100, ..base }),
        "newton_schulz_steps must be in [1, 99], found 100"
    );
    assert_eq!(message(MuonConfig { weight_decay: -1.0, ..base }), "weight_decay must be >= 0 and finite, found -1");
    assert_eq!(
        message(MuonConfig { rest_learning_rate_scale: f64::NAN, ..base }),
        "rest_learning_rate_scale must be >= 0 and finite, found NaN"
    );
    let rest = AdamwConfig { beta1: 2.0, ..AdamwConfig::default() };
    assert_eq!(message(MuonConfig { rest, ..base }), "beta1 must be in [0, 1), found 2");
}
