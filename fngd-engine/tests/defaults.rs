//! The launcher cannot ask `fngd-core` for the defaults that it shows and writes to config.toml: here the two must agree.

use fngd_cli::settings::{DEFAULT_DAMPING, OptimizerSettings, has_inner, method_defaults};
use fngd_core::FngdConfig;
use fngd_engine::method;

#[test]
fn the_launchers_damping_is_the_cores() {
    assert_eq!(DEFAULT_DAMPING, FngdConfig::default().damping);
}

#[test]
fn the_launchers_defaults_change_nothing() {
    let over = ["fngd", "ngd", "kfac", "eva", "skfac", "tengrad", "hylo"]
        .into_iter()
        .flat_map(|name| [(name, "sgd"), (name, "adamw")]);
    for (name, base) in [("sgd", "sgd"), ("adamw", "adamw")].into_iter().chain(over) {
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
