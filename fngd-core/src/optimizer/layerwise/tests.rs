//! Each method against its formula: float64, one position at a time, and a general solver for the whole damped matrix.

mod chosen;
mod mbf;
mod positions;
mod seng;
mod whole;

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::eva::Eva;
use super::hylo::Hylo;
use super::kfac::Kfac;
use super::skfac::Skfac;
use super::tengrad::Tengrad;
use super::{EvaConfig, Form, HyloConfig, KfacConfig, KfacInverse, SkfacConfig, TengradConfig};
use crate::layer::Geometry;
use crate::tests::problems::{Problem, Shape, shapes};
use crate::tests::reference::{self, assert_close, noise};
use positions::Positions;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

fn small() -> impl Strategy<Value = Shape> {
    shapes().prop_filter("small", |shape| {
        let kernel: i64 = shape.kernel.iter().product();
        shape.in_features * kernel * shape.out_features <= 64 && shape.inner.iter().product::<i64>() <= 64
    })
}

/// Some gradient of a layer of this size. The formulas hold for any.
fn gradient(problem: &Problem, kind: Kind) -> Gradient {
    let like = |what: &str, tensor: &Tensor| noise(1, what, &tensor.size(), kind);
    Gradient {
        weight: like("weight gradient", &problem.weight),
        bias: problem.bias.as_ref().map(|bias| like("bias gradient", bias)),
    }
}

/// Shows `problem` to a curvature, once for each of `times`, and asks for the direction.
fn direction(curvature: &mut dyn Curvature, problems: &[&Problem], gradient: &Gradient) -> (Tensor, Option<Tensor>) {
    for problem in problems {
        let uses = problem.recorded_uses();
        let seen = Observation { uses: &uses, batch_size: problem.batch_size, accumulation: 1.0 };
        curvature.observe(&problem.facts(), &seen).unwrap();
        assert_eq!(curvature.update(true).unwrap(), Update::Made { retried: false });
    }
    let (weight, bias) = curvature.precondition(&problems[0].facts(), gradient).unwrap().unwrap();
    (weight.unwrap(), bias)
}

/// (left ⊗ right + λI)⁻¹ of a matrix, group by group, by a general solver.
fn solved(left: &[Tensor], right: &[Tensor], damping: f64, matrices: &[Tensor]) -> Vec<Tensor> {
    let groups = left.iter().zip(right).zip(matrices);
    groups
        .map(|((left, right), matrix)| {
            let product = left.kron(right);
            let damped = &product + Tensor::eye(product.size()[0], DOUBLE) * damping;
            damped.inverse().matmul(&matrix.reshape([-1, 1])).reshape(matrix.size())
        })
        .collect()
}

fn compare(problem: &Problem, found: &(Tensor, Option<Tensor>), expected: &[Tensor], tolerance: f64) {
    let seen = Positions::of(problem);
    let (weight, bias) = seen.parameters(problem, expected);
    assert_close(&found.0, &weight, tolerance, "weight");
    assert_eq!(found.1.is_some(), bias.is_some());
    if let (Some(found), Some(expected)) = (&found.1, bias) {
        assert_close(found, &expected, tolerance, "bias");
    }
}

/// A and G of each group.
type Moments = (Vec<Tensor>, Vec<Tensor>);

/// A = (1/BT) Σ aaᵀ and G = (1/B) Σ ggᵀ.
fn moments(seen: &Positions) -> Moments {
    let (samples, positions) = (seen.samples as f64, seen.rows.len() as f64 / seen.samples as f64);
    seen.sums(|a, g| (a.outer(a) / (samples * positions), g.outer(g) / samples))
}

/// λ for methods that subtract by the Sherman-Morrison-Woodbury formula: what is left has lost (‖F‖/λ)² of its digits where the
/// gradient lies along F.
fn damping_of(fisher: &Tensor) -> f64 {
    0.1 * fisher.norm().double_value(&[]).max(1e-3)
}

fn other(shape: &Shape) -> Shape {
    Shape { seed: shape.seed + 70_000, ..shape.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]

    #[test]
    fn kfac_eigen_inverts_the_damped_product(shape in small()) {
        let config = KfacConfig { damping: 0.1, ..Default::default() };
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 2e-3)] {
            let problem = Problem::new(&shape, kind);
            let gradient = gradient(&problem, kind);
            let found = direction(&mut Kfac::new(config, &problem.facts()), &[&problem], &gradient);
            let seen = Positions::of(&problem);
            let (inputs, outputs) = moments(&seen);
            let expected = solved(&outputs, &inputs, 0.1, &seen.matrices(&problem, &gradient));
            compare(&problem, &found, &expected, tolerance);
        }
    }

    #[test]
    fn kfac_cholesky_balances_the_damping(shape in small()) {
        let config = KfacConfig { damping: 0.1, inverse: KfacInverse::Cholesky, ..Default::default() };
        let problem = Problem::new(&shape, Kind::Double);
        let gradient = gradient(&problem, Kind::Double);
        let found = direction(&mut Kfac::new(config, &problem.facts()), &[&problem], &gradient);
        let seen = Positions::of(&problem);
        let (inputs, outputs) = moments(&seen);
        let groups = inputs.iter().zip(&outputs).zip(seen.matrices(&problem, &gradient));
        let expected: Vec<Tensor> = groups.map(|((a, g), gradient)| {
            let mean = |moment: &Tensor| moment.trace().double_value(&[]) / moment.size()[0] as f64;
            // What is dead has no scale to balance.
            let pi = if mean(a) > 0.0 && mean(g) > 0.0 { (mean(a) / mean(g)).sqrt() } else { 1.0 };
            let root = 0.1f64.sqrt();
            let identity = |moment: &Tensor| Tensor::eye(moment.size()[0], DOUBLE);
            (g + identity(g) * root / pi).inverse().matmul(&gradient).matmul(&(a + identity(a) * root * pi).inverse())
        }).collect();
        compare(&problem, &found, &expected, 1e-9);
    }

    #[test]
    fn kfac_published_divides_by_positions(shape in small()) {
        let config = KfacConfig { damping: 0.1, form: Form::Published, ..Default::default() };
        let problem = Problem::new(&shape, Kind::Double);
        let gradient = gradient(&problem, Kind::Double);
        let found = direction(&mut Kfac::new(config, &problem.facts()), &[&problem], &gradient);
        let seen = Positions::of(&problem);
        let rows = seen.rows.len() as f64;
        let spatial = if matches!(shape.geometry, Geometry::Linear) { 1.0 } else { rows / seen.samples as f64 };
        // Gradients of the mean loss: B times smaller than the rows' own.
        let (a_scale, g_scale) = if seen.swapped { (seen.samples as f64, 1.0) } else { (1.0, seen.samples as f64) };
        let (inputs, outputs) = seen.sums(|a, g| {
            let (a, g) = (a / spatial / a_scale, g / spatial / g_scale);
            (a.outer(&a) / rows, g.outer(&g) / rows)
        });
        // The average starts from I.
        let average = |moments: Vec<Tensor>| -> Vec<Tensor> {
            moments.into_iter().map(|moment| Tensor::eye(moment.size()[0], DOUBLE) * 0.95 + moment * 0.05).collect()
        };
        let expected = solved(&average(outputs), &average(inputs), 0.1, &seen.matrices(&problem, &gradient));
        compare(&problem, &found, &expected, 1e-9);
    }

    #[test]
    fn eva_inverts_the_damped_outer_products(shape in small()) {
        let config = EvaConfig { damping: 0.1, ..Default::default() };
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 2e-3)] {
            let problem = Problem::new(&shape, kind);
            let gradient = gradient(&problem, kind);
            let found = direction(&mut Eva::new(config, &problem.facts()), &[&problem], &gradient);
            let seen = Positions::of(&problem);
            let rows = seen.rows.len() as f64;
            let (inputs, outputs) = seen.sums(|a, g| (a / rows, g / rows));
            let squares = |means: &[Tensor]| means.iter().map(|mean| mean.outer(mean)).collect::<Vec<_>>();
            let expected =
                solved(&squares(&outputs), &squares(&inputs), 0.1, &seen.matrices(&problem, &gradient));
            compare(&problem, &found, &expected, tolerance);
        }
    }

    #[test]
    fn skfac_is_kfac_of_rows_summed_over_positions(shape in small()) {
        let config = SkfacConfig { damping: 0.1, ..Default::default() };
        let problem = Problem::new(&shape, Kind::Double);
        let gradient = gradient(&problem, Kind::Double);
        let found = direction(&mut Skfac::new(config, &problem.facts()), &[&problem], &gradient);
        let seen = Positions::of(&problem);
        let (samples, positions) = (seen.samples as f64, seen.rows.len() as f64 / seen.samples as f64);
        let (a_scale, g_scale) = if seen.swapped { (1.0, 1.0 / positions) } else { (1.0 / positions, 1.0) };
        let mut expected = Vec::new();
        for (group, gradient) in seen.matrices(&problem, &gradient).iter().enumerate() {
            let squares = (0..seen.samples).map(|sample| {
                let rows = seen.rows.iter().zip(&seen.sample).filter(|(_, of)| **of == sample).map(|(row, _)| &row[group]);
                let (a, g) = rows.map(|(a, g)| (a * a_scale, g * g_scale)).reduce(|sum, row| (sum.0 + row.0, sum.1 + row.1)).unwrap();
                (a.outer(&a) / samples, g.outer(&g) / samples)
            });
            let (a, g) = squares.reduce(|sum, square| (sum.0 + square.0, sum.1 + square.1)).unwrap();
            let mean = |moment: &Tensor| moment.trace().double_value(&[]) / moment.size()[0] as f64;
            let pi = if mean(&a) > 0.0 && mean(&g) > 0.0 { (mean(&a) / mean(&g)).sqrt() } else { 1.0 };
            let damped = |moment: &Tensor, damping: f64| moment + Tensor::eye(moment.size()[0], DOUBLE) * damping;
            let root = 0.1f64.sqrt();
            expected.push(damped(&g, root / pi).inverse().matmul(gradient).matmul(&damped(&a, root * pi).inverse()));
        }
        compare(&problem, &found, &expected, 1e-9);
    }

    #[test]
    fn tengrad_inverts_the_damped_fisher_matrix(shape in small()) {
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 2e-3)] {
            let problem = Problem::new(&shape, kind);
            let gradient = gradient(&problem, kind);
            let (weight, bias) = reference::contributions(&problem);
            let rows = bias.map_or_else(|| weight.shallow_clone(), |bias| Tensor::cat(&[&weight, &bias], 1));
            let per_sample = rows * problem.batch_size as f64;
            let fisher = per_sample.tr().matmul(&per_sample) / problem.batch_size as f64;
            let damping = damping_of(&fisher);
            let config = TengradConfig { damping, ..Default::default() };
            let found = direction(&mut Tengrad::new(config), &[&problem], &gradient);
            let damped = &fisher + Tensor::eye(fisher.size()[0], DOUBLE) * damping;
            let flat = |(weight, bias): (&Tensor, Option<&Tensor>)| {
                let parts: Vec<Tensor> = std::iter::once(weight).chain(bias).map(|part| part.reshape([-1])).collect();
                Tensor::cat(&parts, 0).to_kind(Kind::Double)
            };
            let expected = damped.inverse().mv(&flat((&gradient.weight, gradient.bias.as_ref())));
            assert_close(&flat((&found.0, found.1.as_ref())), &expected, tolerance, "direction");
        }
    }

    #[test]
    fn hylo_inverts_the_damped_fisher_matrix_of_what_was_drawn(shape in small()) {
        let config = HyloConfig { damping: 0.1, ratio: 0.5, ..Default::default() };
        let problem = Problem::new(&shape, Kind::Double);
        let gradient = gradient(&problem, Kind::Double);
        let mut hylo = Hylo::new(config, 0, &problem.facts());
        let found = direction(&mut hylo, &[&problem], &gradient);
        let state = hylo.state().unwrap();
        let kept = |name: &str| state.iter().find(|(other, _)| other == name).unwrap().1.shallow_clone();
        let (inputs, outputs) = (kept("inputs"), kept("outputs"));
        assert_eq!(inputs.size()[1], (shape.batch_size + 1) / 2);
        let seen = Positions::of(&problem);
        let positions = seen.rows.len() as f64 / seen.samples as f64;
        let (a_scale, g_scale) = if seen.swapped { (1.0, 1.0 / positions) } else { (1.0 / positions, 1.0) };
        let mut expected = Vec::new();
        for (group, gradient) in seen.matrices(&problem, &gradient).iter().enumerate() {
            let (inputs, outputs) = (inputs.get(group as i64), outputs.get(group as i64));
            let mut fisher = Tensor::zeros([gradient.numel() as i64; 2], DOUBLE);
            for row in 0..inputs.size()[0] {
                let (a, g) = (inputs.get(row), outputs.get(row));
                // It is the row of one of the samples, and its output is in proportion.
                let sample = (0..seen.samples).find(|sample| {
                    let rows = seen.rows.iter().zip(&seen.sample).filter(|(_, of)| *of == sample).map(|(row, _)| &row[group]);
                    let own = rows.map(|(a, g)| (a * a_scale, g * g_scale)).reduce(|sum, row| (sum.0 + row.0, sum.1 + row.1)).unwrap();
                    let cosine = (&own.1 * &g).sum(Kind::Double) / (own.1.norm() * g.norm());
                    own.0.allclose(&a, 1e-9, 1e-9, false) && (cosine.double_value(&[]) - 1.0).abs() < 1e-9
                });
                prop_assert!(sample.is_some());
                let column = g.outer(&a).reshape([-1]);
                fisher += column.outer(&column);
            }
            let damped = &fisher + Tensor::eye(fisher.size()[0], DOUBLE) * 0.1;
            expected.push(damped.inverse().matmul(&gradient.reshape([-1, 1])).reshape(gradient.size()));
        }
        compare(&problem, &found, &expected, 1e-9);
    }

    #[test]
    fn averages_give_the_first_observations_their_share(shape in small()) {
        // ε = 0, 1/2, and then min(2/3, decay).
        for (decay, weights) in [(0.95, [1.0 / 3.0; 3]), (0.5, [0.25, 0.25, 0.5])] {
            let problems = [shape.clone(), other(&shape), other(&other(&shape))].map(|shape| Problem::new(&shape, Kind::Double));
            let config = KfacConfig { damping: 0.1, decay, ..Default::default() };
            let gradient = gradient(&problems[0], Kind::Double);
            let found = direction(&mut Kfac::new(config, &problems[0].facts()), &problems.each_ref(), &gradient);
            let seen = problems.each_ref().map(Positions::of);
            let sum = |pick: fn(Moments) -> Vec<Tensor>| {
                let each = seen.each_ref().map(|seen| pick(moments(seen)));
                (0..each[0].len())
                    .map(|group| &each[0][group] * weights[0] + &each[1][group] * weights[1] + &each[2][group] * weights[2])
                    .collect::<Vec<_>>()
            };
            let (inputs, outputs) = (sum(|both| both.0), sum(|both| both.1));
            let expected = solved(&outputs, &inputs, 0.1, &seen[0].matrices(&problems[0], &gradient));
            compare(&problems[0], &found, &expected, 1e-9);
        }
    }
}

#[test]
fn eva_published_looks_at_16_samples_and_the_new_value() {
    let shape = Shape {
        geometry: Geometry::Linear,
        batch_size: 20,
        merged: 1,
        in_features: 3,
        out_features: 2,
        inner: vec![2],
        kernel: Vec::new(),
        batch_second: false,
        bias: true,
        uses: 1,
        channels_last: false,
        seed: 5,
    };
    let problems = [shape.clone(), other(&shape)].map(|shape| Problem::new(&shape, Kind::Double));
    let gradient = gradient(&problems[0], Kind::Double);
    let config = EvaConfig { form: Form::Published, ..Default::default() };
    let found = direction(&mut Eva::new(config, &problems[0].facts()), &problems.each_ref(), &gradient);
    let means = problems.each_ref().map(|problem| {
        let (activations, output_grads) = &problem.uses[0];
        let mean = |tensor: &Tensor| tensor.narrow(0, 0, 16).mean_dim(&[0i64, 1][..], false, Kind::Double);
        (Tensor::cat(&[mean(activations), Tensor::ones([1], DOUBLE)], 0), mean(output_grads))
    });
    let average = |first: &Tensor, second: &Tensor| first * 0.05 + second * 0.95;
    let (a, g) = (average(&means[0].0, &means[1].0), average(&means[0].1, &means[1].1));
    let seen = Positions::of(&problems[0]);
    let expected = solved(&[g.outer(&g)], &[a.outer(&a)], 0.03, &seen.matrices(&problems[0], &gradient));
    compare(&problems[0], &found, &expected, 1e-9);
}

#[test]
fn a_moment_that_cannot_be_factorised_keeps_the_previous_factors() {
    let shape = Shape {
        geometry: Geometry::Linear,
        batch_size: 4,
        merged: 1,
        in_features: 3,
        out_features: 2,
        inner: Vec::new(),
        kernel: Vec::new(),
        batch_second: false,
        bias: true,
        uses: 1,
        channels_last: false,
        seed: 5,
    };
    let problem = Problem::new(&shape, Kind::Float);
    let gradient = gradient(&problem, Kind::Float);
    for inverse in [KfacInverse::Eigen, KfacInverse::Cholesky] {
        let mut kfac = Kfac::new(KfacConfig { inverse, ..Default::default() }, &problem.facts());
        let before = direction(&mut kfac, &[&problem], &gradient);
        let mut uses = problem.recorded_uses();
        uses[0].activations = &uses[0].activations * 1e30;
        let seen = Observation { uses: &uses, batch_size: 4, accumulation: 1.0 };
        kfac.observe(&problem.facts(), &seen).unwrap();
        assert_eq!(kfac.update(true).unwrap(), Update::Failed);
        let after = kfac.precondition(&problem.facts(), &gradient).unwrap().unwrap();
        assert!(after.0.unwrap().equal(&before.0) && after.1.unwrap().equal(&before.1.unwrap()));
    }
}
