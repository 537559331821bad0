"""Ways to write a PyTorch model as ONNX: the exporters and modes that users really have.

Every file is self-contained, stripped of stack traces (they name folders of the machine that exported it) and checked.
"""
import io
import warnings

import onnx
import torch

OPSETS = {"dynamo": 20, "torchscript": 17}


def export(model, inputs, names, exporter, training, batch_axes, path, outputs=("logits",)):
    """Writes `model` to `path` and returns the ModelProto.

    inputs       example tensors, one per name; their batch size must not be 1
    exporter     "dynamo" or "torchscript"
    training     False: the exporter's defaults for inference, which fold what they can.
                 True: the recipe that keeps BatchNorm, Dropout and parameter names.
    batch_axes   per input, the axis that becomes the symbol `batch`
    """
    model.train(training)
    # The fused kernel of nn.TransformerEncoder has no ONNX form.
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write = dynamo if exporter == "dynamo" else torchscript
        proto = write(model, inputs, list(names), training, batch_axes, list(outputs))
    strip_traces(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return proto


def dynamo(model, inputs, names, training, batch_axes, outputs):
    batch = torch.export.Dim("batch")
    shapes = tuple({axis: batch} for axis in batch_axes)
    program = torch.onnx.export(model, inputs, dynamo=True, optimize=not training, dynamic_shapes=shapes, verbose=False,
                                opset_version=OPSETS["dynamo"], input_names=names, output_names=outputs)
    return program.model_proto


def torchscript(model, inputs, names, training, batch_axes, outputs):
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    axes = {name: {axis: "batch"} for name, axis in zip(names, batch_axes)} | {name: {0: "batch"} for name in outputs}
    buffer = io.BytesIO()
    torch.onnx.export(model, inputs, buffer, dynamo=False, training=mode, do_constant_folding=not training,
                      opset_version=OPSETS["torchscript"], input_names=names, output_names=outputs, dynamic_axes=axes)
    return onnx.load_from_string(buffer.getvalue())


def strip_traces(proto):
    """Removes stack traces and debug prints; names, scopes and classes stay."""
    for nodes in [proto.graph.node, *(function.node for function in proto.functions)]:
        strip_nodes(nodes)
    leaked = [word for word in (b"/root/", b"/home/", b"site-packages") if word in proto.SerializeToString()]
    if leaked:
        raise RuntimeError(f"the file still names folders of this machine: {leaked}")


def strip_nodes(nodes):
    for node in nodes:
        node.doc_string = ""
        # fx_node is a debug print, namespace repeats name_scopes and class_hierarchy: half of a small file together.
        keep = [entry for entry in node.metadata_props if not entry.key.endswith(("stack_trace", "fx_node", "namespace"))]
        del node.metadata_props[:]
        node.metadata_props.extend(keep)
