#!/usr/bin/env python3
"""Makes the ONNX files of this folder, and larger ones elsewhere.

    pip install -r requirements.txt
    python make.py                       digits-cnn.onnx and resnet20-cifar10.onnx, beside this script
    python make.py --out DIR [NAME...]   these models (all, if none is named) into DIR

Weights are PyTorch's initial values under a fixed seed. Files are exported so that they train well: BatchNorm, Dropout and
parameter names stay, the batch is a symbol. Each is checked by onnx.checker and against PyTorch at three batch sizes.
"""
import argparse
import pathlib

import torch

from architectures import MODELS
from check import largest_difference
from export import export, tidy

CHECKED_IN = ("digits-cnn", "resnet20-cifar10")
SEED = 0
TOLERANCE = 1e-4


def make(name, folder):
    build, sample = MODELS[name]
    torch.manual_seed(SEED)
    model = build()
    path = folder / f"{name}.onnx"
    proto = export(model, (torch.randn(2, *sample),), ("input",), "dynamo", True, [0], path, post=tidy)
    model.eval()
    for batch in (1, 3, 7):
        inputs = torch.randn(batch, *sample)
        with torch.no_grad():
            expected = model(inputs)
        difference = largest_difference(proto, {"input": inputs}, expected)
        if difference > TOLERANCE:
            raise SystemExit(f"{name}: at batch {batch}, onnxruntime differs from PyTorch by {difference:.1e}")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{path}: {path.stat().st_size:,} bytes, {len(proto.graph.node)} nodes, {parameters:,} parameters")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="folder for the files; made if needed")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in MODELS]
    if unknown:
        parser.error(f"no model is called {unknown[0]}; there are {', '.join(MODELS)}")
    folder = arguments.out or pathlib.Path(__file__).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or (MODELS if arguments.out else CHECKED_IN):
        make(name, folder)


if __name__ == "__main__":
    main()
