"""What PyTorch computes with the weights of one ONNX file: outputs, loss and the gradient of every initializer.

The network is the one in the file. BatchNorm nodes use batch statistics in training; where the exporter folded BatchNorm
into a convolution, so does the reference. Dropout and stochastic depth are off throughout. All of it is computed in float64
from the file's float32 weights, so the numbers are the exact answer rather than another rounding.
"""
import copy

import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.fx.experimental import optimization

# Gradients with more elements are kept as norms only.
FULL_GRADIENT_ELEMENTS = 1024
# Not the batch that the files were exported with, nor a multiple of it.
BATCH = 3


def reference(model, proto):
    """`model` in float64, its BatchNorms folded as in the file; in inference mode but for the BatchNorms left."""
    model = copy.deepcopy(model).eval()
    wanted = sum(node.op_type == "BatchNormalization" for node in proto.graph.node)
    if batch_norms(model) and wanted < len(batch_norms(model)):
        model = optimization.fuse(model)
    if len(batch_norms(model)) != wanted:
        raise RuntimeError(f"the file has {wanted} BatchNormalization nodes, the reference {len(batch_norms(model))}")
    # Folding leaves its results without gradients.
    return model.double().requires_grad_(True)


def batch_norms(model):
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def compute(model, proto, inputs, names, per_position):
    """Tensors and metadata of the golden file."""
    model = reference(model, proto)
    doubles = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    with torch.no_grad():
        logits = model(*doubles)
    labels = torch.randint(0, logits.shape[-1], logits.shape[:-1])
    tensors = {f"input.{name}": value for name, value in zip(names, inputs)}
    tensors |= {"output.logits": logits.float(), "labels": labels}

    matches, unmatched = match(proto, model)
    loss, gradients = gradients_of(model, doubles, labels)
    tensors["loss"] = torch.tensor([loss], dtype=torch.float64)
    add_gradients(tensors, "grad", matches, gradients)
    # The running statistics after that one training forward, PyTorch's convention (unbiased variance).
    for name, (source, orient) in matches.items():
        if source.endswith(("running_mean", "running_var")):
            tensors[f"running.{name}"] = orient(model.get_buffer(source)).float()
    metadata = {"dropout": "off", "batch_norm_nodes": str(len(batch_norms(model))), "unmatched": ",".join(unmatched),
                "per_position": str(per_position).lower()}
    sources = {}
    for name, (source, _) in matches.items():
        sources.setdefault(source, []).append(name)
    # Parameters that the exporter dropped (zero biases) or merged with an equal one.
    metadata["absent"] = ",".join(name for name in gradients if name not in sources)
    copies = [group for group in sources.values() if len(group) > 1]
    if copies:
        # One PyTorch tensor, two initializers: `grad.` is what the tied tensor gets, `untied.` what each copy would get.
        metadata["tied"] = ";".join(",".join(group) for group in copies)
        separate = {name: found for name, found in matches.items() if name in sum(copies, [])}
        separate = untie(model, proto, separate)
        add_gradients(tensors, "untied", separate, gradients_of(model, doubles, labels)[1])
    return {name: value.contiguous() for name, value in tensors.items()}, metadata


def gradients_of(model, inputs, labels):
    for module in batch_norms(model):
        module.train()
    logits = model(*inputs)
    loss = nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return loss.item(), {name: gradient for name, gradient in zip(parameters, gradients) if gradient is not None}


def add_gradients(tensors, prefix, matches, gradients):
    for name, (source, orient) in matches.items():
        if source not in gradients:
            continue
        gradient = orient(gradients[source])
        if gradient.numel() <= FULL_GRADIENT_ELEMENTS:
            tensors[f"{prefix}.{name}"] = gradient.float()
        else:
            tensors[f"{prefix}norm.{name}"] = gradient.norm().reshape(1)


def untie(model, proto, matches):
    """Gives the output layer of a language model its own copy of the embedding; returns which initializer is which.

    The exporter keeps one of the two names for the embedding, not always the embedding's, so the graph decides.
    """
    (parent,) = [module for module in model.modules() if hasattr(module, "lm_head")]
    (table,) = {source for source, _ in matches.values()}
    parent.lm_head.weight = nn.Parameter(parent.lm_head.weight.detach().clone())
    (head,) = [name for name, value in model.named_parameters() if value is parent.lm_head.weight]
    looked_up = {node.input[0] for node in proto.graph.node if node.op_type == "Gather"}
    return {name: (table if name in looked_up else head, orient) for name, (_, orient) in matches.items()}


def match(proto, model):
    """For each float initializer: the PyTorch tensor it holds and the map from that tensor's layout to the file's.

    By name and value, else by value alone if no other tensor has it; same layout, transposed, reshaped, or the first rows of a
    table.
    """
    state = {name: value.detach() for name, value in [*model.named_parameters(), *model.named_buffers()]
             if value.is_floating_point()}
    found, unmatched = {}, []
    for initializer in proto.graph.initializer:
        if initializer.data_type != onnx.TensorProto.FLOAT:
            continue
        value = torch.from_numpy(numpy_helper.to_array(initializer).copy()).double()
        if value.numel() < 2:
            continue
        equal = [(name, orient) for name in state if (orient := layout(state[name], value)) is not None]
        named = [pair for pair in equal if named_alike(pair[0], initializer.name)]
        # Equal values under another name prove nothing if several layers have them.
        choice = named or (equal if len(equal) == 1 else [])
        if choice:
            found[initializer.name] = choice[0]
        else:
            unmatched.append(initializer.name)
    return found, unmatched


def named_alike(torch_name, onnx_name):
    return torch_name == onnx_name or torch_name.endswith("." + onnx_name) or onnx_name.endswith("." + torch_name)


def layout(source, target):
    def equal(candidate):
        return candidate.shape == target.shape and torch.allclose(candidate, target, rtol=1e-5, atol=1e-7)

    options = [lambda t: t]
    if source.dim() == 2:
        options.append(lambda t: t.t())
    if source.numel() == target.numel():
        options.append(lambda t: t.reshape(target.shape))
    elif source.numel() > target.numel() and source.dim() >= 2:
        options.append(lambda t: t.reshape(-1)[:target.numel()].reshape(target.shape))
    return next((option for option in options if equal(option(source))), None)
