"""Makes ops.json: one small case per operator and per change of meaning between operator sets.

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
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def positive(*shape):
    return (rng.random(shape) + 0.1).astype(np.float32)


def i(*values, dtype=np.int64):
    return np.array(values, dtype)


def scalar(value, dtype=np.int64):
    return np.array(value, dtype)


def compute(model, feed):
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feed), "onnxruntime"
    except Exception:
        return ReferenceEvaluator(model).run(None, feed), "onnx.reference"


def case(op, opset, inputs, outputs=1, name="", **attributes):
    names = ["" if x is None else f"x{k}" for k, x in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{k}" for k in range(outputs)], **attributes)
    values = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
              for n, x in zip(names, inputs) if x is not None]
    results = [helper.make_tensor_value_info(f"y{k}", TensorProto.UNDEFINED, None) for k in range(outputs)]
    for result in results:
        result.ClearField("type")
    graph = helper.make_graph([node], "g", values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 20 else 10)
    feed = {n: x for n, x in zip(names, inputs) if x is not None}
    expected, source = compute(model, feed)
    cases.append({
        "name": f"{op}-{opset}{' ' + name if name else ''}", "op_type": op, "opset": opset, "source": source,
        "attributes": {key: attribute(value) for key, value in sorted(attributes.items())},
        "inputs": [None if x is None else tensor(x) for x in inputs], "outputs": [tensor(np.asarray(x)) for x in expected],
    })


def attribute(value):
    if isinstance(value, onnx.TensorProto):
        return {"tensor": tensor(onnx.numpy_helper.to_array(value))}
    return value


def tensor(x):
    kind = {"float32": "float32", "float64": "float32", "int64": "int64", "int32": "int32", "bool": "bool"}[x.dtype.name]
    values = [None if isinstance(v, float) and v != v else (float(f"{v:.9g}") if kind == "float32" else v) for v in x.ravel().tolist()]
    return {"kind": kind, "dims": list(x.shape), "values": values}


def elementwise():
    x = f(2, 3)
    for op in ["Neg", "Abs", "Reciprocal", "Floor", "Ceil", "Exp", "Erf", "Sigmoid", "Tanh", "Softplus", "Identity", "Relu", "Sin", "Cos"]:
        case(op, 13, [x])
    for op in ["Sqrt", "Log"]:
        case(op, 13, [positive(2, 3)])
    case("HardSwish", 14, [f(2, 4, scale=4)])
    case("IsNaN", 13, [np.array([1, np.nan, 0], np.float32)])
    case("Not", 1, [np.array([True, False])])
    for op in ["And", "Or"]:
        case(op, 7, [np.array([[True], [False]]), np.array([True, False])])
    for op in ["Add", "Sub", "Mul", "Div"]:
        case(op, 14, [f(2, 3), positive(3)])
    case("Div", 14, [i(7, -7, 7, -7, 5), i(2, 2, -2, -1, -1)], name="integers are cut towards zero")
    case("Pow", 15, [positive(2, 2), scalar(2.5, np.float32)])
    case("Pow", 15, [i(2, 3), np.array([2.0, 2.0], np.float32)], name="type of the base")
    case("Mod", 13, [i(-4, 7, 5, 4, -7, 8), i(2, -3, 8, -2, 3, 5)], name="sign of the divisor")
    case("Mod", 13, [np.array([-4.3, 7.2, 5.0], np.float32), np.array([2.1, -3.4, 8.0], np.float32)], fmod=1, name="fmod")
    for op in ["Max", "Min", "Sum"]:
        case(op, 13, [f(2, 3), f(3), f(2, 1)])
    for op, opset in [("Equal", 13), ("Less", 13), ("LessOrEqual", 16), ("Greater", 13), ("GreaterOrEqual", 16)]:
        case(op, opset, [i(1, 2, 3), i(2, 2, 2)])
    case("Where", 16, [np.array([[True], [False]]), f(2, 3), f(3)])


def activations():
    x = f(2, 3, scale=2)
    case("LeakyRelu", 16, [x], name="default slope")
    case("LeakyRelu", 16, [x], alpha=0.3)
    case("Elu", 6, [x])
    case("Elu", 6, [x], alpha=0.4, name="alpha")
    case("Selu", 6, [x])
    case("Selu", 6, [x], alpha=1.2, gamma=0.7, name="attributes")
    case("HardSigmoid", 6, [f(2, 4, scale=4)], name="default slope is 0.2")
    case("HardSigmoid", 6, [f(2, 4, scale=4)], alpha=1 / 6, name="torch's slope")
    case("Gelu", 20, [x])
    case("Gelu", 20, [x], approximate="tanh", name="tanh")
    case("PRelu", 16, [f(2, 3, 4), positive(3, 1)], name="per channel")
    case("PRelu", 16, [f(2, 3, 4), positive(1)], name="one slope")
    case("PRelu", 16, [f(2, 3, 4), positive(4)], name="per last axis")
    case("Clip", 6, [x], min=-0.5, max=1.0, name="attributes")
    case("Clip", 6, [x], max=0.25, name="one attribute")
    case("Clip", 13, [x, scalar(-0.5, np.float32), scalar(1.0, np.float32)], name="inputs")
    case("Clip", 13, [x, None, scalar(0.5, np.float32)], name="no minimum")
    case("Clip", 13, [i(1, 5, 9), scalar(2), scalar(7)], name="integers")
    for op in ["Softmax", "LogSoftmax"]:
        case(op, 11, [f(2, 3, 4)], name="flattens from axis 1")
        case(op, 11, [f(2, 3, 4)], axis=2, name="last axis")
        case(op, 13, [f(2, 3, 4)], name="axis -1")
        case(op, 13, [f(2, 3, 4)], axis=1, name="axis 1")


def reductions():
    x = f(2, 3, 4)
    for op in ["ReduceMean", "ReduceMax", "ReduceMin"]:
        case(op, 13, [x], axes=[0, -1], keepdims=0, name="axes attribute")
        case(op, 18, [x, i(1)], name="axes input")
        case(op, 18, [x], name="everything")
        case(op, 18, [x], noop_with_empty_axes=1, name="nothing")
    case("ReduceSum", 11, [x], axes=[1], name="axes attribute")
    case("ReduceSum", 13, [x, i(-2)], keepdims=0, name="axes input")
    case("ReduceSum", 13, [i(1, 2, 3)], name="integers")
    case("ArgMax", 13, [np.array([[1, 3, 3], [2, 2, 0]], np.float32)], axis=1)
    case("ArgMax", 13, [np.array([[1, 3, 3], [2, 2, 0]], np.float32)], axis=-1, keepdims=0, select_last_index=1, name="last index")
    case("CumSum", 14, [x, scalar(1)])
    case("CumSum", 14, [x, scalar(-1)], exclusive=1, reverse=1, name="exclusive and reverse")
    case("GlobalAveragePool", 1, [f(2, 3, 4, 5)])
    case("GlobalMaxPool", 1, [f(2, 3, 4)])


def shapes():
    x = f(2, 3, 4)
    case("Reshape", 13, [x, i(0, -1)], name="0 copies")
    case("Reshape", 14, [np.zeros((0, 3), np.float32), i(3, 0)], allowzero=1, name="0 is zero")
    case("Flatten", 13, [x])
    case("Flatten", 13, [x], axis=-1, name="negative axis")
    case("Flatten", 13, [x], axis=3, name="axis equal to the rank")
    case("Flatten", 13, [x], axis=0, name="axis 0")
    case("Transpose", 13, [x])
    case("Transpose", 13, [x], perm=[1, 0, 2])
    case("Squeeze", 11, [f(1, 3, 1)], axes=[0, -1], name="axes attribute")
    case("Squeeze", 13, [f(1, 3, 1), i(2)], name="axes input")
    case("Squeeze", 13, [f(1, 3, 1)], name="every axis of 1")
    case("Unsqueeze", 11, [x], axes=[0, -1], name="axes attribute")
    case("Unsqueeze", 13, [x, i(3, 1)], name="axes input, unsorted")
    case("Expand", 13, [f(3, 1), i(2, 1, 4)], name="both ways")
    case("Expand", 13, [f(2, 3), i(3)], name="fewer dims")
    case("Tile", 13, [f(2, 3), i(2, 1)])
    case("Shape", 13, [x])
    case("Shape", 15, [x], start=-2, name="from the end")
    case("Shape", 15, [x], start=1, end=-1, name="a part")
    case("Concat", 13, [f(2, 1), f(2, 2)], axis=-1)
    case("Split", 11, [f(5, 2)], outputs=2, split=[2, 3], name="lengths attribute")
    case("Split", 13, [f(2, 5), i(1, 4)], outputs=2, axis=1, name="lengths input")
    case("Split", 13, [f(4, 2)], outputs=2, name="equal parts")
    case("Split", 18, [f(7, 2)], outputs=3, num_outputs=3, name="a smaller last part")
    case("Slice", 9, [x], starts=[1, 0], ends=[9, -1], axes=[1, 2], name="attributes")
    case("Slice", 13, [x, i(0, 1), i(2, 4), i(0, 2), i(1, 2)], name="steps")
    case("Slice", 13, [x, i(-1), i(-9223372036854775807), i(1), i(-1)], name="backwards to the front")
    case("Slice", 13, [x, i(3, 9), i(0, -9), i(2, 1), i(-2, -2)], name="backwards in steps")
    case("Slice", 13, [x, i(5), i(9), i(1)], name="empty")
    case("Slice", 13, [x, i(0), i(1)], name="no axes")
    case("Trilu", 14, [f(3, 4)], name="upper")
    case("Trilu", 14, [f(3, 4), scalar(-1)], upper=0, name="lower, shifted")
    case("Pad", 2, [f(2, 3)], pads=[0, 1, 1, 2], value=1.5, name="attributes")
    case("Pad", 13, [f(2, 3), i(1, -1, 0, 2), scalar(0.5, np.float32)], name="inputs, one negative")
    case("Pad", 13, [f(4, 5), i(1, 2, 2, 3)], mode="reflect", name="reflect")
    case("Pad", 13, [f(2, 3), i(1, 2, 1, 0)], mode="edge", name="edge")
    case("Pad", 19, [f(2, 3), i(1, 2, 0, 3)], mode="wrap", name="wrap")
    case("Pad", 18, [f(2, 3, 4), i(1, 2), scalar(0, np.float32), i(-1)], name="axes")


def indices():
    x = f(3, 4)
    case("Gather", 13, [x, i(2, -1)], name="negative index")
    case("Gather", 13, [x, scalar(1)], axis=1, name="one index")
    case("Gather", 13, [x, np.array([[0, 2], [1, -3]])], name="matrix of indices")
    case("Gather", 13, [f(2, 3, 2), np.array([[0, 2], [1, 1]])], axis=1, name="middle axis")
    case("Gather", 13, [i(5, 6, 7), i(0, dtype=np.int32)], name="int32 index")
    case("GatherElements", 13, [x, np.array([[0, -1], [1, 0]])], axis=1)
    case("GatherND", 13, [f(2, 3, 4), np.array([[0, 1], [1, -1]])])
    case("GatherND", 13, [f(2, 3, 4), np.array([[[1], [0]], [[2], [2]]])], batch_dims=1, name="batch")
    case("ScatterND", 16, [x, np.array([[2], [0]]), f(2, 4)], name="rows")
    case("ScatterND", 16, [x, np.array([[0, 1], [0, 1]]), f(2)], reduction="add", name="add")
    case("Range", 11, [scalar(2), scalar(9), scalar(3)])
    case("Range", 11, [scalar(1.0, np.float32), scalar(-1.0, np.float32), scalar(-0.5, np.float32)], name="floats down")
    case("Range", 11, [scalar(3), scalar(1), scalar(1)], name="empty")
    case("ConstantOfShape", 9, [i(2, 3)], name="default is float 0")
    case("ConstantOfShape", 9, [i(2)], value=helper.make_tensor("v", TensorProto.INT64, [1], [7]), name="value")
    case("Cast", 13, [np.array([-1.7, 1.7, 0.2], np.float32)], to=TensorProto.INT64, name="cut towards zero")
    case("Cast", 13, [np.array([0.0, 0.3, -2.0], np.float32)], to=TensorProto.BOOL, name="to bool")
    case("Cast", 13, [i(1, 0)], to=TensorProto.FLOAT)
    case("CastLike", 15, [i(1, 2), f(1)])


def products():
    case("MatMul", 13, [f(2, 3, 4), f(4, 5)])
    case("MatMul", 13, [f(4), f(4)], name="vectors")
    case("MatMul", 13, [f(4), f(4, 3)], name="one row")
    case("MatMul", 13, [f(2, 1, 3, 2, 4), f(4, 3)], name="five dims")
    case("Gemm", 13, [f(2, 3), f(3, 4), f(4)])
    case("Gemm", 13, [f(3, 2), f(4, 3), f(2, 1)], transA=1, transB=1, alpha=0.5, beta=2.0, name="everything")
    case("Gemm", 11, [f(2, 3), f(3, 4)], name="no C")
    case("Gemm", 13, [f(2, 3), f(3, 4), scalar(1.5, np.float32)], name="C is a number")
    case("Conv", 11, [f(2, 3, 6), f(4, 3, 3), f(4)], name="1-D")
    case("Conv", 11, [f(1, 4, 7, 6), f(6, 2, 3, 3), f(6)], group=2, strides=[2, 1], pads=[1, 0, 1, 0], dilations=[1, 2], name="groups")
    case("Conv", 11, [f(1, 2, 5, 5), f(3, 2, 2, 2)], pads=[0, 1, 1, 0], name="asymmetric pads")
    case("Conv", 11, [f(1, 2, 5, 6), f(3, 2, 3, 2)], auto_pad="SAME_UPPER", strides=[2, 2], name="same upper")
    case("Conv", 11, [f(1, 2, 5, 6), f(3, 2, 3, 2)], auto_pad="SAME_LOWER", strides=[2, 2], name="same lower")
    case("Conv", 11, [f(1, 2, 5, 6), f(3, 2, 3, 2)], auto_pad="VALID", name="valid")
    case("Conv", 11, [f(1, 1, 3, 4, 3), f(2, 1, 2, 2, 2)], name="3-D")
    case("ConvTranspose", 11, [f(1, 4, 3, 4), f(4, 3, 3, 3), f(6)], group=2, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    case("ConvTranspose", 11, [f(1, 2, 3, 3), f(2, 3, 3, 3)], strides=[2, 2], pads=[0, 1, 1, 2], name="asymmetric pads")
    case("ConvTranspose", 11, [f(1, 2, 3, 3), f(2, 3, 3, 3)], strides=[3, 2], output_shape=[10, 8], name="output shape")
    case("ConvTranspose", 11, [f(1, 2, 3, 3), f(2, 3, 3, 3)], strides=[2, 2], auto_pad="SAME_UPPER", name="same upper")


def pools():
    x = f(1, 2, 7, 6)
    case("MaxPool", 12, [x], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1])
    case("MaxPool", 12, [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, name="ceil")
    case("MaxPool", 12, [x], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 1, 1, 0], ceil_mode=1, name="asymmetric pads, ceil")
    case("MaxPool", 12, [x], kernel_shape=[2, 2], dilations=[2, 3], name="dilations")
    case("MaxPool", 12, [x], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", name="same upper")
    case("MaxPool", 12, [x], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER", name="same lower")
    case("MaxPool", 12, [f(1, 2, 7)], kernel_shape=[3], strides=[2], name="1-D")
    case("AveragePool", 11, [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], name="pads do not count")
    case("AveragePool", 11, [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1, name="pads count")
    case("AveragePool", 11, [x], kernel_shape=[3, 2], pads=[0, 1, 2, 0], name="asymmetric pads")
    case("AveragePool", 11, [x], kernel_shape=[3, 2], pads=[0, 1, 2, 0], count_include_pad=1, name="asymmetric pads count")
    case("AveragePool", 19, [x], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, name="ceil")
    case("AveragePool", 11, [x], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", name="same upper")
    case("AveragePool", 19, [x], kernel_shape=[2, 2], dilations=[2, 2], name="dilations")


def norms():
    x = f(2, 4, 3)
    case("BatchNormalization", 9, [f(2, 3, 4), positive(3), f(3), f(3), positive(3)], epsilon=1e-3)
    case("BatchNormalization", 15, [f(4, 3), positive(3), f(3), f(3), positive(3)], name="matrix")
    case("LayerNormalization", 17, [x, positive(3), f(3)])
    case("LayerNormalization", 17, [x, positive(4, 3)], axis=1, name="axis 1, no bias")
    case("LayerNormalization", 17, [x, positive(3), f(3)], outputs=3, name="statistics")
    case("RMSNormalization", 23, [x, positive(3)])
    case("RMSNormalization", 23, [x, positive(4, 3)], axis=-2, epsilon=0.1, name="axis -2")
    case("InstanceNormalization", 6, [x, positive(4), f(4)])
    case("GroupNormalization", 21, [x, positive(4), f(4)], num_groups=2, name="scale per channel")
    case("LRN", 13, [f(2, 5, 2, 2)], size=3, alpha=0.1, beta=0.5, bias=2.0)
    # onnxruntime refuses even sizes, and onnx.reference computes as many channels as there are samples: give it five of both.
    case("LRN", 13, [f(5, 5, 1, 2)], size=4, alpha=0.1, name="even size")
    case("Dropout", 10, [x], ratio=0.5, name="inference, attribute")
    case("Dropout", 13, [x, scalar(0.5, np.float32)], name="inference, input")


def resizes():
    x = f(1, 2, 4, 5)
    empty = np.zeros(0, np.float32)
    up = np.array([1, 1, 2, 3], np.float32)
    case("Resize", 10, [x, up], mode="nearest", name="nearest of operator set 10")
    case("Resize", 13, [x, None, up], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor", name="torch's nearest")
    case("Resize", 13, [x, empty, up], mode="nearest", name="default nearest, empty roi")
    for mode in ["floor", "ceil", "round_prefer_ceil"]:
        case("Resize", 13, [x, None, None, i(1, 2, 7, 3)], mode="nearest", nearest_mode=mode, name=f"nearest {mode}")
    for coordinates in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]:
        case("Resize", 13, [x, None, None, i(1, 2, 6, 3)], mode="linear", coordinate_transformation_mode=coordinates, name=f"linear {coordinates}")
    for coordinates in ["half_pixel", "align_corners", "asymmetric"]:
        case("Resize", 13, [x, None, up], mode="cubic", coordinate_transformation_mode=coordinates, name=f"cubic {coordinates}")
    case("Resize", 13, [x, None, up], mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1, name="cubic without outside")
    case("Resize", 18, [x, None, None, i(8, 3)], mode="linear", axes=[2, 3], name="axes")
    case("Resize", 13, [f(1, 2, 5), None, np.array([1, 1, 1.5], np.float32)], mode="linear", name="1-D")


def attentions():
    q, k, v = f(2, 3, 4, 8), f(2, 3, 5, 8), f(2, 3, 5, 8)
    case("Attention", 23, [q, k, v])
    case("Attention", 23, [q, k, v], scale=0.3, name="scale")
    case("Attention", 23, [q, k, v, f(4, 5)], name="mask of numbers")
    case("Attention", 23, [q, k, v, rng.random((4, 5)) > 0.3], name="mask of truth")
    case("Attention", 23, [q, q, q], is_causal=1, name="causal")
    case("Attention", 23, [q, q, q, f(4, 4)], is_causal=1, name="causal with mask")
    case("Attention", 23, [q, k, v], softcap=2.0, name="softcap")
    case("Attention", 23, [f(2, 4, 24), f(2, 5, 24), f(2, 5, 24)], q_num_heads=3, kv_num_heads=3, name="three dims")
    case("Attention", 23, [f(1, 4, 2, 8), f(1, 2, 3, 8), f(1, 2, 3, 8)], name="fewer key heads")


for group in [elementwise, activations, reductions, shapes, indices, products, pools, norms, resizes, attentions]:
    group()
path = pathlib.Path(__file__).with_name("ops.json")
lines = ",\n".join(json.dumps(c) for c in cases)
path.write_text(f"[\n{lines}\n]\n")
print(len(cases), "cases,", sum(c["source"] == "onnx.reference" for c in cases), "by onnx.reference,", path.stat().st_size, "bytes")
