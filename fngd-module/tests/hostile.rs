//! Graphs that made libtorch crash, or take all memory, before they were refused. The mutants of `make hostile` found them.

use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::graph::{Attribute, Dim};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;

fn open(name: &str) -> OnnxModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/corpus").join(name);
    OnnxModel::open(&path, &ImportOptions::default()).unwrap()
}

/// oneDNN's backward reads beyond the input of a convolution whose stride is much larger than it.
#[test]
fn a_stride_much_larger_than_the_input() {
    let model = open("mobilenet.tstrain.onnx");
    let mut graph = model.graph().clone();
    let node = graph.nodes.iter_mut().filter(|node| node.op_type == "Conv").nth(2).unwrap();
    node.attributes.insert("strides".into(), Attribute::Ints(vec![16, 65_536]));
    let place = node.describe();
    let module = TrainableModule::from_graph(&graph, model.analysis(), &BuildOptions::default()).unwrap();
    let inputs = module.example_inputs(2, &[], 0).unwrap();
    let error = module.forward(&inputs).unwrap_err();
    assert!(error.is_mismatch());
    assert_eq!(error.to_string(), format!("{place}: stride 65536 is larger than the padded input of 12"));
}

/// Probing for batch axes must not take what the declared sizes ask for.
#[test]
fn inputs_that_would_fill_the_memory_are_not_probed_with() {
    let model = open("mlp.ts.onnx");
    let mut graph = model.graph().clone();
    let input = graph.inputs[0];
    let dims = graph.values[input.0].dims.as_mut().unwrap();
    dims[0] = Dim::Known(1 << 40);
    let module = TrainableModule::from_graph(&graph, model.analysis(), &BuildOptions::default()).unwrap();
    let reasons: Vec<_> =
        module.layer_batch_axes().iter().map(|axis| axis.unknown_because.as_deref().unwrap()).collect();
    assert!(reasons.iter().all(|reason| reason.starts_with("probing the model failed: input `")), "{reasons:?}");
    let error = module.example_inputs(2, &[], 0).unwrap_err();
    assert!(error.is_limit(), "{error}");
}
