//! Building models: the derive, the layers of `fngd_core::nn`, and those of `tch::nn` as fields.

use fngd_core::{FngdModule, Inventory, Role, nn};
use nn::{ConvConfig, ConvConfigND, ConvTransposeConfig, Init, LinearConfig, PaddingMode, VarStore};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    conv1: nn::Conv2D,
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
struct Block(nn::BatchNorm, tch::nn::Conv2D);

fn model(path: &tch::nn::Path<'_>) -> Model {
    let _generator = generator();
    let block = |index: i64| {
        let path = path / "blocks" / index;
        Block(
            nn::batch_norm2d(&path / 0, 4, Default::default()),
            tch::nn::conv2d(&path / 1, 4, 4, 1, tch::nn::no_bias()),
        )
    };
    Model {
        conv1: nn::conv2d(path / "conv1", 3, 4, 3, Default::default()),
        blocks: vec![block(0), block(1)],
        head: Some(Box::new(nn::linear(path / "head", 4, 2, LinearConfig { bias: false, ..Default::default() }))),
        position: path.zeros("position", &[4]),
        pair: [0, 1].map(|index| tch::nn::layer_norm(path / "pair" / index, vec![4], Default::default())),
        table: tch::nn::embedding(path / "table", 5, 4, Default::default()),
        r#final: tch::nn::linear(path / "final", 4, 2, Default::default()),
        _classes: 2,
    }
}

#[test]
fn parameters_are_called_by_their_path() {
    let variables = VarStore::new(Device::Cpu);
    let model = model(&variables.root());
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
}

#[test]
fn frozen_variables_are_not_shown() {
    let mut variables = VarStore::new(Device::Cpu);
    let model = model(&variables.root());
    variables.freeze();
    assert_eq!(names(&model), []);
    assert!(layer_names(&model).is_empty());
}

/// What `make` builds from seed 7.
fn seeded<T>(make: impl Fn(&tch::nn::Path<'_>) -> T) -> T {
    tch::manual_seed(7);
    make(&VarStore::new(Device::Cpu).root())
}

#[test]
fn layers_equal_those_of_tch_from_the_same_seed() {
    let _generator = generator();
    let sizes: [&[i64]; 3] = [&[2, 4, 5], &[2, 4, 5, 5], &[2, 4, 5, 5, 5]];
    let [sequences, images, volumes] = sizes.map(|size| Tensor::randn(size, (Kind::Float, Device::Cpu)));
    let modes = [PaddingMode::Zeros, PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular];
    for padding_mode in modes {
        let bs_init = Init::Uniform { lo: 0.0, up: 1.0 };
        let config = || ConvConfig { stride: 2, padding: 1, groups: 2, bs_init, padding_mode, ..Default::default() };
        let theirs = seeded(|path| sequences.apply(&tch::nn::conv1d(path, 4, 6, 3, config())));
        assert_eq!(seeded(|path| sequences.apply(&nn::conv1d(path, 4, 6, 3, config()))), theirs);
        let theirs = seeded(|path| images.apply(&tch::nn::conv2d(path, 4, 6, 3, config())));
        assert_eq!(seeded(|path| images.apply(&nn::conv2d(path, 4, 6, 3, config()))), theirs);
        if !matches!(padding_mode, PaddingMode::Reflect) {
            let theirs = seeded(|path| volumes.apply(&tch::nn::conv3d(path, 4, 6, 3, config())));
            assert_eq!(seeded(|path| volumes.apply(&nn::conv3d(path, 4, 6, 3, config()))), theirs);
        }
    }

    let config = || ConvTransposeConfig { stride: 2, padding: 1, output_padding: 1, groups: 2, ..Default::default() };
    let theirs = seeded(|path| sequences.apply(&tch::nn::conv_transpose1d(path, 4, 6, 3, config())));
    assert_eq!(seeded(|path| sequences.apply(&nn::conv_transpose1d(path, 4, 6, 3, config()))), theirs);
    let theirs = seeded(|path| images.apply(&tch::nn::conv_transpose2d(path, 4, 6, 3, config())));
    assert_eq!(seeded(|path| images.apply(&nn::conv_transpose2d(path, 4, 6, 3, config()))), theirs);
    let theirs = seeded(|path| volumes.apply(&tch::nn::conv_transpose3d(path, 4, 6, 3, config())));
    assert_eq!(seeded(|path| volumes.apply(&nn::conv_transpose3d(path, 4, 6, 3, config()))), theirs);

    let config = || ConvConfigND { stride: [2, 1], padding: [1, 2], ..Default::default() };
    let theirs = seeded(|path| images.apply(&tch::nn::conv(path, 4, 6, [3, 2], config())));
    assert_eq!(seeded(|path| images.apply(&nn::conv(path, 4, 6, [3, 2], config()))), theirs);

    let theirs = seeded(|path| images.apply(&tch::nn::linear(path, 5, 3, Default::default())));
    assert_eq!(seeded(|path| images.apply(&nn::linear(path, 5, 3, Default::default()))), theirs);
    assert_eq!(seeded(|path| images.apply(&nn::Linear::from(tch::nn::linear(path, 5, 3, Default::default())))), theirs);

    let theirs = seeded(|path| tch::nn::batch_norm2d(path, 4, Default::default()));
    let ours = seeded(|path| nn::batch_norm2d(path, 4, Default::default()));
    // Training first: it updates the running statistics that inference then uses.
    for train in [true, false] {
        assert_eq!(images.apply_t(&ours, train), images.apply_t(&theirs, train), "train {train}");
    }
}

#[test]
fn padding_by_reflection_may_differ_between_dimensions() {
    let _generator = generator();
    let images = Tensor::randn([2, 4, 5, 5], (Kind::Float, Device::Cpu));
    let variables = VarStore::new(Device::Cpu);
    let config = ConvConfigND { padding: [1, 2], padding_mode: PaddingMode::Reflect, ..Default::default() };
    let layer = nn::conv(variables.root(), 4, 6, [3, 2], config);
    // `pad` takes the last dimension first, both sides of it.
    let expected = images.pad([2, 2, 1, 1], "reflect", None).conv2d(&layer.ws, layer.bs.as_ref(), 1, 0, 1, 1);
    assert_eq!(images.apply(&layer), expected);
}

#[test]
fn errors_name_the_layer() {
    let _generator = generator();
    let variables = VarStore::new(Device::Cpu);
    let path = variables.root() / "stem" / 0;
    let norm = nn::batch_norm2d(&path, 4, Default::default());
    let refused = |size: &[i64]| {
        // OK because the test fails here if the input is accepted.
        norm.f_forward_t(&Tensor::ones(size, (Kind::Float, Device::Cpu)), true).unwrap_err().to_string()
    };
    assert_eq!(refused(&[2, 4, 5]), "layer `stem.0`: expected an input of 4 dimensions, found [2, 4, 5]");
    assert_eq!(refused(&[1, 4, 1, 1]), "layer `stem.0`: one value per channel has no variance, found [1, 4, 1, 1]");
    let norm = nn::batch_norm1d(&path / 1, 4, Default::default());
    let error = norm.f_forward_t(&Tensor::ones([4], (Kind::Float, Device::Cpu)), true).unwrap_err();
    assert_eq!(error.to_string(), "layer `stem.0.1`: expected an input of 2 or 3 dimensions, found [4]");

    let linear = nn::linear(&path / 2, 4, 2, Default::default());
    let error = linear.f_forward(&Tensor::ones([1, 5], (Kind::Float, Device::Cpu))).unwrap_err();
    assert!(error.to_string().starts_with("layer `stem.0.2`: "), "{error}");
}

#[test]
#[should_panic(expected = "layer `stem.0`: 4 groups do not divide 4 and 6 channels")]
fn groups_divide_the_channels() {
    let _generator = generator();
    let config = ConvConfig { groups: 4, ..Default::default() };
    nn::conv2d(VarStore::new(Device::Cpu).root() / "stem" / 0, 4, 6, 3, config);
}
