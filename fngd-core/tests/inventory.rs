//! What an inventory makes of a visit: tied weights, the table, the comparison with the VarStore.

use fngd_core::optimizer::{self, Batch, Groups, Inner, Method, StepOptions};
use fngd_core::{FngdConfig, FngdModule, Inventory, nn};
use nn::{Init, LinearConfig, VarStore};
use tch::{Device, Tensor};

#[derive(FngdModule)]
struct LanguageModel {
    embedding: nn::Embedding,
    block: nn::Linear,
    again: nn::Linear,
    norm: nn::LayerNorm,
    #[fngd(plain)]
    gate: nn::Linear,
    mixer: nn::Conv1D,
    upsample: nn::ConvTranspose2D,
    head: nn::Linear,
}

impl LanguageModel {
    fn new(vs: &nn::Path<'_>) -> Self {
        let embedding = nn::embedding(vs / "embedding", 10, 4, Default::default());
        let block = nn::linear(vs / "block", 4, 4, Default::default());
        let bias = (vs / "head").zeros("bias", &[10]);
        Self {
            again: block.shallow_clone(),
            norm: nn::layer_norm(vs / "norm", vec![4], Default::default()),
            gate: nn::linear(vs / "gate", 4, 4, LinearConfig { bias: false, ..Default::default() }),
            mixer: nn::conv1d(vs / "mixer", 4, 4, 3, nn::no_bias()),
            upsample: nn::conv_transpose2d(vs / "upsample", 4, 2, 2, Default::default()),
            head: nn::Linear::tied(vs / "head", &embedding.ws, Some(bias)),
            embedding,
            block,
        }
    }
}

#[test]
fn the_table_says_how_each_parameter_trains() {
    let variables = VarStore::new(Device::Cpu);
    let inventory = Inventory::of(&LanguageModel::new(&variables.root()));
    let expected = "\
parameter         kind              shape         type     gradient
embedding.weight  embedding         [10, 4]       float32  plain: also `head.weight`
block.weight      linear            [4, 4]        float32  preconditioned
block.bias        linear            [4]           float32  preconditioned
norm.weight       normalisation     [4]           float32  plain
norm.bias         normalisation     [4]           float32  plain
gate.weight       linear            [4, 4]        float32  plain: `#[fngd(plain)]`
mixer.weight      conv1d            [4, 4, 3]     float32  preconditioned
upsample.weight   conv_transpose2d  [4, 2, 2, 2]  float32  preconditioned
upsample.bias     conv_transpose2d  [2]           float32  preconditioned
head.bias         linear            [10]          float32  plain: its weight is also `embedding.weight`
176 parameters, of which FNGD preconditions 102 in 3 layers";
    assert_eq!(inventory.to_string(), expected, "\n{inventory}");
    inventory.check(&variables).unwrap();
}

#[test]
fn a_layer_in_two_places_is_one_layer() {
    let variables = VarStore::new(Device::Cpu);
    let inventory = Inventory::of(&LanguageModel::new(&variables.root()));
    let names: Vec<_> = inventory.layers.iter().map(|layer| layer.name()).collect();
    assert_eq!(names, ["block", "mixer", "upsample"]);
}

/// Gradients of one layer used twice; of two layers whose tensors are tied as people tie them in tch.
#[test]
fn two_layers_of_the_same_tensors_train_as_one() {
    let gradients = |tie: fn(&nn::Linear, nn::Linear) -> nn::Linear| {
        let variables = VarStore::new(Device::Cpu);
        let config = LinearConfig { ws_init: Init::Const(0.5), bs_init: Some(Init::Const(0.1)), bias: true };
        let first = nn::linear(variables.root() / 0, 3, 3, config);
        let second = tie(&first, nn::linear(variables.root() / 1, 3, 3, config));
        let model = (first, second);
        let inventory = Inventory::of(&model);
        assert_eq!(inventory.layers.len(), 1);
        assert!(inventory.plain_layers.is_empty());
        let config = FngdConfig { damping: 0.1, ..Default::default() };
        let method = Method::Fngd { config, inner: Inner::default() };
        let mut optimizer = optimizer::build(&model, &method, &Groups::default(), &StepOptions::default()).unwrap();
        optimizer.begin(&Batch { epoch: 0, slot: 0, samples: (0..4).collect() }).unwrap();
        let inputs = Tensor::arange(12, (tch::Kind::Float, Device::Cpu)).view([4, 3]).sin();
        let loss = inputs.apply(&model.0).tanh().apply(&model.1).square().mean(None);
        optimizer.backward(&loss, 1).unwrap();
        // Nothing past the layer, and every use of it.
        assert_eq!(optimizer.layers().unwrap().len(), 1);
        model.0.ws.grad()
    };
    let tied = gradients(|first, mut second| {
        second.ws = first.ws.shallow_clone();
        second.bs = first.bs.as_ref().map(Tensor::shallow_clone);
        second
    });
    assert_eq!(tied, gradients(|first, _| first.shallow_clone()));
}

#[test]
fn a_weight_of_two_layers_with_biases_of_their_own_gets_the_plain_gradient() {
    let variables = VarStore::new(Device::Cpu);
    let vs = variables.root();
    let [first, mut second, third] = [0, 1, 2].map(|index| nn::linear(&vs / index, 4, 4, Default::default()));
    second.ws = first.ws.shallow_clone();
    let inventory = Inventory::of(&vec![first, second, third]);
    let names: Vec<_> = inventory.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(names, ["0.weight", "0.bias", "1.bias", "2.weight", "2.bias"]);
    let names: Vec<_> = inventory.layers.iter().map(|layer| layer.name()).collect();
    assert_eq!(names, ["2"]);
    let plain: Vec<_> =
        inventory.plain_layers.iter().map(|plain| (plain.layer.name(), plain.because.as_str())).collect();
    assert_eq!(plain, [("0", "its weight is also `1.weight`"), ("1", "its weight is also `0.weight`")]);
}

#[test]
fn a_shared_bias_makes_its_layers_plain() {
    let variables = VarStore::new(Device::Cpu);
    let first = nn::linear(variables.root() / 0, 4, 4, Default::default());
    let mut second = nn::linear(variables.root() / 1, 4, 4, Default::default());
    second.bs = first.bs.as_ref().map(Tensor::shallow_clone);
    let inventory = Inventory::of(&(first, second));
    assert!(inventory.layers.is_empty());
    assert_eq!(inventory.plain_layers[1].because, "its bias is also `0.bias`");
}

#[derive(FngdModule)]
struct Wrong {
    features: nn::Linear,
    #[fngd(skip)]
    _head: nn::Linear,
    scale: Tensor,
}

#[test]
fn names_are_compared_with_those_of_the_variables() {
    let variables = VarStore::new(Device::Cpu);
    let vs = variables.root();
    let model = Wrong {
        features: nn::linear(&vs / "backbone", 4, 2, Default::default()),
        _head: nn::linear(&vs / "head", 2, 2, Default::default()),
        scale: Tensor::ones([2], (tch::Kind::Float, Device::Cpu)).set_requires_grad(true),
    };
    // OK because the test fails here if the difference goes unnoticed.
    let error = Inventory::of(&model).check(&variables).unwrap_err();
    assert!(error.is_config());
    let expected = "the model differs from its VarStore:
  variable `backbone.bias` is field `features.bias`
  variable `backbone.weight` is field `features.weight`
  variable `head.bias` is in no field that the model shows
  variable `head.weight` is in no field that the model shows
  field `scale` is no variable";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_does_not_train_is_not_compared() {
    let mut variables = VarStore::new(Device::Cpu);
    // Running statistics are variables too.
    let model = (
        nn::batch_norm2d(variables.root() / 0, 4, Default::default()),
        nn::conv2d(variables.root() / 1, 4, 4, 1, nn::no_bias()),
    );
    Inventory::of(&model).check(&variables).unwrap();
    variables.freeze();
    let inventory = Inventory::of(&model);
    assert!(inventory.parameters.is_empty() && inventory.layers.is_empty());
    inventory.check(&variables).unwrap();
}

/// `VarStore` moves variables in place; they stay the same tensors.
#[test]
fn variables_may_change_their_kind() {
    let mut variables = VarStore::new(Device::Cpu);
    let model = LanguageModel::new(&variables.root());
    variables.double();
    let inventory = Inventory::of(&model);
    assert_eq!(inventory.layers[0].weight().kind(), tch::Kind::Double);
    inventory.check(&variables).unwrap();
}

#[derive(FngdModule)]
struct Autoencoder {
    encoder: nn::Linear,
    decoder: nn::Linear,
    head: nn::Linear,
}

impl Autoencoder {
    fn new(vs: &nn::Path<'_>) -> Self {
        let constant =
            |value| LinearConfig { ws_init: Init::Const(value), bs_init: Some(Init::Const(0.1)), bias: true };
        let encoder = nn::linear(vs / "encoder", 4, 3, constant(0.2));
        Self {
            decoder: nn::Linear::tied(vs / "decoder", &encoder.ws.tr(), Some((vs / "decoder").zeros("bias", &[4]))),
            head: nn::linear(vs / "head", 4, 2, constant(-0.3)),
            encoder,
        }
    }

    fn loss(&self) -> Tensor {
        let inputs = Tensor::arange(20, (tch::Kind::Float, Device::Cpu)).view([5, 4]).sin();
        let outputs = inputs.apply(&self.encoder).tanh().apply(&self.decoder);
        (&outputs - &inputs).square().mean(None) + outputs.apply(&self.head).square().mean(None)
    }
}

#[test]
fn a_weight_computed_from_a_parameter_is_none_and_its_gradient_goes_on() {
    use fngd_core::optimizer::SgdConfig;
    use nn::OptimizerConfig;
    let [variables, plain] = [0, 1].map(|_| VarStore::new(Device::Cpu));
    let [model, plain_model] = [&variables, &plain].map(|variables| Autoencoder::new(&variables.root()));

    let inventory = Inventory::of(&model);
    inventory.check(&variables).unwrap();
    let names: Vec<_> = inventory.layers.iter().map(|layer| layer.name()).collect();
    assert_eq!(names, ["head"]);
    let reasons: Vec<_> =
        inventory.plain_layers.iter().map(|plain| (plain.layer.name(), plain.because.as_str())).collect();
    let expected = [
        ("encoder", "its weight shares memory with `decoder.weight`"),
        ("decoder", "its weight is computed from `encoder.weight`"),
    ];
    assert_eq!(reasons, expected);

    // With this damping every w is 1.
    let config = FngdConfig { damping: 1e6, ..Default::default() };
    let inner = Inner::Sgd(SgdConfig { momentum: 0.0, weight_decay: 0.0, nesterov: false });
    let mut optimizer =
        fngd_core::Fngd::builder(&model).with_config(config).with_inner(inner).with_learning_rate(0.1).build().unwrap();
    let mut sgd = nn::Sgd::default().build(&plain, 0.1).unwrap();
    for epoch in 0..4 {
        optimizer.begin_epoch(epoch).unwrap();
        optimizer.backward_step(&model.loss()).unwrap();
        sgd.backward_step(&plain_model.loss());
    }
    let plain = plain.variables();
    for (name, tensor) in variables.variables() {
        assert!((tensor - &plain[&name]).abs().max().double_value(&[]) < 1e-5, "{name}");
    }
}

#[test]
fn frozen_tensors_are_listed() {
    let mut variables = VarStore::new(Device::Cpu);
    let model = nn::linear(variables.root() / 0, 4, 2, Default::default());
    variables.freeze();
    let names: Vec<_> = Inventory::of(&vec![model]).frozen.into_iter().map(|tensor| tensor.name).collect();
    assert_eq!(names, ["0.weight", "0.bias"]);
}
