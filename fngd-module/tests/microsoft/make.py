"""Makes one small model per form of a com.microsoft operator, and expected.safetensors with what onnxruntime computes.

Run with onnx==1.23.2, onnxruntime==1.32.0, numpy, safetensors; the output is the same every time.
"""
import pathlib

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

folder = pathlib.Path(__file__).parent
rng = np.random.default_rng(0)
expected = {}


def f(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).round(2).astype(np.float32)


def i32(*values):
    return np.array(values, np.int32)


def case(name, op, inputs, outputs=1, domain="com.microsoft", weights=(), instead=None, **attributes):
    """Inputs in `weights` are stored in the file. `outputs` is how many there are, or which of them: (0, 3).

    `instead` are inputs with the same result, where onnxruntime has these for CUDA only.
    """
    if instead is not None:
        case(name, op, instead, outputs, domain, weights, **attributes)
        results = {key: value for key, value in expected.items() if key.startswith(f"{name}/out")}
        for key in [key for key in expected if key.startswith(f"{name}/")]:
            del expected[key]
        expected.update(results)
    wanted = range(outputs) if isinstance(outputs, int) else outputs
    names = ["" if x is None else f"{'w' if k in weights else 'x'}{k}" for k, x in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{k}" if k in wanted else "" for k in range(max(wanted) + 1)], domain=domain, name="node", **attributes)
    given = {n: x for k, (n, x) in enumerate(zip(names, inputs)) if x is not None and k not in weights}
    stored = [numpy_helper.from_array(x, n) for k, (n, x) in enumerate(zip(names, inputs)) if k in weights]
    results = [helper.make_tensor_value_info(f"y{k}", TensorProto.UNDEFINED, None) for k in wanted]
    for result in results:
        result.ClearField("type")
    values = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in given.items()]
    graph = helper.make_graph([node], "g", values, results, stored)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, producer_name="fngd")
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    for k, x in enumerate(given.values()):
        expected[f"{name}/in{k}"] = x
    if instead is not None:
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for k, y in enumerate(session.run(None, given)):
        expected[f"{name}/out{k}"] = np.asarray(y)


def norms():
    x, skip, scale, shift = f(2, 3, 4), f(2, 3, 4), f(4), f(4)
    case("layer_norm", "LayerNormalization", [x, scale, shift], domain="", weights=(1, 2), epsilon=1e-3)
    case("simplified", "SimplifiedLayerNormalization", [x, scale], domain="", weights=(1,), epsilon=1e-3)
    case("skip", "SkipLayerNormalization", [x, skip, scale, shift], weights=(2, 3))
    case("skip_bias", "SkipLayerNormalization", [x, skip, scale, shift, f(4)], outputs=(0, 3), weights=(2, 3, 4), epsilon=1e-5)
    case("skip_no_shift", "SkipLayerNormalization", [x, skip, scale], weights=(2,))
    case("skip_simplified", "SkipSimplifiedLayerNormalization", [x, skip, scale, f(4)], outputs=(0, 3), weights=(2, 3), epsilon=1e-4)
    ids, segments = i32([1, 5, 0], [2, 2, 4]), i32([0, 0, 1], [0, 1, 1])
    tables = [f(6, 4), f(5, 4), f(2, 4)]
    mask = i32([1, 1, 0], [1, 1, 1])
    case("embed", "EmbedLayerNormalization", [ids, segments, *tables, scale, shift, mask], outputs=2, weights=(2, 3, 4, 5, 6))
    case("embed_positions", "EmbedLayerNormalization", [ids, None, tables[0], tables[1], None, scale, shift, None, i32([0, 4, 2], [1, 1, 3])], outputs=(0, 2), weights=(2, 3, 5, 6))


def activations():
    x = f(2, 3, 4, scale=2)
    case("bias_gelu", "BiasGelu", [x, f(4)], weights=(1,))
    case("fast_gelu", "FastGelu", [x])
    case("fast_gelu_bias", "FastGelu", [x, f(4)], weights=(1,))
    case("gelu", "Gelu", [x])
    case("quick_gelu", "QuickGelu", [x])
    case("quick_gelu_alpha", "QuickGelu", [x], alpha=0.7)


def layers():
    case("matmul", "FusedMatMul", [f(2, 3, 4), f(4, 5)], weights=(1,))
    case("matmul_scaled", "FusedMatMul", [f(2, 3, 4), f(5, 4)], weights=(1,), transB=1, alpha=0.5)
    case("matmul_of_values", "FusedMatMul", [f(2, 4, 3), f(2, 5, 4)], transA=1, transB=1, alpha=2.0)
    case("matmul_batch", "FusedMatMul", [f(3, 2, 4), f(2, 4, 5)], transBatchA=1)
    case("gemm", "FusedGemm", [f(3, 4), f(5, 4), f(5)], weights=(1, 2), transB=1, activation="Relu")
    case("gemm_leaky", "FusedGemm", [f(3, 4), f(4, 5), f(5)], weights=(1, 2), alpha=0.5, activation="LeakyRelu", activation_alpha=0.2)
    case("conv", "FusedConv", [f(2, 3, 5, 5), f(4, 3, 3, 3), f(4)], weights=(1, 2), pads=[1, 1, 1, 1], activation="Relu")
    case("conv_sum", "FusedConv", [f(2, 3, 5, 5), f(4, 3, 3, 3), f(4), f(2, 4, 3, 3)], weights=(1, 2), activation="Clip", activation_params=[-0.5, 1.5])
    case("conv_sigmoid", "FusedConv", [f(1, 2, 6, 5), f(2, 1, 3, 3)], weights=(1,), group=2, activation="HardSigmoid", activation_params=[0.3, 0.4])


def attentions():
    x, weight, bias = f(2, 4, 6), f(6, 24), f(24)
    case("attention", "Attention", [x, weight, bias], weights=(1, 2), num_heads=2)
    case("attention_causal", "Attention", [x, weight, bias], weights=(1, 2), num_heads=2, unidirectional=1, scale=0.2)
    case("attention_lengths", "Attention", [x, weight, bias, i32(4, 2)], weights=(1, 2), num_heads=2)
    case("attention_starts", "Attention", [x, weight, bias, i32(4, 3, 1, 0)], weights=(1, 2), num_heads=2)
    case("attention_mask", "Attention", [x, weight, bias, i32([1, 1, 0, 1], [1, 0, 0, 0])], weights=(1, 2), num_heads=2)
    case("attention_mask_3d", "Attention", [x, weight, bias, (rng.random((2, 4, 4)) > 0.3).astype(np.int32)], weights=(1, 2), num_heads=2)
    case("attention_bias", "Attention", [x, weight, bias, None, None, f(2, 2, 4, 4)], weights=(1, 2), num_heads=2)
    case("attention_past", "Attention", [x, weight, bias, None, f(2, 2, 2, 3, 4)], outputs=2, weights=(1, 2), num_heads=2, unidirectional=1)
    case("attention_sizes", "Attention", [x, f(6, 8 + 8 + 12), f(28)], weights=(1, 2), num_heads=2, qkv_hidden_sizes=[8, 8, 12])
    q, k, v = f(2, 3, 8), f(2, 5, 8), f(2, 5, 8)
    case("multi_head", "MultiHeadAttention", [q, k, v], num_heads=2)
    case("multi_head_bias", "MultiHeadAttention", [q, k, v, f(24), i32([1, 1, 1, 0, 0], [1, 1, 1, 1, 1])], weights=(3,), num_heads=2)
    case("multi_head_added", "MultiHeadAttention", [q, k, v, None, i32(4, 2), f(1, 2, 3, 5)], num_heads=2, scale=0.3)
    qkv, kv = f(2, 4, 2, 3, 4), f(2, 5, 2, 2, 4)
    apart = [qkv[:, :, :, k].reshape(2, 4, 8) for k in range(3)]
    case("multi_head_packed", "MultiHeadAttention", [qkv], num_heads=2, instead=apart)
    apart = [q, *(kv[:, :, :, k].reshape(2, 5, 8) for k in range(2))]
    case("multi_head_packed_kv", "MultiHeadAttention", [q, kv], num_heads=2, instead=apart)
    case("multi_head_past", "MultiHeadAttention", [q, f(2, 3, 8), f(2, 3, 8), None, None, None, f(2, 2, 2, 4), f(2, 2, 2, 4)], outputs=3, num_heads=2, unidirectional=1)
    case("multi_head_cross", "MultiHeadAttention", [q, f(2, 2, 5, 4), f(2, 2, 5, 4)], num_heads=2)
    angles = f(8, 2)
    case("rotary", "RotaryEmbedding", [f(2, 3, 8), np.array([[0, 3, 5], [1, 2, 7]]), np.cos(angles), np.sin(angles)], weights=(2, 3))
    case("rotary_start", "RotaryEmbedding", [f(2, 2, 3, 4), np.array([2]), np.cos(angles), np.sin(angles)], weights=(2, 3), interleaved=1)
    case("rotary_part", "RotaryEmbedding", [f(2, 3, 16), np.array([[0, 3, 5], [1, 2, 7]]), np.cos(angles), np.sin(angles)], weights=(2, 3), num_heads=2, rotary_embedding_dim=4)


for old in folder.glob("*.onnx"):
    old.unlink()
for group in [norms, activations, layers, attentions]:
    group()
save_file(expected, str(folder / "expected.safetensors"))
print(len(list(folder.glob("*.onnx"))), "models")
