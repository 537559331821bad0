"""Makes ops_recurrent.json: recurrent networks, Einsum, RotaryEmbedding, and the rarer forms of Attention, MaxPool and BatchNormalization.

Expected values come from onnxruntime, or from onnx.reference where onnxruntime has no kernel. Run with
onnx==1.23.2, onnxruntime==1.32.0, numpy; the output is the same every time.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(0)
cases = []


def f(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).round(2).astype(np.float32)


def i(*values, dtype=np.int64):
    return np.array(values, dtype)


def compute(model, feed, by_reference):
    if not by_reference:
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return session.run(None, feed), "onnxruntime"
        except Exception:
            pass
    return ReferenceEvaluator(model).run(None, feed), "onnx.reference"


def case(op, opset, inputs, outputs=1, name="", by_reference=False, **attributes):
    """`outputs` is how many there are, or which of them: (0, 2)."""
    wanted = range(outputs) if isinstance(outputs, int) else outputs
    names = ["" if x is None else f"x{k}" for k, x in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{k}" if k in wanted else "" for k in range(max(wanted) + 1)], **attributes)
    values = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
              for n, x in zip(names, inputs) if x is not None]
    results = [helper.make_tensor_value_info(f"y{k}", TensorProto.UNDEFINED, None) for k in wanted]
    for result in results:
        result.ClearField("type")
    graph = helper.make_graph([node], "g", values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 20 else 10)
    feed = {n: x for n, x in zip(names, inputs) if x is not None}
    expected, source = compute(model, feed, by_reference)
    found = dict(zip(wanted, expected))
    cases.append({
        "name": f"{op}-{opset}{' ' + name if name else ''}", "op_type": op, "opset": opset, "source": source,
        "attributes": dict(sorted(attributes.items())),
        "inputs": [None if x is None else tensor(x) for x in inputs],
        "outputs": [tensor(np.asarray(found[k])) if k in found else None for k in range(max(wanted) + 1)],
    })


def tensor(x):
    kind = {"float32": "float32", "int64": "int64", "int32": "int32", "bool": "bool"}[x.dtype.name]
    values = [None if isinstance(v, float) and v != v else (float(f"{v:.8g}") if kind == "float32" else v) for v in x.ravel().tolist()]
    return {"kind": kind, "dims": list(x.shape), "values": values}


def network(op, gates, directions=1, steps=4, batch=3, features=2, hidden=3, bias=True, state=True, lengths=None, peepholes=False,
            layout=0, opset=14, outputs=None, name="", by_reference=False, **attributes):
    x = f(steps, batch, features)
    states = [f(directions, batch, hidden) for _ in range(2 if op == "LSTM" else 1)]
    if layout:
        x, states = x.transpose(1, 0, 2), [s.transpose(1, 0, 2) for s in states]
        attributes["layout"] = 1
    inputs = [x, f(directions, gates * hidden, features), f(directions, gates * hidden, hidden),
              f(directions, 2 * gates * hidden) if bias else None,
              None if lengths is None else i(*lengths, dtype=np.int32)]
    inputs += states if state else [None] * len(states)
    if peepholes:
        inputs.append(f(directions, 3 * hidden))
    while inputs[-1] is None:
        inputs.pop()
    if directions == 2:
        attributes["direction"] = "bidirectional"
    outputs = (3 if op == "LSTM" else 2) if outputs is None else outputs
    case(op, opset, inputs, outputs, name, by_reference, hidden_size=hidden, **attributes)


def recurrent():
    for op, gates in [("LSTM", 4), ("GRU", 3), ("RNN", 1)]:
        network(op, gates, name="forward")
        network(op, gates, opset=7, bias=False, state=False, name="without bias and state")
        network(op, gates, direction="reverse", name="reverse")
        network(op, gates, directions=2, name="both directions")
        network(op, gates, directions=2, lengths=[4, 1, 2], name="lengths")
        network(op, gates, lengths=[4, 4, 4], name="lengths of everything")
        # onnxruntime has no batch first, onnx.reference knows it forward only.
        network(op, gates, layout=1, name="batch first", by_reference=True)
        network(op, gates, clip=0.4, name="clip")
        network(op, gates, outputs=(1,), name="last state only")
    network("LSTM", 4, outputs=(2,), name="last cell only")
    network("LSTM", 4, peepholes=True, name="peepholes")
    network("LSTM", 4, peepholes=True, directions=2, lengths=[2, 4, 3], clip=1.5, name="everything at once")
    network("LSTM", 4, input_forget=1, name="coupled gates")
    network("LSTM", 4, activations=["HardSigmoid", "Softsign", "Affine"], activation_alpha=[0.3, 2.0], activation_beta=[0.4, 0.1], name="functions")
    network("LSTM", 4, directions=2, activations=["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Tanh", "Elu"], name="functions by direction")
    network("GRU", 3, linear_before_reset=1, name="torch's equations")
    network("GRU", 3, linear_before_reset=1, directions=2, name="torch's equations, both directions")
    network("GRU", 3, linear_before_reset=1, directions=2, lengths=[1, 4, 3], clip=0.5, name="torch's equations, lengths and clip")
    network("GRU", 3, activations=["Sigmoid", "LeakyRelu"], activation_alpha=[0.1], name="functions")
    network("RNN", 1, activations=["Relu"], name="relu")
    network("RNN", 1, directions=2, activations=["Relu", "Relu"], name="relu, both directions")
    network("RNN", 1, directions=2, activations=["Relu", "Tanh"], name="functions by direction")
    network("RNN", 1, directions=2, activations=["ScaledTanh", "ThresholdedRelu"], activation_alpha=[1.5, 0.2], activation_beta=[0.7], name="numbers for one of two")
    network("RNN", 1, activations=["Softplus"], name="softplus")


def einsums():
    case("Einsum", 12, [f(2, 3, 4), f(2, 4, 5)], equation="bij,bjk->bik", name="batch of matrices")
    case("Einsum", 12, [f(2, 3, 4)], equation="...ij->...ji", name="ellipsis")
    case("Einsum", 12, [f(2, 3), f(2, 2, 3, 4)], equation="...i, ...ij -> ...j", name="ellipsis of different lengths, spaces")
    case("Einsum", 12, [f(3, 4), f(4, 2)], equation="Bi,iA", name="implied result")
    case("Einsum", 12, [f(2, 3, 3)], equation="bii->bi", name="diagonal")
    case("Einsum", 12, [f(3), f(4), f(3, 4)], equation="i,j,ij->", name="three tensors to a number")
    case("Einsum", 12, [f(2, 3, 2, 4), f(2, 5, 2, 4)], equation="bqhd,bkhd->bhqk", name="attention scores")


def rotations():
    cosine, sine = f(8, 4), f(8, 4)
    ids = np.array([[0, 3, 5], [1, 2, 7]])
    case("RotaryEmbedding", 23, [f(2, 2, 3, 8), cosine, sine, ids])
    case("RotaryEmbedding", 23, [f(2, 2, 3, 8), cosine, sine, ids], interleaved=1, name="neighbours")
    case("RotaryEmbedding", 23, [f(2, 3, 16), cosine, sine, ids], num_heads=2, name="three dims")
    case("RotaryEmbedding", 23, [f(2, 2, 3, 8), f(2, 3, 4), f(2, 3, 4)], name="no positions")
    case("RotaryEmbedding", 23, [f(2, 2, 3, 8), f(8, 2), f(8, 2), ids], rotary_embedding_dim=4, interleaved=1, name="a part of the head")


def attentions():
    q, k, v = f(2, 4, 3, 8), f(2, 2, 5, 8), f(2, 2, 5, 8)
    past = [f(2, 2, 2, 8), f(2, 2, 2, 8)]
    for mode in range(4):
        case("Attention", 23, [q, k, v, f(3, 5)], outputs=4, qk_matmul_output_mode=mode, softcap=1.5 if mode > 0 else 0.0, name=f"scores of mode {mode}", by_reference=True)
    case("Attention", 23, [q, k, v, rng.random((2, 1, 3, 7)) > 0.3, *past], outputs=3, is_causal=1, name="past, mask of truth, causal", by_reference=True)
    case("Attention", 24, [q, k, v, None, None, None, i(3, 5)], name="lengths", by_reference=True)
    case("Attention", 24, [q, k, v, f(3, 5), None, None, i(4, 3)], is_causal=1, name="lengths, mask, causal", by_reference=True)
    case("Attention", 24, [q, k, v, None, None, None, i(1, 2)], is_causal=1, name="queries that see nothing", by_reference=True)
    case("Attention", 23, [q, k, v, f(3, 4)], name="a mask that is short of keys", by_reference=True)
    case("Attention", 25, [q, k, v], left_window_size=1, right_window_size=1, name="window", by_reference=True)
    case("Attention", 25, [q, k, v, None, *past], is_causal=1, left_window_size=2, name="causal window with past", by_reference=True)


def others():
    x = f(2, 3, 5, 6)
    case("MaxPool", 12, [x], outputs=2, kernel_shape=[2, 3], strides=[2, 1], name="indices")
    case("MaxPool", 12, [x], outputs=2, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], storage_order=1, name="indices by column, pads")
    case("MaxPool", 12, [f(1, 2, 7)], outputs=2, kernel_shape=[3], strides=[2], ceil_mode=1, name="indices, 1-D, ceil")
    case("MaxPool", 12, [f(1, 2, 3, 4, 3)], outputs=2, kernel_shape=[2, 2, 2], dilations=[1, 2, 1], name="indices, 3-D, dilations")
    norm = [f(3, 2, 4), f(2), f(2), f(2), np.abs(f(2))]
    case("BatchNormalization", 15, norm, outputs=3, training_mode=1, momentum=0.7, name="statistics of the batch", by_reference=True)


for group in [recurrent, einsums, rotations, attentions, others]:
    group()
path = pathlib.Path(__file__).with_name("ops_recurrent.json")
lines = ",\n".join(json.dumps(c) for c in cases)
path.write_text(f"[\n{lines}\n]\n")
print(len(cases), "cases,", sum(c["source"] == "onnx.reference" for c in cases), "by onnx.reference,", path.stat().st_size, "bytes")
