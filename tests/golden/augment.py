"""Golden files of augmentation: torchvision's functions on float tensors, with fixed parameters.

    python tests/golden/augment.py        writes tests/golden/augment_*.npy

images   [count][h][w][c] uint8; params [samples][17] float64: image, kind of crop (1 resized, 2
padded), top, left, height, width, flip, jitter, grey, order[4], factor[4];
views [samples][c][out][out] float32 in [0, 1].
"""
import os

import numpy as np
import torch
import torchvision.transforms.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
ORDERS = [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1), (3, 1, 2, 0)]


def view(image, p):
    x = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    if p["kind"] == 1:
        x = F.resized_crop(x, p["top"], p["left"], p["height"], p["width"], [p["out"]] * 2,
                           antialias=True)
    elif p["kind"] == 2:
        x = F.crop(F.pad(x, 4), p["top"] + 4, p["left"] + 4, p["out"], p["out"])
    if p["flip"]:
        x = F.hflip(x)
    for operation in p["order"] if p["jitter"] else []:
        factor = p["factor"][operation]
        change = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
        x = change[operation](x, factor)
    if p["grey"]:
        x = F.rgb_to_grayscale(x, x.shape[0])
    return x.numpy()


def params(size, out):
    plain = dict(kind=1, top=0, left=0, height=size, width=size, out=out, flip=0, jitter=0, grey=0,
                 order=ORDERS[0], factor=(1.0, 1.0, 1.0, 0.0))
    yield plain
    for top, left, height, width in [(3, 5, 20, 17), (0, 0, 9, 11), (size - 7, size - 5, 7, 5),
                                     (1, 2, size - 2, size - 3), (4, 6, 1, 1)]:
        yield dict(plain, top=top, left=left, height=height, width=width)
    yield dict(plain, flip=1)
    yield dict(plain, grey=1)
    for operation, factors in enumerate([(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1, 0.5)]):
        for factor in factors:
            one = [1.0, 1.0, 1.0, 0.0]
            one[operation] = factor
            yield dict(plain, jitter=1, factor=tuple(one))
    for i, order in enumerate(ORDERS):
        yield dict(plain, top=2, left=1, height=size - 9, width=size - 6, flip=i % 2, jitter=1,
                   grey=int(i == 3), order=order, factor=(1.3, 0.7, 1.25, 0.08 - 0.04 * i))
    if size == out:
        for top, left in [(-4, -4), (4, 4), (-1, 3), (0, 0)]:
            yield dict(plain, kind=2, top=top, left=left, height=out, width=out, flip=int(top == -1))


def main():
    random = np.random.default_rng(7)
    for name, size, out, channels in [("grey28", 28, 28, 1), ("rgb32", 32, 32, 3),
                                      ("shrink", 40, 16, 3)]:
        y, x = np.mgrid[0:size, 0:size] / size
        smooth = np.stack([np.sin(5 * x + c) * np.cos(4 * y - c) * 0.5 + 0.5
                           for c in range(channels)], -1)
        images = np.stack([smooth * 255, random.integers(0, 256, smooth.shape)]).astype(np.uint8)
        chosen = list(params(size, out))
        which = [i % 2 for i in range(len(chosen))]
        views = np.stack([view(images[w], p) for w, p in zip(which, chosen)]).astype(np.float32)
        table = np.array([[w, p["kind"], p["top"], p["left"], p["height"], p["width"], p["flip"],
                           p["jitter"], p["grey"], *p["order"], *p["factor"]]
                          for w, p in zip(which, chosen)], dtype=np.float64)
        np.save(f"{HERE}/augment_{name}_images.npy", images)
        np.save(f"{HERE}/augment_{name}_params.npy", table)
        np.save(f"{HERE}/augment_{name}_views.npy", views)


main()
