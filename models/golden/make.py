#!/usr/bin/env python3
"""Makes the golden files of this folder: what PyTorch's models are called, and what they compute.

    pip install -r requirements.txt
    python make.py

names/MODEL.txt lists the variables of each full-size model, sorted: name, then sizes. values.json holds the logits of smaller
ones, in float64. Weights and inputs are not stored: both sides compute them, in integers, from `fill`.
"""
import json
import pathlib

import torch

from networks import COMPUTED, FULL

FOLDER = pathlib.Path(__file__).resolve().parent
COUNTER = "num_batches_tracked"  # of BatchNorm; tch has no such variable


def fill(index, size):
    """A tensor that differs from those of other indices, with entries spread over [-1, 1): exact in float64."""
    position = torch.arange(torch.Size(size).numel()) % 65521
    steps = (position * position * 12345 + position * 6789 + index * 1009) % 65521
    return (steps.double() * (2 / 65521) - 1).reshape(size)


def fill_variable(index, name, size):
    """Values of the order that training gives: weights with variance 1 / fan-in, scales near 1, variances positive."""
    values = fill(index, size)
    if len(size) > 1:
        return values * (3 * size[0] / values.numel()) ** 0.5
    if name.endswith(("weight", "running_var")):
        return values * 0.5 + 1
    return values * 0.1


def fill_input(index, kind, *size):
    if kind == "image":
        return fill(1000 + index, size)
    count = torch.Size(size).numel()
    # Some are 0, the padding; the last of each row among them.
    tokens = (torch.arange(count) * 7 + 3 + index).remainder(10).reshape(size)
    tokens[:, -1] = 0
    return tokens


def variables(model):
    state = model.state_dict(keep_vars=True)
    return {name: state[name] for name in sorted(state) if not name.endswith(COUNTER)}


def compute(build, inputs):
    """Logits, flat: with running statistics; with BatchNorm also with the batch's, and with the statistics that those left behind."""
    model = build().double()
    inputs = [fill_input(index, *spec) for index, spec in enumerate(inputs)]
    with torch.no_grad():
        for index, (name, tensor) in enumerate(variables(model).items()):
            tensor.copy_(fill_variable(index, name, tuple(tensor.shape)))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        modes = (False, True, False) if any(name.endswith("running_mean") for name in variables(model)) else (False,)
        logits = [model.train(training)(*inputs).flatten().tolist() for training in modes]
    return dict(zip(("evaluation", "training", "evaluation_after_training"), logits))


def main():
    (FOLDER / "names").mkdir(exist_ok=True)
    for name, build in FULL.items():
        with torch.device("meta"):
            rows = [" ".join([key, *map(str, value.shape)]) for key, value in variables(build()).items()]
        (FOLDER / "names" / f"{name}.txt").write_text("\n".join(rows) + "\n")
    rows = [f"{json.dumps(name)}: {json.dumps(compute(*spec))}" for name, spec in COMPUTED.items()]
    (FOLDER / "values.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
