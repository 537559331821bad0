//! Functions, bodies of operators and branches compute what other runtimes compute from the whole file.

use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};
use safetensors::SafeTensors;
use std::path::Path;
use tch::{Kind, Tensor};

#[test]
fn bodies_compute_what_their_calls_stand_for() {
    for name in ["functions", "net_functions", "definitions", "branches"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/small").join(name);
        let bytes = std::fs::read(path.with_extension("golden.safetensors")).expect("make_small.py wrote it");
        let golden = SafeTensors::deserialize(&bytes).expect("make_small.py wrote it");
        let tensor = |name: &str| {
            let view = golden.tensor(name).expect("make_small.py wrote it");
            let size: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
            Tensor::from_data_size(view.data(), &size, Kind::Float)
        };
        let model = OnnxModel::open(&path.with_extension("onnx"), &ImportOptions::default()).expect("it is supported");
        let module = TrainableModule::build(&model, &BuildOptions::default()).expect("it is supported");
        let outputs = tch::no_grad(|| module.forward(&[tensor("input.x")])).expect("it runs");
        for (info, found) in model.outputs().iter().zip(outputs) {
            let expected = tensor(&format!("output.{}", info.name));
            assert_eq!(found.size(), expected.size(), "{name}: {}", info.name);
            let close = found.isclose(&expected, 1e-5, 1e-6, false).all();
            assert_eq!(close.int64_value(&[]), 1, "{name}: {}: found {found}, expected {expected}", info.name);
        }
    }
}
