//! The launcher cannot ask `fngd-core` for the defaults that it shows and writes to config.toml: here the two must agree.

use fngd_cli::settings::{DEFAULT_DAMPING, OptimizerSettings, has_inner, method_defaults};
use fngd_cli::state_memory::{RULES, fixed_bytes};
use fngd_core::optimizer::{self, StepOptions};
use fngd_core::{FngdConfig, Inventory};
use fngd_engine::method;
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};

#[test]
fn the_launchers_damping_is_the_cores() {
    assert_eq!(DEFAULT_DAMPING, FngdConfig::default().damping);
}

/// Beside this crate, in the workspace.
const MODELS: [&str; 2] = ["models/digits-cnn.onnx", "models/resnet20-cifar10.onnx"];

#[test]
fn the_launcher_knows_the_memory_of_a_method() {
    for name in MODELS {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name);
        let model = OnnxModel::open(&path, &ImportOptions::default()).unwrap();
        let module = TrainableModule::build(&model, &BuildOptions::default()).unwrap();
        let parameters = Inventory::of(&module).parameters.len() as u64;
        for method in RULES {
            let settings = OptimizerSettings { name: method.to_owned(), ..OptimizerSettings::default() };
            let chosen = method::method(&settings, 0).unwrap();
            let options = StepOptions::default();
            let optimizer = optimizer::build(&module, &chosen, &method::groups(&settings), &options).unwrap();
            // The number of updates of each parameter is not worth mentioning.
            let expected = optimizer.state_bytes() - 8 * parameters;
            assert_eq!(fixed_bytes(&model, method), expected, "{name}: {method}");
        }
    }
}

#[test]
fn the_launchers_defaults_change_nothing() {
    let over = ["fngd", "ngd", "kfac", "eva", "skfac", "tengrad", "hylo"]
        .into_iter()
        .flat_map(|name| [(name, "sgd"), (name, "adamw"), (name, "muon")]);
    let rules = ["sgd", "adamw", "muon", "shampoo", "soap"].map(|rule| (rule, rule));
    for (name, base) in rules.into_iter().chain(over) {
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
