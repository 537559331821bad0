//! Float64, for comparisons: no operator falls back to float32 on the way.

use fngd_module::author::GraphBuilder;
use fngd_module::{BuildOptions, Precision, TrainableModule};
use fngd_onnx::OnnxModel;
use fngd_onnx::graph::ElementType::{Float32, Float64};
use fngd_onnx::graph::TensorData;
use tch::{Kind, Tensor};

#[test]
fn every_digit_of_float64_is_kept() -> Result<(), Box<dyn std::error::Error>> {
    let graph = GraphBuilder::new("Precise");
    let dims = ["batch".into(), 3.into()];
    let input = graph.input("input", Float32, &dims);
    let weight = graph.parameter("weight", || Ok(TensorData::from_floats(vec![3], &[0.1, 0.2, 0.3])));
    let third = TensorData { element_type: Float64, dims: vec![1], bytes: (1.0f64 / 3.0).to_le_bytes().to_vec() };
    let sum = input * weight + graph.constant(third).cast(Float32);
    let ones = graph.node("ConstantOfShape").input(graph.integers(&[3])).result(1);
    let two = graph.constant(TensorData::from_floats(Vec::new(), &[2.0]));
    let power = (sum + ones).operator("Pow").input(two).result(2);
    let mean = power.mean(&[1]).operator("Sqrt").result(1);
    graph.output("output", mean, Float32, &["batch".into()]);
    let model = OnnxModel::from_bytes(graph.build()?, "precise.onnx".as_ref(), &Default::default())?;

    let given = Tensor::from_slice(&[0.1f64, 0.7, -0.3, 1e-9, 1.0, 2.0]).view([2, 3]);
    let weight = Tensor::from_slice(&[0.1f32, 0.2, 0.3]).to_kind(Kind::Double);
    let expected = (&given * &weight + 1.0 / 3.0).square().mean_dim([1i64].as_slice(), false, None).sqrt();
    let options = BuildOptions { precision: Precision::Float64, ..BuildOptions::default() };
    let module = TrainableModule::build(&model, &options)?;
    let found = module.forward(std::slice::from_ref(&given))?.swap_remove(0);
    assert_eq!(found.kind(), Kind::Double);
    assert!(found.allclose(&expected, 1e-15, 0.0, false), "{found:?} {expected:?}");

    let usual = TrainableModule::build(&model, &BuildOptions::default())?;
    assert_eq!(usual.forward(&[given])?[0].kind(), Kind::Float);
    Ok(())
}
