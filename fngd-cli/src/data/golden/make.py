#!/usr/bin/env python3
"""Writes the .npz files of this folder, one for each way in which such files are written.  numpy==2.4.6, Python 3.11

    python3 make.py        (writes beside itself)
"""
import io, pathlib, zipfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
X = np.arange(72, dtype=np.uint8).reshape(4, 2, 3, 3)  # 4 samples, 2x3 pixels, 3 channels last
Y = np.array([0, 1, 2, 1])


class Pipe(io.RawIOBase):
    """Cannot go back: sizes come after the members, in data descriptors."""

    def __init__(self, file):
        self.file = file

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)


np.savez(HERE / "stored.npz", x=X, y=Y)
np.savez_compressed(HERE / "deflated.npz", train_images=X, train_labels=Y.astype(np.uint8)[:, None])
with open(HERE / "piped.npz", "wb") as file, zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as archive:
    for name, array in (("x", X), ("y", Y)):
        data = io.BytesIO()
        np.save(data, array)
        archive.writestr(name + ".npy", data.getvalue())
zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = 10, 1  # as if the file had 4 GiB
np.savez(HERE / "zip64.npz", x=X, y=Y)
