//! The model file as the launcher sees it: checked in safe Rust, before the engine gets it.

use crate::launcher::arguments::ImportFlags;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{keys, text};
use crate::settings::ImportSettings;
use crate::state_memory;
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
    /// Numbers of both Kronecker factors of all of them, of the factors' eigenvalues, and of the layers' parts of a state.
    pub factors: u64,
    /// Inputs and outputs of all of them, groups apart.
    pub features: u64,
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
        for [groups, outputs, inputs] in matrices(model) {
            totals.factors += groups * (outputs * outputs + inputs * inputs);
            totals.features += groups * (outputs + inputs);
        }
        totals
    }

    pub fn parameters(&self) -> u64 {
        self.trainable + self.frozen
    }

    pub fn preconditioned_share(&self) -> f64 {
        if self.trainable == 0 { 0.0 } else { self.preconditioned as f64 / self.trainable as f64 }
    }

    /// Optimizer state in bytes: (fixed, for each training sample).
    pub fn state_bytes(&self, model: &OnnxModel, method: &str) -> (u64, u64) {
        match method {
            // Momentum, and a float32 coefficient for each layer and sample.
            "fngd" => (4 * self.trainable, 4 * self.layers),
            // Momentum; running averages of both factors, their eigenvectors and eigenvalues; a count for each layer and one more.
            "kfac" => (4 * (self.trainable + 2 * self.factors + self.features) + 8 * (self.layers + 1), 0),
            "eva" => (4 * (self.trainable + self.features) + 8 * (self.layers + 1), 0),
            "muon" | "shampoo" | "soap" => (state_memory::fixed_bytes(model, method), 0),
            "adamw" => (8 * self.trainable, 0),
            _ => (4 * self.trainable, 0),
        }
    }
}

/// Methods that `inspect` knows the state of.
pub const METHODS: [&str; 12] =
    ["fngd", "ngd", "kfac", "eva", "skfac", "tengrad", "hylo", "sgd", "adamw", "muon", "shampoo", "soap"];

/// Methods whose state holds part of a batch, the size of which the file does not say.
pub const KEEPS_A_BATCH: [&str; 3] = ["skfac", "tengrad", "hylo"];

/// Groups, output features and inputs (a bias counts as one) of every preconditioned layer, as its curvature sees them.
fn matrices(model: &OnnxModel) -> Vec<[u64; 3]> {
    let analysis = model.analysis();
    let dims: BTreeMap<&str, &[u64]> =
        model.parameters().iter().map(|row| (row.name.as_str(), row.dims.as_slice())).collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut matrices = Vec::new();
    for (index, layer) in analysis.layers.iter().filter(|(_, layer)| layer.plain_because.is_none()) {
        if !seen.insert(layer.weight) {
            continue;
        }
        let Some(weight) = analysis.parameters.get(&layer.weight) else { continue };
        let Some([first, rest @ ..]) = dims.get(weight.name.as_str()).copied() else { continue };
        let Some(node) = model.graph().nodes.get(*index) else { continue };
        let inputs: u64 = rest.iter().product();
        let (outputs, inputs) = if weight.transposed { (inputs, *first) } else { (*first, inputs) };
        let groups = if rest.len() > 1 { u64::try_from(node.int("group", 1)).unwrap_or(1).max(1) } else { 1 };
        let trained = |bias| analysis.parameters.get(bias).is_some_and(|bias| bias.trainable);
        let joint_bias = node.op_type != "ConvTranspose" && layer.bias.as_ref().is_some_and(trained);
        matrices.push([groups, outputs / groups, inputs + u64::from(joint_bias)]);
    }
    matrices
}

/// What `inspect --json` says; a run keeps it as model.json.
pub fn document(model: &OnnxModel) -> Value {
    let totals = Totals::of(model);
    let state = |method: &str| {
        let (fixed, per_sample) = totals.state_bytes(model, method);
        json!({ "bytes": fixed, "bytes_per_sample": per_sample })
    };
    let known = METHODS.iter().filter(|method| !KEEPS_A_BATCH.contains(method));
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
        "optimizer_state": known.map(|method| (*method, state(method))).collect::<BTreeMap<_, _>>(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curvatures_have_the_sizes_of_their_layers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits-cnn.onnx");
        let model = open(&path, &Default::default(), None).unwrap();
        let totals = Totals::of(&model);
        // (inputs, outputs): conv1 (9, 16), conv2 (144, 32), conv3 (288, 48), and fc (48 and its bias, 10).
        let sizes = [9u64, 16, 144, 32, 288, 48, 49, 10];
        let (factors, features) = (sizes.iter().map(|size| size * size).sum::<u64>(), sizes.iter().sum::<u64>());
        assert_eq!((totals.trainable, totals.layers), (19_258, 4));
        assert_eq!(totals.state_bytes(&model, "kfac"), (4 * (19_258 + 2 * factors + features) + 8 * 5, 0));
        assert_eq!(totals.state_bytes(&model, "eva"), (4 * (19_258 + features) + 8 * 5, 0));
        assert_eq!(totals.state_bytes(&model, "ngd"), totals.state_bytes(&model, "sgd"));
    }
}
