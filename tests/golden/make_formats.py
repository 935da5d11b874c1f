#!/usr/bin/env python3
"""Writes tests/golden/formats/: small sets of images in the formats that others use, and what is in them.

Of each set NAME there are the file as its own library writes it, NAME.npy (uint8 [N][H][W][C]) and
NAME_labels.npy (int32).  Made with NumPy 2.4, SciPy 1.17, Pillow 13 and webdataset 1.0:

    pip install numpy scipy pillow webdataset && tests/golden/make_formats.py
"""
import gzip
import io
import pathlib
import pickle
import struct
import tarfile

import numpy as np
import PIL.Image
import scipy.io
import webdataset

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


def save_mat(name, arrays, compressed):
    out = io.BytesIO()
    scipy.io.savemat(out, arrays, do_compression=compressed)
    text = b"MATLAB 5.0 MAT-file, by SciPy".ljust(116)  # without the date
    (HERE / name).write_bytes(text + out.getvalue()[116:])


def svhn():
    images = pattern(12, 7, 5, 3, 1)
    digits = np.array([1, 9, 10, 3, 10, 1, 1, 10, 2, 9, 8, 1], np.uint8)  # 10 stands for 0
    x = images.transpose(1, 2, 3, 0)
    save_mat("svhn_test.mat", {"y": digits[:, None], "X": x}, True)
    # not compressed, other arrays beside it, labels as MATLAB's own numbers, in a row
    save_mat("svhn_plain.mat", {"meta": {"note": "a structure"}, "words": np.array(["a", "b"], object),
                                "z": np.arange(5) + 2j, "y": digits[None, :].astype(np.float64), "X": x},
             False)
    expect("svhn", images, digits % 10)


class Python2(pickle._Pickler):
    """Writes what Python 2's cPickle wrote: protocol 2, texts as bytes (BINSTRING)."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data)))
        self.write(data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def pickled(value, protocol=2, python2=True):
    out = io.BytesIO()
    if python2:
        Python2(out, protocol).dump(value)
        data = out.getvalue().replace(b"numpy._core", b"numpy.core")
    else:
        data = pickle.dumps(value, protocol)
    read = pickle.loads(data, encoding="latin1")  # as torchvision does
    assert (read["data"] == value["data"]).all() if "data" in value else list(read) == list(value)
    return data


def batch(images, labels, key, label):
    data = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return {"data": data, key: [int(x) for x in labels], "batch_label": label,
            "filenames": [f"image_{i}.png" for i in range(len(images))]}


def archive(path, folder, files):
    """A tar.gz of these files in that folder, with members in the order given."""
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed, \
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo(folder)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
        for name, data in files:
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def cifar():
    n, y, x, c = np.ogrid[:4, :32, :32, :3]
    images = ((40 * n + 3 * y + (2 + n) * x + 60 * c) % 256).astype(np.uint8)
    labels = [3, 0, 9, 3]
    words = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    archive(HERE / "cifar-10-python.tar.gz", "cifar-10-batches-py", [
        ("test_batch", pickled(batch(images[3:], labels[3:], "labels", "testing batch 1 of 1"))),
        ("readme.html", b"<html>"),
        ("data_batch_2", pickled(batch(images[2:3], labels[2:3], "labels", "training batch 2 of 5"))),
        ("batches.meta", pickled({"num_cases_per_batch": 2, "label_names": words, "num_vis": 3072})),
        ("data_batch_1", pickled(batch(images[:2], labels[:2], "labels", "training batch 1 of 5")))])
    expect("cifar10", images, labels)
    fine = [99, 7]
    names = [f"thing {i}" for i in range(100)]
    hundred = [batch(images[i:i + 1], fine[i:i + 1], "fine_labels", "one") | {"coarse_labels": [i]} for i in (0, 1)]
    archive(HERE / "cifar-100-python.tar.gz", "cifar-100-python", [
        ("file.txt~", b"left over"), ("train", pickled(hundred[1])), ("test", pickled(hundred[0])),
        ("meta", pickled({"fine_label_names": names, "coarse_label_names": names[:20]}))])
    expect("cifar100", images[:2], fine)
    # a batch that Python 3 and NumPy 2 wrote again
    for protocol in (2, 4, 5):
        again = pickled(batch(images[:1], labels[:1], "labels", "again"), protocol, python2=False)
        (HERE / f"again_{protocol}.pickle").write_bytes(again)


def npz():
    images = pattern(10, 4, 6, 3, 2)
    labels = np.array([0, 4, 2, 0, 1, 3, 0, 1, 2, 0])
    np.savez(HERE / "named.npz", train_images=images[:5], val_images=images[5:7], test_images=images[7:],
             train_labels=labels[:5, None].astype(np.uint8), val_labels=labels[5:7, None].astype(np.uint8),
             test_labels=labels[7:, None].astype(np.uint8))
    np.savez_compressed(HERE / "deflated.npz", x_train=images[:8], y_train=labels[:8], x_val=images[8:],
                        y_val=labels[8:])
    np.savez(HERE / "plain.npz", images, labels.astype(np.int32))
    expect("npz", images, labels)


def shards():
    images = pattern(5, 3, 4, 3, 3)
    labels = [2, 0, 1, 2, 3]

    def png(i):
        out = io.BytesIO()
        PIL.Image.fromarray(images[i]).save(out, "PNG")
        return out.getvalue()

    long_key = "a_long_name/" * 8 + "of_more_than_100_characters"
    keys = ["n01/0001", "n02/0002", "0003", long_key, "0005"]
    with webdataset.TarWriter(str(HERE / "shard-train-000.tar"), mtime=0) as tar:
        for i in range(2):
            tar.write({"__key__": keys[i], "png": png(i), "cls": labels[i]})
    with webdataset.TarWriter(str(HERE / "shard-train-001.tar"), mtime=0) as tar:
        for i in (2, 3):
            tar.write({"__key__": keys[i], "json": {"label": labels[i], "caption": "no word"},
                       "mask.png": png(0), "png": png(i), "txt": "a caption"})
    with webdataset.TarWriter(str(HERE / "shard-val-000.tar"), mtime=0) as tar:
        tar.write({"__key__": keys[4], "png": png(4), "cls": labels[4], "json": {"label": 99}})
    expect("shards", images, labels)


def main():
    HERE.mkdir(exist_ok=True)
    svhn()
    cifar()
    npz()
    shards()


if __name__ == "__main__":
    main()
