//! What exporters write, and the calls that are read out of it. The models are made by `make.py`; that they compute the same is tested
//! where libtorch is, in `tests/tests/lifted`.

use fngd_codegen::{Generated, Options, generate, lift, weights};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::{Path, PathBuf};

fn small(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/small/{name}.onnx"))
}

/// The program of a model as text, or the error.
fn lifted(path: &Path) -> String {
    let model = OnnxModel::open(path, &ImportOptions::default()).expect("the models of the tests can be opened");
    lift(&model).map_or_else(|error| error.to_string(), |program| program.to_string())
}

/// Each pattern, and what misses it by a little and stays as it is.
fn check(cases: &[(&str, &str)]) {
    for (name, expected) in cases {
        assert_eq!(lifted(&small(name)), expected.trim(), "{name}");
    }
}

#[test]
fn linear_layers() {
    check(&[
        (
            "linear",
            r#"
(x0)
x1 = x0.apply(linear(4, 3))
-> x1"#,
        ),
        (
            "linear_bias_used_twice",
            r#"
(x0)
x1 = x0.apply(linear(4, 3, no bias))
x2 = parameter[3]
x3 = x1 + x2
-> x3, x1"#,
        ),
        (
            "linear_of_part",
            r#"
(x0)
x1 = parameter[6, 4]
x2, x3 = x1.split_with_sizes([2, 4], 0)
x4 = parameter[6]
x5, x6 = x4.split_with_sizes([2, 4], -1)
x7 = x0.linear(x2, Some(x5))
-> x7"#,
        ),
    ]);
}

#[test]
fn activations() {
    check(&[
        (
            "gelu_erf",
            r#"
(x0)
x1 = x0.gelu("none")
-> x1"#,
        ),
        (
            "gelu_erf_other_order",
            r#"
(x0)
x1 = x0.gelu("none")
-> x1"#,
        ),
        (
            "gelu_other_constant",
            r#"
(x0)
x1 = x0 / 3.0
x2 = x1.erf()
x3 = x2 + 1.0
x4 = x0 * x3
x5 = x4 * 0.5
-> x5"#,
        ),
        (
            "gelu_tanh_factored",
            r#"
(x0)
x1 = x0.gelu("tanh")
-> x1"#,
        ),
        (
            "gelu_tanh",
            r#"
(x0)
x1 = x0.gelu("tanh")
-> x1"#,
        ),
        (
            "gelu_used_inside",
            r#"
(x0)
x1 = x0 / 1.4142135
x2 = x1.erf()
x3 = x2 + 1.0
x4 = x0 * x3
x5 = x4 * 0.5
-> x5, x2"#,
        ),
        (
            "hardswish",
            r#"
(x0)
x1 = x0.hardswish()
-> x1"#,
        ),
        (
            "hardswish_other_constant",
            r#"
(x0)
x1 = x0 + 1.0
x2 = x1.relu6()
x3 = x0 * x2
x4 = x3 / 6.0
-> x4"#,
        ),
        (
            "silu",
            r#"
(x0)
x1 = x0.silu()
-> x1"#,
        ),
        (
            "silu_of_another",
            r#"
(x0, x1)
x2 = x1.sigmoid()
x3 = x2 * x0
-> x3"#,
        ),
        (
            "nothing",
            r#"
(x0)
x1 = x0.relu()
-> x1"#,
        ),
        (
            "dropout",
            r#"
(x0)
x1 = x0.dropout(0.5, train)
-> x1"#,
        ),
    ]);
}

#[test]
fn forms() {
    check(&[
        (
            "swap",
            r#"
(x0)
x1 = x0.transpose(1, 2)
-> x1"#,
        ),
        (
            "turn",
            r#"
(x0)
x1 = x0.permute([2, 0, 1])
-> x1"#,
        ),
        (
            "turn_and_back",
            r#"
(x0)
x1 = x0.relu()
-> x1"#,
        ),
        (
            "sizes",
            r#"
(x0)
x1 = x0.view([-1, x0.size[1], 2, 3])
-> x1"#,
        ),
        (
            "merged_sizes",
            r#"
(x0)
x1 = x0.flatten(0, 1)
-> x1"#,
        ),
        (
            "flatten",
            r#"
(x0)
x1 = x0.flatten(1, -1)
-> x1"#,
        ),
        (
            "chunks",
            r#"
(x0)
x1, x2, x3 = x0.chunk(3, -1)
x4 = x1 * x2
x5 = x4 * x3
-> x5"#,
        ),
        (
            "chunks_of_inner_factor",
            r#"
(x0)
x1 = x0.view([-1, 5, 4, 3])
x2 = x1.permute([3, 0, 1, 2])
x3 = x2.select(0, 0)
x4 = x2.select(0, 1)
x5 = x2.select(0, 2)
x6 = x3 * x4
x7 = x6 * x5
-> x7"#,
        ),
    ]);
}

#[test]
fn attention() {
    check(&[
        (
            "attention",
            r#"
(x0, x1, x2)
x3 = scaled_dot_product_attention(x0, x1, x2, None, 0.0, false, None, false)
-> x3"#,
        ),
        (
            "attention_causal",
            r#"
(x0, x1, x2)
x3 = scaled_dot_product_attention(x0, x1, x2, None, 0.0, true, None, false)
-> x3"#,
        ),
        (
            "attention_mask",
            r#"
(x0, x1, x2, x3)
x4 = scaled_dot_product_attention(x0, x1, x2, Some(x3), 0.0, false, None, false)
-> x4"#,
        ),
        (
            "attention_mask_scaled",
            r#"
(x0, x1, x2, x3)
x4 = x1.transpose(2, 3)
x5 = x0.matmul(x4)
x6 = x5 + x3
x7 = x6 * 0.5
x8 = x7.softmax(-1, None)
x9 = x8.matmul(x2)
-> x9"#,
        ),
        (
            "attention_other_axis",
            r#"
(x0, x1, x2)
x3 = x1.transpose(2, 3)
x4 = x0.matmul(x3)
x5 = x4 * 0.5
x6 = x5.softmax(2, None)
x7 = x6.matmul(x2)
-> x7"#,
        ),
        (
            "attention_other_scale",
            r#"
(x0, x1, x2)
x3 = scaled_dot_product_attention(x0, x1, x2, None, 0.0, false, 0.3333333333333333, false)
-> x3"#,
        ),
        (
            "attention_scaled_before",
            r#"
(x0, x1, x2)
x3 = scaled_dot_product_attention(x0, x1, x2, None, 0.0, false, None, false)
-> x3"#,
        ),
        (
            "attention_strictly_before",
            r#"
(x0, x1, x2)
x3 = full([5, 5], -1e30, float32)
x4 = x3.triu(0)
x5 = scaled_dot_product_attention(x0, x1, x2, Some(x4), 0.0, false, None, false)
-> x5"#,
        ),
        (
            "attention_weights_used",
            r#"
(x0, x1, x2)
x3 = x1.transpose(2, 3)
x4 = x0.matmul(x3)
x5 = x4 * 0.5
x6 = x5.softmax(-1, None)
x7 = x6.matmul(x2)
-> x7, x6"#,
        ),
    ]);
}

#[test]
fn normalisations() {
    check(&[
        (
            "group_norm",
            r#"
(x0)
x1 = x0.apply(group_norm(2, 4))
-> x1"#,
        ),
        (
            "group_norm_of_rows",
            r#"
(x0)
x1 = x0.reshape([-1, 2, 18])
x2 = x1.instance_norm(None, None, None, None, true, 0.0, 1e-5, true)
x3 = x2.view([-1, 4, 3, 3])
x4 = parameter[3, 1]
x5 = x3 * x4
x6 = parameter[3, 1]
x7 = x5 + x6
-> x7"#,
        ),
        (
            "instance_norm",
            r#"
(x0)
x1 = x0.apply(group_norm(2, 2))
-> x1"#,
        ),
    ]);
}

#[test]
fn parts_of_tensors() {
    check(&[
        (
            "embedding",
            r#"
(x0)
x1 = x0.apply(embedding(9, 4))
-> x1"#,
        ),
        (
            "first",
            r#"
(x0)
x1 = x0.select(1, 0)
-> x1"#,
        ),
        (
            "narrow",
            r#"
(x0)
x1 = x0.narrow(1, 1, 3)
-> x1"#,
        ),
        (
            "every_other",
            r#"
(x0)
x1 = x0.slice(2, None, None, 2)
x2 = x1.slice(3, None, None, 2)
-> x2"#,
        ),
    ]);
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let expected = "\
        2 of 4 nodes have no form in generated code:\n  \
        node `Det_0` (Det, opset 20): no Rust can be written for this operator yet\n  \
        node `Hardmax_1` (Hardmax, opset 20): no Rust can be written for this operator yet\n\
        The model can be trained all the same, from its file: `fngd-cli train`.";
    check(&[("refused", expected)]);
}

/// A vision transformer, in whatever way it was exported: of a block, 7 calls unpack the heads, and 2 put them together again.
const VIT: &str = r#"
(x0)
x1 = x0.apply(conv(3, 8, [4, 4], stride [4, 4]))
x2 = x1.flatten(2, -1)
x3 = x2.transpose(1, 2)
x4 = parameter[1, 1, 8]
x5 = x4.expand([x0.size[0], -1, -1], false)
x6 = cat([x5, x3], 1)
x7 = parameter[1, 5, 8]
x8 = x6 + x7
x9 = x8.apply(layer_norm([8]))
x10 = x9.apply(linear(8, 24))
x11, x12, x13 = x10.chunk(3, -1)
x14 = x11.view([-1, 5, 2, 4])
x15 = x14.transpose(1, 2)
x16 = x12.view([-1, 5, 2, 4])
x17 = x16.transpose(1, 2)
x18 = x13.view([-1, 5, 2, 4])
x19 = x18.transpose(1, 2)
x20 = scaled_dot_product_attention(x15, x17, x19, None, 0.0, false, None, false)
x21 = x20.transpose(1, 2)
x22 = x21.flatten(2, -1)
x23 = x22.apply(linear(8, 8))
x24 = x23 + x8
x25 = x24.apply(layer_norm([8]))
x26 = x25.apply(linear(8, 12))
x27 = x26.gelu("none")
x28 = x27.apply(linear(12, 8))
x29 = x24 + x28
x30 = x29.apply(layer_norm([8]))
x31 = x30.select(1, 0)
x32 = x31.apply(linear(8, 3))
-> x32"#;

#[test]
fn exporters_and_batch_sizes_make_no_difference() {
    for exporter in ["plain", "optimized", "torchscript"] {
        check(&[(&format!("vit.{exporter}"), VIT), (&format!("vit-fixed.{exporter}"), VIT)]);
    }
}

const CONVOLUTIONAL: &str = r#"
(x0)
x1 = x0.apply(conv(3, 4, [3, 3], stride [2, 2], padding [1, 1], no bias))
x2 = x1.apply(batch_norm(4))
x3 = x2.silu()
x4 = x3.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)
x5 = x4.adaptive_avg_pool2d([1, 1])
x6 = x5.apply(conv(4, 2, [1, 1]))
x7 = x6.relu()
x8 = x7.apply(conv(2, 4, [1, 1]))
x9 = x8.hardsigmoid()
x10 = x9 * x4
x11 = x10.apply(conv(4, 4, [3, 3], padding [1, 1], groups 4))
x12 = x11.apply(group_norm(2, 4))
x13 = x12.hardswish()
x14 = x10 + x13
x15 = x14.adaptive_avg_pool2d([1, 1])
x16 = x15.flatten(1, -1)
x17 = x16.apply(linear(4, 3))
-> x17"#;

#[test]
fn squeeze_and_excitation_group_norm_and_pools() {
    for exporter in ["plain", "optimized", "torchscript"] {
        check(&[(&format!("convolutional.{exporter}"), CONVOLUTIONAL)]);
    }
}

const DECODER: &str = r#"
(x0, x1)
x2 = x0.apply(embedding(11, 8))
x3 = x2.apply(linear(8, 24))
x4, x5, x6 = x3.chunk(3, -1)
x7 = x4.view([-1, 5, 2, 4])
x8 = x7.transpose(1, 2)
x9 = x5.view([-1, 5, 2, 4])
x10 = x9.transpose(1, 2)
x11 = x6.view([-1, 5, 2, 4])
x12 = x11.transpose(1, 2)
x13 = scaled_dot_product_attention(x8, x10, x12, None, 0.0, true, None, false)
x14 = x13.transpose(1, 2)
x15 = x14.flatten(2, -1)
x16 = x15.apply(linear(8, 8))
x17 = x2 + x16
x18 = x17.apply(layer_norm([8]))
x19 = parameter[24, 8]
x20, x21 = x19.split_with_sizes([8, 16], 0)
x22 = parameter[24]
x23, x24 = x22.split_with_sizes([8, 16], -1)
x25 = x18.linear(x20, Some(x23))
x26 = x1.linear(x21, Some(x24))
x27, x28 = x26.chunk(2, -1)
x29 = x25.view([-1, 5, 2, 4])
x30 = x29.transpose(1, 2)
x31 = x27.view([-1, 6, 2, 4])
x32 = x31.transpose(1, 2)
x33 = x28.view([-1, 6, 2, 4])
x34 = x33.transpose(1, 2)
x35 = scaled_dot_product_attention(x30, x32, x34, None, 0.0, false, None, false)
x36 = x35.transpose(1, 2)
x37 = x36.flatten(2, -1)
x38 = x37.apply(linear(8, 8))
x39 = x18 + x38
x40 = x39.apply(layer_norm([8]))
x41 = x40.apply(linear(8, 12))
x42 = x41.gelu("none")
x43 = x42.apply(linear(12, 8))
x44 = x40 + x43
x45 = x44.apply(layer_norm([8]))
-> x45"#;

#[test]
fn masked_attention_and_cross_attention() {
    check(&[("decoder.optimized", DECODER)]);
    // The others cut the packed projection into two slices each where the optimizer finds a split.
    for exporter in ["plain", "torchscript"] {
        let text = lifted(&small(&format!("decoder.{exporter}")));
        assert_eq!(text.lines().count(), DECODER.trim().lines().count() + 2, "{text}");
        assert_eq!(text.matches("scaled_dot_product_attention").count(), 2, "{text}");
    }
}

#[test]
fn a_resnet_is_no_longer_than_by_hand() {
    let text = lifted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/resnet20-cifar10.onnx"));
    // Stem 3, 9 blocks of 7, 2 shortcuts of 3, mean and linear layer 2; the first and the last line are inputs and outputs.
    assert_eq!(text.lines().count() - 2, 3 + 9 * 7 + 2 * 3 + 2, "{text}");
}

/// The generated model with its weights, or the error.
fn generated(name: &str) -> Result<(Generated, Vec<u8>), String> {
    let model =
        OnnxModel::open(&small(name), &ImportOptions::default()).expect("the models of the tests can be opened");
    let generated = generate(&model, &Options::default()).map_err(|error| error.to_string())?;
    let weights = weights::file(&model, &generated.variables).map_err(|error| error.to_string())?;
    Ok((generated, weights))
}

#[test]
fn a_weight_that_is_used_both_ways_round_is_one_variable() {
    for (name, biases) in [("linear_both_ways", 0), ("gemm_both_ways", 2)] {
        let (generated, _) = generated(name).expect(name);
        let text: String = generated.source.split_whitespace().collect();
        assert!(text.contains(".relu().matmul(&self.") && text.contains("linear.ws)"), "{}", generated.source);
        let weights = generated.variables.iter().filter(|variable| variable.path.ends_with(".weight")).count();
        assert_eq!((weights, generated.variables.len()), (1, 1 + biases), "{:?}", generated.variables);
    }
}

#[test]
fn convolutions_that_share_a_weight_are_refused() {
    assert_eq!(
        generated("convolutions_tied").map(|_| ()),
        Err("node `Conv_1` (Conv, opset 20): its weight is also that of another convolution, `conv.weight`, for which generated \
             code has no form; `fngd-cli train` can train the model all the same"
            .to_owned())
    );
}

#[test]
fn tables_of_integers_are_buffers() {
    let (generated, weights) = generated("gather_table").expect("it has a form");
    assert!(generated.source.contains("xs.index_select(1, &self.table.to_kind(Kind::Int64))"), "{}", generated.source);
    let values: Vec<u8> = [2.0_f32, 0.0].into_iter().flat_map(f32::to_le_bytes).collect();
    assert!(weights.ends_with(&values));
}

#[test]
fn what_libtorch_would_compute_differently_is_refused() {
    let refused = |node: &str, why: &str| {
        format!(
            "1 of 1 nodes have no form in generated code:\n  node {node}: {why}\n\
             The model can be trained all the same, from its file: `fngd-cli train`."
        )
    };
    let selu = refused(
        "`Selu_0` (Selu, opset 20)",
        "attributes `alpha` and `gamma` are 1.25 and 0.5, only 1.6732632 and 1.050701 have a name",
    );
    let gather = refused(
        "`Gather_0` (Gather, opset 20)",
        "it picks element -1, counted from the end; make its indices positive",
    );
    check(&[("constants_of_selu", &selu), ("gather_from_end", &gather), ("selu", "(x0)\nx1 = x0.selu()\n-> x1")]);
}
