//! Whole steps: the gradient against its definition, and the exits from it.

use super::networks::{Network, announce, batch, flat, fngd, forget_batch_axis, sgd, train};
use super::reference::{self, assert_close};
use crate::optimizer::{self, GradientSource, Groups, Method, PreconditionedGradient, StepOptions};
use crate::{Ablation, Fisher, FngdConfig, Refresh, Share};
use tch::{Kind, Tensor};

const SIZE: i64 = 5;

/// Contributions of each sample to every parameter's gradient of the mean loss, by batches of one.
fn contributions(network: &Network, images: &Tensor, labels: &Tensor) -> Vec<Tensor> {
    let mut rows: Vec<Vec<Tensor>> = network.parameters().iter().map(|_| Vec::new()).collect();
    for sample in 0..SIZE {
        let loss = network.loss(&images.narrow(0, sample, 1), &labels.narrow(0, sample, 1)) / SIZE as f64;
        let grads = Tensor::run_backward(&[loss], &network.parameters(), false, false);
        for (row, grad) in rows.iter_mut().zip(grads) {
            row.push(grad.reshape([-1]));
        }
    }
    rows.iter().map(|row| Tensor::stack(row, 0)).collect()
}

/// The gradients that FNGD must produce: each layer's weight and bias weighted by the layer's own coefficients.
fn expected_gradients(network: &Network, images: &Tensor, labels: &Tensor, damping: f64) -> Vec<Tensor> {
    let mut rows = contributions(network, images, labels).into_iter();
    let mut expected = Vec::new();
    for layer in &network.layers {
        let weight = rows.next().unwrap();
        let bias = layer.bias().map(|_| rows.next().unwrap());
        let pair = (weight, bias);
        let w = reference::coefficients(&reference::gram(&pair), damping).unsqueeze(1);
        expected.push(pair.0.tr().matmul(&w));
        expected.extend(pair.1.map(|bias| bias.tr().matmul(&w)));
    }
    expected
}

#[test]
fn gradients_of_the_solving_and_of_the_recalling_epoch_equal_their_definition() {
    let network = Network::new(1, Kind::Double);
    let damping = 0.3;
    let mut optimizer = fngd(&network, FngdConfig { damping, ..Default::default() });
    let (images, labels) = batch(0, SIZE, Kind::Double);
    // No step in between: the recalled weights then are those of the same gradients.
    let expected = {
        let untapped = Network::new(1, Kind::Double);
        expected_gradients(&untapped, &images, &labels, damping)
    };
    for epoch in 0..3 {
        optimizer.begin(&announce(epoch, 0, SIZE)).unwrap();
        optimizer.backward(&network.loss(&images, &labels), 1).unwrap();
        for (index, (parameter, expected)) in network.parameters().iter_mut().zip(&expected).enumerate() {
            let found = parameter.grad();
            assert_close(&found.reshape([-1, 1]), expected, 1e-10, &format!("parameter {index}, epoch {epoch}"));
            parameter.zero_grad();
        }
    }
}

/// `ngd`: λ(F + λI)⁻¹ḡ by a dense inverse, F and ḡ those of the batch and of the parameters at hand, at every step of every epoch.
#[test]
fn without_sharing_every_step_is_the_exact_natural_gradient_of_its_own_batch() {
    let network = Network::new(1, Kind::Double);
    let damping = 0.3;
    let mut optimizer = fngd(&network, FngdConfig { damping, share: Share::None, ..Default::default() });
    let untapped = Network::new(1, Kind::Double);
    for (epoch, slot) in [(0, 0), (0, 1), (1, 0), (2, 1)] {
        let (images, labels) = batch(slot, SIZE, Kind::Double);
        for (own, trained) in untapped.parameters().iter_mut().zip(network.parameters()) {
            tch::no_grad(|| own.copy_(&trained));
        }
        let mut rows = contributions(&untapped, &images, &labels).into_iter();
        optimizer.begin(&announce(epoch, slot, SIZE)).unwrap();
        optimizer.backward(&network.loss(&images, &labels), 1).unwrap();
        for layer in &network.layers {
            let weight = rows.next().unwrap();
            let parts: Vec<Tensor> = [weight].into_iter().chain(layer.bias().map(|_| rows.next().unwrap())).collect();
            let per_sample = Tensor::cat(&parts, 1) * SIZE as f64;
            let lambda = damping * per_sample.matmul(&per_sample.tr()).norm().double_value(&[]) / SIZE as f64;
            let fisher = per_sample.tr().matmul(&per_sample) / SIZE as f64;
            let damped = &fisher + Tensor::eye(fisher.size()[0], (Kind::Double, tch::Device::Cpu)) * lambda;
            let mean = per_sample.mean_dim(0i64, false, Kind::Double);
            let expected = damped.inverse().mv(&mean) * lambda;
            let grads = [Some(layer.weight()), layer.bias()].into_iter().flatten().map(|one| one.grad().reshape([-1]));
            let found = Tensor::cat(&grads.collect::<Vec<_>>(), 0);
            assert_close(&found, &expected, 1e-9, &format!("{}, epoch {epoch}, slot {slot}", layer.name()));
        }
        let report = optimizer.step(0.05).unwrap();
        assert_eq!((report.solved, report.recalled, report.fallbacks), (4, 0, 0));
    }
}

#[test]
fn weights_of_one_are_plain_sgd_bit_for_bit() {
    let plain = Network::new(2, Kind::Float);
    let mut optimizer =
        optimizer::build(&plain, &Method::Sgd(sgd()), &Groups::default(), &StepOptions::default()).unwrap();
    train(&plain, &mut *optimizer, 0..3, 4);
    let configs = [
        ("never refreshed", FngdConfig { refresh: Refresh::Never, ..Default::default() }),
        ("unknown batch axis", FngdConfig::default()),
    ];
    for (name, config) in configs {
        let network = Network::new(2, Kind::Float);
        if name == "unknown batch axis" {
            forget_batch_axis(&network);
        }
        let mut optimizer = fngd(&network, config);
        let reports = train(&network, &mut *optimizer, 0..3, 4);
        assert!(reports.iter().all(|report| report.unknown == 4 && report.solved + report.recalled == 0), "{name}");
        assert_eq!(flat(&network), flat(&plain), "{name}");
    }
}

#[test]
fn uniform_ablation_is_sgd_up_to_rounding_in_the_solving_epoch_and_bit_for_bit_after() {
    let network = Network::new(3, Kind::Float);
    let config = FngdConfig { ablate: Some(Ablation::Uniform), ..Default::default() };
    let mut optimizer = fngd(&network, config);
    train(&network, &mut *optimizer, 0..1, 4);
    let (images, labels) = batch(1, SIZE, Kind::Float);
    optimizer.begin(&announce(1, 1, SIZE)).unwrap();
    optimizer.backward(&network.loss(&images, &labels), 1).unwrap();
    let found: Vec<Tensor> = network.parameters().iter().map(Tensor::grad).collect();
    drop(optimizer);
    let expected = Tensor::run_backward(&[network.loss(&images, &labels)], &network.parameters(), false, false);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        // A multiplication by 1.0 changes no bit; a bias sum taken per sample first may differ in the last one.
        assert_close(found, expected, 1e-6, &format!("parameter {index}"));
    }
    assert_eq!(found[0], expected[0], "a convolution's weight");
}

#[test]
fn a_wrong_batch_size_is_an_error_of_the_step_that_names_the_layer() {
    let network = Network::new(4, Kind::Float);
    let mut optimizer = fngd(&network, FngdConfig::default());
    let (images, labels) = batch(0, SIZE, Kind::Float);
    optimizer.begin(&announce(0, 0, 3)).unwrap();
    let error = optimizer.backward(&network.loss(&images, &labels), 1).unwrap_err().to_string();
    let expected = "layer `head`: activations are [5, 6], but the batch was announced with 3 samples (Leading)";
    assert!(error.contains(expected), "{error}");
    // The optimizer is still usable.
    optimizer.begin(&announce(0, 0, SIZE)).unwrap();
    optimizer.backward(&network.loss(&images, &labels), 1).unwrap();
}

#[test]
fn backward_without_begin_is_refused() {
    let network = Network::new(4, Kind::Float);
    let mut optimizer = fngd(&network, FngdConfig::default());
    let (images, labels) = batch(0, SIZE, Kind::Float);
    let error = optimizer.backward(&network.loss(&images, &labels), 1).unwrap_err();
    assert_eq!(error.to_string(), "backward before `begin`: say which samples the forward pass sees");
}

#[test]
fn a_panic_in_a_tap_is_an_error_of_backward() {
    let weight = Tensor::ones([1, 1], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
    let input = Tensor::ones([1, 1], (Kind::Float, tch::Device::Cpu));
    let output = input.linear(&weight.detach(), None::<&Tensor>);
    let tapped = crate::tap::attach(&output, &input, &weight, None, Box::new(|_, _| panic!("on purpose"))).unwrap();
    let error = tapped.sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(error.contains("panic in the tap's callback: on purpose"), "{error}");
}

#[test]
fn gradient_accumulation_adds_up_the_micro_batches() {
    let network = Network::new(5, Kind::Double);
    let mut optimizer = fngd(&network, FngdConfig { damping: 0.5, ..Default::default() });
    let mut expected: Option<Vec<Tensor>> = None;
    let untapped = Network::new(5, Kind::Double);
    for slot in 0..2 {
        let (images, labels) = batch(slot, SIZE, Kind::Double);
        optimizer.begin(&announce(0, slot, SIZE)).unwrap();
        optimizer.backward(&network.loss(&images, &labels), 2).unwrap();
        let half = expected_gradients(&untapped, &images, &labels, 0.5).into_iter().map(|grad| grad / 2.0);
        expected = Some(match expected {
            None => half.collect(),
            Some(sum) => sum.into_iter().zip(half).map(|(sum, more)| sum + more).collect(),
        });
    }
    for (parameter, expected) in network.parameters().iter().zip(expected.unwrap()) {
        assert_close(&parameter.grad().reshape([-1, 1]), &expected, 1e-10, "accumulated");
    }
}

#[test]
fn improved_empirical_fisher_takes_the_norms_of_the_logit_gradients() {
    let network = Network::new(6, Kind::Double);
    let config =
        FngdConfig { fisher: Fisher::ImprovedEmpirical, share: Share::None, damping: 0.2, ..Default::default() };
    let mut optimizer = fngd(&network, config);
    let (images, labels) = batch(0, SIZE, Kind::Double);
    optimizer.begin(&announce(0, 0, SIZE)).unwrap();
    let logits = optimizer.logits(network.forward(&images)).unwrap();
    optimizer.backward(&logits.cross_entropy_for_logits(&labels), 1).unwrap();
    let untapped = Network::new(6, Kind::Double);
    // ∂ℓ/∂logits of cross entropy is softmax − one-hot.
    let one_hot = labels.one_hot(super::networks::CLASSES).to_kind(Kind::Double);
    let norms = (untapped.forward(&images).softmax(-1, Kind::Double) - one_hot).square().sum_dim_intlist(
        1i64,
        false,
        Kind::Double,
    );
    let right_side = &norms / norms.mean(Kind::Double);
    let rows = contributions(&untapped, &images, &labels);
    let (weight, bias) = (&rows[rows.len() - 2], &rows[rows.len() - 1]);
    let gram = reference::gram(&(weight.shallow_clone(), Some(bias.shallow_clone())));
    let lambda = 0.2 * gram.square().sum(Kind::Double).sqrt().double_value(&[]);
    let damped = &gram + Tensor::eye(SIZE, (Kind::Double, tch::Device::Cpu)) * lambda;
    let w = damped.inverse().matmul(&right_side.unsqueeze(1)) * lambda;
    let head = network.layers.last().unwrap();
    assert_close(&head.weight().grad().reshape([-1, 1]), &weight.tr().matmul(&w), 1e-6, "head weight");
}

#[test]
fn accumulation_leaves_the_reported_damping_alone() {
    let damping = |accumulation| {
        let network = Network::new(14, Kind::Double);
        let mut optimizer = fngd(&network, FngdConfig::default());
        let (images, labels) = batch(0, SIZE, Kind::Double);
        optimizer.begin(&announce(0, 0, SIZE)).unwrap();
        optimizer.backward(&network.loss(&images, &labels), accumulation).unwrap();
        optimizer.layers().unwrap()[0].damping.unwrap()
    };
    assert!((damping(4) / damping(1) - 1.0).abs() < 1e-9);
}

#[test]
fn kept_gram_matrices_equal_their_definition_and_change_nothing() {
    for (accumulation, share) in [(1, Share::None), (4, Share::Slot)] {
        let network = Network::new(1, Kind::Double);
        let config = FngdConfig { share, ..Default::default() };
        let mut source = PreconditionedGradient::build(network.layers.clone(), config).unwrap();
        let (images, labels) = batch(0, SIZE, Kind::Double);
        let pass = |source: &mut PreconditionedGradient, epoch| {
            source.begin(&announce(epoch, 0, SIZE)).unwrap();
            source.backward(&network.loss(&images, &labels), accumulation).unwrap();
            let parameters = network.parameters();
            let grads: Vec<Tensor> = parameters.iter().map(|parameter| parameter.grad().copy()).collect();
            parameters.into_iter().for_each(|mut parameter| parameter.zero_grad());
            grads
        };
        let plain = pass(&mut source, 0);
        assert!(source.grams().unwrap().is_empty(), "nobody asked for them");
        source.keep_grams().unwrap();
        assert_eq!(pass(&mut source, 0), plain);

        let untapped = Network::new(1, Kind::Double);
        // Contributions to the gradient of the mean are 1/B of the samples' own gradients.
        let mut rows =
            contributions(&untapped, &images, &labels).into_iter().map(|contribution| contribution * SIZE as f64);
        let found = source.grams().unwrap();
        assert_eq!(found.len(), network.layers.len());
        for (layer, (name, gram)) in network.layers.iter().zip(found) {
            assert_eq!(layer.name(), name);
            let weight = rows.next().unwrap();
            let bias = layer.bias().map(|_| rows.next().unwrap());
            assert_close(&gram, &reference::gram(&(weight, bias)), 1e-10, &name);
        }
        pass(&mut source, 1);
        let solved = if share == Share::None { network.layers.len() } else { 0 };
        assert_eq!(source.grams().unwrap().len(), solved, "recalled weights have no Gram matrix");
    }
}
