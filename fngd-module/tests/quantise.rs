//! Quantisation in training: what passes through the rounding, and random numbers, which have no case to compare with.

use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::analysis::Analysis;
use fngd_onnx::graph::{Attribute, ElementType, Graph, Node, TensorData, ValueId, ValueInfo};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

type Failure = Box<dyn std::error::Error>;

fn value(graph: &mut Graph, name: &str) -> ValueId {
    graph.values.push(ValueInfo { name: name.into(), ..ValueInfo::default() });
    ValueId(graph.values.len() - 1)
}

fn constant(graph: &mut Graph, element_type: ElementType, bytes: Vec<u8>) -> ValueId {
    let value = value(graph, "constant");
    graph.initializers.insert(value, TensorData { element_type, dims: Vec::new(), bytes });
    value
}

fn node(
    graph: &mut Graph,
    op_type: &str,
    inputs: &[ValueId],
    outputs: usize,
    attributes: &[(&str, Attribute)],
) -> Vec<ValueId> {
    let outputs: Vec<ValueId> = (0..outputs).map(|_| value(graph, op_type)).collect();
    graph.nodes.push(Node {
        index: Some(graph.nodes.len()),
        name: op_type.into(),
        op_type: op_type.into(),
        domain: String::new(),
        opset: 21,
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: attributes.iter().map(|(name, attribute)| ((*name).to_owned(), attribute.clone())).collect(),
        metadata: BTreeMap::new(),
    });
    outputs
}

fn forward(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
    Ok(TrainableModule::from_graph(graph, &Analysis::default(), &BuildOptions::default())?.forward(inputs)?)
}

#[test]
fn gradients_pass_straight_through_and_end_where_the_range_does() -> Result<(), Failure> {
    let mut graph = Graph::default();
    let x = value(&mut graph, "x");
    graph.inputs.push(x);
    let scale = constant(&mut graph, ElementType::Float32, 0.5f32.to_le_bytes().to_vec());
    let zero_point = constant(&mut graph, ElementType::Int8, vec![3]);
    let quantised = node(&mut graph, "QuantizeLinear", &[x, scale, zero_point], 1, &[]);
    let y = node(&mut graph, "DequantizeLinear", &[quantised[0], scale, zero_point], 1, &[]);
    graph.outputs.extend(&y);
    // The lowest number is (-128 - 3) / 2 = -65.5, the highest (127 - 3) / 2 = 62.
    let input = Tensor::from_slice(&[0.3f32, -0.7, 61.9, 62.6, -66.0, f32::INFINITY]).set_requires_grad(true);
    let output = forward(&graph, &[input.shallow_clone()])?.remove(0);
    assert_eq!(Vec::<f32>::try_from(&output)?, [0.5, -0.5, 62.0, 62.0, -65.5, 62.0]);
    (&output * Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])).sum(Kind::Float).backward();
    assert_eq!(Vec::<f32>::try_from(input.grad())?, [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn integers_that_somebody_reads_are_integers() -> Result<(), Failure> {
    let mut graph = Graph::default();
    let x = value(&mut graph, "x");
    graph.inputs.push(x);
    let scale = constant(&mut graph, ElementType::Float32, 2f32.to_le_bytes().to_vec());
    let quantised = node(&mut graph, "QuantizeLinear", &[x, scale], 1, &[]);
    let y = node(&mut graph, "DequantizeLinear", &[quantised[0], scale], 1, &[]);
    graph.outputs.extend([quantised[0], y[0]]);
    let outputs = forward(&graph, &[Tensor::from_slice(&[5f32, 1e9, -1.0])])?;
    assert_eq!(outputs[0].kind(), Kind::Uint8);
    assert_eq!(Vec::<u8>::try_from(&outputs[0])?, [2, 255, 0]);
    assert_eq!(Vec::<f32>::try_from(&outputs[1])?, [4.0, 510.0, 0.0]);
    Ok(())
}

#[test]
fn a_range_that_is_found_anew_passes_gradients_too() -> Result<(), Failure> {
    let mut graph = Graph::default();
    let x = value(&mut graph, "x");
    graph.inputs.push(x);
    let quantised = node(&mut graph, "DynamicQuantizeLinear", &[x], 3, &[]);
    let y = node(&mut graph, "DequantizeLinear", &quantised, 1, &[]);
    graph.outputs.extend(&y);
    let input = Tensor::from_slice(&[-1f32, 0.0, 0.4, 1.0]).set_requires_grad(true);
    let output = forward(&graph, &[input.shallow_clone()])?.remove(0);
    let largest = (&output - input.detach()).abs().max().double_value(&[]);
    assert!(largest < 1.01 / 255.0, "{largest}");
    output.sum(Kind::Float).backward();
    assert!(input.grad().allclose(&Tensor::from_slice(&[1f32; 4]), 1e-5, 1e-6, false), "{}", input.grad());
    Ok(())
}

#[test]
fn random_numbers_have_the_shape_and_the_moments_that_the_file_asks_for() -> Result<(), Failure> {
    let float = |value| Attribute::Float(value);
    let mut graph = Graph::default();
    let x = value(&mut graph, "probability");
    graph.inputs.push(x);
    let shape = Attribute::Ints(vec![100, 200]);
    let uniform = [("shape", shape.clone()), ("low", float(-2.0)), ("high", float(4.0))];
    let normal = [("shape", shape), ("mean", float(3.0)), ("scale", float(0.5))];
    let mut outputs = node(&mut graph, "RandomUniform", &[], 1, &uniform);
    outputs.extend(node(&mut graph, "RandomNormal", &[], 1, &normal));
    outputs.extend(node(&mut graph, "RandomNormalLike", &[x], 1, &[]));
    outputs.extend(node(&mut graph, "Bernoulli", &[x], 1, &[("dtype", Attribute::Int(9))]));
    graph.outputs.extend(outputs);
    tch::manual_seed(5);
    let probability = Tensor::full([100, 200], 0.25, (Kind::Float, tch::Device::Cpu));
    let found = forward(&graph, &[probability])?;
    let deviations = [6.0 / 12f64.sqrt(), 0.5, 1.0, (0.25f64 * 0.75).sqrt()];
    assert_eq!(found[3].kind(), Kind::Bool);
    for ((tensor, mean), deviation) in found.iter().zip([1.0, 3.0, 0.0, 0.25]).zip(deviations) {
        assert_eq!(tensor.size(), [100, 200]);
        let numbers = tensor.to_kind(Kind::Double);
        // Six standard errors of 20 000 numbers.
        let slack = 6.0 * deviation / 20_000f64.sqrt();
        let (found_mean, found_deviation) =
            (numbers.mean(Kind::Double).double_value(&[]), numbers.std(false).double_value(&[]));
        assert!((found_mean - mean).abs() < slack, "mean {found_mean}, expected {mean}");
        assert!((found_deviation - deviation).abs() < slack, "deviation {found_deviation}, expected {deviation}");
    }
    Ok(())
}
