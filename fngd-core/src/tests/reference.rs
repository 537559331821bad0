//! Oracles: float64, one sample at a time, straight from the formulas.

use super::problems::Problem;
use crate::random::Stream;
use tch::{Kind, Tensor};

/// Noise with mean 0 and variance 1. libtorch's generator is one for all threads, so tests that run side by side cannot use it.
pub fn noise(seed: u64, purpose: &str, size: &[i64], kind: Kind) -> Tensor {
    let count = size.iter().product::<i64>() as usize;
    let uniform = Stream::new(seed, purpose, &[]).uniform(count);
    (Tensor::from_slice(&uniform).view(size) - 0.5).to_kind(kind) * 12f64.sqrt()
}

/// Contribution of each sample to the gradient of weight and bias, by backward through a batch of one: `[B, n]`, `[B, out]`.
pub fn contributions(problem: &Problem) -> (Tensor, Option<Tensor>) {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for sample in 0..problem.batch_size {
        let weight = problem.weight.detach().to_kind(Kind::Double).set_requires_grad(true);
        let bias = problem.bias.as_ref().map(|bias| bias.detach().to_kind(Kind::Double).set_requires_grad(true));
        for (activations, output_grads) in &problem.uses {
            let one = problem.sample(activations, sample).to_kind(Kind::Double);
            let grads = problem.sample(output_grads, sample).to_kind(Kind::Double);
            let output = problem.apply(&one, &weight, bias.as_ref());
            (output * grads).sum(Kind::Double).backward();
        }
        weights.push(weight.grad().reshape([-1]));
        biases.extend(bias.map(|bias| bias.grad()));
    }
    let biases = (!biases.is_empty()).then(|| Tensor::stack(&biases, 0));
    (Tensor::stack(&weights, 0), biases)
}

/// K over weight and bias together: every pair's inner product.
pub fn gram(contributions: &(Tensor, Option<Tensor>)) -> Tensor {
    let (weight, bias) = contributions;
    let gram = weight.matmul(&weight.tr());
    bias.as_ref().map_or_else(|| gram.shallow_clone(), |bias| &gram + bias.matmul(&bias.tr()))
}

/// w = λ(K + λI)⁻¹1 by a general inverse, λ = γ‖K‖_F.
pub fn coefficients(gram: &Tensor, damping: f64) -> Tensor {
    let size = gram.size()[0];
    let gram = gram.to_kind(Kind::Double);
    let lambda = damping * gram.square().sum(Kind::Double).sqrt().double_value(&[]);
    let damped = gram + Tensor::eye(size, (Kind::Double, tch::Device::Cpu)) * lambda;
    damped.inverse().matmul(&Tensor::ones([size, 1], (Kind::Double, tch::Device::Cpu))).view([size]) * lambda
}

/// Panics with the largest difference if two tensors differ by more than `tolerance` relative to the larger of them.
pub fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}: sizes");
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let scale = expected.abs().max().double_value(&[]).max(1e-300);
    let difference = (&found - &expected).abs().max().double_value(&[]);
    let finite = found.isfinite().all().int64_value(&[]) == 1;
    assert!(
        finite && difference <= tolerance * scale,
        "{what}: largest difference {difference:e} at scale {scale:e}\nfound {found}\nexpected {expected}"
    );
}
