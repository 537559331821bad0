"""Which PyTorch tensors an initializer of a file holds, and how: exporters transpose, slice, gather and pack them.

A `Held` is a linear map from PyTorch tensors to one initializer. Its adjoint takes a gradient of the initializer back, so
that one rule compares every way of storing a parameter: the gradient of a PyTorch tensor is the sum over the initializers
that hold it.
"""
from dataclasses import asdict, dataclass, field

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

# A gather is looked for element by element only in tensors of at most this size.
GATHERED_ELEMENTS = 1 << 20
# Where ONNX puts PyTorch's gates: i f g o as i o f c, r z n as z r h.
GATES = {nn.LSTM: [0, 3, 1, 2], nn.GRU: [1, 0, 2], nn.RNN: [0]}


@dataclass
class Held:
    sources: list
    kind: str
    gates: list = field(default_factory=list)
    # For `gather`: the source's element at each place of the initializer.
    index: torch.Tensor | None = None

    def apply(self, tensors, shape):
        """The initializer of `shape` that holds `tensors`, one per source."""
        first = tensors[0]
        if self.kind == "same":
            return first.reshape(shape)
        if self.kind == "transposed":
            return first.t()
        if self.kind == "gather":
            return first.reshape(-1)[self.index.reshape(-1)].reshape(shape)
        reordered = [tensor.reshape(len(self.gates), -1, *tensor.shape[1:])[self.gates].flatten(0, 1) for tensor in tensors]
        if self.kind == "gates":
            return torch.stack(reordered).reshape(shape)
        # Biases: input and recurrent ones of each direction, one after the other.
        return torch.cat(reordered).reshape(shape)

    def adjoint(self, gradient, sizes):
        """What `gradient` of the initializer contributes to the gradients of the sources, which have `sizes`."""
        tensors = [torch.zeros(size, dtype=gradient.dtype, requires_grad=True) for size in sizes]
        return torch.autograd.grad(self.apply(tensors, gradient.shape), tensors, gradient)

    def plain(self):
        facts = asdict(self)
        del facts["index"]
        return facts


def match(proto, model):
    """For each float initializer of `proto` its `Held`, and the names of those that hold nothing known."""
    state = {name: value.detach() for name, value in [*model.named_parameters(), *model.named_buffers()]
             if value.is_floating_point()}
    packed = recurrent(model)
    found, unknown = {}, []
    by_shape = {}
    for name, value in state.items():
        by_shape.setdefault(tuple(sorted(value.shape)), []).append(name)
    for initializer in [*proto.graph.initializer, *constants(proto)]:
        if initializer.data_type != onnx.TensorProto.FLOAT:
            continue
        value = torch.from_numpy(numpy_helper.to_array(initializer).copy()).double()
        if value.numel() < 2:
            if held := scalar(initializer.name, value, state):
                found[initializer.name] = held
            continue
        held = (stored(initializer.name, value, state, by_shape) or next(
            (held for held in packed if same(held.apply([state[name] for name in held.sources], (-1,)), value.reshape(-1))), None)
            or gathered(initializer.name, value, state))
        if held:
            found[initializer.name] = held
        else:
            unknown.append(initializer.name)
    return found, unknown


def take(proto, model, held):
    """Gives the tensors of `model` the very values that `proto` has."""
    state = dict([*model.named_parameters(), *model.named_buffers()])
    for initializer in proto.graph.initializer:
        one = held.get(initializer.name)
        if one and one.kind in ("same", "transposed"):
            value, target = torch.from_numpy(numpy_helper.to_array(initializer).copy()), state[one.sources[0]].data
            target.copy_(value.t() if one.kind == "transposed" else value.reshape(target.shape))


def constants(proto):
    """Tensors of Constant nodes, under the names of their values."""
    for node in proto.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensor = onnx.TensorProto()
                    tensor.CopyFrom(attribute.t)
                    tensor.name = node.output[0]
                    yield tensor


def same(candidate, target):
    if candidate.shape != target.shape:
        return False
    return torch.allclose(candidate, target, rtol=1e-5, atol=1e-6 * float(candidate.abs().max()))


def alike(torch_name, onnx_name):
    return torch_name == onnx_name or torch_name.endswith("." + onnx_name) or onnx_name.endswith("." + torch_name)


def scalar(name, value, state):
    """A parameter of one element: by its name, or by its value if no other has it, and it is no round number as 1e-5 is."""
    equal = [source for source, tensor in state.items() if tensor.numel() == 1 and torch.equal(tensor.reshape(-1), value.reshape(-1))]
    named = [source for source in equal if alike(source, name)]
    if not named and (len(equal) != 1 or np.float32(float(f"{float(value):.4g}")) == np.float32(float(value))):
        return None
    return Held([(named or equal)[0]], "same")


def stored(name, value, state, by_shape):
    """The same layout, transposed, or with dimensions of one more or less."""
    squeezed = [size for size in value.shape if size > 1]
    equal = []
    names = by_shape.get(tuple(sorted(value.shape)), [])
    names += [other for other, tensor in state.items() if other not in names and tensor.numel() == value.numel()
              and [size for size in tensor.shape if size > 1] == squeezed]
    for source in names:
        tensor = state[source]
        if tensor.numel() == value.numel() and [size for size in tensor.shape if size > 1] == squeezed and same(
                tensor.reshape(value.shape), value):
            equal.append(Held([source], "same"))
        elif tensor.dim() == value.dim() == 2 and same(tensor.t(), value):
            equal.append(Held([source], "transposed"))
    named = [held for held in equal if alike(held.sources[0], name)]
    # Equal values under another name prove nothing if several tensors have them.
    return named[0] if named else equal[0] if len(equal) == 1 else None


def gathered(name, value, state):
    """Elements picked from one tensor, in any order and number: slices, permutations, tables looked up."""
    target = value.reshape(-1).float().numpy()
    if target.size > GATHERED_ELEMENTS or np.unique(target).size < 2:
        return None
    for source, tensor in state.items():
        elements = tensor.reshape(-1).float().numpy()
        if elements.size > GATHERED_ELEMENTS or elements.size < 2:
            continue
        order = np.argsort(elements, kind="stable")
        place = np.clip(np.searchsorted(elements[order], target), 0, elements.size - 1)
        if np.array_equal(elements[order][place], target):
            return Held([source], "gather", index=torch.from_numpy(order[place]).reshape(value.shape))
    return None


def recurrent(model):
    """How LSTM, GRU and RNN nodes want the tensors of each recurrent module."""
    helds = []
    for path, module in model.named_modules():
        if type(module) not in GATES:
            continue
        gates = GATES[type(module)]
        for layer in range(module.num_layers):
            ends = [f"_l{layer}", f"_l{layer}_reverse"][:1 + module.bidirectional]
            full = lambda name: f"{path}.{name}" if path else name
            for kind in ("weight_ih", "weight_hh"):
                helds.append(Held([full(kind + end) for end in ends], "gates", gates))
            if module.bias:
                helds.append(Held([full(kind + end) for end in ends for kind in ("bias_ih", "bias_hh")], "biases", gates))
    return helds
