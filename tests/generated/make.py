"""Makes the models that code generation is tested with: what PyTorch's exporters write, without the large tensors.

    python make.py [NAME...]      (versions: ../corpus/requirements.txt)

For each NAME: NAME.onnx.gz, whose tensors of two or more dimensions lie in `weights.bin`, and NAME.json, which says how that file is made
again from a formula, and what onnxruntime computes with it. So a file of 350 MB is a fixture of some kilobytes.
"""
import gzip
import json
import math
import pathlib
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import torch
import torchvision

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "models"))
import architectures  # noqa: E402
import export  # noqa: E402

BATCH = 2


def mixed(first, count):
    """`count` numbers in [-1, 1) from the positions first, first + 1, ... (tests/tests/generated.rs has the same)."""
    x = (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(first)).astype(numpy.uint32)
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(0x7FEB352D)
    x ^= x >> numpy.uint32(15)
    x *= numpy.uint32(0x846CA68B)
    x ^= x >> numpy.uint32(16)
    return (x >> numpy.uint32(8)).astype(numpy.float32) / numpy.float32(1 << 23) - numpy.float32(1)


def strip(proto):
    """Moves tensors of two or more dimensions out, with values from the formula. Returns [position, count, scale] of each."""
    moved, position, values = [], 0, []
    for tensor in proto.graph.initializer:
        if len(tensor.dims) < 2 or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        count = math.prod(tensor.dims)
        scale = float(numpy.float32(math.sqrt(3 / math.prod(tensor.dims[1:]))))
        moved.append([position, count, scale])
        values.append(mixed(position, count) * numpy.float32(scale))
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", "weights.bin"), ("offset", 4 * position), ("length", 4 * count)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        position += count
    return moved, numpy.concatenate(values)


def to_inference(proto):
    """The same model with every BatchNormalization in inference mode, which is what is evaluated."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in node.attribute:
                if attribute.name == "training_mode":
                    attribute.i = 0
    return copy


MODELS = {
    # name: model, size of one sample, exporter, whether with the recipe for training
    "resnet18": (torchvision.models.resnet18, (3, 64, 64), "dynamo", True),
    "resnet18_default": (torchvision.models.resnet18, (3, 64, 64), "dynamo", False),
    "resnet18_torchscript": (torchvision.models.resnet18, (3, 64, 64), "torchscript", True),
    "resnet50": (torchvision.models.resnet50, (3, 64, 64), "dynamo", False),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, (3, 64, 64), "dynamo", False),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, (3, 64, 64), "dynamo", False),
    "resnet110": (lambda: architectures.CifarResNet(110), (3, 32, 32), "dynamo", True),
    "vit_b_16": (torchvision.models.vit_b_16, (3, 224, 224), "dynamo", True),
    "vit_b_16_default": (torchvision.models.vit_b_16, (3, 224, 224), "dynamo", False),
    "vit_b_16_torchscript": (torchvision.models.vit_b_16, (3, 224, 224), "torchscript", False),
}


def make(name):
    build, sample, exporter, training = MODELS[name]
    torch.manual_seed(0)
    model = build()
    inputs = (torch.zeros(BATCH, *sample),)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        post = export.tidy if training and exporter == "dynamo" else lambda proto: None
        proto = export.export(model, inputs, ["input"], exporter, training, [0], path, post=post)
        moved, values = strip(proto)
        values.tofile(pathlib.Path(folder) / "weights.bin")
        onnx.save(proto, path)
        given = mixed(0, BATCH * math.prod(sample)).reshape(BATCH, *sample)
        content = path.read_bytes()
        onnx.save(to_inference(proto), path)
        found = onnxruntime.InferenceSession(str(path)).run(None, {proto.graph.input[0].name: given})[0]
    with open(HERE / f"{name}.onnx.gz", "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(content)
    facts = {"input": [BATCH, *sample], "tensors": moved, "output": [float(x) for x in found[:, :8].ravel()]}
    (HERE / f"{name}.json").write_text(json.dumps(facts) + "\n")
    print(f"{name}: {len(content):,} bytes, {(HERE / f'{name}.onnx.gz').stat().st_size:,} packed, outputs up to {abs(found).max():.3g}")


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        make(name)
