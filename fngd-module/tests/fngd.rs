//! FNGD on real models: the gradient that it leaves against one computed sample by sample.

mod golden;

use fngd_core::optimizer::{Batch, Groups, Inner, Method, StepOptions, build};
use fngd_core::{FngdConfig, FngdModule, Inventory};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};
use golden::{Failure, Golden};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Reduction, Tensor};

const DAMPING: f64 = 0.1;

struct Problem {
    module: TrainableModule,
    inputs: Vec<Tensor>,
    labels: Tensor,
}

impl Problem {
    fn open(file: &str) -> Result<Self, Failure> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/corpus").join(file);
        let golden = Golden::read(&path.with_extension("golden.safetensors"))?;
        let model = OnnxModel::open(&path, &ImportOptions::default())?;
        // Evaluation mode: BatchNormalization does not mix the samples, so that a sample has a gradient of its own.
        let module = TrainableModule::build(&model, &BuildOptions::default())?;
        let inputs = golden.inputs(&model);
        Ok(Self { module, inputs, labels: golden.tensors["labels"].shallow_clone() })
    }

    fn loss(&self, inputs: &[Tensor], labels: &Tensor) -> Result<Tensor, Failure> {
        let logits = self.module.logits(inputs)?;
        let classes = logits.size().last().copied().unwrap_or(1);
        let logits = logits.f_reshape([-1, classes])?;
        Ok(logits.f_cross_entropy_loss(&labels.reshape([-1]), None::<&Tensor>, Reduction::Mean, -100, 0.0)?)
    }

    fn parameters(&self) -> BTreeMap<String, Tensor> {
        let parameters = Inventory::of(&self.module as &dyn FngdModule).parameters;
        parameters.into_iter().map(|parameter| (parameter.name, parameter.tensor)).collect()
    }

    /// The gradient of each sample's own loss, in float64.
    fn per_sample_grads(&self) -> Result<Vec<BTreeMap<String, Tensor>>, Failure> {
        let samples = self.labels.size()[0];
        (0..samples)
            .map(|sample| {
                let inputs: Vec<_> = self.inputs.iter().map(|input| input.narrow(0, sample, 1)).collect();
                self.loss(&inputs, &self.labels.narrow(0, sample, 1))?.f_backward()?;
                let parameters = self.parameters();
                let grads = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.grad().to_kind(Kind::Double)));
                let grads = grads.collect();
                parameters.values().for_each(|tensor| tensor.shallow_clone().zero_grad());
                Ok(grads)
            })
            .collect()
    }
}

/// w = λ (K + λ I)⁻¹ 1 with λ = γ ‖K‖_F.
fn coefficients(per_sample_grads: &[Tensor]) -> Tensor {
    let rows = Tensor::stack(per_sample_grads, 0);
    let gram = rows.matmul(&rows.tr());
    let damping = gram.norm().double_value(&[]) * DAMPING;
    let samples = per_sample_grads.len() as i64;
    let identity = Tensor::eye(samples, (Kind::Double, tch::Device::Cpu));
    let ones = Tensor::ones([samples, 1], (Kind::Double, tch::Device::Cpu));
    Tensor::linalg_solve(&(gram + identity * damping), &ones, true) * damping
}

#[test]
fn gradients_are_those_of_a_loop_over_samples() -> Result<(), Failure> {
    let files = [
        "mlp.ts.onnx",
        "vgg.dyn.onnx",
        "mobilenet.ts.onnx",
        "convnext.dyn.onnx",
        "vit.dyn.onnx",
        "bert.dyn.onnx",
        "encoder.ts.onnx",
        "gpt2.train.onnx",
        "translator.train.onnx",
    ];
    for file in files {
        let problem = Problem::open(file)?;
        let per_sample = problem.per_sample_grads()?;
        let layers = Inventory::of(&problem.module as &dyn FngdModule).layers;
        let mut expected: BTreeMap<String, Tensor> = problem
            .parameters()
            .into_keys()
            .map(|name| {
                let grads: Vec<_> = per_sample.iter().map(|grads| &grads[&name]).collect();
                (name, Tensor::stack(&grads, 0).mean_dim(&[0i64][..], false, Kind::Double))
            })
            .collect();
        let named: Vec<(String, Tensor)> = problem.parameters().into_iter().collect();
        let name_of =
            |tensor: &Tensor| named.iter().find(|(_, own)| own.data_ptr() == tensor.data_ptr()).map(|(name, _)| name);
        for layer in &layers {
            let names: Vec<&String> =
                [Some(layer.weight()), layer.bias()].into_iter().flatten().filter_map(name_of).collect();
            let rows: Vec<Tensor> = per_sample
                .iter()
                .map(|grads| Tensor::cat(&names.iter().map(|name| grads[*name].reshape([-1])).collect::<Vec<_>>(), 0))
                .collect();
            let weights = coefficients(&rows);
            for name in names {
                let weighted =
                    per_sample.iter().enumerate().map(|(i, grads)| &grads[name] * weights.double_value(&[i as i64, 0]));
                let sum: Tensor = weighted.sum();
                expected.insert(name.clone(), sum / per_sample.len() as f64);
            }
        }

        let config = FngdConfig { damping: DAMPING, ..FngdConfig::default() };
        let method = Method::Fngd { config, inner: Inner::default() };
        let mut optimizer = build(&problem.module, &method, &Groups::default(), &StepOptions::default())?;
        optimizer.begin(&Batch { epoch: 0, slot: 0, samples: (0..per_sample.len() as i64).collect() })?;
        let loss = problem.loss(&problem.inputs, &problem.labels)?;
        optimizer.backward(&loss, 1)?;
        let largest = expected.values().map(|grad| grad.norm().double_value(&[])).fold(0.0, f64::max);
        for (name, tensor) in problem.parameters() {
            let (found, expected) = (tensor.grad().to_kind(Kind::Double), &expected[&name]);
            // The gradient of an attention's key bias is zero but for rounding: it is measured against the largest.
            let scale = expected.norm().double_value(&[]).max(1e-4 * largest);
            let error = (&found - expected).norm().double_value(&[]) / scale;
            assert!(error < 2e-3, "{file}: gradient of {name} is off by {error:.1e}");
        }
        let report = optimizer.step(0.01)?;
        assert_eq!((report.solved, report.unknown, report.fallbacks), (layers.len(), 0, 0), "{file}");
        let after = tch::no_grad(|| problem.loss(&problem.inputs, &problem.labels))?;
        assert!(after.double_value(&[]) < loss.double_value(&[]), "{file}: the loss falls");
    }
    Ok(())
}
