//! MBF against its blocks, made from the gradients of single samples.

use super::{DOUBLE, direction, gradient, other, small};
use crate::layer::Geometry;
use crate::optimizer::layerwise::MbfConfig;
use crate::optimizer::layerwise::curvature::{Curvature, Gradient, Observation, Update};
use crate::optimizer::layerwise::mbf::Mbf;
use crate::tests::problems::{Problem, Shape};
use crate::tests::reference::{self, assert_close};
use proptest::prelude::*;
use tch::{Kind, Tensor};

/// Weight `[B, first, second, k]` and bias `[B, first]` gradients of each sample's own loss; for a linear layer the bias is the last
/// of its inputs: `[B, d, p (+ 1), 1]`.
fn per_sample(problem: &Problem) -> (Tensor, Option<Tensor>) {
    let (weight, bias) = reference::contributions(problem);
    let size = problem.weight.size();
    let samples = problem.batch_size as f64;
    let weight = (weight * samples).reshape([problem.batch_size, size[0], size[1], size[2..].iter().product()]);
    let bias = bias.map(|bias| bias * samples);
    match (&problem.geometry, bias) {
        (Geometry::Linear, Some(bias)) => (Tensor::cat(&[weight, bias.unsqueeze(2).unsqueeze(3)], 2), None),
        (Geometry::Convolution(convolution), _) if convolution.transposed => (weight, None),
        (_, bias) => (weight, bias),
    }
}

/// The averages over these problems, each with its share, damped and inverted, times the gradient.
fn expected(problems: &[&Problem], shares: &[f64], gradient: &Gradient, damping: f64) -> (Tensor, Option<Tensor>) {
    let problem = problems[0];
    let average = |pick: &dyn Fn(&Problem) -> Tensor| -> Tensor {
        problems.iter().zip(shares).map(|(problem, share)| pick(problem) * *share).sum()
    };
    let solve = |block: Tensor, vector: &Tensor| {
        let damped = &block + Tensor::eye(block.size()[0], DOUBLE) * damping;
        damped.inverse().mv(vector)
    };
    let samples = problem.batch_size as f64;
    let weight = gradient.weight.to_kind(Kind::Double);
    let size = weight.size();
    if let Geometry::Linear = problem.geometry {
        let block = average(&|problem| {
            let rows = per_sample(problem).0.squeeze_dim(3);
            let rows = rows.reshape([-1, rows.size()[2]]);
            rows.tr().matmul(&rows) / (samples * size[0] as f64)
        });
        let rows: Vec<Tensor> = (0..size[0])
            .map(|row| {
                let bias = gradient.bias.as_ref().map(|bias| bias.to_kind(Kind::Double).narrow(0, row, 1));
                let parts: Vec<Tensor> = [weight.get(row)].into_iter().chain(bias).collect();
                solve(block.shallow_clone(), &Tensor::cat(&parts, 0))
            })
            .collect();
        let rows = Tensor::stack(&rows, 0);
        let bias = gradient.bias.as_ref().map(|_| rows.select(1, size[1]));
        return (rows.narrow(1, 0, size[1]), bias);
    }
    let mut kernels = Vec::new();
    for first in 0..size[0] {
        for second in 0..size[1] {
            let block = average(&|problem| {
                let rows = per_sample(problem).0.select(1, first).select(1, second);
                rows.tr().matmul(&rows) / samples
            });
            kernels.push(solve(block, &weight.get(first).get(second).reshape([-1])));
        }
    }
    let bias = gradient.bias.as_ref().filter(|_| per_sample(problem).1.is_some()).map(|bias| {
        let square =
            average(&|problem| per_sample(problem).1.unwrap().square().sum_dim_intlist(0i64, false, Kind::Double));
        bias.to_kind(Kind::Double) / (square / samples + damping)
    });
    (Tensor::cat(&kernels, 0).reshape(&size[..]), bias)
}

fn compare(found: &(Tensor, Option<Tensor>), expected: &(Tensor, Option<Tensor>), tolerance: f64) {
    assert_close(&found.0, &expected.0, tolerance, "weight");
    assert_eq!(found.1.is_some(), expected.1.is_some());
    if let (Some(found), Some(expected)) = (&found.1, &expected.1) {
        assert_close(found, expected, tolerance, "bias");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_block_is_inverted(shape in small()) {
        let config = MbfConfig { damping: 1.0, ..Default::default() };
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 5e-3)] {
            let problem = Problem::new(&shape, kind);
            let gradient = gradient(&problem, kind);
            let found = direction(&mut Mbf::new(config, &problem.facts()), &[&problem], &gradient);
            compare(&found, &expected(&[&problem], &[1.0], &gradient, 1.0), tolerance);
        }
    }

    #[test]
    fn averages_run(shape in small()) {
        // ε = 0, then min(1/2, decay).
        for (decay, shares) in [(0.9, [0.5, 0.5]), (0.25, [0.25, 0.75])] {
            let problems = [shape.clone(), other(&shape)].map(|shape| Problem::new(&shape, Kind::Double));
            let problems = problems.each_ref();
            let gradient = gradient(problems[0], Kind::Double);
            let config = MbfConfig { damping: 1.0, decay, ..Default::default() };
            let found = direction(&mut Mbf::new(config, &problems[0].facts()), &problems, &gradient);
            compare(&found, &expected(&problems, &shares, &gradient, 1.0), 1e-9);
        }
    }
}

/// A layer with blocks of both kinds.
pub fn convolution() -> Shape {
    Shape {
        geometry: Geometry::Convolution(crate::layer::Convolution {
            stride: vec![2, 1],
            padding: vec![1, 0],
            dilation: vec![1, 1],
            output_padding: vec![0, 0],
            groups: 2,
            transposed: false,
        }),
        batch_size: 3,
        merged: 1,
        in_features: 2,
        out_features: 2,
        inner: vec![5, 4],
        kernel: vec![3, 2],
        batch_second: false,
        bias: true,
        uses: 2,
        channels_last: true,
        seed: 11,
    }
}

#[test]
fn a_block_that_cannot_be_inverted_keeps_the_previous_ones() {
    let problem = Problem::new(&convolution(), Kind::Float);
    let gradient = gradient(&problem, Kind::Float);
    let mut mbf = Mbf::new(MbfConfig::default(), &problem.facts());
    let before = direction(&mut mbf, &[&problem], &gradient);
    for poison in [1e30, f64::NAN, f64::INFINITY] {
        let mut uses = problem.recorded_uses();
        uses[0].output_grads = &uses[0].output_grads * poison;
        let seen = Observation { uses: &uses, batch_size: 3, accumulation: 1.0 };
        mbf.observe(&problem.facts(), &seen).unwrap();
        assert_eq!(mbf.update(true).unwrap(), Update::Failed);
        let after = mbf.precondition(&problem.facts(), &gradient).unwrap().unwrap();
        assert!(after.0.unwrap().equal(&before.0) && after.1.unwrap().equal(before.1.as_ref().unwrap()));
    }
}

#[test]
fn what_has_no_bias_has_no_block_of_it_in_its_state() {
    let problem = Problem::new(&Shape { bias: false, ..convolution() }, Kind::Double);
    let mut mbf = Mbf::new(MbfConfig::default(), &problem.facts());
    let _ = direction(&mut mbf, &[&problem], &gradient(&problem, Kind::Double));
    let names: Vec<String> = mbf.state().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["updates", "moment", "inverse"]);
    let bytes: usize =
        mbf.state().unwrap().iter().map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
    assert_eq!(bytes as u64, mbf.state_bytes(&problem.facts()));
}
