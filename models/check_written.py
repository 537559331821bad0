#!/usr/bin/env python3
"""Checks the ONNX files that the hand-written models write.

    cargo run --release -p fngd-models --example reference -- DIR
    pip install -r requirements.txt
    python check_written.py DIR

Each file passes onnx.checker in full, and onnxruntime computes what the model computed, at batch sizes 1, 3 and 7.
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4  # of the largest logit, or of 1


def check(path):
    onnx.checker.check_model(str(path), full_check=True)
    tensors = load_file(path.with_suffix(".safetensors"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3, 7):
        inputs = {value.name: tensors[f"{batch}.{value.name}"] for value in session.get_inputs()}
        [found], expected = session.run(None, inputs), tensors[f"{batch}.logits"]
        if found.shape != expected.shape:
            raise SystemExit(f"{path}: at batch {batch}, logits are {found.shape}, expected {expected.shape}")
        worst = max(worst, float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())))
    return worst


def main():
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
    if not paths:
        raise SystemExit("no ONNX files there")
    failed = []
    for path in paths:
        difference = check(path)
        if not difference <= TOLERANCE:
            failed.append(path.stem)
        print(f"{path.stem:24} {path.stat().st_size:>13,} bytes   largest difference {difference:.1e}")
    if failed:
        raise SystemExit(f"differ by more than {TOLERANCE:g}: {', '.join(failed)}")


if __name__ == "__main__":
    main()
