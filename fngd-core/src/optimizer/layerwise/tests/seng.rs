//! SENG against its formula: exact where nothing is left out, and its own low-rank gradients and sketch otherwise.

use super::{DOUBLE, damping_of, direction, gradient, small};
use crate::optimizer::layerwise::SengConfig;
use crate::optimizer::layerwise::curvature::{Curvature, Gradient, Observation, Update};
use crate::optimizer::layerwise::matrix::Shape as Matrix;
use crate::optimizer::layerwise::seng::Seng;
use crate::tests::problems::Problem;
use crate::tests::reference::{self, assert_close};
use proptest::prelude::*;
use tch::{Kind, Tensor};

/// The gradients of each sample's own loss as matrices, `[B, G, d, p (+ 1)]`.
fn per_sample(problem: &Problem) -> Tensor {
    let shape = Matrix::of(&problem.facts());
    let (weight, bias) = reference::contributions(problem);
    let size = [problem.batch_size, shape.groups, shape.rows, -1];
    let weight = weight.reshape(size);
    let parts = match bias.filter(|_| shape.joint_bias) {
        Some(bias) => vec![weight, bias.reshape([problem.batch_size, shape.groups, shape.rows, 1])],
        None => vec![weight],
    };
    Tensor::cat(&parts, 3) * problem.batch_size as f64
}

fn flat(problem: &Problem, gradient: &Gradient) -> Tensor {
    Matrix::of(&problem.facts()).matrix(gradient).unwrap().to_kind(Kind::Double).reshape([-1])
}

fn flat_found(problem: &Problem, (weight, bias): &(Tensor, Option<Tensor>)) -> Tensor {
    flat(problem, &Gradient { weight: weight.shallow_clone(), bias: bias.as_ref().map(Tensor::shallow_clone) })
}

fn kept(seng: &Seng, name: &str) -> Tensor {
    seng.state().unwrap().into_iter().find(|(other, _)| other == name).unwrap().1
}

/// Û of what is kept, `[B, G, d, p]`.
fn reduced(seng: &Seng) -> Tensor {
    let (inputs, outputs) = (kept(seng, "inputs"), kept(seng, "outputs"));
    outputs.transpose(2, 3).matmul(&inputs).transpose(0, 1).to_kind(Kind::Double)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn with_nothing_left_out_it_inverts_the_damped_fisher_matrix(shape in small()) {
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 2e-3)] {
            let problem = Problem::new(&shape, kind);
            let gradient = gradient(&problem, kind);
            let rows = per_sample(&problem).reshape([problem.batch_size, -1]);
            let fisher = rows.tr().matmul(&rows) / problem.batch_size as f64;
            let damping = damping_of(&fisher);
            // A sample's gradient has no higher rank than its smaller side: all of it is in the basis.
            let config = SengConfig { damping, rank: 64, sketch_size: 1000, ..Default::default() };
            let found = direction(&mut Seng::new(config, 0, &problem.facts()), &[&problem], &gradient);
            let damped = &fisher + Tensor::eye(fisher.size()[0], DOUBLE) * damping;
            let expected = damped.inverse().mv(&flat(&problem, &gradient));
            assert_close(&flat_found(&problem, &found), &expected, tolerance, "direction");
        }
    }

    #[test]
    fn the_sketched_problem_is_solved_for_what_is_kept(shape in small()) {
        let problem = Problem::new(&shape, Kind::Double);
        let gradient = gradient(&problem, Kind::Double);
        let size = Matrix::of(&problem.facts());
        let (samples, damping) = (problem.batch_size as f64, 0.5 * damping_of(&per_sample(&problem)).powi(2));
        let config = SengConfig { damping, rank: 2, sketch_size: 3, seed: 4, ..Default::default() };
        let mut seng = Seng::new(config, 1, &problem.facts());
        let found = direction(&mut seng, &[&problem], &gradient);
        let (inputs, outputs) = (kept(&seng, "sketched_inputs"), kept(&seng, "sketched_outputs"));
        prop_assert_eq!((inputs.size()[0], outputs.size()[0]), (size.columns.min(3), size.rows.min(3)));
        // Ω, one row for each number that it takes.
        let scale = ((size.columns * size.rows) as f64 / (inputs.numel() * outputs.numel()) as f64).sqrt();
        let mut omega = Vec::new();
        for group in 0..size.groups {
            for output in 0..outputs.size()[0] {
                for input in 0..inputs.size()[0] {
                    let place = (group * size.rows + outputs.int64_value(&[output])) * size.columns + inputs.int64_value(&[input]);
                    let row = Tensor::zeros([size.groups * size.rows * size.columns], DOUBLE);
                    let _ = row.get(place).fill_(scale);
                    omega.push(row);
                }
            }
        }
        let omega = Tensor::stack(&omega, 0);
        let columns = reduced(&seng).reshape([problem.batch_size, -1]).tr() / samples.sqrt();
        let sketched = omega.matmul(&columns);
        let gradient = flat(&problem, &gradient);
        let normal = sketched.tr().matmul(&sketched) + Tensor::eye(problem.batch_size, DOUBLE) * damping;
        let solution = normal.inverse().mv(&sketched.tr().mv(&omega.mv(&gradient)));
        let expected = (&gradient - columns.mv(&solution)) / damping;
        assert_close(&flat_found(&problem, &found), &expected, 1e-8, "direction");
    }

    #[test]
    fn a_gradient_of_low_rank_is_a_projection_of_it(shape in small()) {
        let problem = Problem::new(&shape, Kind::Double);
        let gradient = gradient(&problem, Kind::Double);
        let config = SengConfig { rank: 1, ..Default::default() };
        let mut seng = Seng::new(config, 0, &problem.facts());
        let _ = direction(&mut seng, &[&problem], &gradient);
        let (exact, reduced) = (per_sample(&problem), reduced(&seng));
        let lost = &exact - &reduced;
        // QQᵀu and u − QQᵀu have nothing in common, so no norm grows.
        let scale = exact.square().sum(Kind::Double).double_value(&[]);
        let common = lost.transpose(2, 3).matmul(&reduced).abs().max().double_value(&[]);
        prop_assert!(common <= 1e-9 * scale, "{common} of {scale}");
    }
}

#[test]
fn a_power_iteration_finds_the_direction_that_matters() {
    // A gradient that is nearly of rank 1: what a single column leaves is little more than the best column leaves.
    let problem = Problem::new(&super::mbf::convolution(), Kind::Double);
    let mut seng = Seng::new(SengConfig { rank: 1, ..Default::default() }, 0, &problem.facts());
    let _ = direction(&mut seng, &[&problem], &gradient(&problem, Kind::Double));
    let exact = per_sample(&problem);
    let left = (&exact - reduced(&seng)).square().sum(Kind::Double).double_value(&[]);
    let (_, singular, _) = exact.svd(true, true);
    let best =
        (singular.square().sum(Kind::Double) - singular.select(2, 0).square().sum(Kind::Double)).double_value(&[]);
    let all = exact.square().sum(Kind::Double).double_value(&[]);
    assert!(best <= left + 1e-9 && left - best < 0.1 * all, "left {left}, at best {best}, of {all}");
}

#[test]
fn what_cannot_be_inverted_keeps_the_previous_batch() {
    let problem = Problem::new(&super::mbf::convolution(), Kind::Float);
    let gradient = gradient(&problem, Kind::Float);
    let mut seng = Seng::new(SengConfig { rank: 1, ..Default::default() }, 0, &problem.facts());
    let before = direction(&mut seng, &[&problem], &gradient);
    for poison in [1e30, f64::NAN, f64::INFINITY] {
        let mut uses = problem.recorded_uses();
        uses[0].output_grads = &uses[0].output_grads * poison;
        let seen = Observation { uses: &uses, batch_size: 3, accumulation: 1.0 };
        seng.observe(&problem.facts(), &seen).unwrap();
        assert_eq!(seng.update(true).unwrap(), Update::Failed);
        let after = seng.precondition(&problem.facts(), &gradient).unwrap().unwrap();
        assert!(after.0.unwrap().equal(&before.0) && after.1.unwrap().equal(before.1.as_ref().unwrap()));
    }
}
