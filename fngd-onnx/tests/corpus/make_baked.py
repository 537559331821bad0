#!/usr/bin/env python3
"""Makes baked/: exports with the batch size written into the file, as PyTorch's exporters write it by default.

    pip install -r requirements.txt
    python make_baked.py [NAME...]

NAME.VARIANT.bB.onnx               variants as in make.py, exported with a batch of B
NAME.VARIANT.bB.golden.safetensors inputs and logits of PyTorch for a batch of 5
refuse-*.onnx                      small graphs whose batch must stay 2
accept-*.onnx                      small graphs with a 2 in them that is not the batch
"""
import pathlib
import sys
import zlib

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[2] / "models"))

from architectures import CORPUS  # noqa: E402
from export import export  # noqa: E402
from make import VARIANTS, randomise  # noqa: E402

# No file's batch, nor a multiple of it but for 1.
BATCH = 5
FILES = {
    "mlp": [("dyn", 2)],
    "vgg": [("dyn", 1)],
    "vgg-bn": [("dyn", 2)],
    "resnet": [("ts", 1)],
    "mobilenet": [("dyn", 2)],
    "efficientnet": [("tstrain", 2)],
    "convnext": [("dyn", 1), ("dyn", 2)],
    "densenet": [("dyn", 1)],
    "vit": [("dyn", 2), ("ts", 1)],
    "bert": [("dyn", 1), ("ts", 2)],
    "gpt2": [("dyn", 2)],
    "encoder": [("dyn", 1), ("ts", 2)],
    "translator": [("ts", 1)],
}


def make(name, variant, batch):
    entry, (exporter, training) = CORPUS[name], VARIANTS[variant]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = entry.build()
    if entry.randomise:
        randomise(model)
    path = HERE / "baked" / f"{name}.{variant}.b{batch}.onnx"
    export(model, entry.inputs(batch), entry.names, exporter, training, None, path)
    inputs = entry.inputs(BATCH)
    with torch.no_grad():
        logits = model.eval()(*inputs)
    tensors = {f"input.{name}": value for name, value in zip(entry.names, inputs)} | {"output.logits": logits}
    golden = path.with_suffix(".golden.safetensors")
    save_file({name: value.contiguous() for name, value in tensors.items()}, golden)
    golden.chmod(0o644)
    print(path.name, path.stat().st_size, golden.stat().st_size, flush=True)


def small(name, nodes, constants=(), outputs=(2, 4)):
    """A graph from `x` to `y`, both with a batch of 2; `constants` by name."""
    values = [helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, dims) for value, dims in (("x", (2, 4)), ("y", outputs))]
    constants = [numpy_helper.from_array(value, name) for name, value in dict(constants).items()]
    graph = helper.make_graph(nodes, name, values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "baked" / f"{name}.onnx")


def make_small():
    node, random = helper.make_node, np.random.default_rng(0)
    weight = random.normal(size=(4, 4)).astype(np.float32)
    linear = node("MatMul", ["x", "w"], ["h"], "linear")
    small("refuse-softmax", [linear, node("Softmax", ["h"], ["y"], "over_samples", axis=0)], {"w": weight})
    small("refuse-mean", [linear, node("ReduceMean", ["h", "axis"], ["m"], "mean", keepdims=1), node("Sub", ["h", "m"], ["y"])],
          {"w": weight, "axis": np.int64([0])})
    small("refuse-rows", [linear, node("Mul", ["h", "rows"], ["p"], "scaled"), node("Relu", ["p"], ["y"])],
          {"w": weight, "rows": np.float32([[1, -100], [1, 2]]).repeat(2, 1)})
    # The batch as channels: sizes say nothing against it, the outputs do.
    small("refuse-neighbours", [linear, node("Unsqueeze", ["h", "axis"], ["c"]), node("LRN", ["c"], ["n"], "lrn", size=3, alpha=1.0),
                                node("Squeeze", ["n", "axis"], ["y"])], {"w": weight, "axis": np.int64([0])})
    # Two heads of width 2, a table of two rows for the heads, and a bias of the shape of the batch's square.
    small("accept-heads", [linear, node("Reshape", ["h", "heads"], ["s"]), node("Add", ["s", "table"], ["t"]),
                           node("Transpose", ["t"], ["u"], perm=[0, 2, 1]), node("MatMul", ["u", "square"], ["v"]),
                           node("Reshape", ["v", "flat"], ["y"])],
          {"w": weight, "heads": np.int64([2, 2, 2]), "table": random.normal(size=(2, 1)).astype(np.float32),
           "square": random.normal(size=(2, 2)).astype(np.float32), "flat": np.int64([2, 4])})


def main():
    make_small()
    for name in sys.argv[1:] or FILES:
        for variant, batch in FILES[name]:
            make(name, variant, batch)


if __name__ == "__main__":
    main()
