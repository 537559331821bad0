"""CIFAR-10 with `data_batch_5` held out: 40,000 images to train and validate on, 10,000 to test on at the end.

    python3 tools/cifar10_held_out.py FOLDER cifar10-held-out.npz [--train N]
    fngd-cli train model.onnx --data npz:cifar10-held-out.npz

FOLDER is where `cifar-10-binary.tar.gz` was unpacked (`fngd-cli data path cifar10` names one). For whoever does not have the test
set, or does not want to look at it yet. `--train N` keeps the first N training images. Needs numpy.
"""

import argparse
import pathlib

import numpy as np

RECORD = 1 + 3 * 32 * 32


def batch(folder, number):
    records = np.fromfile(folder / f"data_batch_{number}.bin", np.uint8)
    if len(records) != 10_000 * RECORD:
        raise SystemExit(f"data_batch_{number}.bin: expected {10_000 * RECORD} bytes, found {len(records)}")
    records = records.reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=40_000, metavar="N", help="training images to keep")
    arguments = parser.parse_args()
    if not 1 <= arguments.train <= 40_000:
        parser.error(f"--train must be 1 to 40000, found {arguments.train}")
    images, labels = zip(*(batch(arguments.folder, number) for number in range(1, 5)))
    test_images, test_labels = batch(arguments.folder, 5)
    np.savez(
        arguments.output,
        x_train=np.concatenate(images)[: arguments.train],
        y_train=np.concatenate(labels)[: arguments.train],
        x_test=test_images,
        y_test=test_labels,
    )


if __name__ == "__main__":
    main()
