"""What PyTorch computes with the weights of one ONNX file: outputs, training loss and the gradient of every parameter.

The network is the one in the file. BatchNorm nodes use batch statistics in training; where the exporter folded BatchNorm
into a convolution, so does the reference. Dropout and stochastic depth are off. All of it is computed in float64 from the
file's float32 weights, and once more in float32: in a deep ReLU network a unit near zero is on in one and off in the other,
and then the gradients differ by more than the rounding of any one number.
"""
import copy
import json

import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import fusion

import layouts

# Not the batch that files with a free batch were exported with, nor a multiple of it.
BATCH = 3
PROBE = 7
# Larger gradients are kept as their norm and this many of their elements.
FULL_GRADIENT_ELEMENTS = 1 << 16
# Differences of gradients are relative to their norm, but at least to this part of the largest norm: the gradient of a bias
# before BatchNorm, or of a key's bias, is zero on paper and rounding in fact.
FLOOR = 1e-3
# Where float32 and float64 differ by more, the gradients of both are kept.
ROUNDING = 3e-4


def compute(model, proto, entry, inputs):
    """Tensors and metadata of the golden file. `inputs` are PROBE samples; the first BATCH are those of the reference."""
    single = folded(copy.deepcopy(model).eval(), proto, [x[:BATCH] for x in inputs])
    held, unknown = layouts.match(proto, copy.deepcopy(single).double())
    # Folding may have rounded differently from the exporter.
    layouts.take(proto, single, held)
    double = copy.deepcopy(single).double()
    batch = [x[:BATCH] for x in inputs]
    doubles = [x.double() if x.is_floating_point() else x for x in batch]
    with torch.no_grad():
        output = double(*doubles)
    axis = 1 if output.dim() == 4 else output.dim() - 1
    labels = torch.randint(0, output.shape[axis], [size for at, size in enumerate(output.shape) if at != axis])
    loss, gradients = gradients_of(double, doubles, labels, axis)
    _, rough = gradients_of(single, batch, labels, axis)

    tensors = {f"input.{name}": value for name, value in zip(entry.names, batch)}
    tensors |= {f"probe.{name}": value for name, value in zip(entry.names, inputs)}
    tensors |= {"output": output.float(), "labels": labels, "loss": torch.tensor([loss], dtype=torch.float64)}
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    for name, gradient in gradients.items():
        tensors[f"grad.{name}"] = part_of(gradient).float()
    tensors |= {f"index.{name}": one.index for name, one in held.items() if one.index is not None}
    floor = FLOOR * max(norms.values())
    facts = {
        "class_axis": axis,
        "batch_norms": sum(module.training for module in batch_norms(double)),
        # Those that the loss depends on.
        "parameters": {name: list(gradient.shape) for name, gradient in gradients.items()},
        "buffers": [name for name, _ in double.named_buffers()],
        "norms": norms,
        "held": {name: one.plain() for name, one in held.items()},
        "unknown": unknown,
        "float32": max(float((rough[name] - gradient).norm()) / max(norms[name], floor) for name, gradient in gradients.items()),
    }
    if facts["float32"] > ROUNDING:
        tensors |= {f"float32.{name}": part_of(gradient) for name, gradient in rough.items()}
    return {name: value.contiguous().clone() for name, value in tensors.items()}, {"corpus": json.dumps(facts)}


def part_of(gradient):
    """At most FULL_GRADIENT_ELEMENTS elements, evenly spaced."""
    step = -(-gradient.numel() // FULL_GRADIENT_ELEMENTS)
    return gradient.reshape(-1)[::step]


def gradients_of(model, inputs, labels, axis):
    for module in model.modules():
        # timm keeps what evaluation without gradients computed from a parameter.
        if hasattr(module, "attention_bias_cache"):
            module.attention_bias_cache = {}
    for module in batch_norms(model):
        module.train(not getattr(module, "is_folded", False))
    loss = nn.functional.cross_entropy(model(*inputs).movedim(axis, -1).flatten(0, -2), labels.flatten())
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return loss.item(), {name: gradient for name, gradient in zip(parameters, gradients) if gradient is not None}


def batch_norms(model):
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def folded(model, proto, inputs):
    """`model` with those BatchNorms folded into the convolution or linear layer before them that the file does not have."""
    held = [torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in proto.graph.initializer if len(tensor.dims) == 1]
    is_in_file = lambda norm: any(torch.equal(norm.running_mean, value) for value in held)
    nodes = sum(node.op_type == "BatchNormalization" for node in proto.graph.node)
    if nodes == len(batch_norms(model)):
        return model
    left = len(batch_norms(model))
    for layer, norm in pairs(model, inputs):
        if nodes and is_in_file(norm):
            continue
        fold(layer, norm)
        left -= 1
    if left != nodes:
        raise RuntimeError(f"the file has {nodes} BatchNormalization nodes, the reference {left}")
    return model


def fold(layer, norm):
    """Moves what `norm` does into `layer`, and leaves a `norm` that does nothing."""
    with torch.no_grad():
        scale = norm.weight if norm.affine else torch.ones_like(norm.running_var)
        shift = norm.bias if norm.affine else torch.zeros_like(norm.running_var)
        transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
        weight, bias = fusion.fuse_conv_bn_weights(
            layer.weight.double(), None if layer.bias is None else layer.bias.double(), norm.running_mean.double(),
            norm.running_var.double(), norm.eps, scale.double(), shift.double(), transpose=transposed)
        layer.weight, layer.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    norm.is_folded = True
    norm.running_mean.zero_()
    # What is divided by is running_var + eps, and eps must be positive.
    norm.eps = 1e-5
    norm.running_var.fill_(1 - norm.eps)
    if norm.affine:
        norm.weight = nn.Parameter(torch.ones_like(scale), requires_grad=False)
        norm.bias = nn.Parameter(torch.zeros_like(shift), requires_grad=False)


def pairs(model, inputs):
    """Each BatchNorm that reads what a convolution or linear layer computes, with that layer."""
    made, found, handles = {}, [], []
    layers = (nn.modules.conv._ConvNd, nn.Linear)

    def remember(layer, _, output):
        # Holding the output keeps its address from being given to another tensor.
        made[id(output)] = (layer, output)

    def look(norm, arguments):
        if id(arguments[0]) in made:
            found.append((made[id(arguments[0])][0], norm))

    for module in model.modules():
        if isinstance(module, layers):
            handles.append(module.register_forward_hook(remember))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            handles.append(module.register_forward_pre_hook(look))
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return found
