//! The model file as the launcher sees it: checked in safe Rust, before the engine gets it.

use crate::launcher::arguments::ImportFlags;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{keys, text};
use crate::settings::ImportSettings;
use crate::{methods, state_memory};
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::graph::{Dim, ValueInfo};
use fngd_onnx::{Error, OnnxModel};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Opens and checks a model file.
pub fn open(path: &Path, import: &ImportSettings, freeze: Option<&str>) -> Result<OnnxModel> {
    if !path.exists() {
        let message = format!("there is no model {}", text::name(&path.display().to_string()));
        let help = match nearest_file(path) {
            Some(nearest) => format!("did you mean {}?", nearest.display()),
            None => "give the path of an ONNX file, relative to the current folder".to_owned(),
        };
        return Err(Failure::new(Code::Model, message).with_help(help));
    }
    let options = import.options(freeze).map_err(Failure::usage)?;
    OnnxModel::open(path, &options).map_err(|error| failure(&error))
}

/// The settings that flags of `inspect` and `eval` stand for.
pub fn import(flags: &ImportFlags) -> Result<ImportSettings> {
    let mut settings = ImportSettings {
        restore_bias: flags.restore_bias,
        restore_batch_norm: flags.restore_bn,
        ..ImportSettings::default()
    };
    if let Some(typed) = &flags.no_repair {
        // OK because the table has this setting.
        let key = keys::find("import.skip_repairs").expect("the table has import.skip_repairs");
        let value = key.parse(typed).map_err(|expectation| Failure::usage(format!("`--no-repair` {expectation}")))?;
        let words = value.as_array().into_iter().flatten().filter_map(|word| word.as_str());
        settings.skip_repairs = words.map(str::to_owned).collect();
    }
    Ok(settings)
}

fn failure(error: &Error) -> Failure {
    let help = if error.is_malformed() {
        "the file is damaged, cut off, or no ONNX model; export or copy it again"
    } else if error.is_external_data() {
        "put the data files of the model beside it, under the names that it has for them"
    } else if error.is_unsupported() {
        "export the model with other operators, or in parts"
    } else {
        return Failure::new(Code::Model, error.to_string());
    };
    Failure::new(Code::Model, error.to_string()).with_help(help)
}

/// A file in the same folder whose name is nearly the same.
fn nearest_file(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> =
        std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let models = names.iter().map(String::as_str).filter(|name| name.ends_with(".onnx"));
    text::nearest(path.file_name()?.to_str()?, models).map(|name| path.with_file_name(name))
}

/// How many numbers of each kind a model has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub trainable: u64,
    pub frozen: u64,
    pub preconditioned: u64,
    /// Layers whose gradient is weighted: one coefficient a layer and sample.
    pub layers: u64,
}

impl Totals {
    pub fn of(model: &OnnxModel) -> Totals {
        let mut totals = Totals::default();
        for row in model.parameters() {
            let count: u64 = row.dims.iter().product();
            if row.trainable {
                totals.trainable += count;
            } else if row.role != ParameterRole::RunningStatistic {
                totals.frozen += count;
            }
            if row.preconditioned {
                totals.preconditioned += count;
            }
        }
        let layers = model.analysis().layers.values().filter(|layer| layer.plain_because.is_none());
        totals.layers = layers.map(|layer| layer.weight).collect::<std::collections::BTreeSet<_>>().len() as u64;
        totals
    }

    pub fn parameters(&self) -> u64 {
        self.trainable + self.frozen
    }

    pub fn preconditioned_share(&self) -> f64 {
        if self.trainable == 0 { 0.0 } else { self.preconditioned as f64 / self.trainable as f64 }
    }
}

/// What `inspect --json` says; a run keeps it as model.json.
pub fn document(model: &OnnxModel) -> Value {
    let totals = Totals::of(model);
    let state = |method: &str| {
        let state = state_memory::of(model, method, methods::rule(method, None));
        let mut shown = json!({ "bytes": state.fixed, "bytes_per_sample": state.per_training_sample });
        if let Some(kept) = state.batch {
            shown["of_a_batch"] = json!({
                "share": kept.share, "bytes_per_sample": kept.per_sample, "bytes_per_pair": kept.per_pair,
            });
        }
        shown
    };
    json!({
        "schema": 1,
        "file": model.path().file_name().map(|name| name.to_string_lossy()),
        "sha256": model.sha256(),
        "report": model.report(),
        "inputs": model.inputs(),
        "outputs": model.outputs(),
        "classes": model.classes(),
        "fixed_batch": model.fixed_batch(),
        "parameters": model.parameters(),
        "totals": {
            "parameters": totals.parameters(),
            "trainable": totals.trainable,
            "preconditioned": totals.preconditioned,
            "preconditioned_layers": totals.layers,
        },
        "optimizer_state": methods::NAMES.iter().map(|method| (*method, state(method))).collect::<BTreeMap<_, _>>(),
    })
}

/// `x: [batch, 3, 32, 32]`.
pub fn describe(value: &ValueInfo) -> String {
    let dims = value.dims.as_ref().map(|dims| {
        let dims: Vec<String> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Known(size) => size.to_string(),
                Dim::Symbol(name) => text::name(name),
                Dim::Unknown => "?".to_owned(),
            })
            .collect();
        format!("[{}]", dims.join(", "))
    });
    format!("{}: {}", text::name(&value.name), dims.unwrap_or_else(|| "of unknown shape".to_owned()))
}

/// What a parameter does, as people say it.
pub fn role(role: ParameterRole) -> &'static str {
    match role {
        ParameterRole::LinearWeight => "linear",
        ParameterRole::ConvolutionWeight => "convolution",
        ParameterRole::RecurrentWeight => "recurrent",
        ParameterRole::Bias => "bias",
        ParameterRole::NormalisationScale => "normalisation scale",
        ParameterRole::NormalisationShift => "normalisation shift",
        ParameterRole::RunningStatistic => "running statistic",
        ParameterRole::Embedding => "embedding",
        ParameterRole::Other => "other",
    }
}
