//! SOAP against Algorithm 3 of its paper, on unfolded matrices.

use crate::problems::{Leaves, assert_close, assert_same, noise, step_along};
use crate::shampoo::{times, unfold};
use fngd_core::optimizer::{AdamwConfig, Groups, Method, Optimizer, SoapConfig, StepOptions, build};
use fngd_core::{Parameter, Result, Role};
use tch::Tensor;

const RATE: f64 = 0.05;

fn model(size: &[i64]) -> Leaves {
    let tensor = noise(size, 1).remove(0).cos().set_requires_grad(true);
    Leaves(vec![Parameter { name: "weight".to_owned(), tensor, role: Role::Weight }])
}

fn optimizer(model: &Leaves, config: SoapConfig) -> Box<dyn Optimizer> {
    build(model, &Method::Soap(config), &Groups::default(), &StepOptions::default()).unwrap()
}

/// Follows `config` on a tensor of `size`, whose dimensions in `modes` have a basis.
fn follow(config: SoapConfig, size: &[i64], modes: &[i64]) -> Result<()> {
    let SoapConfig { beta1, beta2, epsilon, weight_decay, .. } = config;
    let model = model(size);
    let mut optimizer = optimizer(&model, config);
    let mut weight = model.0[0].tensor.detach().copy();
    let (mut first, mut second) = (weight.zeros_like(), weight.zeros_like());
    let mut statistics: Vec<Tensor> = Vec::new();
    let mut bases: Vec<Tensor> = Vec::new();
    let mut t = 0;
    for gradient in noise(size, 9) {
        let gram = |mode: i64| {
            let unfolded = unfold(&gradient, mode);
            unfolded.matmul(&unfolded.transpose(0, 1))
        };
        let is_first = bases.is_empty();
        if is_first {
            statistics = modes.iter().map(|&mode| (1.0 - beta2) * gram(mode)).collect();
            // Columns by rising eigenvalue; their signs do not matter.
            let vectors = |matrix: &Tensor| matrix.svd(true, true).0.flip(&[1i64][..]);
            bases = statistics.iter().map(vectors).collect();
        }
        if !(is_first && config.skip_first) {
            t += 1;
            let rotate = |tensor: &Tensor, transpose: bool| {
                modes.iter().zip(&bases).fold(tensor.copy(), |tensor, (&mode, basis)| {
                    times(&if transpose { basis.transpose(0, 1) } else { basis.copy() }, &tensor, mode)
                })
            };
            first = beta1 * first + (1.0 - beta1) * &gradient;
            second = beta2 * second + (1.0 - beta2) * rotate(&gradient, true).square();
            let moment = rotate(&first, true) / (1.0 - beta1.powi(t));
            let normalised = moment / ((&second / (1.0 - beta2.powi(t))).sqrt() + epsilon);
            weight = weight * (1.0 - RATE * weight_decay) - RATE * rotate(&normalised, false);
            for ((&mode, statistic), basis) in modes.iter().zip(&mut statistics).zip(&mut bases) {
                if !is_first {
                    *statistic = beta2 * &*statistic + (1.0 - beta2) * gram(mode);
                }
                if t % config.basis_every_steps as i32 == 0 {
                    *basis = Tensor::linalg_qr(&statistic.matmul(basis), "reduced").0;
                }
            }
        }
        step_along(&model, &mut *optimizer, &[gradient], RATE)?;
        assert_close(&format!("{size:?} {config:?}"), &model.0[0].tensor.detach(), &weight, 1e-12);
    }
    Ok(())
}

#[test]
fn it_is_its_algorithm() -> Result<()> {
    // With a tiny ε, the round-off where the first gradient has nothing would be divided by itself.
    let base = SoapConfig { basis_every_steps: 3, epsilon: 1e-3, ..SoapConfig::default() };
    for config in [
        base,
        SoapConfig { basis_every_steps: 1, beta1: 0.9, beta2: 0.99, ..base },
        SoapConfig { skip_first: false, weight_decay: 0.2, ..base },
    ] {
        follow(config, &[4, 3], &[0, 1])?;
        follow(config, &[3, 4], &[0, 1])?;
    }
    // A convolution: the dimension of length 1 has no basis, nor has the one that is too long.
    follow(base, &[3, 2, 1, 3], &[0, 1, 3])?;
    follow(SoapConfig { largest_factor: 3, ..base }, &[5, 3], &[1])
}

#[test]
fn without_a_basis_it_is_adamw() -> Result<()> {
    let settings = SoapConfig::default();
    let adamw = AdamwConfig {
        beta1: settings.beta1,
        beta2: settings.beta2,
        epsilon: settings.epsilon,
        weight_decay: settings.weight_decay,
    };
    for (size, largest_factor) in [(&[6i64][..], 10_000), (&[1, 6], 10_000), (&[], 10_000), (&[3, 4], 2)] {
        let (model, other) = (model(size), model(size));
        let mut soap = optimizer(&model, SoapConfig { largest_factor, ..settings });
        let mut adamw = build(&other, &Method::Adamw(adamw), &Groups::default(), &StepOptions::default())?;
        for gradient in noise(size, 12) {
            step_along(&model, &mut *soap, &[gradient.copy()], RATE)?;
            step_along(&other, &mut *adamw, &[gradient], RATE)?;
        }
        assert_close(&format!("{size:?}"), &model.0[0].tensor.detach(), &other.0[0].tensor.detach(), 1e-13);
    }
    Ok(())
}

#[test]
fn a_basis_that_is_not_finite_is_not_taken_and_is_counted() -> Result<()> {
    let model = model(&[4, 3]);
    let mut optimizer = optimizer(&model, SoapConfig { basis_every_steps: 1, ..SoapConfig::default() });
    let basis = |optimizer: &dyn Optimizer| -> Result<Vec<Tensor>> {
        let state = optimizer.state()?;
        Ok(state.iter().filter(|(name, _)| name == "rule.basis.weight").map(|(_, tensor)| tensor.copy()).collect())
    };
    let grads = noise(&[4, 3], 2);
    step_along(&model, &mut *optimizer, &[grads[0].copy()], RATE)?;
    let before = basis(&*optimizer)?;
    for (name, tensor) in optimizer.state()? {
        if name == "rule.statistics.weight" {
            let _ = tensor.shallow_clone().fill_(f64::NAN);
        }
    }
    let report = step_along(&model, &mut *optimizer, &[grads[1].copy()], RATE)?;
    assert_eq!(report.fallbacks, 2);
    assert_same(&basis(&*optimizer)?, &before);
    assert!(bool::try_from(model.0[0].tensor.isfinite().all())?);
    Ok(())
}

#[test]
fn settings_have_ranges() {
    let message = |config: SoapConfig| config.build().unwrap_err().to_string();
    let base = SoapConfig::default();
    assert_eq!(message(SoapConfig { beta1: 1.0, ..base }), "beta1 must be in [0, 1), found 1");
    assert_eq!(message(SoapConfig { beta2: -1.0, ..base }), "beta2 must be in [0, 1), found -1");
    assert_eq!(message(SoapConfig { epsilon: 0.0, ..base }), "epsilon must be > 0 and finite, found 0");
    assert_eq!(message(SoapConfig { basis_every_steps: 0, ..base }), "basis_every_steps must be >= 1, found 0");
    assert_eq!(message(SoapConfig { largest_factor: 0, ..base }), "largest_factor must be >= 1, found 0");
    assert_eq!(message(SoapConfig { weight_decay: -1.0, ..base }), "weight_decay must be >= 0 and finite, found -1");
}
