"""Compares an ONNX file, run by onnxruntime in inference mode, with PyTorch."""
import numpy as np
import onnx
import onnxruntime


def largest_difference(proto, inputs, expected):
    """Largest difference of the first output from `expected`, relative to its largest value (or 1).

    `None` if the file contains random operators that have no inference mode (stochastic depth).
    """
    if any(node.op_type == "RandomUniformLike" for node in proto.graph.node):
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # hints about unused initializers
    session = onnxruntime.InferenceSession(in_inference_mode(proto).SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    used = {value.name for value in session.get_inputs()}
    found = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in used})[0]
    if found.shape != tuple(expected.shape):
        raise RuntimeError(f"onnxruntime gives shape {found.shape}, PyTorch {tuple(expected.shape)}")
    return float(np.abs(found - expected.numpy()).max() / max(1.0, float(expected.abs().max())))


def in_inference_mode(proto):
    """A copy whose Dropout and BatchNormalization nodes are those of inference; onnxruntime would obey training mode."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        if node.op_type == "Dropout":
            del node.input[1:]
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return copy
