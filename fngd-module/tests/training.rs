//! What is different in training: statistics, dropout, stochastic depth; and what a module refuses.

use fngd_core::{FngdModule, Inventory};
use fngd_module::{BuildOptions, Error, TrainableModule};
use fngd_onnx::analysis::{Analysis, LayerInfo, ParameterInfo, ParameterRole};
use fngd_onnx::graph::{Attribute, Dim, ElementType, Graph, Node, TensorData, ValueId, ValueInfo};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

type Failure = Box<dyn std::error::Error>;

/// Graphs written by hand.
#[derive(Default)]
struct Sketch {
    graph: Graph,
    analysis: Analysis,
}

impl Sketch {
    fn value(&mut self, name: &str) -> ValueId {
        self.graph.values.push(ValueInfo { name: name.into(), ..ValueInfo::default() });
        ValueId(self.graph.values.len() - 1)
    }

    fn input(&mut self, name: &str, dims: &[Dim]) -> ValueId {
        let value = self.value(name);
        self.graph.values[value.0].element_type = Some(ElementType::Float32);
        self.graph.values[value.0].dims = Some(dims.to_vec());
        self.graph.inputs.push(value);
        value
    }

    fn constant(&mut self, name: &str, dims: &[u64], values: &[f32]) -> ValueId {
        let value = self.value(name);
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let data = TensorData { element_type: ElementType::Float32, dims: dims.to_vec(), bytes };
        self.graph.initializers.insert(value, data);
        value
    }

    fn parameter(&mut self, name: &str, dims: &[u64], values: &[f32], role: ParameterRole) -> ValueId {
        let value = self.constant(name, dims, values);
        let info = ParameterInfo {
            name: name.into(),
            role,
            trainable: role != ParameterRole::RunningStatistic,
            preconditioned: false,
            reason: String::new(),
            transposed: false,
        };
        self.analysis.parameters.insert(value, info);
        value
    }

    fn node(&mut self, op_type: &str, inputs: &[ValueId], attributes: &[(&str, Attribute)]) -> ValueId {
        let output = self.value(&format!("{}_out", op_type.to_lowercase()));
        self.graph.nodes.push(Node {
            index: Some(self.graph.nodes.len()),
            name: op_type.to_lowercase(),
            op_type: op_type.into(),
            domain: String::new(),
            opset: 17,
            inputs: inputs.iter().map(|&input| Some(input)).collect(),
            outputs: vec![Some(output)],
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            metadata: BTreeMap::new(),
        });
        output
    }

    fn build(mut self, output: ValueId) -> Result<TrainableModule, Error> {
        self.graph.outputs.push(output);
        self.analysis.logits = Some(output);
        TrainableModule::from_graph(&self.graph, &self.analysis, &BuildOptions::default())
    }
}

fn batch() -> Dim {
    Dim::Symbol("batch".into())
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(&tensor.reshape([-1])).expect("a float tensor")
}

fn close(found: &[f32], expected: &[f32]) {
    let fits = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 1e-6 + 1e-5 * expected.abs();
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(fits),
        "found {found:?}, expected {expected:?}"
    );
}

fn named<'a>(tensors: &'a [(String, Tensor)], name: &str) -> &'a Tensor {
    &tensors.iter().find(|(given, _)| given == name).expect("a tensor of this name").1
}

/// One channel, scale 2, shift 1, running mean 1, running variance 4.
fn batch_norm() -> (Sketch, ValueId) {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch(), Dim::Known(1)]);
    let scale = sketch.parameter("scale", &[1], &[2.0], ParameterRole::NormalisationScale);
    let shift = sketch.parameter("shift", &[1], &[1.0], ParameterRole::NormalisationShift);
    let mean = sketch.parameter("mean", &[1], &[1.0], ParameterRole::RunningStatistic);
    let variance = sketch.parameter("variance", &[1], &[4.0], ParameterRole::RunningStatistic);
    let attributes = [("epsilon", Attribute::Float(0.0)), ("momentum", Attribute::Float(0.8))];
    let y = sketch.node("BatchNormalization", &[x, scale, shift, mean, variance], &attributes);
    (sketch, y)
}

#[test]
fn batch_normalisation_learns_statistics_as_onnx_defines_them() -> Result<(), Failure> {
    let (sketch, y) = batch_norm();
    let mut module = sketch.build(y)?;
    let x = Tensor::from_slice(&[0f32, 2.0, 4.0, 6.0]).view([4, 1]);
    close(&floats(&module.logits(&[x.shallow_clone()])?), &[0.0, 2.0, 4.0, 6.0]);
    module.set_training(true);
    // Mean 3, variance 5 with divisor 4.
    let deviation = 5f32.sqrt();
    let expected = [-3.0, -1.0, 1.0, 3.0].map(|centred| 2.0 * centred / deviation + 1.0);
    let y = module.logits(&[x])?;
    close(&floats(&y), &expected);
    y.square().sum(Kind::Float).f_backward()?;
    let tensors = module.tensors();
    close(&floats(named(&tensors, "mean")), &[0.8 * 1.0 + 0.2 * 3.0]);
    close(&floats(named(&tensors, "variance")), &[0.8 * 4.0 + 0.2 * 5.0]);
    Ok(())
}

#[test]
fn frozen_batch_normalisation_keeps_its_statistics_and_uses_them() -> Result<(), Failure> {
    let (mut sketch, y) = batch_norm();
    for (value, info) in &mut sketch.analysis.parameters {
        if info.name != "shift" {
            info.trainable = false;
            sketch.analysis.frozen.insert(*value);
        }
    }
    let mut module = sketch.build(y)?;
    module.set_training(true);
    let x = Tensor::from_slice(&[0f32, 2.0, 4.0, 6.0]).view([4, 1]);
    close(&floats(&module.logits(&[x])?), &[0.0, 2.0, 4.0, 6.0]);
    close(&floats(named(&module.tensors(), "mean")), &[1.0]);
    close(&floats(named(&module.tensors(), "variance")), &[4.0]);
    Ok(())
}

#[test]
fn one_value_per_channel_is_an_error_and_not_a_nan() -> Result<(), Failure> {
    let (sketch, y) = batch_norm();
    let mut module = sketch.build(y)?;
    module.set_training(true);
    let error = module.logits(&[Tensor::from_slice(&[3f32]).view([1, 1])]).unwrap_err();
    let expected = "node `batchnormalization` (BatchNormalization, opset 17): input is [1, 1]: one value per channel has no \
                    variance to train with, use a larger batch";
    assert_eq!(error.to_string(), expected);
    assert!(error.is_mismatch());
    close(&floats(named(&module.tensors(), "mean")), &[1.0]);
    Ok(())
}

#[test]
fn dropout_drops_in_training_only() -> Result<(), Failure> {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch()]);
    let ratio = sketch.constant("ratio", &[], &[0.25]);
    let y = sketch.node("Dropout", &[x, ratio], &[]);
    let mut module = sketch.build(y)?;
    let x = Tensor::ones([10_000], (Kind::Float, tch::Device::Cpu));
    assert!(module.logits(&[x.shallow_clone()])?.f_equal(&x)?);
    module.set_training(true);
    tch::manual_seed(1);
    let first = module.logits(&[x.shallow_clone()])?;
    let dropped = floats(&first).iter().filter(|value| **value == 0.0).count();
    assert!((2_200..2_800).contains(&dropped), "{dropped} of 10,000 dropped");
    assert!(floats(&first).iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
    tch::manual_seed(1);
    assert!(module.logits(&[x.shallow_clone()])?.f_equal(&first)?, "the seed repeats a pass");
    module.set_dropout(false);
    assert!(module.logits(&[x.shallow_clone()])?.f_equal(&x)?);
    Ok(())
}

#[test]
fn stochastic_depth_is_random_in_training_and_nothing_in_evaluation() -> Result<(), Failure> {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch(), Dim::Known(2)]);
    let keep = sketch.constant("keep", &[], &[0.5]);
    let random = sketch.node("RandomUniformLike", &[x], &[]);
    let survives = sketch.node("Less", &[random, keep], &[]);
    let mask = sketch.node("Cast", &[survives], &[("to", Attribute::Int(1))]);
    let scaled = sketch.node("Div", &[mask, keep], &[]);
    let y = sketch.node("Mul", &[x, scaled], &[]);
    let mut module = sketch.build(y)?;
    let x = Tensor::ones([500, 2], (Kind::Float, tch::Device::Cpu));
    assert!(module.logits(&[x.shallow_clone()])?.f_equal(&x)?);
    module.set_training(true);
    let values = floats(&module.logits(&[x])?);
    let survivors = values.iter().filter(|value| **value == 2.0).count();
    assert!(
        values.iter().all(|value| *value == 0.0 || *value == 2.0) && (400..600).contains(&survivors),
        "{survivors} of 1,000"
    );
    Ok(())
}

#[test]
fn random_numbers_that_drop_no_branch_stay_random() -> Result<(), Failure> {
    // Salt noise: zeros and ones times a constant, added.
    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch(), Dim::Known(2)]);
    let half = sketch.constant("half", &[], &[0.5]);
    let random = sketch.node("RandomUniformLike", &[x], &[]);
    let chosen = sketch.node("Less", &[random, half], &[]);
    let salt = sketch.node("Cast", &[chosen], &[("to", Attribute::Int(1))]);
    let scaled = sketch.node("Mul", &[salt, half], &[]);
    let y = sketch.node("Add", &[x, scaled], &[]);
    let module = sketch.build(y)?;
    let values = floats(&module.logits(&[Tensor::zeros([500, 2], (Kind::Float, tch::Device::Cpu))])?);
    let salted = values.iter().filter(|value| **value == 0.5).count();
    assert!((400..600).contains(&salted), "{salted} of 1,000");
    Ok(())
}

#[test]
fn large_constants_are_not_folded() -> Result<(), Failure> {
    // 64 GiB if they were: two views of one number, added.
    let mut sketch = Sketch::default();
    let (one, shape) = (sketch.constant("one", &[1], &[1.0]), sketch.value("shape"));
    sketch.graph.initializers.insert(shape, TensorData::from_integers(vec![2], &[1 << 17, 1 << 17]));
    let wide = sketch.node("Expand", &[one, shape], &[]);
    let sum = sketch.node("Add", &[wide, wide], &[]);
    let x = sketch.input("x", &[batch()]);
    let y = sketch.node("Add", &[x, sum], &[]);
    let size = sketch.node("Shape", &[wide], &[]);
    sketch.graph.outputs.push(y);
    let module = sketch.build(size)?;
    let found = module.logits(&[Tensor::zeros([1], (Kind::Float, tch::Device::Cpu))])?;
    assert_eq!(Vec::<i64>::try_from(&found)?, [1 << 17, 1 << 17]);
    Ok(())
}

/// Folding it would keep the initial weight for ever.
#[test]
fn a_layer_of_a_constant_still_learns() -> Result<(), Failure> {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch(), Dim::Known(2)]);
    let code = sketch.constant("code", &[1, 2], &[1.0, 2.0]);
    let w = sketch.parameter("w", &[2, 2], &[1.0, 0.0, 0.0, 1.0], ParameterRole::LinearWeight);
    let product = sketch.node("MatMul", &[code, w], &[]);
    let y = sketch.node("Add", &[x, product], &[]);
    for info in sketch.analysis.parameters.values_mut() {
        info.transposed = true;
    }
    let info = LayerInfo {
        name: "fc".into(),
        weight: w,
        bias: None,
        bias_add: None,
        activations: code,
        output: product,
        plain_because: None,
    };
    sketch.analysis.layers.insert(0, info);
    let mut module = sketch.build(y)?;
    let x = Tensor::zeros([1, 2], (Kind::Float, tch::Device::Cpu));
    close(&floats(&module.logits(&[x.shallow_clone()])?), &[1.0, 2.0]);
    module.load_tensors(&[("w".into(), Tensor::from_slice(&[3f32, 0.0, 0.0, 3.0]).view([2, 2]))])?;
    close(&floats(&module.logits(&[x])?), &[3.0, 6.0]);
    Ok(())
}

/// The layer runs at the MatMul, where the Cast has not made the bias yet.
#[test]
fn a_bias_that_is_computed_behind_the_product_is_added_behind_it() -> Result<(), Failure> {
    for frozen in ["w", "b"] {
        let mut sketch = Sketch::default();
        let x = sketch.input("x", &[batch(), Dim::Known(2)]);
        let w = sketch.parameter("w", &[2, 2], &[1.0, 0.0, 0.0, 1.0], ParameterRole::LinearWeight);
        let b = sketch.parameter("b", &[2], &[10.0, 20.0], ParameterRole::Bias);
        let product = sketch.node("MatMul", &[x, w], &[]);
        let cast = sketch.node("Cast", &[b], &[("to", Attribute::Int(1))]);
        let y = sketch.node("Add", &[product, cast], &[]);
        for info in sketch.analysis.parameters.values_mut() {
            info.transposed = info.name == "w";
            info.trainable = info.name != frozen;
        }
        let info = LayerInfo {
            name: "fc".into(),
            weight: w,
            bias: Some(b),
            bias_add: Some(2),
            activations: x,
            output: y,
            plain_because: Some("frozen".into()),
        };
        sketch.analysis.layers.insert(0, info);
        let y = sketch.build(y)?.logits(&[Tensor::from_slice(&[1f32, 2.0]).view([1, 2])])?;
        close(&floats(&y), &[11.0, 22.0]);
    }
    Ok(())
}

#[test]
fn relu_overwrites_only_what_nobody_needs() -> Result<(), Failure> {
    // Behind an Add it may; behind a Sigmoid, whose backward needs its output, and where a second reader waits, it must not.
    for (before, second_reader) in [("Add", false), ("Add", true), ("Mul", false), ("Sub", true)] {
        let mut sketch = Sketch::default();
        let x = sketch.input("x", &[batch()]);
        let w = sketch.parameter("w", &[4], &[1.0, -2.0, 3.0, -4.0], ParameterRole::Other);
        let z = sketch.node(before, &[x, w], &[]);
        let s = if before == "Mul" { sketch.node("Sigmoid", &[z], &[]) } else { z };
        let r = sketch.node("Relu", &[s], &[]);
        let y = if second_reader { sketch.node("Mul", &[r, s], &[]) } else { r };
        let module = sketch.build(y)?;
        let x = Tensor::from_slice(&[0.5f32, 0.5, -4.0, 5.0]);
        let y = module.logits(&[x.shallow_clone()])?;
        y.sum(Kind::Float).f_backward()?;

        let w = Tensor::from_slice(&[1f32, -2.0, 3.0, -4.0]).set_requires_grad(true);
        let z = match before {
            "Add" => &x + &w,
            "Sub" => &x - &w,
            _ => (&x * &w).sigmoid(),
        };
        let expected = if second_reader { z.relu() * &z } else { z.relu() };
        expected.sum(Kind::Float).f_backward()?;
        assert!(y.f_equal(&expected)?, "{before}");
        let found = Inventory::of(&module as &dyn FngdModule).parameters[0].tensor.grad();
        assert!(found.f_equal(&w.grad())?, "{before}: {found} {}", w.grad());
    }
    Ok(())
}

#[test]
fn inputs_that_do_not_fit_are_named() -> Result<(), Failure> {
    let (sketch, y) = batch_norm();
    let module = sketch.build(y)?;
    let text = |inputs: &[Tensor]| module.logits(inputs).unwrap_err().to_string();
    let x = || Tensor::zeros([3, 1], (Kind::Float, tch::Device::Cpu));
    assert_eq!(text(&[]), "the model has 1 inputs (x), found 0");
    assert_eq!(text(&[x(), x()]), "the model has 1 inputs (x), found 2");
    assert_eq!(text(&[x().view([1, 3])]), "input `x`: expected [batch, 1], found [1, 3]");
    assert_eq!(text(&[x().view([3])]), "input `x`: expected [batch, 1], found [3]");
    Ok(())
}

#[test]
fn errors_name_the_node() -> Result<(), Failure> {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch(), Dim::Known(3)]);
    let y = sketch.node("Squeeze", &[x], &[("axes", Attribute::Ints(vec![1]))]);
    let error = sketch.build(y)?.forward(&[Tensor::zeros([2, 3], (Kind::Float, tch::Device::Cpu))]).unwrap_err();
    assert_eq!(error.to_string(), "node `squeeze` (Squeeze, opset 17): axis 1 of [2, 3] is not 1");

    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch()]);
    let y = sketch.node("Gelu", &[x], &[]);
    let z = sketch.node("Elephant", &[y], &[]);
    let error = sketch.build(z).unwrap_err();
    let expected = "operators that are not supported:\n  Elephant (ai.onnx, opset 17): 1 node: `elephant`\n  \
                    Gelu (ai.onnx, opset 17): 1 node: `gelu`";
    assert_eq!(error.to_string(), expected);
    assert!(error.is_unsupported());

    let mut sketch = Sketch::default();
    let x = sketch.input("x", &[batch()]);
    let y = sketch.node("Add", &[x], &[]);
    let error = sketch.build(y).unwrap_err();
    assert_eq!(error.to_string(), "node `add` (Add, opset 17): has 1 inputs, expected 2 to 2");
    Ok(())
}

/// Calls that end the process inside libtorch, or return nonsense, must not reach it.
#[test]
fn dangerous_arithmetic_is_defused() -> Result<(), Failure> {
    for (op_type, expected) in [("Div", i64::MIN), ("Mod", 0)] {
        let mut sketch = Sketch::default();
        let (x, y) = (sketch.value("x"), sketch.value("y"));
        sketch.graph.inputs.extend([x, y]);
        let z = sketch.node(op_type, &[x, y], &[]);
        let outputs = sketch.build(z)?.forward(&[Tensor::from_slice(&[i64::MIN]), Tensor::from_slice(&[-1i64])])?;
        assert_eq!(outputs[0].int64_value(&[0]), expected, "{op_type}");
    }
    let refused = |op_type: &str, constants: &[&[f32]], attributes: &[(&str, Attribute)]| {
        let mut sketch = Sketch::default();
        let x = sketch.input("x", &[]);
        let mut inputs = vec![x];
        for (number, values) in constants.iter().enumerate() {
            inputs.push(sketch.constant(&format!("c{number}"), &[values.len() as u64], values));
        }
        let y = sketch.node(op_type, &inputs, attributes);
        let module = match sketch.build(y) {
            Err(error) => return error.to_string(),
            Ok(module) => module,
        };
        module.forward(&[Tensor::from(1f32)]).unwrap_err().to_string()
    };
    assert_eq!(
        refused("Gather", &[&[0.0]], &[]),
        "node `gather` (Gather, opset 17): axis 0 is outside a tensor of 0 dimensions"
    );
    let expected = "node `tile` (Tile, opset 17): a result of size [1099511627776, 1] is too large";
    assert_eq!(refused("Tile", &[&[1_099_511_627_776.0]], &[]), expected);
    let attributes = [("kernel_shape", Attribute::Ints(vec![2])), ("dilations", Attribute::Ints(vec![1 << 62]))];
    let expected = "node `maxpool` (MaxPool, opset 17): attribute `dilations` is [4611686018427387904], expected 1 numbers from 1 to 1048576";
    assert_eq!(refused("MaxPool", &[], &attributes), expected);
    Ok(())
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/corpus").join(name)
}

#[test]
fn tensors_load_only_where_everything_fits() -> Result<(), Failure> {
    let model = OnnxModel::open(&corpus("resnet.tstrain.onnx"), &ImportOptions::default())?;
    let options = BuildOptions { channels_last: true, ..BuildOptions::default() };
    let mut module = TrainableModule::build(&model, &options)?;
    let saved = module.tensors();
    assert_eq!(saved.len(), model.parameters().len());
    assert!(saved.iter().all(|(_, tensor)| tensor.is_contiguous() && tensor.kind() == Kind::Float));
    let changed: Vec<_> = saved.iter().map(|(name, tensor)| (name.clone(), tensor + 1.0)).collect();
    module.load_tensors(&changed)?;
    assert!(
        module
            .tensors()
            .iter()
            .zip(&changed)
            .all(|(found, expected)| found.0 == expected.0 && found.1.equal(&expected.1))
    );

    let name = &changed[0].0;
    let mut text = |tensors: &[(String, Tensor)]| {
        let error = module.load_tensors(tensors).unwrap_err();
        assert!(error.is_mismatch());
        error.to_string()
    };
    assert_eq!(text(&changed[1..]), format!("tensor `{name}` is not there exactly once"));
    let with = |extra: (String, Tensor)| {
        let mut tensors: Vec<_> = changed.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        tensors.retain(|(name, _)| *name != extra.0);
        tensors.push(extra);
        tensors
    };
    let one = Tensor::from_slice(&[1f32]);
    assert_eq!(text(&with(("other".into(), one.shallow_clone()))), "tensor `other` is not one of the model's");
    let size = changed[0].1.size();
    let expected = format!("tensor `{name}`: expected Float {size:?}, found Float [1]");
    assert_eq!(text(&with((name.clone(), one))), expected);
    Ok(())
}

#[test]
fn an_export_holds_the_modules_values() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    for (file, channels_last) in
        [("mlp.dyn.onnx", false), ("mlp.ts.onnx", false), ("resnet.dyn.onnx", true), ("vit.dyn.onnx", false)]
    {
        // A restored BatchNormalization is no tensor of the file: `restored_norms.rs` looks at those.
        let import =
            ImportOptions { repairs: Repairs::default().without(Repair::BatchNorm), ..ImportOptions::default() };
        let model = OnnxModel::open(&corpus(file), &import)?;
        let options = BuildOptions { channels_last, ..BuildOptions::default() };
        let mut module = TrainableModule::build(&model, &options)?;
        let path = folder.path().join(file);
        module.export(&model, &path)?;
        assert!(
            std::fs::read(&path)? == std::fs::read(corpus(file))?,
            "{file}: an export without training is the same file"
        );

        let changed: Vec<_> = module.tensors().into_iter().map(|(name, tensor)| (name, tensor * 0.9 + 0.01)).collect();
        module.load_tensors(&changed)?;
        module.export(&model, &path)?;
        let again = OnnxModel::open(&path, &import)?;
        let again = TrainableModule::build(&again, &options)?;
        assert!(
            again
                .tensors()
                .iter()
                .zip(&changed)
                .all(|(found, expected)| found.0 == expected.0 && found.1.equal(&expected.1))
        );
        let inputs = module.example_inputs(4, &[], 3)?;
        assert!(again.forward(&inputs)?[0].f_equal(&module.forward(&inputs)?[0])?, "{file}");
    }
    Ok(())
}
