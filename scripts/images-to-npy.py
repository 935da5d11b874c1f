#!/usr/bin/env python3
"""Makes .npy sets of a folder or tar archive of JPEG and PNG images, for a machine whose npos lacks the image libraries.

    scripts/images-to-npy.py SET OUT --size N [--bicubic] [--grey]         needs numpy and Pillow

writes OUT/SPLIT/images.npy (uint8 [count][N][N][3]), labels.npy and classes.txt, SPLIT being train and test, or all of a
set without splits.  The pixels and their order are those that npos gives SET with image_size N: the shorter side
resized to N, the middle cut out; classes are the first folder below, numbered in the order of their names.
"""
import argparse
import io
import os
import sys
import tarfile

import numpy as np
from PIL import Image

SPLITS = {b"train": "train", b"test": "test", b"val": "test", b"valid": "test", b"validation": "test"}
ENDINGS = (b".jpg", b".jpeg", b".png")


def files(path):
    """(name as bytes, function that gives the file's bytes) of every image."""
    if os.path.isdir(path):
        root = os.fsencode(path)
        for folder, _, names in os.walk(root):
            for name in names:
                whole = os.path.join(folder, name)
                yield os.path.relpath(whole, root), lambda whole=whole: open(whole, "rb").read()
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                data = archive.extractfile(member).read()
                name = os.path.normpath(os.fsencode(member.name))
                yield name, lambda data=data: data


def parts_of(found):
    """{split: [(class, name, read)]}: folders that hold everything are left out as long as folders remain below."""
    split_names = [(name.split(b"/"), read) for name, read in found]
    while len({words[0] for words, _ in split_names}) == 1 and min(len(words) for words, _ in split_names) > 2:
        split_names = [(words[1:], read) for words, read in split_names]
    first = {words[0] for words, _ in split_names}
    splits = {}
    for words, read in split_names:
        split = "all"
        if first <= set(SPLITS):
            split, words = SPLITS[words[0]], words[1:]
        if len(words) < 2:
            sys.exit(f"images-to-npy: {os.fsdecode(b'/'.join(words))}: not in a class folder")
        splits.setdefault(split, []).append((words[0], b"/".join(words), read))
    return splits


def pixels(data, size, resample, mode):
    image = Image.open(io.BytesIO(data)).convert(mode)
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != size:
        scaled = int(size * long / short)
        image = image.resize((size, scaled) if width <= height else (scaled, size), resample)
    width, height = image.size
    left, top = int(round((width - size) / 2.0)), int(round((height - size) / 2.0))
    return np.asarray(image.crop((left, top, left + size, top + size)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("out")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--bicubic", action="store_true")
    parser.add_argument("--grey", action="store_true")
    arguments = parser.parse_args()
    resample = Image.BICUBIC if arguments.bicubic else Image.BILINEAR
    found = [(name, read) for name, read in files(arguments.set)
             if name.lower().endswith(ENDINGS) and not any(word.startswith(b".") for word in name.split(b"/"))]
    if not found:
        sys.exit(f"images-to-npy: {arguments.set}: no JPEG or PNG images")
    splits = parts_of(found)
    order = sorted({each for each, _, _ in splits.get("train", next(iter(splits.values())))})
    for split, items in splits.items():
        items.sort(key=lambda item: item[1])
        classes = order if {each for each, _, _ in items} <= set(order) else sorted({each for each, _, _ in items})
        number = {name: i for i, name in enumerate(classes)}
        folder = os.path.join(arguments.out, split)
        os.makedirs(folder, exist_ok=True)
        mode = "L" if arguments.grey else "RGB"
        np.save(os.path.join(folder, "images.npy"),
                np.stack([pixels(read(), arguments.size, resample, mode) for _, _, read in items]))
        np.save(os.path.join(folder, "labels.npy"), np.array([number[each] for each, _, _ in items], np.int32))
        with open(os.path.join(folder, "classes.txt"), "wb") as file:
            file.writelines(name + b"\n" for name in classes)
        print(f"{folder}: {len(items)} images of {arguments.size}x{arguments.size}, {len(classes)} classes")


if __name__ == "__main__":
    main()
