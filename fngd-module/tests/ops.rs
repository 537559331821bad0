//! Every operator against onnxruntime, in every form that operator sets gave it (the `make_ops` scripts made the numbers).

mod cases;

use cases::{Known, cases, data, run, tensor};
use std::collections::BTreeSet;
use tch::{Kind, Tensor};

fn difference(found: &Tensor, expected: &Tensor) -> Option<String> {
    if (found.kind(), found.size()) != (expected.kind(), expected.size()) {
        return Some(format!(
            "{:?} {:?}, expected {:?} {:?}",
            found.kind(),
            found.size(),
            expected.kind(),
            expected.size()
        ));
    }
    // onnxruntime's own kernels are float32 too.
    let (left, right) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let close = left.isclose(&right, 2e-5, 2e-6, true).all();
    (close.int64_value(&[]) == 0).then(|| {
        let worst = (&left - &right).abs().max().double_value(&[]);
        format!("differs by up to {worst:e}\n    found    {left}\n    expected {right}")
    })
}

#[test]
fn operators_compute_what_onnxruntime_does() {
    let mut failures = Vec::new();
    for case in cases() {
        let op_type = case["op_type"].as_str().expect("op_type");
        let is_layer = ["Conv", "ConvTranspose", "Gemm", "MatMul"].contains(&op_type)
            && case["inputs"][1]["dims"].as_array().is_some_and(|dims| dims.len() >= 2);
        let forms = [Known::Nothing, Known::AllButTheFirst, Known::Everything, Known::Layer];
        for known in forms.into_iter().filter(|known| is_layer || *known != Known::Layer) {
            let name = format!("{} ({known:?} known)", case["name"].as_str().expect("name"));
            match run(&case, known) {
                Err(error) => failures.push(format!("{name}: {error}")),
                Ok(outputs) => {
                    let expected = case["outputs"].as_array().expect("outputs").iter().filter(|value| !value.is_null());
                    for (found, expected) in outputs.iter().zip(expected) {
                        failures
                            .extend(difference(found, &tensor(&data(expected))).map(|text| format!("{name}: {text}")));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_supported_operator_has_a_case() {
    let covered: BTreeSet<String> =
        cases().iter().map(|case| case["op_type"].as_str().expect("op_type").to_owned()).collect();
    // Random, so there is nothing to compare: `training.rs` looks at it. Not in onnx.reference: `microsoft.rs` does. The newest
    // are tried by the backend tests of onnx.
    let elsewhere = [
        "Bernoulli",
        "CausalConvWithState",
        "LinearAttention",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "SimplifiedLayerNormalization",
        "TensorScatter",
    ];
    let missing: Vec<&str> = fngd_onnx::supported::OPERATORS
        .iter()
        .map(|operator| operator.op_type)
        .filter(|op_type| !covered.contains(*op_type) && !elsewhere.contains(op_type))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}
