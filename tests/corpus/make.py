#!/usr/bin/env python3
"""Makes the files of the large corpus: what PyTorch's exporters write, and what PyTorch computes with each.

    python make.py FOLDER [NAME...]      all architectures, or these; what is there already is kept

NAME.dyn.onnx       torch.onnx.export with its defaults: dynamo, optimised, inference, the batch size fixed
NAME.train.onnx     dynamo, optimize=False, from model.train(), free batch size: keeps BatchNorm, Dropout and names
NAME.ts.onnx        TorchScript exporter, inference, free batch size
NAME.tstrain.onnx   TorchScript exporter, TrainingMode.TRAINING, no constant folding, free batch size
NAME.op23.onnx      dynamo, optimised, inference, free batch size, operator set 23, which has Attention
NAME.external.onnx  as dyn, with the weights in NAME.external.onnx.data

NAME.VARIANT.safetensors holds what `reference.py` computes. Where the exporter fails, NAME.VARIANT.failure has its message.
"""
import argparse
import multiprocessing
import os
import pathlib
import sys
import time
import traceback
import zlib

# Files are made side by side; threads that wait for each other would take longer than the work. Read when torch is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import onnx
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1] / "models")]

import export  # noqa: E402
import reference  # noqa: E402
from corpus import CORPUS  # noqa: E402

EXPORT_BATCH = 2
LIMIT_SECONDS = 900
# Exporter, from model.train(), batch fixed.
VARIANTS = {"dyn": ("dynamo", False, True), "train": ("dynamo", True, False), "ts": ("torchscript", False, False),
            "tstrain": ("torchscript", True, False), "op23": ("dynamo", False, False), "external": ("dynamo", False, True)}
OPSETS = {"op23": 23}


def prepare(name):
    """The model with values of its own in every tensor, so that no two layers look alike, and inputs of PROBE samples.

    Ones, zeros and 1e-6 are equal across layers, and nn.TransformerEncoder copies one layer's weights to all.
    """
    entry = CORPUS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = entry.build()
    if entry.randomise:
        with torch.no_grad():
            for value in model.parameters():
                constant = value.numel() > 1 and value.min() == value.max()
                value.add_((0.2 if constant else 0.02) * torch.randn_like(value))
    calibrate(model, entry)
    return entry, model, entry.inputs(reference.PROBE)


def calibrate(model, entry):
    """Running statistics near those of the data, as after training; others let deep networks overflow in evaluation."""
    norms = reference.batch_norms(model)
    if not norms or not entry.randomise:
        return
    for norm in norms:
        norm.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(*entry.inputs(8))
        for norm in norms:
            norm.momentum = 0.1
            norm.running_mean.add_(0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(1 + 0.2 * torch.rand_like(norm.running_var)).add_(1e-3)


def make(folder, name, variant):
    entry, model, inputs = prepare(name)
    exporter, training, baked = VARIANTS[variant]
    example = tuple(x[:reference.BATCH if baked else EXPORT_BATCH] for x in inputs)
    opset = OPSETS.get(variant, export.OPSETS[exporter])
    path = folder / f"{name}.{variant}.onnx"
    partial = path.with_suffix(".partial")
    try:
        proto = export.export(model, example, entry.names, exporter, training, None if baked else [0] * len(example), partial,
                              opset=opset)
    except Exception as error:
        path.with_suffix(".failure").write_text(cause(error) + "\n")
        return
    finally:
        partial.unlink(missing_ok=True)
    tensors, metadata = reference.compute(model, proto, entry, inputs)
    save_file(tensors, path.with_suffix(".safetensors"), metadata=metadata)
    if variant == "external":
        onnx.save(proto, path, save_as_external_data=True, location=path.name + ".data", size_threshold=256)
    else:
        onnx.save(proto, path)


def cause(error):
    """What went wrong first: the exporter wraps it several times, with advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def is_made(folder, name, variant):
    path = folder / f"{name}.{variant}.onnx"
    return path.exists() or path.with_suffix(".failure").exists()


def child(folder, name, variant):
    torch.set_num_threads(1)
    said, sys.stdout = sys.stdout, open("/dev/null", "w")
    try:
        make(folder, name, variant)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(f"{name}.{variant}: {type(error).__name__} at {place.name}:{place.lineno}: {' '.join(str(error).split())[:300]}",
              file=said, flush=True)
        sys.exit(1)


def all_of(folder, pairs, jobs):
    """Makes what is missing of `pairs`; returns the names of those that could not be made."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [pair for pair in pairs if not is_made(folder, *pair)]
    # Children share the imported libraries, and one that crashes or hangs takes no other with it.
    context = multiprocessing.get_context("fork")
    running, failed = {}, []
    while todo or running:
        while todo and len(running) < jobs:
            pair = todo.pop(0)
            process = context.Process(target=child, args=(folder, *pair))
            process.start()
            running[pair] = (process, time.monotonic())
        for pair, (process, start) in list(running.items()):
            seconds = time.monotonic() - start
            if process.is_alive() and seconds > LIMIT_SECONDS:
                process.kill()
            process.join(0.05)
            if process.is_alive():
                continue
            del running[pair]
            name = ".".join(pair)
            made = is_made(folder, *pair)
            failed += [] if made else [name]
            print(f"{name}: {'made' if made else 'fails'}, {seconds:.0f} s", flush=True)
    return failed


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--jobs", type=int, default=2)
    options = arguments.parse_args()
    wanted = [(name, variant) for name in options.names or CORPUS for variant in CORPUS[name].variants]
    failed = all_of(options.folder, wanted, options.jobs)
    if failed:
        sys.exit(f"{len(failed)} files could not be made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
