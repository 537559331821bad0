//! The launcher cannot ask `fngd-core` for the defaults that it shows and writes to config.toml: here the two must agree.

use fngd_cli::methods::{INNER, NAMES, has_inner, rule};
use fngd_cli::settings::{DEFAULT_DAMPING, OptimizerSettings, method_defaults};
use fngd_cli::state_memory;
use fngd_core::FngdConfig;
use fngd_core::nn::VarStore;
use fngd_core::optimizer::{self, Batch, StepOptions};
use fngd_engine::method;
use fngd_models::{Input, InputKind, LayerConfig, Model, Size, TransformerEncoder, TransformerEncoderConfig};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};
use tch::{Device, Kind, Tensor};

#[test]
fn the_launchers_damping_is_the_cores() {
    assert_eq!(DEFAULT_DAMPING, FngdConfig::default().damping);
}

/// Those beside this crate, in the workspace, and a small Transformer.
fn models() -> Vec<(&'static str, OnnxModel)> {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let open = |name: &'static str| {
        (name, OnnxModel::open(&workspace.join("models").join(name), &ImportOptions::default()).unwrap())
    };
    let variables = VarStore::new(Device::Cpu);
    let layer = LayerConfig { width: 12, heads: 2, hidden: 20, ..LayerConfig::default() };
    let config = TransformerEncoderConfig { length: 5, layers: 1, layer };
    let transformer = Model::TransformerEncoder(TransformerEncoder::new(&variables.root(), &config, 7));
    let vectors = Input { name: "vectors", kind: InputKind::Values, sizes: &[Size::Fixed(5), Size::Fixed(12)] };
    let bytes = transformer.to_onnx(&[vectors], 7).unwrap();
    let transformer = OnnxModel::from_bytes(bytes, "transformer.onnx".as_ref(), &ImportOptions::default()).unwrap();
    vec![open("digits-cnn.onnx"), open("resnet20-cifar10.onnx"), ("transformer", transformer)]
}

/// Bytes of the state of `settings` after two steps with `batch` samples each.
fn bytes_after_two_steps(model: &OnnxModel, settings: &OptimizerSettings, batch: i64) -> u64 {
    let mut module = TrainableModule::build(model, &BuildOptions::default()).unwrap();
    module.set_training(true);
    let method = method::method(settings, 0).unwrap();
    let groups = method::groups(settings);
    let mut optimizer = optimizer::build(&module, &method, &groups, &StepOptions::default()).unwrap();
    for slot in 0..2 {
        let inputs = module.example_inputs(batch, &[], slot).unwrap();
        let samples = (0..batch).map(|sample| slot as i64 * batch + sample).collect();
        optimizer.begin(&Batch { epoch: 0, slot, samples }).unwrap();
        let logits = optimizer.logits(module.logits(&inputs).unwrap()).unwrap();
        let loss = logits.log_softmax(-1, Kind::Float).select(1, 0).mean(Kind::Float).neg();
        optimizer.backward(&loss, 1).unwrap();
        let report = optimizer.step(1e-3).unwrap();
        assert!(!report.skipped && report.fallbacks == 0, "{report:?}");
    }
    let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
    let really: u64 = optimizer.state().unwrap().iter().map(|(_, tensor)| bytes(tensor)).sum();
    // What the methods say of themselves is tested where they are; the bank's keys and steps come on top there.
    assert!(really >= optimizer.state_bytes(), "{}: {really} bytes", settings.name);
    optimizer.state_bytes()
}

#[test]
fn the_launcher_knows_the_memory_of_every_method() {
    const BATCH: i64 = 6;
    for (name, model) in models() {
        for method in NAMES {
            let settings = OptimizerSettings { name: (*method).to_owned(), ..OptimizerSettings::default() };
            let expected = bytes_after_two_steps(&model, &settings, BATCH);
            let found = state_memory::of(&model, method, rule(method, None)).at(2 * BATCH as u64, BATCH as u64);
            if found.is_none() {
                // A file that does not say how large its values are leaves open what is kept of a batch.
                assert!(name == "transformer" && matches!(*method, "tengrad" | "seng"), "{name}: {method}");
                continue;
            }
            assert_eq!(found, Some(expected), "{name}: {method}");
        }
    }
}

#[test]
fn an_inner_rule_brings_its_own_memory() {
    let (_, model) = models().remove(0);
    for inner in INNER {
        let settings =
            OptimizerSettings { name: "eva".to_owned(), inner: Some((*inner).to_owned()), ..Default::default() };
        let expected = bytes_after_two_steps(&model, &settings, 3);
        assert_eq!(state_memory::of(&model, "eva", inner).at(6, 3), Some(expected), "{inner}");
    }
}

#[test]
fn the_launchers_defaults_change_nothing() {
    let over = |name: &'static str| if has_inner(name) { INNER.to_vec() } else { vec![name] };
    for (name, base) in NAMES.iter().flat_map(|name| over(name).into_iter().map(move |base| (*name, base))) {
        let silent = OptimizerSettings {
            name: name.to_owned(),
            inner: has_inner(name).then(|| base.to_owned()),
            ..OptimizerSettings::default()
        };
        let spoken = method_defaults(name, base).into_iter().map(|(key, value)| {
            (key.strip_prefix("optimizer.").unwrap().to_owned(), serde_json::to_value(value).unwrap())
        });
        let spoken = [("name".to_owned(), name.into())].into_iter().chain(spoken).collect();
        let spoken: OptimizerSettings = serde_json::from_value(serde_json::Value::Object(spoken)).unwrap();
        assert_eq!(method::method(&spoken, 7).unwrap(), method::method(&silent, 7).unwrap(), "{name} over {base}");
        assert_eq!(method::learning_rate(&spoken), method::learning_rate(&silent), "{name} over {base}");
        assert!(spoken.lr.is_some() && spoken.weight_decay.is_some());
    }
}
