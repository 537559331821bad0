//! Shampoo against its formula: unfolded matrices, and roots by singular values.

use crate::problems::{Leaves, assert_close, assert_same, noise, step_along};
use fngd_core::optimizer::{Graft, Groups, Method, Optimizer, ShampooConfig, StepOptions, build};
use fngd_core::{Parameter, Result, Role};
use tch::{Kind, Tensor};

const RATE: f64 = 0.1;

fn model(size: &[i64], kind: Kind) -> Leaves {
    let tensor = noise(size, 1).remove(0).cos().to_kind(kind).set_requires_grad(true);
    Leaves(vec![Parameter { name: "weight".to_owned(), tensor, role: Role::Weight }])
}

fn optimizer(model: &Leaves, config: ShampooConfig) -> Box<dyn Optimizer> {
    build(model, &Method::Shampoo(config), &Groups::default(), &StepOptions::default()).unwrap()
}

/// A large ε keeps the statistics regular, so that no eigenvalue is raised.
fn base() -> ShampooConfig {
    ShampooConfig {
        epsilon: 0.1,
        block_size: 5,
        statistics_every_steps: 1,
        roots_every_steps: 1,
        ..ShampooConfig::default()
    }
}

/// The tensor as a matrix with a row for each index of `mode`.
pub fn unfold(tensor: &Tensor, mode: i64) -> Tensor {
    tensor.movedim_int(mode, 0).reshape([tensor.size()[mode as usize], -1])
}

/// `matrix` times the unfolded tensor, folded again.
pub fn times(matrix: &Tensor, tensor: &Tensor, mode: i64) -> Tensor {
    let product = matrix.matmul(&unfold(tensor, mode));
    product.reshape(tensor.movedim_int(mode, 0).size()).movedim_int(0, mode)
}

fn power(matrix: &Tensor, exponent: f64) -> Tensor {
    let (left, values, _) = matrix.svd(true, true);
    left.matmul(&values.pow_tensor_scalar(exponent).diag(0)).matmul(&left.transpose(0, 1))
}

/// One block, written as the paper writes it.
struct Block {
    statistics: Vec<Tensor>,
    roots: Vec<Tensor>,
}

impl Block {
    fn new(size: &[i64], epsilon: f64) -> Self {
        let eye = |&length: &i64| Tensor::eye(length, (Kind::Double, tch::Device::Cpu));
        let statistics = size.iter().map(|length| epsilon * eye(length)).collect();
        Self { statistics, roots: size.iter().map(eye).collect() }
    }

    fn direction(&mut self, gradient: &Tensor, see: bool, take: bool) -> Tensor {
        let order = gradient.dim();
        for mode in 0..order {
            let unfolded = unfold(gradient, mode as i64);
            if see {
                self.statistics[mode] = &self.statistics[mode] + unfolded.matmul(&unfolded.transpose(0, 1));
            }
            if take {
                self.roots[mode] = power(&self.statistics[mode], -1.0 / (2 * order) as f64);
            }
        }
        (0..order).fold(gradient.copy(), |direction, mode| times(&self.roots[mode], &direction, mode as i64))
    }
}

/// Follows `config` on a tensor of `size`, which is seen as `merged`, cut at `cuts` along its first dimension.
fn follow(config: ShampooConfig, size: &[i64], merged: &[i64], cuts: &[(i64, i64)]) -> Result<()> {
    let model = model(size, Kind::Double);
    let mut optimizer = optimizer(&model, config);
    let mut blocks: Vec<Block> =
        cuts.iter().map(|&(_, length)| Block::new(&[&[length], &merged[1..]].concat(), config.epsilon)).collect();
    let mut weight = model.0[0].tensor.detach().copy();
    let (mut momentum, mut squares) = (weight.zeros_like(), weight.zeros_like());
    for (before, gradient) in noise(size, 7).into_iter().enumerate() {
        let see = before % config.statistics_every_steps as usize == 0;
        let take = before % config.roots_every_steps as usize == 0;
        let whole = gradient.reshape(merged);
        let parts: Vec<Tensor> = cuts
            .iter()
            .zip(&mut blocks)
            .map(|(&(start, length), block)| block.direction(&whole.narrow(0, start, length), see, take))
            .collect();
        let mut direction = Tensor::cat(&parts, 0).reshape(size);
        let length = match config.graft {
            Graft::Nothing => direction.norm(),
            Graft::Sgd => gradient.norm(),
            Graft::Adam { beta2, epsilon } => {
                squares = beta2 * squares + (1.0 - beta2) * gradient.square();
                let correction = 1.0 - beta2.powi(before as i32 + 1);
                (&gradient / ((&squares / correction).sqrt() + epsilon)).norm()
            }
        };
        direction = &direction * length / direction.norm() + config.weight_decay * &weight;
        momentum = config.momentum * momentum + &direction;
        weight -= RATE * if config.nesterov { direction + config.momentum * &momentum } else { momentum.copy() };
        step_along(&model, &mut *optimizer, &[gradient], RATE)?;
        assert_close(&format!("{size:?} {config:?}"), &model.0[0].tensor.detach(), &weight, 1e-11);
    }
    Ok(())
}

#[test]
fn a_matrix() -> Result<()> {
    for config in [
        base(),
        ShampooConfig { graft: Graft::adam(), ..base() },
        ShampooConfig { graft: Graft::Nothing, weight_decay: 0.0, ..base() },
        ShampooConfig { nesterov: true, weight_decay: 0.1, ..base() },
        ShampooConfig { statistics_every_steps: 2, roots_every_steps: 3, ..base() },
    ] {
        follow(config, &[5, 4], &[5, 4], &[(0, 5)])?;
    }
    Ok(())
}

#[test]
fn blocks() -> Result<()> {
    follow(ShampooConfig { block_size: 3, ..base() }, &[8, 2], &[8, 2], &[(0, 3), (3, 3), (6, 2)])
}

#[test]
fn small_dimensions_are_merged() -> Result<()> {
    follow(ShampooConfig { block_size: 12, ..base() }, &[4, 3, 3, 3], &[12, 9], &[(0, 12)])
}

#[test]
fn three_dimensions_and_one() -> Result<()> {
    follow(base(), &[5, 3, 4], &[5, 3, 4], &[(0, 5)])?;
    follow(base(), &[5], &[5], &[(0, 5)])
}

#[test]
fn float32_is_near_float64_with_an_epsilon_far_below_its_precision() -> Result<()> {
    let config =
        ShampooConfig { epsilon: 1e-12, roots_every_steps: 1, statistics_every_steps: 1, ..Default::default() };
    let [narrow, wide] = [Kind::Float, Kind::Double].map(|kind| model(&[6, 4], kind));
    let (mut narrow_optimizer, mut wide_optimizer) = (optimizer(&narrow, config), optimizer(&wide, config));
    for gradient in noise(&[6, 4], 8) {
        step_along(&narrow, &mut *narrow_optimizer, &[gradient.to_kind(Kind::Float)], 0.01)?;
        step_along(&wide, &mut *wide_optimizer, &[gradient], 0.01)?;
    }
    let found = narrow.0[0].tensor.detach().to_kind(Kind::Double);
    assert_close("float32", &found, &wide.0[0].tensor.detach(), 1e-3);
    Ok(())
}

#[test]
fn a_root_that_cannot_be_taken_is_the_previous_one_and_is_counted() -> Result<()> {
    let config = ShampooConfig { roots_every_steps: 2, ..base() };
    let [broken, whole] = [(); 2].map(|()| model(&[4, 3], Kind::Double));
    let (mut broken_optimizer, mut whole_optimizer) = (optimizer(&broken, config), optimizer(&whole, config));
    let grads = noise(&[4, 3], 3);
    for gradient in &grads[..2] {
        step_along(&broken, &mut *broken_optimizer, &[gradient.copy()], RATE)?;
        step_along(&whole, &mut *whole_optimizer, &[gradient.copy()], RATE)?;
    }
    let roots = |optimizer: &dyn Optimizer| -> Result<Vec<Tensor>> {
        let state = optimizer.state()?;
        Ok(state.iter().filter(|(name, _)| name == "rule.roots.weight").map(|(_, tensor)| tensor.copy()).collect())
    };
    let before = roots(&*broken_optimizer)?;
    for (name, tensor) in broken_optimizer.state()? {
        if name == "rule.statistics.weight" {
            // The matrix of the rows, 4 × 4; that of the columns stays.
            let _ = tensor.narrow(0, 0, 16).fill_(f64::NAN);
        }
    }
    let report = step_along(&broken, &mut *broken_optimizer, &[grads[2].copy()], RATE)?;
    assert_eq!((report.fallbacks, report.retried, report.skipped), (1, 0, false));
    assert_eq!(step_along(&whole, &mut *whole_optimizer, &[grads[2].copy()], RATE)?.fallbacks, 0);
    let (after, others) = (roots(&*broken_optimizer)?, roots(&*whole_optimizer)?);
    assert_same(&[after[0].narrow(0, 0, 16)], &[before[0].narrow(0, 0, 16)]);
    assert_same(&[after[0].narrow(0, 16, 9)], &[others[0].narrow(0, 16, 9)]);
    assert!(bool::try_from(broken.0[0].tensor.isfinite().all())?);
    Ok(())
}

#[test]
fn settings_have_ranges() {
    let message = |config: ShampooConfig| config.build().unwrap_err().to_string();
    let base = ShampooConfig::default();
    assert_eq!(message(ShampooConfig { momentum: -0.1, ..base }), "momentum must be in [0, 1), found -0.1");
    let config = ShampooConfig { momentum: 0.0, nesterov: true, ..base };
    assert_eq!(message(config), "nesterov needs momentum > 0, found 0");
    assert_eq!(message(ShampooConfig { block_size: 9000, ..base }), "block_size must be in [1, 8192], found 9000");
    assert_eq!(message(ShampooConfig { epsilon: 0.0, ..base }), "epsilon must be > 0 and finite, found 0");
    let config = ShampooConfig { statistics_every_steps: 0, ..base };
    assert_eq!(message(config), "statistics_every_steps must be >= 1, found 0");
    assert_eq!(message(ShampooConfig { roots_every_steps: 0, ..base }), "roots_every_steps must be >= 1, found 0");
    let graft = |beta2, epsilon| message(ShampooConfig { graft: Graft::Adam { beta2, epsilon }, ..base });
    assert_eq!(graft(1.0, 1e-8), "graft beta2 must be in [0, 1), found 1");
    assert_eq!(graft(0.9, -1.0), "graft epsilon must be > 0 and finite, found -1");
    assert_eq!(message(ShampooConfig { weight_decay: -1.0, ..base }), "weight_decay must be >= 0 and finite, found -1");
}
