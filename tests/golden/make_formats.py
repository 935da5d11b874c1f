#!/usr/bin/env python3
"""Writes tests/golden/formats/: small sets of images in the formats that others use, and what is in them.

Of each set NAME there are the file as its own library writes it, NAME.npy (uint8 [N][H][W][C]) and
NAME_labels.npy (int32).  Made with NumPy 2.4, SciPy 1.17 and Pillow 13:

    pip install numpy scipy pillow && tests/golden/make_formats.py
"""
import pathlib

import numpy as np
import scipy.io

HERE = pathlib.Path(__file__).parent / "formats"


def pattern(count, height, width, channels, seed):
    """Smooth images with some noise, which differ from each other and along every axis."""
    rng = np.random.default_rng(seed)
    n, y, x, c = np.ogrid[:count, :height, :width, :channels]
    smooth = 20 * n + 9 * y + 5 * x + 60 * c
    return ((smooth + rng.integers(0, 8, (count, height, width, channels))) % 256).astype(np.uint8)


def expect(name, images, labels):
    np.save(HERE / f"{name}.npy", np.ascontiguousarray(images))
    np.save(HERE / f"{name}_labels.npy", np.asarray(labels, np.int32))


def svhn():
    images = pattern(12, 7, 5, 3, 1)
    digits = np.array([1, 9, 10, 3, 10, 1, 1, 10, 2, 9, 8, 1], np.uint8)  # 10 stands for 0
    x = images.transpose(1, 2, 3, 0)
    scipy.io.savemat(HERE / "svhn_test.mat", {"y": digits[:, None], "X": x}, do_compression=True)
    # not compressed, other arrays beside it, labels as MATLAB's own numbers, in a row
    scipy.io.savemat(HERE / "svhn_plain.mat",
                     {"meta": {"note": "a structure"}, "words": np.array(["a", "b"], object),
                      "z": np.arange(5) + 2j, "y": digits[None, :].astype(np.float64), "X": x},
                     do_compression=False)
    expect("svhn", images, digits % 10)


def main():
    HERE.mkdir(exist_ok=True)
    svhn()


if __name__ == "__main__":
    main()
