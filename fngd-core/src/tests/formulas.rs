//! Contributions, Gram matrices, weights and weighted gradients of one layer.

use super::problems::{Problem, Shape, linear_shapes, shapes};
use super::reference::{self, assert_close};
use crate::contributions::{Contributions, Way};
use crate::gram::{self, GramMethod};
use crate::preconditioner::Pending;
use crate::weighting::{plain_gradient, weighted_gradient};
use crate::{Geometry, Layer, solve};
use proptest::prelude::*;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

const MEMORY: u64 = 1 << 30;
/// So small that every block holds one sample or one output feature.
const NO_MEMORY: u64 = 1;

/// The joint Gram matrix as the preconditioner forms it.
fn joint_gram(problem: &Problem, memory: u64) -> Pending {
    Pending::form(0, &problem.facts(), problem.recorded_uses(), problem.batch_size, memory).unwrap()
}

fn weighted_sum(contributions: &Tensor, coefficients: &Tensor) -> Tensor {
    contributions.tr().matmul(&coefficients.to_kind(Kind::Double).unsqueeze(1)).squeeze_dim(1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn contributions_equal_batches_of_one(shape in shapes()) {
        let problem = Problem::new(&shape, Kind::Double);
        let (expected, _) = reference::contributions(&problem);
        let uses = problem.recorded_uses();
        let Problem { geometry, weight, batch_size, .. } = &problem;
        let groups = if let Geometry::Convolution(convolution) = geometry { convolution.groups } else { 1 };
        let chosen = Contributions::new(geometry, weight, &uses, *batch_size).way;
        let mut ways = vec![Way::Unfolded, chosen];
        if let Geometry::Convolution(convolution) = geometry
            && shape.merged == 1
            && groups == 1
            && !convolution.transposed
        {
            ways.push(Way::Grouped);
        }
        // All samples at once, and one by one.
        for (way, patch_bytes) in ways.into_iter().flat_map(|way| [(way, i64::MAX), (way, 1)]) {
            let contributions =
                Contributions { way, patch_bytes, ..Contributions::new(geometry, weight, &uses, *batch_size) };
            let block = contributions.block(0, weight.size()[0] / groups).unwrap();
            for sample in 0..*batch_size {
                let found = block.layout.weight(&block.rows.get(sample)).unwrap().reshape([-1]);
                assert_close(&found, &expected.get(sample), 1e-12, "contribution");
            }
        }
    }

    #[test]
    fn gram_equals_all_inner_products(shape in shapes()) {
        let problem = Problem::new(&shape, Kind::Double);
        let expected = reference::gram(&reference::contributions(&problem));
        for memory in [MEMORY, NO_MEMORY] {
            assert_close(&joint_gram(&problem, memory).gram, &expected, 1e-12, "gram");
        }
        let single = Problem::new(&shape, Kind::Float);
        assert_close(&joint_gram(&single, MEMORY).gram, &reference::gram(&reference::contributions(&single)), 2e-5, "float32");
    }

    #[test]
    fn every_method_gives_the_same_gram(shape in linear_shapes()) {
        let problem = Problem::new(&Shape { uses: 1, ..shape }, Kind::Double);
        let uses = problem.recorded_uses();
        let expected = reference::gram(&(reference::contributions(&problem).0, None));
        for (method, memory) in [GramMethod::Pairwise, GramMethod::Instantiate].into_iter().flat_map(|method| [(method, MEMORY), (method, NO_MEMORY)]) {
            let Problem { geometry, weight, batch_size, .. } = &problem;
            let found = gram::by_method(method, geometry, weight, &uses, *batch_size, memory).unwrap().matrix;
            assert_close(&found, &expected, 1e-12, "gram by a given method");
        }
    }

    #[test]
    fn weighted_gradient_is_the_weighted_sum(shape in shapes()) {
        let problem = Problem::new(&shape, Kind::Double);
        let (weight, bias) = reference::contributions(&problem);
        let coefficients = reference::noise(shape.seed, "coefficients", &[problem.batch_size], Kind::Double);
        let expected = weighted_sum(&weight, &coefficients);
        let expected_bias = bias.map(|bias| weighted_sum(&bias, &coefficients));
        let check = |weight_grad: Tensor, bias_grad: Option<Tensor>, what: &str| {
            assert_close(&weight_grad.reshape([-1]), &expected, 1e-12, what);
            assert_eq!(bias_grad.is_some(), expected_bias.is_some());
            if let (Some(found), Some(expected)) = (bias_grad, &expected_bias) {
                assert_close(&found, expected, 1e-12, "bias");
            }
        };
        // As every later epoch does it: one use at a time, from scaled tensors.
        let mut sum: (Tensor, Option<Tensor>) = (problem.weight.zeros_like(), problem.bias.as_ref().map(Tensor::zeros_like));
        for used in problem.recorded_uses() {
            let (weight_grad, bias_grad) =
                weighted_gradient(&problem.geometry, &problem.weight, problem.bias.is_some(), &used, &coefficients, &mut Duration::default()).unwrap();
            sum = (sum.0 + weight_grad.unwrap(), sum.1.map(|sum| sum + bias_grad.unwrap()));
        }
        check(sum.0, sum.1, "scaled tensors");
        // As the first epoch does it: from contributions, or from what was kept of the uses.
        for memory in [MEMORY, NO_MEMORY] {
            let pending = joint_gram(&problem, memory);
            let (weight_grad, bias_grad) =
                pending.gradient(&problem.facts(), &coefficients, &mut Duration::default()).unwrap();
            check(weight_grad.unwrap(), bias_grad, "pending");
        }
    }

    #[test]
    fn plain_gradient_equals_backward_bit_for_bit(shape in shapes()) {
        let problem = Problem::new(&shape, Kind::Float);
        let weight = problem.weight.detach().set_requires_grad(true);
        let bias = problem.bias.as_ref().map(|bias| bias.detach().set_requires_grad(true));
        let (activations, output_grads) = &problem.uses[0];
        let activations = activations.detach().set_requires_grad(true);
        let output = problem.apply(&activations, &weight, bias.as_ref());
        // The gradient of Σ y∘g with respect to y is g itself.
        (output * output_grads).sum(Kind::Float).backward();
        let (found, found_bias) =
            plain_gradient(&problem.geometry, &problem.weight, bias.is_some(), &problem.recorded_uses()[0]).unwrap();
        prop_assert_eq!(found.unwrap(), weight.grad());
        if let (Some(found), Some(bias)) = (found_bias, bias) {
            prop_assert_eq!(found, bias.grad());
        }
    }

    #[test]
    fn sherman_morrison_woodbury_equals_the_dense_inverse(shape in shapes(), damping in 1e-3..10f64) {
        let problem = Problem::new(&Shape { bias: false, ..shape }, Kind::Double);
        let batch_size = problem.batch_size as f64;
        let (contributions, _) = reference::contributions(&problem);
        // U = B·C as columns; F = U Uᵀ / B; ḡ = U 1 / B.
        let u = contributions.tr() * batch_size;
        let solution = solve(&joint_gram(&problem, MEMORY).gram.unsqueeze(0), damping, None).unwrap();
        let found = weighted_sum(&contributions, &solution.coefficients.get(0));
        // λ in units of K = UᵀU; as a damping of F it is λ/B.
        let lambda = solution.damping.double_value(&[0]) * batch_size * batch_size / batch_size;
        let parameters = u.size()[0];
        let fisher = u.matmul(&u.tr()) / batch_size;
        let damped = fisher + Tensor::eye(parameters, (Kind::Double, Device::Cpu)) * lambda;
        let mean = u.mean_dim(1i64, false, Kind::Double);
        let expected = damped.inverse().matmul(&mean.unsqueeze(1)).squeeze_dim(1) * lambda;
        assert_close(&found, &expected, 1e-8, "natural gradient times its damping");
    }
}

#[test]
fn coefficients_equal_the_general_inverse_and_ignore_the_loss_scale() {
    for batch_size in [1, 2, 7, 32] {
        let factor = reference::noise(0, "factor", &[batch_size, 2 * batch_size], Kind::Double);
        let gram = factor.matmul(&factor.tr());
        for damping in [1e-4, 0.1, 1.0, 10.0] {
            let expected = reference::coefficients(&gram, damping);
            let found = solve(&gram.unsqueeze(0), damping, None).unwrap();
            assert_close(&found.coefficients.get(0), &expected, 1e-11, "float64");
            let single = solve(&gram.to_kind(Kind::Float).unsqueeze(0), damping, None).unwrap();
            assert_close(&single.coefficients.get(0), &expected, 2e-3, "float32");
            for scale in [1e-60, 1e60] {
                let scaled = solve(&(&gram * scale).unsqueeze(0), damping, None).unwrap();
                assert_close(&scaled.coefficients.get(0), &expected, 1e-11, "scaled loss");
            }
        }
    }
}

#[test]
fn permuting_samples_permutes_coefficients() {
    let factor = reference::noise(0, "factor", &[6, 9], Kind::Double);
    let order = Tensor::from_slice(&[3i64, 0, 5, 1, 4, 2]);
    let shuffled = factor.index_select(0, &order);
    let weights =
        |factor: &Tensor| solve(&factor.matmul(&factor.tr()).unsqueeze(0), 0.1, None).unwrap().coefficients.get(0);
    assert_close(&weights(&shuffled), &weights(&factor).index_select(0, &order), 1e-12, "permutation");
}

#[test]
fn one_bad_gram_does_not_spoil_its_batch() {
    let good = Tensor::eye(3, (Kind::Float, Device::Cpu));
    let grams =
        [good.shallow_clone(), good.zeros_like(), &good * f64::NAN, &good * f64::INFINITY, good.shallow_clone()];
    let solution = solve(&Tensor::stack(&grams, 0), 1.0, None).unwrap();
    assert_eq!(Vec::<bool>::try_from(&solution.solved).unwrap(), [true, false, false, false, true]);
    for bad in 1..4 {
        assert_eq!(Vec::<f32>::try_from(solution.coefficients.get(bad)).unwrap(), [1.0; 3]);
    }
    let expected = f64::sqrt(3.0) / (1.0 + f64::sqrt(3.0));
    assert!((solution.coefficients.double_value(&[4, 2]) - expected).abs() < 1e-6);
}

#[test]
fn wrong_arguments_are_named() {
    let error = solve(&Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)), 1.0, None).unwrap_err();
    assert_eq!(error.to_string(), "Gram matrices have size [L, B, B], found [2, 3]");
    let error = solve(&Tensor::zeros([1, 3, 3], (Kind::Float, Device::Cpu)), -0.001, None).unwrap_err();
    assert_eq!(error.to_string(), "damping must be > 0, found -0.001");
    let error =
        Layer::linear("fc1", Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)), Some(Tensor::from(1f32))).unwrap_err();
    assert_eq!(error.to_string(), "layer `fc1`: bias is [], expected [3]");
}

#[test]
fn geometry_of_a_depthwise_convolution_is_grouped() {
    let mut shape = Shape {
        geometry: Geometry::Convolution(crate::Convolution {
            groups: 6,
            padding: vec![1, 1],
            ..crate::Convolution::new(2)
        }),
        batch_size: 4,
        merged: 1,
        in_features: 1,
        out_features: 1,
        inner: vec![5, 5],
        kernel: vec![3, 3],
        batch_second: false,
        bias: true,
        uses: 1,
        channels_last: true,
        seed: 3,
    };
    for channels_last in [false, true] {
        shape.channels_last = channels_last;
        let problem = Problem::new(&shape, Kind::Double);
        let expected = reference::gram(&reference::contributions(&problem));
        assert_close(&joint_gram(&problem, MEMORY).gram, &expected, 1e-12, "depthwise");
    }
}
