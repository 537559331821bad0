#!/usr/bin/env python3
"""Checks the golden gradients without PyTorch: finite differences of the loss, computed by onnxruntime on the files.

    python verify.py [NAME...]

Each gradient is compared with the slope of the loss along it. Kinks (ReLU, max-pooling) and float32 bound what this can see, so
a few gradients of deep ReLU networks miss the tolerance; a wrong name, layout or sign is off by 100 %.
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).resolve().parent
STEPS = (1e-2, 3e-3)
TOLERANCE = 0.1
# A smaller gradient drowns in float32 rounding of the loss.
SMALLEST_NORM = 3e-4


def in_training_mode(proto):
    """Batch statistics in BatchNormalization, no Dropout; `None` if stochastic depth makes the file random."""
    for node in proto.graph.node:
        if node.op_type == "RandomUniformLike":
            return None
        if node.op_type == "Dropout":
            del node.input[1:]
        if node.op_type == "BatchNormalization":
            node.output[1:] = [f"{node.name}/{statistic}" for statistic in ("mean", "var")]
            kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("training_mode", 1)])
    return proto


def loss_of(proto, inputs, labels):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits = session.run(None, {value.name: inputs[value.name] for value in session.get_inputs()})[0].astype(np.float64)
    logits = logits.reshape(-1, logits.shape[-1])
    logits -= logits.max(1, keepdims=True)
    return float((np.log(np.exp(logits).sum(1)) - logits[np.arange(labels.size), labels.reshape(-1)]).mean())


def section(tensors, prefix):
    return {name[len(prefix):]: value for name, value in tensors.items() if name.startswith(prefix)}


def verify(path):
    golden = load_file(path)
    proto = in_training_mode(onnx.load(path.parent / path.name.replace(".golden.safetensors", ".onnx")))
    if proto is None:
        return "random"
    inputs, labels = section(golden, "input."), golden["labels"]
    gradients = section(golden, "grad.") | section(golden, "untied.")
    misses, checked = [], 0
    for initializer in proto.graph.initializer:
        gradient = gradients.get(initializer.name, np.zeros(1)).astype(np.float64)
        norm = np.linalg.norm(gradient)
        if norm < SMALLEST_NORM:
            continue
        stored, value = initializer.SerializeToString(), numpy_helper.to_array(initializer)
        errors = []
        for step in STEPS:
            losses = []
            for sign in (1, -1):
                moved = (value + sign * step * gradient / norm).astype(np.float32)
                initializer.CopyFrom(numpy_helper.from_array(moved, initializer.name))
                losses.append(loss_of(proto, inputs, labels))
            errors.append(abs((losses[0] - losses[1]) / (2 * step) / norm - 1))
        initializer.ParseFromString(stored)
        checked += 1
        if min(errors) > TOLERANCE:
            misses.append(f"{initializer.name} by {min(errors):.0%}")
    return f"{checked} gradients checked" + (f", misses: {', '.join(misses)}" if misses else "")


def main():
    for path in sorted(HERE.glob("*.golden.safetensors")):
        if not sys.argv[1:] or path.name.split(".")[0] in sys.argv[1:]:
            print(f"{path.name.removesuffix('.golden.safetensors')}: {verify(path)}", flush=True)


if __name__ == "__main__":
    main()
