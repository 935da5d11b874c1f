"""Writes fingerprints.txt: perceptual hashes by Pillow and SciPy of the patterns that tests/data/make_sets.h makes.

    pip install pillow numpy scipy && python tests/golden/fingerprints.py

A line: height width channels kind hash.  The hash: Image.resize((32, 32), BILINEAR).convert("L"), scipy.fft.dctn (type 2), the
8 x 8 lowest coefficients, bit i set where coefficient i (row by row) is above the median of all but the first.
"""
import pathlib

import numpy as np
from PIL import Image
from scipy.fft import dctn


def pattern(height, width, channels, kind):
    count, out = height * width * channels, []
    state = (height * 1000003 + width * 1009 + channels) & 0xFFFFFFFF
    for i in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        byte = state >> 24
        if kind == 1:
            byte = 255 if byte >= 128 else 0
        elif kind == 2:
            byte = (i * 7 // channels + (byte >> 5)) & 255
        out.append(byte)
    shape = (height, width, channels) if channels == 3 else (height, width)
    return Image.fromarray(np.array(out, dtype=np.uint8).reshape(shape))


lines = []
for height, width, channels, kind in [(32, 32, 3, 0), (32, 32, 1, 0), (28, 28, 1, 2), (64, 64, 3, 2), (48, 100, 3, 1),
                                      (100, 80, 1, 0), (16, 9, 3, 0), (200, 150, 3, 2), (33, 31, 3, 1)]:
    grey = pattern(height, width, channels, kind).resize((32, 32), Image.BILINEAR).convert("L")
    low = dctn(np.asarray(grey, dtype=np.float64), type=2)[:8, :8].ravel()
    bits = sum(1 << i for i in range(64) if low[i] > np.median(low[1:]))
    lines.append(f"{height} {width} {channels} {kind} {bits:016x}\n")
pathlib.Path(__file__).with_suffix(".txt").write_text("".join(lines))
