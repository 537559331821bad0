#!/usr/bin/env python3
"""Makes the corpus: ONNX files as PyTorch's exporters write them, and what PyTorch computes with each.

    pip install -r requirements.txt
    python make.py [NAME...]        all models, or these; rewrites the files; all models: README.md's table too

NAME.dyn.onnx      torch.onnx.export with its defaults (dynamo, optimised), inference
NAME.train.onnx    dynamo, optimize=False, from model.train(): keeps BatchNorm, Dropout and names
NAME.ts.onnx       TorchScript exporter, inference
NAME.tstrain.onnx  TorchScript exporter, TrainingMode.TRAINING, no constant folding
NAME.external.onnx as dyn, with the weights in NAME.external.onnx.data
"""
import pathlib
import sys
import zlib

import onnx
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[2] / "models"))

import golden  # noqa: E402
from architectures import CORPUS  # noqa: E402
from check import largest_difference  # noqa: E402
from export import OPSETS, export  # noqa: E402

# Exporter, and whether from model.train().
VARIANTS = {"dyn": ("dynamo", False), "train": ("dynamo", True), "ts": ("torchscript", False),
            "tstrain": ("torchscript", True), "external": ("dynamo", False)}
EXPORT_BATCH = 2
# onnxruntime rounds in float32, in another order.
TOLERANCE = 1e-4
TABLE = "| file | size | golden | nodes | onnxruntime | notes |\n|---|---|---|---|---|---|\n"


def randomise(model):
    """Gives every tensor values of its own, so that no two layers look alike.

    Ones, zeros and 1e-6 are equal across layers, and nn.TransformerEncoder copies one layer's weights to all.
    """
    with torch.no_grad():
        for value in model.parameters():
            constant = value.numel() > 1 and value.min() == value.max()
            value.add_((0.2 if constant else 0.02) * torch.randn_like(value))
        for module in golden.batch_norms(model):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)


def make(name, variant):
    """Writes the two files of one model and exporter; returns a table row."""
    entry, (exporter, training) = CORPUS[name], VARIANTS[variant]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = entry.build()
    if entry.randomise:
        randomise(model)
    example = entry.inputs(EXPORT_BATCH)
    inputs = entry.inputs(golden.BATCH)
    path = HERE / f"{name}.{variant}.onnx"
    proto = export(model, example, entry.names, exporter, training, [0] * len(example), path)
    tensors, metadata = golden.compute(model, proto, inputs, entry.names, entry.per_position)
    difference = largest_difference(proto, dict(zip(entry.names, inputs)), tensors["output.logits"])
    if difference is not None and difference > TOLERANCE:
        raise RuntimeError(f"onnxruntime differs from PyTorch by {difference:.1e}")
    metadata |= {"exporter": exporter, "mode": "training" if training else "inference", "opset": str(OPSETS[exporter])}
    if variant == "external":
        path.with_suffix(".onnx.data").unlink(missing_ok=True)
        onnx.save(proto, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0)
    golden_path = path.with_suffix(".golden.safetensors")
    save_file(tensors, golden_path, metadata=metadata)
    golden_path.chmod(0o644)
    return [f"{file.stat().st_size / 1024:.0f} KB" for file in (path, golden_path)] + [
        str(len(proto.graph.node)), "random" if difference is None else f"{difference:.0e}",
        "; ".join(f"{key}: {metadata[key]}" for key in ("unmatched", "absent", "tied") if metadata.get(key))]


def main():
    rows = []
    for name in sys.argv[1:] or CORPUS:
        for variant in CORPUS[name].variants:
            try:
                row = make(name, variant)
            except Exception as error:  # an exporter that fails is a row of the table
                for path in HERE.glob(f"{name}.{variant}.*"):
                    path.unlink()
                row = ["fails", "", "", "", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"]
            rows.append("| " + " | ".join([f"{name}.{variant}", *row]) + " |")
            print(rows[-1], flush=True)
    if len(sys.argv) == 1:
        readme = HERE / "README.md"
        head = readme.read_text().split(TABLE)[0]
        readme.write_text(head + TABLE + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
