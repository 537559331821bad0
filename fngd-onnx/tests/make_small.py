"""Writes the small models in tests/small: `python make_small.py` with onnx==1.23.2, onnxruntime==1.32.0, numpy, safetensors, and torch==2.11.0 for the exports.

Every model is a few kilobytes. Values are seeded, so that the same versions give the same bytes.
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent / "small"
random = np.random.default_rng(0)


def floats(*dims):
    return random.standard_normal(dims).astype(np.float32)


def raw(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def save(name, nodes, inputs, outputs, initializers, opset=20, ir_version=10, value_info=(), **more):
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers, value_info=list(value_info))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version,
                              producer_name="make_small", **more)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, FOLDER / f"{name}.onnx")


def tensor(name, dims, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def linear():
    """Linear layers in every form that exporters write; each has 4 inputs and 4 outputs."""
    w = {name: raw(name, floats(4, 4)) for name in [
        "gemm.weight", "conv1d.weight", "left.weight", "right.weight", "stored", "cast.weight", "named", "scaled.weight",
        "transposed_twice.weight", "tied.weight", "bare.weight", "matrix_bias.weight"]}
    half = raw("cast.weight", floats(4, 4).astype(np.float16))
    b = {name: raw(name, floats(4)) for name in ["gemm.bias", "conv1d.bias", "left.bias", "right.bias", "stored.bias", "scaled.bias", "tied.bias1", "tied.bias2"]}
    nodes = [
        helper.make_node("Gemm", ["x", "gemm.weight", "gemm.bias"], ["y0"], "gemm", transB=1),
        helper.make_node("Gemm", ["y0", "conv1d.weight", "conv1d.bias"], ["y1"], "conv1d"),
        helper.make_node("MatMul", ["y1", "left.weight"], ["m2"], "left"),
        helper.make_node("Add", ["left.bias", "m2"], ["y2"], "left_add"),
        helper.make_node("MatMul", ["y2", "right.weight"], ["m3"], "right"),
        helper.make_node("Add", ["m3", "right.bias"], ["y3"], "right_add"),
        helper.make_node("Transpose", ["stored"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["y3", "turned"], ["m4"], "turned_matmul"),
        helper.make_node("Add", ["m4", "stored.bias"], ["y4"], "turned_add"),
        helper.make_node("Cast", ["cast.weight"], ["cast32"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["y4", "cast32"], ["y5"], "cast_matmul"),
        helper.make_node("Identity", ["named"], ["other.weight"], "identity"),
        helper.make_node("Gemm", ["y5", "other.weight"], ["y6"], "identity_gemm", transB=1),
        helper.make_node("Gemm", ["y6", "scaled.weight", "scaled.bias"], ["y7"], "scaled", alpha=0.5),
        helper.make_node("Transpose", ["transposed_twice.weight"], ["t1"], "t1"),
        helper.make_node("Transpose", ["t1"], ["t2"], "t2"),
        helper.make_node("MatMul", ["y7", "t2"], ["y8"], "twice"),
        helper.make_node("MatMul", ["y8", "tied.weight"], ["m9"], "tied1"),
        helper.make_node("Add", ["m9", "tied.bias1"], ["y9"], "tied_add1"),
        helper.make_node("MatMul", ["y9", "tied.weight"], ["m10"], "tied2"),
        helper.make_node("Add", ["m10", "tied.bias2"], ["y10"], "tied_add2"),
        helper.make_node("Gemm", ["y10", "bare.weight"], ["y11"], "bare"),
        helper.make_node("Gemm", ["y11", "matrix_bias.weight", "row"], ["y12"], "matrix_bias"),
        helper.make_node("MatMul", ["y12", "y12"], ["y13"], "attention"),
        helper.make_node("Softmax", ["y13"], ["y"], "softmax"),
    ]
    w["cast.weight"] = half
    save("linear", nodes, [tensor("x", [4, 4])], [tensor("y", [4, 4])],
         [*w.values(), *b.values(), raw("row", floats(1, 4))])


def tied():
    """A language model whose output layer is its embedding."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embed"),
        helper.make_node("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["e", "turned"], ["logits"], "head"),
    ]
    save("tied", nodes, [tensor("ids", ["batch", 3], TensorProto.INT64)], [tensor("logits", ["batch", 3, 8])], [raw("table", floats(8, 4))])


def convolution():
    """Convolutions, a computed zero bias, shared kernels with equal and different geometry, a normalisation."""
    k = {name: raw(name, floats(3, 3, 3, 3)) for name in ["plain.weight", "zero.weight", "same.weight", "different.weight"]}
    nodes = [
        helper.make_node("Conv", ["x", "plain.weight", "plain.bias"], ["c0"], "plain", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c0", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["n0"], "bn"),
        helper.make_node("Shape", ["zero.weight"], ["shape"], "shape", start=0, end=1),
        helper.make_node("Expand", ["zero", "shape"], ["expanded"], "expand"),
        helper.make_node("CastLike", ["expanded", "x"], ["computed"], "castlike"),
        helper.make_node("Conv", ["n0", "zero.weight", "computed"], ["c1"], "zero_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c1", "same.weight"], ["c2"], "same1", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c2", "same.weight"], ["c3"], "same2", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c3", "different.weight"], ["c4"], "different1", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c4", "different.weight"], ["c5"], "different2", pads=[2, 2, 2, 2], dilations=[2, 2]),
        helper.make_node("ConvTranspose", ["c5", "up.weight", "up.bias"], ["c6"], "up", strides=[2, 2]),
        helper.make_node("PRelu", ["c6", "slope"], ["c7"], "prelu"),
        helper.make_node("GlobalAveragePool", ["c7"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], "fc", transB=1),
    ]
    save("convolution", nodes, [tensor("x", ["batch", 3, 8, 8])], [tensor("y", ["batch", 5])], [
        *k.values(), raw("plain.bias", floats(3)), raw("bn.weight", floats(3)), raw("bn.bias", floats(3)), raw("bn.mean", floats(3)),
        raw("bn.var", np.abs(floats(3)) + 1), raw("zero", np.float32(0)), raw("up.weight", floats(3, 2, 2, 2)), raw("up.bias", floats(2)),
        raw("slope", floats(2, 1, 1)), raw("fc.weight", floats(5, 2)), raw("fc.bias", floats(5))])


def constants():
    """Float constants that are none of the parameters, beside some that are."""
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["s"], "sub"),
        helper.make_node("Div", ["s", "std"], ["n"], "div"),
        helper.make_node("Add", ["n", "position"], ["a"], "add"),
        helper.make_node("Mul", ["angle", "frequencies"], ["f"], "angles"),
        helper.make_node("Sin", ["f"], ["sin"], "sin"),
        helper.make_node("Mul", ["a", "sin"], ["r"], "rotate"),
        helper.make_node("Add", ["r", "mask"], ["m"], "masked"),
        helper.make_node("Mul", ["m", "two"], ["t"], "double"),
        helper.make_node("Mul", ["t", "range"], ["u"], "ranged"),
        helper.make_node("Mul", ["u", "cosines"], ["v"], "cosine"),
        helper.make_node("Add", ["v", "sines"], ["w"], "sine"),
        helper.make_node("Add", ["w", "scale"], ["y"], "scaled"),
    ]
    angles = np.outer(np.arange(4), [1.0, 0.5, 0.25, 0.1]).astype(np.float32)
    mask = np.where(np.tril(np.ones((4, 4), bool)), 0, -np.inf).astype(np.float32)
    save("constants", nodes, [tensor("x", [4, 4]), tensor("angle", [4, 1])], [tensor("y", [4, 4])], [
        raw("mean", floats(4)), raw("std", floats(4)), raw("position", floats(4, 4)), raw("frequencies", floats(4)), raw("mask", mask),
        raw("two", np.float32(2)), raw("range", np.arange(4, dtype=np.float32)), raw("cosines", np.cos(angles)), raw("sines", np.sin(angles)),
        raw("scale", floats(4))])


def group_norm():
    """GroupNorm as written before opset 18: ones and zeros inside, the parameters outside."""
    nodes = [
        helper.make_node("Reshape", ["x", "groups"], ["r"], "split"),
        helper.make_node("InstanceNormalization", ["r", "ones", "zeros"], ["i"], "inner"),
        helper.make_node("Reshape", ["i", "back"], ["b"], "join"),
        helper.make_node("Mul", ["b", "gn.weight"], ["m"], "scale"),
        helper.make_node("Add", ["m", "gn.bias"], ["y"], "shift"),
    ]
    save("group_norm", nodes, [tensor("x", [2, 4, 3, 3])], [tensor("y", [2, 4, 3, 3])], [
        raw("groups", np.array([0, 2, -1])), raw("back", np.array([2, 4, 3, 3])), raw("ones", np.ones(2, np.float32)),
        raw("zeros", np.zeros(2, np.float32)), raw("gn.weight", floats(4, 1, 1)), raw("gn.bias", floats(4, 1, 1))])


def storage():
    """One parameter for each way of storing a tensor."""
    values = floats(4)
    bits = values.astype(np.float16).view(np.uint16)
    brain = (values.view(np.uint32) >> 16).astype(np.uint16)
    packed = helper.make_tensor("typed", TensorProto.FLOAT, [4], floats(4))
    half = TensorProto(name="half_int32", data_type=TensorProto.FLOAT16, dims=[4], int32_data=[int(v) for v in bits])
    half_raw = TensorProto(name="half_raw", data_type=TensorProto.FLOAT16, dims=[4], raw_data=bits.tobytes())
    brain_raw = TensorProto(name="brain_raw", data_type=TensorProto.BFLOAT16, dims=[4], raw_data=brain.tobytes())
    double = helper.make_tensor("double_typed", TensorProto.DOUBLE, [4], values.astype(np.float64) / 3)
    tensors = [raw("raw", values), packed, half, half_raw, brain_raw, double]
    nodes, last = [], "x"
    for t in tensors:
        source = t.name
        if t.data_type != TensorProto.FLOAT:
            source = f"{t.name}_cast"
            nodes.append(helper.make_node("Cast", [t.name], [source], source, to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Add", [last, source], [f"y_{t.name}"], f"add_{t.name}"))
        last = f"y_{t.name}"
    nodes += [
        helper.make_node("Constant", [], ["constant"], "constant_node", value=raw("", floats(4))),
        helper.make_node("Add", [last, "constant"], ["c1"], "add_constant"),
        helper.make_node("Constant", [], ["list"], "list_node", value_floats=[float(v) for v in floats(4)]),
        helper.make_node("Add", ["c1", "list"], ["y"], "add_list"),
    ]
    save("storage", nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], tensors)


def external():
    """Weights in another file, with gaps between them."""
    w, b = floats(3, 4), floats(3)
    (FOLDER / "external.onnx.data").write_bytes(b"before" + w.tobytes() + b"between" + b.tobytes() + b"after")

    def outside(name, values, offset):
        t = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": "external.onnx.data", "offset": offset, "length": values.nbytes}.items():
            t.external_data.add(key=key, value=str(value))
        return t

    graph = helper.make_graph([helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], "fc", transB=1)], "external",
                              [tensor("x", ["n", 4])], [tensor("y", ["n", 3])],
                              [outside("fc.weight", w, 6), outside("fc.bias", b, 6 + w.nbytes + 7)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (FOLDER / "external.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(FOLDER / "external.onnx"), full_check=True)


def old():
    """IR version 3: every initializer is listed as an input."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["g"], transB=1), helper.make_node("Softmax", ["g"], ["y"])]
    save("old", nodes, [tensor("x", [1, 4]), tensor("w", [3, 4]), tensor("b", [3])], [tensor("y", [1, 3])], [raw("w", floats(3, 4)), raw("b", floats(3))],
         opset=9, ir_version=3)


def training():
    """Exported in training mode."""
    nodes = [
        helper.make_node("BatchNormalization", ["x", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["n", "mean", "var"], "bn", training_mode=1, momentum=0.8),
        helper.make_node("Dropout", ["n", "ratio", "yes"], ["d"], "drop"),
        helper.make_node("Dropout", ["d", "ratio", "no"], ["y"], "keep"),
    ]
    save("training", nodes, [tensor("x", ["n", 3])], [tensor("y", ["n", 3])], [
        raw("bn.weight", floats(3)), raw("bn.bias", floats(3)), raw("bn.mean", floats(3)), raw("bn.var", np.abs(floats(3)) + 1),
        raw("ratio", np.float32(0.5)), raw("yes", np.array(True)), raw("no", np.array(False))], opset=17, ir_version=8)


def merged():
    """Parameters that an exporter has merged because they were equal."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "ones", "zeros"], ["n1"], "norm1"),
        helper.make_node("LayerNormalization", ["n1", "ones", "zeros"], ["n2"], "norm2"),
        helper.make_node("Identity", ["zeros"], ["fc.bias"], "alias"),
        helper.make_node("Gemm", ["n2", "w", "fc.bias"], ["g1"], "fc1", transB=1),
        helper.make_node("Identity", ["w"], ["fc2.weight"], "tie"),
        helper.make_node("Gemm", ["g1", "fc2.weight"], ["y"], "fc2", transB=1),
    ]
    save("merged", nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])],
         [raw("ones", np.ones(4, np.float32)), raw("zeros", np.zeros(4, np.float32)), raw("w", floats(4, 4))])


def drop_path():
    """Stochastic depth as both exporters write it, and noise that is something else."""
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight"], ["a"], "fc1", transB=1),
        helper.make_node("RandomUniformLike", ["a"], ["u1"], "random1"),
        helper.make_node("CastLike", ["rate", "u1"], ["r1"], "like1"),
        helper.make_node("Less", ["u1", "r1"], ["l1"], "less1"),
        helper.make_node("Cast", ["l1"], ["k1"], "cast1", to=TensorProto.FLOAT),
        helper.make_node("Div", ["k1", "rate"], ["m1"], "div1"),
        helper.make_node("Mul", ["m1", "a"], ["b"], "drop1"),
        helper.make_node("Gemm", ["b", "fc2.weight"], ["c"], "fc2", transB=1),
        helper.make_node("RandomUniformLike", ["c"], ["u2"], "random2"),
        helper.make_node("Add", ["u2", "rate"], ["l2"], "add2"),
        helper.make_node("Floor", ["l2"], ["m2"], "floor2"),
        helper.make_node("Mul", ["c", "m2"], ["d"], "drop2"),
        helper.make_node("RandomUniformLike", ["d"], ["u3"], "noise"),
        helper.make_node("Add", ["d", "u3"], ["y"], "noisy"),
    ]
    save("drop_path", nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])],
         [raw("fc1.weight", floats(4, 4)), raw("fc2.weight", floats(4, 4)), raw("rate", np.float32(0.9))])


def hinted(node, rule, scope, call):
    """`node` with what the dynamo exporter notes beside it."""
    hints = {"pkg.onnxscript.rewriter.rule_name": rule, "pkg.torch.onnx.name_scopes": str(scope)}
    if call:
        target, arguments = call
        hints["pkg.torch.onnx.fx_node"] = (
            f"%{node.name} : [num_users=1] = call_function[target=torch.ops.aten.{target}.default](args = ({arguments}), kwargs = {{}})")
    for key, value in hints.items():
        node.metadata_props.add(key=key, value=value)
    return node


def folded():
    """Layers into which the dynamo exporter has multiplied a BatchNormalization: with a bias, without one, in every layout."""
    fused = "FuseBatchNormInto"
    norm = ("_native_batch_norm_legit_no_training", "%x, %p_w, %p_b, %b_m, %b_v, 0.2, 0.001")
    nodes = [
        hinted(helper.make_node("Conv", ["x", "stem.weight", "stem.weight_bias"], ["c1"], "stem_conv", pads=[1, 1, 1, 1]),
               f"{fused}Conv, RemoveOptionalBiasFromConv", ["", "body", "body.norm1", "batch_norm"], norm),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        hinted(helper.make_node("ConvTranspose", ["r1", "up.weight"], ["c2"], "up_conv", group=2),
               f"RemoveOptionalBiasFromConvTranspose, {fused}ConvTranspose", ["", "batch_norm_1"], None),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        hinted(helper.make_node("Gemm", ["f", "hidden.weight", "hidden.bias"], ["h"], "hidden"), f"{fused}Gemm",
               ["", "norm3", "batch_norm_2"], norm),
        helper.make_node("Relu", ["h"], ["r3"], "relu3"),
        # Its weight is read twice: what is multiplied into it would change the other reader.
        hinted(helper.make_node("Gemm", ["r3", "shared.weight"], ["s1"], "shared1", transB=1), f"{fused}Gemm",
               ["", "norm4", "batch_norm_3"], norm),
        helper.make_node("Gemm", ["s1", "shared.weight"], ["s2"], "shared2", transB=1),
        helper.make_node("Gemm", ["s2", "head.weight", "head.bias"], ["y"], "head", transB=1),
    ]
    save("folded", nodes, [tensor("x", ["batch", 3, 5, 5])], [tensor("y", ["batch", 2])], [
        raw("stem.weight", floats(4, 3, 3, 3)), raw("stem.weight_bias", floats(4)), raw("up.weight", floats(4, 3, 2, 2)),
        raw("hidden.weight", floats(6, 5)), raw("hidden.bias", floats(5)), raw("shared.weight", floats(5, 5)),
        raw("head.weight", floats(2, 5)), raw("head.bias", floats(2))])


def zero_bias():
    """Layers whose bias of zeros the dynamo exporter has deleted, and layers that never had one."""
    rule = "RemoveOptionalBiasFrom"
    nodes = [
        hinted(helper.make_node("Conv", ["x", "had.weight"], ["c1"], "had", pads=[1, 1, 1, 1]), rule + "Conv",
               ["", "had", "conv2d"], ("conv2d", "%x, %p_had_weight, %p_had_bias, [1, 1], [1, 1]")),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        hinted(helper.make_node("Conv", ["r1", "never.weight"], ["c2"], "never", pads=[1, 1, 1, 1]), rule + "Conv",
               ["", "never", "conv2d_1"], ("conv2d", "%relu, %p_never_weight, None, [1, 1], [1, 1]")),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        hinted(helper.make_node("ConvTranspose", ["r2", "up.weight"], ["c3"], "up", group=3), rule + "ConvTranspose",
               ["", "up", "conv"], None),
        helper.make_node("GlobalAveragePool", ["c3"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        hinted(helper.make_node("Gemm", ["f", "val_7", ""], ["y"], "fc"), rule + "Gemm", ["", "fc", "linear"],
               ("addmm", "%p_fc_bias, %view, %t")),
    ]
    save("zero_bias", nodes, [tensor("x", ["batch", 3, 4, 4])], [tensor("y", ["batch", 2])], [
        raw("had.weight", floats(3, 3, 3, 3)), raw("never.weight", floats(3, 3, 3, 3)), raw("up.weight", floats(3, 2, 2, 2)),
        raw("val_7", floats(6, 2))])


def untied():
    """A language model whose output layer has a transposed copy of its embedding, and a second embedding of ones."""
    table = floats(8, 4)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embed"),
        helper.make_node("Gather", ["ones", "ids"], ["o"], "embed_ones"),
        helper.make_node("Mul", ["e", "o"], ["m"], "mul"),
        helper.make_node("MatMul", ["m", "head"], ["h"], "head_matmul"),
        helper.make_node("Add", ["h", "head.bias"], ["y"], "head_add"),
    ]
    save("untied", nodes, [tensor("ids", ["batch", 3], TensorProto.INT64)], [tensor("y", ["batch", 3, 8])], [
        raw("table", table), raw("ones", np.ones((8, 4), np.float32)), raw("head", np.ascontiguousarray(table.T)), raw("head.bias", floats(8))])


def made():
    """Weights that the file makes from shapes, as the models do that onnx ships for its tests."""
    def of_shape(name, value):
        return helper.make_node("ConstantOfShape", [f"{name}.shape"], [name], f"make_{name}", value=helper.make_tensor("", TensorProto.FLOAT, [1], [value]))

    nodes = [
        of_shape("conv.weight", 0.1), of_shape("conv.bias", 0.2), of_shape("scale", 0.5), of_shape("fc.flat", 0.3), of_shape("data", 0.7),
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], "conv"),
        helper.make_node("Unsqueeze", ["scale"], ["scale3"], "unsqueeze", axes=[1, 2]),
        helper.make_node("Mul", ["c", "scale3"], ["m"], "mul"),
        helper.make_node("GlobalAveragePool", ["m"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Reshape", ["fc.flat", "fc.shape"], ["fc.weight"], "reshape"),
        helper.make_node("MatMul", ["f", "fc.weight"], ["h"], "fc"),
        # Nobody's weight.
        helper.make_node("Add", ["h", "data"], ["y"], "add"),
    ]
    shapes = {"conv.weight": [3, 2, 2, 2], "conv.bias": [3], "scale": [3], "fc.flat": [6], "data": [1, 2]}
    initializers = [raw(f"{name}.shape", np.array(shape)) for name, shape in shapes.items()] + [raw("fc.shape", np.array([3, -1]))]
    inputs = [tensor("x", ["batch", 2, 4, 4])] + [tensor(t.name, list(t.dims), TensorProto.INT64) for t in initializers]
    save("made", nodes, inputs, [tensor("y", ["batch", 2])], initializers, opset=9, ir_version=3)


def quantised():
    """A layer as quantisation-aware training writes it, and one whose weight exists in integers only."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], "quantise_x"),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], "dequantise_x"),
        helper.make_node("QuantizeLinear", ["fc1.weight", "w_scale", "w_zero"], ["wq"], "quantise_w", axis=0),
        helper.make_node("DequantizeLinear", ["wq", "w_scale", "w_zero"], ["wd"], "dequantise_w", axis=0),
        helper.make_node("Gemm", ["xd", "wd", "fc1.bias"], ["h"], "gemm", transB=1),
        helper.make_node("DequantizeLinear", ["fc2.integers", "w_scale", "w_zero"], ["w2"], "dequantise_w2", axis=0),
        helper.make_node("MatMul", ["h", "w2"], ["y"], "matmul"),
    ]
    zeros = np.zeros(4, np.int8)
    save("quantised", nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])],
         [raw("x_scale", np.float32(0.1)), raw("x_zero", np.int8(1)), raw("w_scale", np.full(4, 0.1, np.float32)), raw("w_zero", zeros),
          raw("fc1.weight", floats(4, 4)), raw("fc1.bias", floats(4)), raw("fc2.integers", np.arange(16, dtype=np.int8).reshape(4, 4))])


def mixed():
    """Two layers, and between them a Softmax over the samples of the batch."""
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight"], ["h"], "fc1", transB=1),
        helper.make_node("Softmax", ["h"], ["s"], "softmax", axis=0),
        helper.make_node("Gemm", ["s", "fc2.weight"], ["y"], "fc2", transB=1),
    ]
    save("mixed", nodes, [tensor("x", ["batch", 4])], [tensor("y", ["batch", 3])],
         [raw("fc1.weight", floats(5, 4)), raw("fc2.weight", floats(3, 5))])


def twins():
    """Two layers of equal weights, stored once, and without the biases that they had."""
    call = ("addmm", "%p_fc_bias, %view, %t")
    nodes = [
        hinted(helper.make_node("Gemm", ["x", "w"], ["h"], "fc1", transB=1), "RemoveOptionalBiasFromGemm", ["", "fc1", "linear"], call),
        hinted(helper.make_node("Gemm", ["h", "w"], ["y"], "fc2", transB=1), "RemoveOptionalBiasFromGemm", ["", "fc2", "linear"], call),
    ]
    save("twins", nodes, [tensor("x", ["batch", 4])], [tensor("y", ["batch", 4])], [raw("w", np.full((4, 4), 0.25, np.float32))])


def unsupported():
    """Operators on strings, which are not implemented, twice."""
    nodes = [
        helper.make_node("Cast", ["x"], ["s"], "text", to=TensorProto.STRING),
        helper.make_node("StringNormalizer", ["s"], ["s1"], "norm1"),
        helper.make_node("StringNormalizer", ["s1"], ["s2"], "norm2"),
        helper.make_node("StringNormalizer", ["s2"], ["s3"], "norm3"),
        helper.make_node("StringNormalizer", ["s3"], ["s4"], "norm4"),
        helper.make_node("RegexFullMatch", ["s4"], ["y"], "match", pattern="a"),
    ]
    save("unsupported", nodes, [tensor("x", [2])], [tensor("y", ["n"], TensorProto.BOOL)], [])



def golden(name, outputs=None, **feed):
    """Stores `outputs`, or what onnxruntime computes from `feed`, beside the model."""
    if outputs is None:
        session = onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])
        outputs = {info.name: value for info, value in zip(session.get_outputs(), session.run(None, feed))}
    named = {f"output.{key}": value for key, value in outputs.items()}
    save_file({**{f"input.{key}": value for key, value in feed.items()}, **named}, FOLDER / f"{name}.golden.safetensors")


def function(name, inputs, outputs, nodes, opset=20, **more):
    return helper.make_function("mine", name, inputs, outputs, nodes, [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)], **more)


def refer(node, name, attribute, kind):
    """Lets attribute `name` of `node` be attribute `attribute` of the function around it."""
    node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=attribute, type=kind))
    return node


def functions():
    """Local functions: nested, with attributes, defaults, inputs and outputs that are left out, and names that come twice."""
    float_, int_ = onnx.AttributeProto.FLOAT, onnx.AttributeProto.INT
    w1, b1, w2, scale = floats(4, 4), floats(4), floats(4, 4), floats(4)
    leaky = function("Leaky", ["x"], ["y"], [refer(helper.make_node("LeakyRelu", ["x"], ["y"], "leaky"), "alpha", "slope", float_)],
                     attribute_protos=[helper.make_attribute("slope", 0.25)])
    linear = function("Linear", ["x", "weight", "bias"], ["y"], [
        refer(helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], "gemm", transB=1), "beta", "beta", float_)], attributes=["beta"])
    older = function("Older", ["x"], ["y"], [helper.make_node("Softmax", ["x"], ["y"])], opset=18)
    block = function("Block", ["x", "weight", "bias"], ["y", "kept", "again"], [
        helper.make_node("Linear", ["x", "weight", "bias"], ["hidden"], "linear", "", "mine"),
        refer(helper.make_node("Leaky", ["hidden"], ["active"], "leaky", "", "mine"), "slope", "slope", float_),
        helper.make_node("Constant", [], ["scale"], "scale", value=raw("", scale)),
        helper.make_node("Mul", ["active", "scale"], ["y"], "mul"),
        refer(helper.make_node("Concat", ["hidden", "hidden"], ["again"], "concat"), "axis", "axis", int_),
        helper.make_node("Identity", ["hidden"], ["kept"]),
    ], attributes=["slope"], attribute_protos=[helper.make_attribute("axis", 0)])
    nodes = [
        helper.make_node("Block", ["x", "first.weight", "first.bias"], ["a"], "first", "", "mine", slope=0.5),
        # No bias, no slope; a value of the main graph has the name that an inner one would get.
        helper.make_node("Relu", ["a"], ["second/hidden"], "clash"),
        helper.make_node("Block", ["second/hidden", "second.weight"], ["b", "", "c"], "second", "", "mine", axis=1),
        helper.make_node("Reshape", ["c", "shape"], ["f"], "reshape"),
        helper.make_node("Older", ["f"], ["g"], "older", "", "mine"),
    ]
    graph = helper.make_graph(nodes, "functions", [tensor("x", ["n", 4])], [tensor("b", ["n", 4]), tensor("g", ["n", 2, 4])], [
        raw("first.weight", w1), raw("first.bias", b1), raw("second.weight", w2), raw("shape", np.array([-1, 2, 4]))])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=[leaky, linear, older, block])
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / "functions.onnx")
    # Neither onnxruntime nor onnx.reference knows all of this.
    x = floats(3, 4)
    leak = lambda values, slope: np.where(values < 0, slope * values, values)
    hidden = np.maximum(leak(x @ w1.T + b1, 0.5) * scale, 0) @ w2.T
    exponential = np.exp(np.concatenate([hidden, hidden], 1).reshape(-1, 2, 4))
    softmax = exponential / exponential.sum(-1, keepdims=True)
    golden("functions", {"b": leak(hidden, 0.25) * scale, "g": softmax}, x=x)


def definitions():
    """Operators that are put together from others, as ONNX defines them."""
    nodes = [
        helper.make_node("HannWindow", ["size"], ["window"], "hann", periodic=0),
        helper.make_node("Mul", ["x", "window"], ["m"], "mul"),
        helper.make_node("Gemm", ["m", "weight"], ["y"], "fc"),
    ]
    save("definitions", nodes, [tensor("x", [2, 5])], [tensor("y", [2, 3])], [raw("size", np.array(5)), raw("weight", floats(5, 3))])
    golden("definitions", x=floats(2, 5))


def branches():
    """Ifs that can be decided when the file is read."""
    def branch(name, nodes, output, initializers=()):
        return helper.make_graph(nodes, name, [], [tensor(output, None)], list(initializers))

    never = branch("never", [helper.make_node("Det", ["x"], ["never"])], "never")
    shift = branch("shift", [helper.make_node("Add", ["h", "shift"], ["out"], "add")], "out", [raw("shift", floats(4))])
    inner = helper.make_node("If", ["yes"], ["out"], "inner", then_branch=shift, else_branch=never)
    nested = branch("nested", [helper.make_node("Gemm", ["x", "weight"], ["h"], "gemm"), inner], "out")
    constant = branch("constant", [helper.make_node("Constant", [], ["out"], value=raw("", floats(4)))], "out")
    nodes = [
        helper.make_node("If", ["yes"], ["a"], "outer", then_branch=nested, else_branch=never),
        helper.make_node("Shape", ["weight"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "first"], ["rows"], "gather", axis=0),
        helper.make_node("Equal", ["rows", "four"], ["is_four"], "equal"),
        helper.make_node("Not", ["is_four"], ["is_other"], "not"),
        helper.make_node("If", ["is_other"], ["b"], "", then_branch=never, else_branch=constant),
        helper.make_node("Mul", ["a", "b"], ["y"], "mul"),
    ]
    save("branches", nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], [
        raw("yes", np.array(True)), raw("weight", floats(4, 4)), raw("first", np.array(0)), raw("four", np.array(4))])
    golden("branches", x=floats(3, 4))


def unsupported_if():
    """A condition that depends on the input."""
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "branch", [], [tensor("r", [2])])
    save("unsupported_if", [helper.make_node("If", ["c"], ["y"], "either", then_branch=branch, else_branch=branch)],
         [tensor("x", [2]), tensor("c", [], TensorProto.BOOL)], [tensor("y", [2])], [])


def module_functions():
    """The script exporter makes a function of each module when it is asked to."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)

        def forward(self, x):
            return x + torch.relu(self.norm(self.fc(x)))

    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block(), nn.Linear(4, 3)).eval()
    x = torch.randn(3, 4)
    torch.onnx.export(model, (x,), FOLDER / "net_functions.onnx", dynamo=False, opset_version=17, export_modules_as_functions=True,
                      input_names=["x"], dynamic_axes={"x": {0: "batch"}})
    # The exporter ignores `output_names` here.
    output = onnx.load(FOLDER / "net_functions.onnx").graph.output[0].name
    save_file({"input.x": x.numpy(), f"output.{output}": model(x).detach().numpy()}, FOLDER / "net_functions.golden.safetensors")


def without_traces(path):
    """Removes Python stack traces: they are large and name folders of the machine that ran this."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


def exports():
    """What the two PyTorch exporters write."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)
            self.bn = nn.BatchNorm2d(4)
            self.norm = nn.GroupNorm(2, 4)
            self.drop = nn.Dropout(0.3)
            self.hidden = nn.Linear(4, 6)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            x = torch.relu(self.bn(self.conv(x)))
            x = self.drop(self.norm(x).mean((2, 3)))
            return self.head(torch.relu(self.hidden(x))).softmax(-1)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(20, 8)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 20, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.norm(self.layer(self.table(ids))))

    warnings.filterwarnings("ignore")
    for name, net, example in [("net", Net, torch.zeros(2, 1, 6, 6)), ("encoder", Encoder, torch.zeros(2, 5, dtype=torch.int64))]:
        torch.manual_seed(0)
        model = net().eval()
        axes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
        torch.onnx.export(model, (example,), FOLDER / f"{name}_dynamo.onnx", dynamo=True, external_data=False, verbose=False)
        torch.onnx.export(model, (example,), FOLDER / f"{name}_script.onnx", dynamo=False, **axes)
        model.train()
        torch.onnx.export(model, (example,), FOLDER / f"{name}_dynamo_train.onnx", dynamo=True, external_data=False, optimize=False,
                          dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
        torch.onnx.export(model, (example,), FOLDER / f"{name}_script_train.onnx", dynamo=False, do_constant_folding=False,
                          training=torch.onnx.TrainingMode.TRAINING, **axes)
        for path in [FOLDER / f"{name}_dynamo.onnx", FOLDER / f"{name}_dynamo_train.onnx"]:
            without_traces(path)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for make in [linear, tied, convolution, constants, group_norm, storage, external, old, training, merged, unsupported, drop_path,
                 functions, definitions, branches, unsupported_if, folded, zero_bias, untied, made, quantised, mixed, twins]:
        make()
    if "--no-exports" not in sys.argv:
        exports()
        module_functions()
