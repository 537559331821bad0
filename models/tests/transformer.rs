//! What the Transformer promises beyond PyTorch's values.

use fngd_core::nn::VarStore;
use fngd_models::*;
use tch::{Device, Kind, Tensor};

const FLOAT64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Numbers in [-1, 1] without a pattern: sin(i²).
fn waves(size: &[i64]) -> Tensor {
    Tensor::arange(size.iter().product::<i64>(), FLOAT64).square().sin().view(size)
}

/// Weights that do not depend on libtorch's generator, which the tests share.
fn fill(variables: &VarStore) {
    for mut variable in variables.trainable_variables() {
        let values = waves(&variable.size()) * 0.5;
        tch::no_grad(|| variable.copy_(&values));
    }
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size());
    let difference = f64::try_from((found - expected).abs().max()).unwrap();
    assert!(difference < 1e-12, "largest difference {difference}");
}

/// Calling all of `in_proj` on both sequences and dropping parts is PyTorch's multiplication with slices of its weight, in values
/// and in gradients.
#[test]
fn cross_attention_equals_that_with_a_sliced_weight() {
    let (width, heads) = (12, 3);
    let mut variables = VarStore::new(Device::Cpu);
    let attention = MultiheadAttention::new(&variables.root() / "attention", width, heads, 0.0);
    variables.double();
    fill(&variables);
    let variables = variables.variables();
    let variable = |name: &str| &variables[&format!("attention.{name}")];
    let bias = variable("in_proj_bias");
    let (queries, memory) = (waves(&[2, 5, width]), waves(&[2, 7, width]) * 2.0);
    let mask = Tensor::from_slice(&[true, true, true, true, true, false, false]).unsqueeze(0);

    let project = |xs: &Tensor, part: i64| {
        let slice = |tensor: &Tensor| tensor.narrow(0, part * width, width);
        xs.linear(&slice(variable("in_proj_weight")), Some(slice(bias)))
    };
    let (q, k, v) = (project(&queries, 0), project(&memory, 1), project(&memory, 2));
    let size = width / heads;
    let of_heads: Vec<Tensor> = (0..heads)
        .map(|head| {
            let [q, k, v] = [&q, &k, &v].map(|xs| xs.narrow(2, head * size, size));
            let scores = q.matmul(&k.transpose(1, 2)) / (size as f64).sqrt();
            scores.masked_fill(&mask.logical_not(), f64::NEG_INFINITY).softmax(-1, None).matmul(&v)
        })
        .collect();
    let expected = Tensor::cat(&of_heads, -1).linear(variable("out_proj.weight"), Some(variable("out_proj.bias")));
    let found = attention.cross_attention(&queries, &memory, Some(&mask), true);
    assert_close(&found, &expected);

    let gradient = |output: &Tensor| {
        let loss = (output * output).sum(None);
        Tensor::run_backward(&[loss], &[variable("in_proj_weight"), bias], false, false)
    };
    for (found, expected) in gradient(&found).iter().zip(gradient(&expected)) {
        assert_close(found, &expected);
    }
}

fn small(dropout: f64) -> TransformerConfig {
    TransformerConfig {
        source_vocabulary: 11,
        target_vocabulary: 11,
        encoder_layers: 1,
        decoder_layers: 1,
        layer: LayerConfig { width: 16, hidden: 32, heads: 2, dropout, ..Default::default() },
        padding: Some(0),
        ..Default::default()
    }
}

fn build(config: &TransformerConfig) -> Transformer {
    let mut variables = VarStore::new(Device::Cpu);
    let model = Transformer::new(&variables.root(), config);
    variables.double();
    fill(&variables);
    model
}

fn tokens(tokens: &[i64]) -> Tensor {
    Tensor::from_slice(tokens).unsqueeze(0)
}

#[test]
fn a_position_does_not_see_later_ones() {
    let model = build(&small(0.0));
    let source = tokens(&[3, 1, 4]);
    let whole = model.forward_t(&source, &tokens(&[1, 5, 9, 2]), false);
    let start = model.forward_t(&source, &tokens(&[1, 5]), false);
    assert_close(&whole.narrow(1, 0, 2), &start);
}

#[test]
fn padding_changes_nothing() {
    let model = build(&small(0.0));
    let target = tokens(&[1, 5, 9]);
    let short = model.forward_t(&tokens(&[3, 1, 4]), &target, false);
    let padded = model.forward_t(&tokens(&[3, 1, 4, 0, 0]), &tokens(&[1, 5, 9, 0]), false);
    assert_close(&padded.narrow(1, 0, 3), &short);
}

#[test]
fn decoding_step_by_step_needs_the_encoder_once() {
    let model = build(&small(0.0));
    let (source, target) = (tokens(&[3, 1, 4]), tokens(&[1, 5]));
    let memory = model.encode(&source, false);
    assert_close(&model.decode(&target, &memory, &source, false), &model.forward_t(&source, &target, false));
}

#[test]
fn dropout_acts_in_training_only() {
    let (source, target) = (tokens(&[3, 1, 4]), tokens(&[1, 5]));
    let (with, without) = (build(&small(0.5)), build(&small(0.0)));
    let logits = |model: &Transformer, train| model.forward_t(&source, &target, train);
    assert_close(&logits(&with, false), &logits(&without, false));
    assert_close(&logits(&without, true), &logits(&without, false));
    assert!(f64::try_from((logits(&with, true) - logits(&with, false)).abs().max()).unwrap() > 1e-3);
}

/// At positions 0 and 1 of width 4: rates 1 and 1/100.
#[test]
fn positions_are_sines_beside_cosines() {
    let expected = [0.0, 1.0, 0.0, 1.0, 1f64.sin(), 1f64.cos(), 0.01f64.sin(), 0.01f64.cos()];
    assert_close(&sinusoids(2, 4, FLOAT64), &Tensor::from_slice(&expected).view([2, 4]));
}
