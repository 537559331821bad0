#!/usr/bin/env python3
"""Accuracy of an ONNX classifier on CIFAR-10's test images under onnxruntime: a second opinion on `fngd-cli eval`.

    python3 tools/eval_onnxruntime.py MODEL.onnx FOLDER/test_batch.bin          (onnxruntime 1.32.0, numpy)

The images are normalised with the same constants as `fngd-cli/src/data/normalization.rs` has for CIFAR-10.
"""
import sys

import numpy as np
import onnxruntime

MEAN, STD = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.2470, 0.2435, 0.2616])


def main(model, file):
    records = np.fromfile(file, np.uint8).reshape(-1, 3073)
    labels, pixels = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32)
    images = (pixels.astype(np.float32) / 255 - MEAN[:, None, None]) / STD[:, None, None]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    logits = np.concatenate([session.run(None, {name: batch})[0] for batch in np.array_split(images, 8)])
    print(f"{len(labels)} images, accuracy {100 * (logits.argmax(1) == labels).mean():.1f} %")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
