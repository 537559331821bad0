//! Building models: the derive, the layers of `fngd_core::nn`, and those of `tch::nn` as fields.

use fngd_core::{FngdModule, Inventory, Result, Role, nn};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::nn::{ConvConfig, Init, LinearConfig, Module, ModuleT, PaddingMode, VarStore};
use tch::{Device, Kind, Tensor};

/// All tests of this program draw from libtorch's one generator; a test that seeds it must have it for itself.
fn generator() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names(module: &dyn FngdModule) -> Vec<(String, Role)> {
    Inventory::of(module).parameters.into_iter().map(|parameter| (parameter.name, parameter.role)).collect()
}

fn layer_names(module: &dyn FngdModule) -> Vec<String> {
    Inventory::of(module).layers.iter().map(|layer| layer.name().to_owned()).collect()
}

#[derive(FngdModule)]
struct Model {
    conv1: nn::Conv2d,
    blocks: Vec<Block>,
    head: Option<Box<nn::Linear>>,
    position: Tensor,
    pair: [tch::nn::LayerNorm; 2],
    table: tch::nn::Embedding,
    r#final: tch::nn::Linear,
    // Not a module: this would not compile without `skip`.
    #[fngd(skip)]
    _classes: i64,
}

#[derive(FngdModule)]
struct Block(nn::BatchNorm2d, tch::nn::Conv2D);

fn model(path: &tch::nn::Path<'_>) -> Result<Model> {
    let _generator = generator();
    let block = |index: i64| -> Result<Block> {
        let path = path / "blocks" / index;
        Ok(Block(
            nn::batch_norm2d(&path / 0, 4, Default::default())?,
            tch::nn::conv2d(&path / 1, 4, 4, 1, tch::nn::no_bias()),
        ))
    };
    Ok(Model {
        conv1: nn::conv2d(path / "conv1", 3, 4, 3, Default::default())?,
        blocks: vec![block(0)?, block(1)?],
        head: Some(Box::new(nn::linear(path / "head", 4, 2, LinearConfig { bias: false, ..Default::default() })?)),
        position: path.zeros("position", &[4]),
        pair: [0, 1].map(|index| tch::nn::layer_norm(path / "pair" / index, vec![4], Default::default())),
        table: tch::nn::embedding(path / "table", 5, 4, Default::default()),
        r#final: tch::nn::linear(path / "final", 4, 2, Default::default()),
        _classes: 2,
    })
}

#[test]
fn parameters_are_called_by_their_path() -> Result<()> {
    let variables = VarStore::new(Device::Cpu);
    let model = model(&variables.root())?;
    let expected = [
        ("conv1.weight", Role::Weight),
        ("conv1.bias", Role::Bias),
        ("blocks.0.0.weight", Role::Normalisation),
        ("blocks.0.0.bias", Role::Normalisation),
        ("blocks.0.1.weight", Role::Weight),
        ("blocks.1.0.weight", Role::Normalisation),
        ("blocks.1.0.bias", Role::Normalisation),
        ("blocks.1.1.weight", Role::Weight),
        ("head.weight", Role::Weight),
        ("position", Role::Other),
        ("pair.0.weight", Role::Normalisation),
        ("pair.0.bias", Role::Normalisation),
        ("pair.1.weight", Role::Normalisation),
        ("pair.1.bias", Role::Normalisation),
        ("table.weight", Role::Embedding),
        ("final.weight", Role::Weight),
        ("final.bias", Role::Bias),
    ];
    assert_eq!(names(&model), expected.map(|(name, role)| (name.to_owned(), role)));
    // Layers of tch::nn train, but are not preconditioned.
    assert_eq!(layer_names(&model), ["conv1", "head"]);

    let mut stored: Vec<_> = variables.variables().into_keys().filter(|name| !name.contains("running")).collect();
    stored.sort();
    let mut visited: Vec<_> = names(&model).into_iter().map(|(name, _)| name).collect();
    visited.sort();
    assert_eq!(visited, stored);
    Ok(())
}

#[test]
fn frozen_variables_are_not_shown() -> Result<()> {
    let mut variables = VarStore::new(Device::Cpu);
    let model = model(&variables.root())?;
    variables.freeze();
    assert_eq!(names(&model), []);
    assert!(layer_names(&model).is_empty());
    Ok(())
}

/// What `make` builds from seed 7.
fn seeded<T>(make: impl Fn(&tch::nn::Path<'_>) -> T) -> T {
    tch::manual_seed(7);
    make(&VarStore::new(Device::Cpu).root())
}

#[test]
fn layers_equal_those_of_tch_from_the_same_seed() -> Result<()> {
    let _generator = generator();
    let images = Tensor::randn([2, 4, 5, 5], (Kind::Float, Device::Cpu));
    let config = || ConvConfig {
        stride: 2,
        padding: 1,
        groups: 2,
        bs_init: Init::Uniform { lo: 0.0, up: 1.0 },
        ..Default::default()
    };
    let theirs = seeded(|path| tch::nn::conv2d(path, 4, 6, 3, config()).forward(&images));
    assert_eq!(seeded(|path| nn::conv2d(path, 4, 6, 3, config()))?.forward(&images)?, theirs);

    let theirs = seeded(|path| tch::nn::linear(path, 5, 3, Default::default()).forward(&images));
    assert_eq!(seeded(|path| nn::linear(path, 5, 3, Default::default()))?.forward(&images)?, theirs);

    let theirs = seeded(|path| tch::nn::batch_norm2d(path, 4, Default::default()));
    let ours = seeded(|path| nn::batch_norm2d(path, 4, Default::default()))?;
    // Training first: it updates the running statistics that inference then uses.
    for training in [true, false] {
        assert_eq!(ours.forward(&images, training)?, theirs.forward_t(&images, training), "training {training}");
    }
    Ok(())
}

#[test]
fn convolutions_that_cannot_be_tapped_are_refused() {
    let variables = VarStore::new(Device::Cpu);
    let refused = |config| {
        // OK because the test fails here if the configuration is accepted.
        nn::conv2d(variables.root() / "stem" / 0, 4, 6, 3, config).unwrap_err().to_string()
    };
    assert_eq!(
        refused(ConvConfig { padding_mode: PaddingMode::Reflect, ..Default::default() }),
        "layer `stem.0`: padding mode must be Zeros, found Reflect; pad the input yourself and use padding 0"
    );
    assert_eq!(
        refused(ConvConfig { groups: 4, ..Default::default() }),
        "layer `stem.0`: 4 groups do not divide 4 and 6 channels"
    );
    assert!(variables.is_empty());
}
