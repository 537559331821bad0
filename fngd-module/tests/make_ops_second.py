"""Makes ops_second.json: the operators of the second tier, and what operators meant before operator set 7.

Expected values come from onnxruntime, or from onnx.reference where onnxruntime has no kernel; those of operator sets that neither
of them knows are computed here with numpy. Run with onnx==1.23.2, onnxruntime==1.32.0, numpy; the output is the same every time.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(1)
cases = []


def f(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).round(2).astype(np.float32)


def positive(*shape):
    return (rng.random(shape) + 0.1).round(2).astype(np.float32)


def i(*values, dtype=np.int64):
    return np.array(values, dtype)


def u8(*values):
    return np.array(values, np.uint8)


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


def case(op, opset, inputs, outputs=1, name="", expected=None, **attributes):
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
    results, source = (expected, "numpy") if expected is not None else compute(model, feed)
    cases.append({
        "name": f"{op}-{opset}{' ' + name if name else ''}", "op_type": op, "opset": opset, "source": source,
        "attributes": dict(sorted(attributes.items())),
        "inputs": [None if x is None else tensor(x) for x in inputs], "outputs": [tensor(np.asarray(x)) for x in results],
    })


def tensor(x):
    kind = "float32" if x.dtype == np.float64 else x.dtype.name
    values = [number(v) for v in x.ravel().tolist()]
    return {"kind": kind, "dims": list(x.shape), "values": values}


def number(value):
    if isinstance(value, float):
        return float(f"{value:.9g}") if np.isfinite(value) else None if np.isnan(value) else str(value)
    return value


def elementwise():
    x = f(2, 3)
    for op, opset in [("Sign", 13), ("Round", 22), ("Softsign", 22), ("Mish", 18), ("Tan", 22), ("Atan", 22), ("Sinh", 22), ("Cosh", 22), ("Asinh", 22)]:
        case(op, opset, [x])
    case("Round", 11, [np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)], name="halves")
    for op in ["Asin", "Acos", "Atanh"]:
        case(op, 22, [f(2, 3, scale=0.3)])
    case("Acosh", 22, [positive(2, 2) + 1])
    case("Xor", 7, [np.array([[True], [False]]), np.array([True, False])])
    case("Mean", 13, [f(2, 3), f(3), f(2, 1)])
    case("IsInf", 20, [np.array([1, 3, 0], np.float32)])
    for op in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"]:
        case(op, 18, [i(12, -7, dtype=np.int32), i(10, 3, dtype=np.int32)])
    case("BitwiseNot", 18, [i(12, -7)])
    case("BitShift", 11, [u8(16, 4, 1), u8(1, 2, 0)], direction="RIGHT", name="right")
    case("BitShift", 11, [u8(200, 4, 1), u8(1, 2, 99)], direction="LEFT", name="left", expected=[u8(144, 16, 0)])
    case("BitShift", 28, [i(-8, 8, -8), i(1, 64, -1)], direction="RIGHT", name="signed", expected=[i(-4, 0, -1)])
    case("Div", 14, [u8(255, 7), u8(255, 2)], name="unsigned")
    lowest = np.iinfo(np.int64).min
    case("Div", 14, [i(lowest, 6), i(-1, -1)], name="lowest by -1", expected=[i(lowest, -6)])
    case("Mod", 13, [i(lowest, 6), i(-1, -1)], name="lowest by -1", expected=[i(0, 0)])
    case("Celu", 12, [f(2, 3, scale=2)], alpha=0.7)
    case("ThresholdedRelu", 22, [f(2, 3, scale=2)], alpha=0.5)
    case("Shrink", 9, [f(2, 4, scale=2)], lambd=0.8, bias=0.3)
    case("Shrink", 9, [i(-3, 0, 2)], lambd=0.8, bias=0.5, name="integers")
    case("Swish", 24, [x], alpha=1.5)
    case("Swish", 24, [x], name="default")
    case("SwiGLU", 28, [x, f(2, 3)])
    case("Hardmax", 13, [np.array([[1, 3, 3], [4, 2, 4]], np.float32)])
    case("Hardmax", 11, [f(2, 2, 3)], axis=1, name="flattens")


def reductions():
    x = f(2, 3, 4)
    for op in ["ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]:
        case(op, 13, [x], axes=[0, -1], keepdims=0, name="axes attribute")
        case(op, 18, [x, i(1)], name="axes input")
    case("ReduceLogSum", 18, [positive(2, 3), i(1)])
    case("ReduceL2", 13, [i(3, 4)], name="integers", expected=[i(5)])
    case("ReduceProd", 13, [i(3, 4)], name="integers")
    case("ReduceMax", 20, [np.zeros((2, 0), np.float32), i(1)], name="of nothing")
    case("ReduceMin", 20, [np.zeros((2, 0), np.int32), i(1)], name="of no integers", expected=[np.full((2, 1), 2**31 - 1, np.int32)])
    case("ArgMin", 13, [np.array([[1, 3, 1], [2, 2, 0]], np.float32)], axis=1)
    case("ArgMin", 13, [np.array([[1, 3, 1], [2, 2, 0]], np.float32)], axis=1, keepdims=0, select_last_index=1, name="last index")
    case("CumProd", 26, [f(2, 3), scalar(1)])
    case("CumProd", 26, [f(2, 3), scalar(0)], exclusive=1, reverse=1, name="exclusive and reverse")
    case("GlobalLpPool", 2, [f(1, 2, 3, 2)], p=3)
    case("MeanVarianceNormalization", 13, [f(2, 2, 2, 2)])
    case("MeanVarianceNormalization", 13, [f(2, 3)], axes=[1], name="axes")
    case("LpNormalization", 22, [x], axis=1)
    case("LpNormalization", 22, [np.array([[0, 0], [3, -1]], np.float32)], p=1, name="zeros, p 1")


def selection():
    x = f(3, 4)
    ties = np.array([[1, 2, 2, 0], [5, 5, 5, 5]], np.float32)
    case("TopK", 9, [x], 2, k=2, name="attribute")
    case("TopK", 24, [ties, i(3)], 2, name="first of equals")
    case("TopK", 24, [ties, i(2)], 2, largest=0, axis=0, name="smallest")
    case("OneHot", 11, [i(0, 2, -1), scalar(4), f(2)])
    case("OneHot", 11, [np.array([[0, 7]]), scalar(2), i(5, 6)], axis=0, name="axis 0, outside")
    case("EyeLike", 22, [np.zeros((2, 3), np.float32)], k=1, dtype=7)
    case("NonZero", 13, [np.array([[1, 0], [0, 2]], np.float32)])
    case("Compress", 11, [x, np.array([False, True, True])], axis=1)
    case("Compress", 11, [x, np.array([True, False, True])], name="flat")
    case("Unique", 11, [np.array([2, 1, 1, 3, 2], np.float32)], 4)
    case("Unique", 11, [np.array([2, 1, 1, 3, 2], np.float32)], 4, sorted=0, name="not sorted")
    case("Unique", 11, [np.array([[1, 0], [1, 0], [2, 3]], np.float32)], 4, axis=0, name="rows")
    case("ReverseSequence", 10, [f(4, 2), i(3, 1)])
    case("ReverseSequence", 10, [f(2, 3, 2), i(3, 1)], batch_axis=0, time_axis=1, name="batch first")
    case("Size", 13, [x])
    case("ScatterElements", 18, [x, np.array([[1, -1]]), f(1, 2)], axis=1)
    case("Scatter", 9, [x, np.array([[1, 0]]), f(1, 2)])
    for reduction in ["add", "mul", "min", "max"]:
        case("ScatterElements", 18, [x, np.array([[1, 1, 2]]), f(1, 3)], axis=1, reduction=reduction, name=reduction)
        case("ScatterND", 18, [x, np.array([[1], [1], [-1]]), f(3, 4)], reduction=reduction, name=reduction)
    case("DepthToSpace", 13, [f(1, 8, 2, 1)], blocksize=2)
    case("DepthToSpace", 13, [f(1, 8, 2, 1)], blocksize=2, mode="CRD", name="CRD")
    case("SpaceToDepth", 13, [f(1, 2, 2, 4)], blocksize=2)


def sampling():
    x = f(1, 2, 4, 5)
    grid = f(1, 3, 2, 2, scale=0.8)
    for mode in ["linear", "nearest", "cubic"]:
        for padding in ["zeros", "border", "reflection"]:
            case("GridSample", 20, [x, grid], mode=mode, padding_mode=padding, align_corners=int(mode == "cubic"), name=f"{mode} {padding}")
    case("GridSample", 20, [f(1, 1, 2, 3, 2), f(1, 1, 2, 2, 3)], name="volume")
    case("AffineGrid", 20, [f(1, 2, 3), i(1, 1, 2, 3)])
    case("AffineGrid", 20, [f(1, 3, 4), i(1, 1, 2, 2, 2)], align_corners=1, name="volume")
    down, up = np.array([1, 1, 0.6, 0.6], np.float32), np.array([1, 1, 1.5, 2], np.float32)
    case("Upsample", 7, [f(1, 1, 2, 2)], scales=[1.0, 1.0, 2.0, 3.0], name="scales attribute")
    case("Upsample", 9, [f(1, 1, 2, 2), up], name="scales input")
    case("Upsample", 9, [f(1, 1, 2, 2), up], mode="linear", name="linear")
    for mode in ["linear", "cubic"]:
        case("Resize", 19, [x, None, down], mode=mode, antialias=1, name=f"{mode}, antialias")
    case("Resize", 18, [x, None, None, i(7, 8)], axes=[2, 3], keep_aspect_ratio_policy="not_larger", name="not larger")
    case("Resize", 18, [x, None, None, i(7, 8)], axes=[3, 2], keep_aspect_ratio_policy="not_smaller", mode="linear", name="not smaller")
    region = np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.1], np.float32)
    case("Resize", 13, [x, region, None, i(1, 2, 3, 4)], mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0, name="crop")
    case("Resize", 19, [x, None, None, i(1, 2, 3, 9)], mode="linear", coordinate_transformation_mode="half_pixel_symmetric", name="symmetric")
    case("Resize", 11, [x, np.zeros(0, np.float32), up], coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor", name="half pixel for nearest")


def signals():
    case("Det", 22, [f(2, 3, 3)])
    case("CenterCropPad", 18, [f(3, 4), i(4, 1)])
    case("CenterCropPad", 18, [f(2, 5), i(2)], axes=[-1], name="axes")
    case("LpPool", 18, [f(1, 2, 5, 4)], kernel_shape=[2, 2], strides=[2, 1], pads=[0, 1, 1, 0], p=3)
    case("LpPool", 18, [f(1, 1, 6)], kernel_shape=[2], dilations=[2], name="dilation")
    pooled, places = f(1, 1, 2, 2), np.array([[[[5, 7], [13, 11]]]])
    case("MaxUnpool", 11, [pooled, places], kernel_shape=[2, 2], strides=[2, 2])
    case("MaxUnpool", 11, [pooled, places, i(1, 1, 5, 4)], kernel_shape=[2, 2], strides=[2, 2], name="output shape",
         expected=[unpooled(pooled, places)])
    case("Col2Im", 18, [f(1, 8, 4), i(3, 3), i(2, 2)])
    case("Col2Im", 18, [f(1, 4, 6), i(3, 5), i(2, 2)], strides=[2, 2], pads=[0, 1, 1, 0], name="strides and pads")
    case("DFT", 20, [f(1, 5, 1), None, scalar(1)])
    case("DFT", 20, [f(1, 5, 1), scalar(6), scalar(1)], onesided=1, name="one side, longer")
    case("DFT", 17, [f(2, 4, 2)], axis=1, inverse=1, name="inverse")
    case("STFT", 17, [f(1, 9, 1), scalar(2), positive(4), scalar(4)])
    case("STFT", 17, [f(1, 6, 1), scalar(3), None, scalar(3)], onesided=0, name="both sides")
    regions, images = np.array([[0, 0, 2.5, 3], [1, 0.5, 3.5, 9]], np.float32), i(0, 0)
    case("RoiAlign", 16, [f(1, 2, 4, 5), regions, images], output_height=2, output_width=3, sampling_ratio=2)
    case("RoiAlign", 10, [f(1, 2, 4, 5), regions, images], output_height=2, output_width=2, spatial_scale=0.8, name="corners, as many samples as needed")
    case("RoiAlign", 16, [f(1, 1, 4, 5), regions, images], output_height=2, output_width=2, mode="max", sampling_ratio=1, name="maximum")
    boxes = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 5, 1, 6], [1, 6, 0, 5.05]]], np.float32)
    scores = np.array([[[0.9, 0.75, 0.6, 0.95]]], np.float32)
    limits = [scalar(3), np.array(0.5, np.float32), np.array(0.0, np.float32)]
    case("NonMaxSuppression", 11, [boxes, scores, *limits])
    case("NonMaxSuppression", 11, [positive(1, 5, 4), positive(1, 2, 5), *limits], center_point_box=1, name="centre")


def unpooled(pooled, places):
    """What onnxruntime calculates indices in is the output shape; the specification says it is the inferred one."""
    small = np.zeros(16, np.float32)
    small[places.ravel()] = pooled.ravel()
    large = np.zeros((1, 1, 5, 4), np.float32)
    large[:, :, :4] = small.reshape(1, 1, 4, 4)
    return large


def quantisation():
    x = f(2, 3, scale=3)
    case("QuantizeLinear", 13, [x, scalar(0.1, np.float32)], name="uint8 by default")
    case("QuantizeLinear", 13, [x, scalar(0.02, np.float32), scalar(3, np.int8)], name="int8, cut")
    case("QuantizeLinear", 13, [np.array([0.5, 1.5, 2.5], np.float32), scalar(1, np.float32), scalar(1, np.uint8)], name="halves")
    case("QuantizeLinear", 13, [x, positive(3), u8(1, 2, 3)], axis=1, name="axis")
    case("QuantizeLinear", 21, [f(2, 4), positive(2, 2), np.zeros((2, 2), np.int8)], axis=1, block_size=2, name="blocks")
    case("DequantizeLinear", 13, [u8(0, 128, 255), scalar(0.1, np.float32), scalar(128, np.uint8)])
    case("DequantizeLinear", 13, [np.array([[1, -2], [3, 4]], np.int8), positive(2)], axis=0, name="axis, no zero point")
    case("DequantizeLinear", 13, [i(7, -9, dtype=np.int32), scalar(0.5, np.float32)], name="int32")
    case("DynamicQuantizeLinear", 11, [x], 3)
    case("DynamicQuantizeLinear", 11, [positive(2, 2)], 3, name="positive")


def losses():
    scores, labels = f(3, 4), i(1, 3, 0)
    case("SoftmaxCrossEntropyLoss", 13, [scores, labels], 2)
    case("SoftmaxCrossEntropyLoss", 13, [scores, labels, positive(4)], reduction="sum", name="weights, sum")
    case("SoftmaxCrossEntropyLoss", 13, [f(2, 3, 2), np.array([[0, 2], [-1, 1]]), positive(3)], ignore_index=-1, name="ignored, three dims")
    logarithms = np.log(np.abs(f(3, 4)) + 0.1).astype(np.float32)
    case("NegativeLogLikelihoodLoss", 13, [logarithms, labels], reduction="none", name="none")
    case("NegativeLogLikelihoodLoss", 13, [logarithms, labels, positive(4)], ignore_index=3, name="weights, ignored")


def before_set_7():
    x, y = f(2, 3, 4), f(3)
    column = y.reshape(3, 1)
    for op, function in [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply)]:
        case(op, 6, [x, y], broadcast=1, axis=1, name="axis", expected=[function(x, column)])
    z = positive(3)
    case("Div", 6, [x, z], broadcast=1, axis=-2, name="negative axis", expected=[x / z.reshape(3, 1)])
    row = f(4)
    case("Add", 6, [x, row], broadcast=1, name="last dims", expected=[x + row])
    case("Equal", 1, [i(1, 2), i(1, 3)], expected=[np.array([True, False])])
    p = positive(2, 3)
    case("Pow", 1, [p, i(2, dtype=np.float32)], broadcast=1, expected=[p ** 2])
    case("PRelu", 6, [x, z], name="slope per channel", expected=[np.where(x > 0, x, x * z.reshape(3, 1))])
    a, b, c = f(2, 3), f(3, 2), f(2)
    case("Gemm", 6, [a, b, c], broadcast=1, expected=[a @ b + c])
    case("Softmax", 1, [f(2, 3)])
    parts = [f(2, 1), f(2, 2)]
    case("Concat", 1, parts, name="axis 1", expected=[np.concatenate(parts, 1)])
    case("Reshape", 1, [x], shape=[0, -1], name="attribute", expected=[x.reshape(2, 12)])
    case("Tile", 1, [x, scalar(2, np.float32), scalar(1, np.float32)], name="one axis", expected=[np.tile(x, (1, 2, 1))])
    case("Pad", 1, [x], paddings=[0, 1, 0, 0, 0, 2], value=1.5, name="paddings", expected=[np.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=1.5)])
    case("Cast", 1, [x], to="INT32", name="type by name", expected=[x.astype(np.int32)])
    whole = f(4, 1)
    case("Split", 1, [whole], 2, axis=0, split=[1, 3], name="attribute", expected=[whole[:1], whole[1:]])
    image = f(1, 1, 2, 2)
    case("Upsample", 1, [image], width_scale=3.0, height_scale=2.0, name="two attributes", expected=[image.repeat(2, 2).repeat(3, 3)])
    mean, variance, scale, shift = f(3, 2), positive(3, 2), positive(3, 2), f(3, 2)
    batch = f(2, 3, 2)
    case("BatchNormalization", 7, [batch, scale, shift, mean, variance], spatial=0, name="per element",
         expected=[(batch - mean) / np.sqrt(variance + 1e-5) * scale + shift])
    per_channel = [positive(3), f(3), f(3), positive(3)]
    s, b, m, v = (t.reshape(3, 1) for t in per_channel)
    case("BatchNormalization", 6, [batch, *per_channel], is_test=1, name="is_test", expected=[(batch - m) / np.sqrt(v + 1e-5) * s + b])
    case("Dropout", 6, [x], is_test=1, name="is_test", expected=[x])
    group, gs, gb = f(2, 4, 2), positive(2), f(2)
    halves = group.reshape(2, 2, 4)
    normal = (halves - halves.mean(2, keepdims=True)) / np.sqrt(halves.var(2, keepdims=True) + 1e-5)
    case("GroupNormalization", 18, [group, gs, gb], num_groups=2, name="scale per group",
         expected=[(normal * gs.reshape(2, 1) + gb.reshape(2, 1)).reshape(2, 4, 2).astype(np.float32)])


for group in [elementwise, reductions, selection, sampling, signals, quantisation, losses, before_set_7]:
    group()
path = pathlib.Path(__file__).with_name("ops_second.json")
lines = ",\n".join(json.dumps(c) for c in cases)
path.write_text(f"[\n{lines}\n]\n")
print(len(cases), "cases,", sum(c["source"] == "onnx.reference" for c in cases), "by onnx.reference,",
      sum(c["source"] == "numpy" for c in cases), "by numpy,", path.stat().st_size, "bytes")
