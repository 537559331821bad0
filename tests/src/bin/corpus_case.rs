//! Runs one file of the corpus through import, evaluation, a training pass, three steps of FNGD, and two exports.
//!
//!     corpus_case MODEL.onnx REFERENCE.safetensors FOLDER
//!
//! Writes to FOLDER, and judges nothing (`tests/corpus/check.py` does):
//!
//! | file | what |
//! |---|---|
//! | `facts.json` | what was found in the file and what failed, as it is known: a crash loses only what follows |
//! | `computed.safetensors` | `output`, `loss`, `grad.NAME` in the file's orientation; `eval.N.*`, see below |
//! | `zero/MODEL.onnx` | exported without a change |
//! | `steps/MODEL.onnx` | exported after the steps; `eval.N.OUTPUT` is what we compute for the first N probes with these weights |

use fngd_core::optimizer::{Batch, Groups, Inner, Method, SgdConfig, StepOptions, build};
use fngd_core::{BatchAxis, FngdConfig, FngdModule};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::graph::Dim;
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs, WriteReport};
use fngd_tests::reference::{Reference, training_pass};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tch::Tensor;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const STEPS: u64 = 3;
const LEARNING_RATE: f64 = 1e-3;
/// Batch sizes to evaluate at, where the file leaves the batch free.
const SIZES: [i64; 3] = [1, 3, 7];

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, reference, folder] = arguments.as_slice() else {
        eprintln!("usage: corpus_case MODEL.onnx REFERENCE.safetensors FOLDER");
        return ExitCode::FAILURE;
    };
    let mut case = Case { facts: Map::new(), tensors: Vec::new(), folder: folder.clone() };
    let ended = case.run(model, reference).and_then(|()| case.save());
    if let Err(error) = ended {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

struct Case {
    facts: Map<String, Value>,
    tensors: Vec<(String, Tensor)>,
    folder: PathBuf,
}

impl Case {
    fn run(&mut self, path: &Path, reference: &Path) -> Outcome {
        let reference = Reference::read(reference)?;
        // The reference is the network in the file: BatchNormalization may be folded, a tied weight copied, a bias left out.
        let as_it_is = Repairs::default().without(Repair::BatchNorm).without(Repair::Retie).without(Repair::Bias);
        let options = ImportOptions { repairs: as_it_is, ..ImportOptions::default() };
        let Some((model, mut module)) = self.open("", path, &options)? else { return Ok(()) };
        self.describe(&model)?;
        self.describe_layers(&module)?;
        let inputs = reference.inputs(&model, "input")?;
        let output = self.attempt("forward", || Ok(tch::no_grad(|| module.forward(&inputs))?.swap_remove(0)))?;
        self.keep("output", output);
        let trained = self.attempt("backward", || training_pass(&mut module, &reference, &inputs, &model))?;
        for (name, tensor) in trained.into_iter().flatten() {
            self.keep(&name, Some(tensor));
        }

        // As users train: with all repairs.
        let Some((model, mut module)) = self.open(" with all repairs", path, &ImportOptions::default())? else {
            return Ok(());
        };
        // The same name, because the file of external data is called after it.
        let name = path.file_name().unwrap_or_default();
        let (zero, after) = (self.folder.join("zero").join(name), self.folder.join("steps").join(name));
        let zero = self.attempt("zero-step export", || Ok(module.export(&model, &zero)?))?;
        self.tell("zero", zero.map(written))?;
        let restored = self.attempt("calibration", || Ok(module.calibrate([shallow_copy(&inputs)])?))?;
        self.tell("restored", restored)?;
        let losses = self.attempt("steps", || steps(&mut module, &reference, &inputs))?;
        self.tell("losses", losses)?;
        module.set_training(false);
        let changed = self.attempt("export", || Ok(module.export(&model, &after)?))?;
        self.tell("steps", changed.map(written))?;

        let probes = reference.inputs(&model, "probe")?;
        let is_fixed = |dims: &Option<Vec<Dim>>| matches!(dims.as_deref(), Some([Dim::Known(_), ..]));
        let fixed = model.inputs().iter().any(|input| is_fixed(&input.dims));
        self.tell("batch_is_fixed", fixed)?;
        for size in SIZES.into_iter().filter(|size| !fixed || *size == inputs[0].size()[0]) {
            let some: Vec<Tensor> = probes.iter().map(|probe| probe.narrow(0, 0, size)).collect();
            let outputs =
                self.attempt(&format!("evaluation at batch {size}"), || Ok(tch::no_grad(|| module.forward(&some))?))?;
            for (info, output) in model.outputs().iter().zip(outputs.into_iter().flatten()) {
                self.keep(&format!("eval.{size}.{}", info.name), Some(output));
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        how: &str,
        path: &Path,
        options: &ImportOptions,
    ) -> Outcome<Option<(OnnxModel, TrainableModule)>> {
        let Some(model) = self.attempt(&format!("import{how}"), || Ok(OnnxModel::open(path, options)?))? else {
            return Ok(None);
        };
        let module =
            self.attempt(&format!("build{how}"), || Ok(TrainableModule::build(&model, &BuildOptions::default())?))?;
        Ok(module.map(|module| (model, module)))
    }

    fn describe(&mut self, model: &OnnxModel) -> Outcome {
        let report = model.report();
        let rows: Vec<Value> = model.parameters().iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        let constants = model.analysis().constants.keys().filter_map(|id| model.graph().values.get(id.0));
        let constants: Vec<&str> = constants.map(|info| info.name.as_str()).collect();
        self.tell("opset", report.opset)?;
        self.tell("nodes", report.operators.values().sum::<usize>())?;
        self.tell("repairs", &report.repairs)?;
        self.tell("warnings", &report.warnings)?;
        self.tell("parameters", rows)?;
        self.tell("constants", constants)
    }

    fn describe_layers(&mut self, module: &TrainableModule) -> Outcome {
        let axes = module.layer_batch_axes();
        let unknown: BTreeMap<&str, Option<&str>> = axes
            .iter()
            .filter(|layer| layer.axis == BatchAxis::Unknown)
            .map(|layer| (layer.layer.as_str(), layer.unknown_because.as_deref()))
            .collect();
        self.tell("layers", axes.len())?;
        self.tell("preconditioned", module.preconditioned_layers())?;
        self.tell("unknown_batch_axis", unknown)
    }

    /// What `action` gives; an error is written down under `failures`, and the case goes on.
    fn attempt<T>(&mut self, what: &str, action: impl FnOnce() -> Outcome<T>) -> Outcome<Option<T>> {
        self.tell("during", what)?;
        match action() {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let mut failures = self.facts.get("failures").cloned().unwrap_or_else(|| json!({}));
                failures[what] = json!(error.to_string());
                self.tell("failures", failures)?;
                Ok(None)
            }
        }
    }

    fn keep(&mut self, name: &str, tensor: Option<Tensor>) {
        self.tensors.extend(tensor.map(|tensor| (name.to_owned(), tensor.detach().contiguous())));
    }

    fn tell(&mut self, name: &str, value: impl serde::Serialize) -> Outcome {
        self.facts.insert(name.to_owned(), serde_json::to_value(value)?);
        Ok(std::fs::write(self.folder.join("facts.json"), serde_json::to_vec_pretty(&self.facts)?)?)
    }

    fn save(&mut self) -> Outcome {
        Tensor::write_safetensors(&self.tensors, self.folder.join("computed.safetensors"))?;
        self.tell("during", Value::Null)
    }
}

/// Trains with FNGD; the losses before each step.
fn steps(module: &mut TrainableModule, reference: &Reference, inputs: &[Tensor]) -> Outcome<Vec<f64>> {
    module.set_training(true);
    let method = Method::Fngd { config: FngdConfig::default(), inner: Inner::Sgd(SgdConfig::default()) };
    let mut optimizer = build(module as &dyn FngdModule, &method, &Groups::default(), &StepOptions::default())?;
    let samples: Vec<i64> = (0..inputs[0].size()[0]).collect();
    let mut losses = Vec::new();
    for step in 0..STEPS {
        optimizer.begin(&Batch { epoch: step, slot: 0, samples: samples.clone() })?;
        let logits = optimizer.logits(module.logits(inputs)?)?;
        let loss = reference.loss(&logits)?;
        losses.push(loss.double_value(&[]));
        optimizer.backward(&loss, 1)?;
        optimizer.step(LEARNING_RATE)?;
    }
    Ok(losses)
}

fn written(report: WriteReport) -> Value {
    json!({ "sha256": report.sha256, "changed": report.changed, "edits": report.edits })
}

fn shallow_copy(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}
