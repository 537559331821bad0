"""Ways to write a PyTorch model as ONNX: the exporters and modes that users really have.

Every file is self-contained, stripped of stack traces (they name folders of the machine that exported it) and checked.
"""
import io
import warnings

import onnx
import torch
from onnx.reference import ReferenceEvaluator

OPSETS = {"dynamo": 20, "torchscript": 17}


def export(model, inputs, names, exporter, training, batch_axes, path, outputs=("logits",),
           post=lambda proto: None, opset=None):
    """Writes `model` to `path` and returns the ModelProto.

    inputs       example tensors, one per name; their batch size must not be 1
    exporter     "dynamo" or "torchscript"
    training     False: the exporter's defaults for inference, which fold what they can.
                 True: the recipe that keeps BatchNorm, Dropout and parameter names.
    batch_axes   per input, the axis that becomes the symbol `batch`; None fixes the batch size, as exporters do by default
    post         changes the ModelProto before it is checked and written
    opset        that of OPSETS if not given
    """
    model.train(training)
    # The fused kernel of nn.TransformerEncoder has no ONNX form.
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write = dynamo if exporter == "dynamo" else torchscript
        proto = write(model, inputs, list(names), training, batch_axes, list(outputs), opset or OPSETS[exporter])
    strip_traces(proto)
    post(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return proto


def dynamo(model, inputs, names, training, batch_axes, outputs, opset):
    batch = torch.export.Dim("batch")
    shapes = tuple({axis: batch} for axis in batch_axes) if batch_axes else None
    program = torch.onnx.export(model, inputs, dynamo=True, optimize=not training, dynamic_shapes=shapes, verbose=False,
                                opset_version=opset, input_names=names, output_names=outputs)
    return program.model_proto


def torchscript(model, inputs, names, training, batch_axes, outputs, opset):
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    axes = {name: {axis: "batch"} for name, axis in zip(names, batch_axes)} | {name: {0: "batch"} for name in outputs} \
        if batch_axes else None
    buffer = io.BytesIO()
    torch.onnx.export(model, inputs, buffer, dynamo=False, training=mode, do_constant_folding=not training,
                      opset_version=opset, input_names=names, output_names=outputs, dynamic_axes=axes)
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


def tidy(proto):
    """Removes what the unoptimised exporter writes for nothing: zero biases, arithmetic on constants, unread nodes."""
    producers = {output: node for node in proto.graph.node for output in node.output}
    for node in proto.graph.node:
        # Conv without bias is exported as Conv with Expand(CastLike(0), Shape(weight)).
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in producers:
            del node.input[2]
    fold_constants(proto)
    drop_dead(proto.graph)


def fold_constants(proto):
    """Replaces nodes that compute with Constant nodes only (axes, slice bounds); initializers stay what they are."""
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    known = {}
    for node in proto.graph.node:
        if not all(name in known for name in node.input):
            continue
        value = ReferenceEvaluator(node, opsets=opsets).run(None, {name: known[name] for name in node.input})[0]
        known[node.output[0]] = value
        node.name = node.name.replace(node.op_type, "Constant")
        node.op_type = "Constant"
        del node.input[:], node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(value)))


def drop_dead(graph):
    while True:
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        live = [node for node in graph.node if any(name in read for name in node.output)]
        if len(live) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(live)
    made = {name for node in graph.node for name in node.output}
    for field, wanted in ((graph.initializer, read), (graph.value_info, made | read)):
        kept = [item for item in field if item.name in wanted]
        del field[:]
        field.extend(kept)
