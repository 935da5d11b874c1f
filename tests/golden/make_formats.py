#!/usr/bin/env python3
"""Writes tests/golden/formats/: small sets of images in the formats that others use, and what is in them; and
into tests/golden/images/ images of all kinds that are read, with what Pillow makes of them.

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
import zlib

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


def png_file(width, height, depth, color, rows, *chunks):
    """A PNG of any kind; rows: the bytes of each."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
            + b"".join(chunk(*c) for c in chunks)
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9)) + chunk(b"IEND", b""))


def bmp_file(width, height, bits, pixels, palette=b"", compression=0, masks=b"", header=40, colors=0):
    """A bitmap of any kind; height < 0: top down."""
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, colors, 0)
        head += masks + bytes(max(0, header - 40 - len(masks)))
    offset = 14 + len(head) + len(palette)
    return struct.pack("<2sIII", b"BM", offset + len(pixels), 0, offset) + head + palette + pixels


def bmp_rows(rows):
    """Rows padded to 4 bytes, the lowest first."""
    return b"".join(bytes(row) + bytes(-len(row) % 4) for row in reversed(rows))


def decoders():
    here, made = HERE.parent / "images", []
    width, height = 13, 9
    rgb = pattern(1, height, width, 3, 10)[0]
    alpha = np.linspace(0, 255, width * height).astype(np.uint8).reshape(height, width)
    grey = rgb[..., 0]
    image, l = PIL.Image.fromarray(rgb), PIL.Image.fromarray(grey)
    rgba = PIL.Image.fromarray(np.dstack([rgb, alpha]))

    def put(name, data):
        (here / name).write_bytes(data)
        made.append(name)

    def save(name, source, **options):
        out = io.BytesIO()
        source.save(out, **options)
        put(name, out.getvalue())

    # PNG: 16 bits of all colours, few bits of grey, transparent colours
    deep = np.random.default_rng(11).integers(0, 65536, (height, width, 4)).astype(">u2")
    deep[0, :4] = [[0] * 4, [1] * 4, [255] * 4, [256] * 4]
    low = (deep[..., 0] % 700).astype(">u2")  # about where Pillow clips grey
    put("grey16.png", png_file(width, height, 16, 0, [r.tobytes() for r in low]))
    put("grey16_clear.png", png_file(width, height, 16, 0, [r.tobytes() for r in low], (b"tRNS", b"\0\1")))
    put("grey_alpha16.png", png_file(width, height, 16, 4, [r.tobytes() for r in deep[..., :2]]))
    put("rgb16.png", png_file(width, height, 16, 2, [r.tobytes() for r in deep[..., :3]]))
    put("rgba16.png", png_file(width, height, 16, 6, [r.tobytes() for r in deep]))
    for bits in (1, 2, 4):
        rows = [np.packbits(np.unpackbits((row >> (8 - bits))[:, None], axis=1)[:, 8 - bits:].ravel()).tobytes() for row in grey]
        put(f"grey_bits{bits}.png", png_file(width, height, bits, 0, rows))
        put(f"grey_bits{bits}_clear.png", png_file(width, height, bits, 0, rows, (b"tRNS", b"\0\1")))
    # JPEG
    save("grey_progressive.jpg", l, format="JPEG", progressive=True, quality=70)
    save("rgb_stored.jpg", image, format="JPEG", keep_rgb=True, quality=90)
    save("rgb422_restart.jpg", image, format="JPEG", subsampling=1, restart_marker_blocks=1, quality=85)
    save("one_pixel.jpg", image.crop((0, 0, 1, 1)), format="JPEG")
    cmyk = PIL.Image.merge("CMYK", [*image.split(), PIL.Image.fromarray(alpha)])
    save("cmyk_progressive.jpg", cmyk, format="JPEG", progressive=True, quality=85)
    plain = io.BytesIO()
    cmyk.save(plain, format="JPEG", quality=85)
    data = plain.getvalue()
    at = data.index(b"\xff\xee")  # without Adobe's marker Pillow inverts all the same
    put("cmyk_no_marker.jpg", data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]:])
    for turn in (2, 3, 8):
        exif = PIL.Image.Exif()
        exif[0x0112] = turn
        save(f"turned{turn}.jpg", image, format="JPEG", quality=85, exif=exif)
    # WebP
    save("rgb_lossless.webp", image, format="WEBP", lossless=True)
    save("rgba_lossless.webp", rgba, format="WEBP", lossless=True, exact=True)
    save("lossless_cleared.webp", rgba, format="WEBP", lossless=True, exact=False)
    save("lossy_rgb.webp", image, format="WEBP", quality=80)
    save("lossy_rgba.webp", rgba, format="WEBP", quality=60, alpha_quality=80)
    save("lossless_animated.webp", rgba, format="WEBP", lossless=True, exact=True, save_all=True, duration=50,
         append_images=[rgba.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM)])
    # BMP
    save("rgb.bmp", image, format="BMP")
    save("grey.bmp", l, format="BMP")
    save("bits1.bmp", l.convert("1"), format="BMP")
    save("palette.bmp", image.quantize(40), format="BMP")
    save("rgba.bmp", rgba, format="BMP")
    palette = np.random.default_rng(12).integers(0, 256, (256, 4)).astype(np.uint8).tobytes()
    nibbles = [bytes(a << 4 | b for a, b in zip(*[iter([int(v) >> 4 for v in row] + [0])] * 2)) for row in grey]
    put("palette4.bmp", bmp_file(width, height, 4, bmp_rows(nibbles), palette[:64], colors=16))
    put("palette4_short.bmp", bmp_file(width, height, 4, bmp_rows(nibbles), palette[:40], colors=10))
    put("palette4_os2.bmp", bmp_file(width, height, 4, bmp_rows(nibbles), palette[:48], header=12))
    bits = [np.packbits(row >> 7).tobytes() for row in grey]
    put("palette1.bmp", bmp_file(width, height, 1, bmp_rows(bits), palette[:8]))
    bgr = [row[:, ::-1].tobytes() for row in rgb]
    put("rgb_os2.bmp", bmp_file(width, height, 24, bmp_rows(bgr), header=12))
    put("top_down.bmp", bmp_file(width, -height, 24, bmp_rows(bgr[::-1])))
    words = [deep[i, :, 0].astype("<u2").tobytes() for i in range(height)]
    put("rgb555.bmp", bmp_file(width, height, 16, bmp_rows(words)))
    put("rgb555_masks.bmp", bmp_file(width, height, 16, bmp_rows(words), compression=3,
                                     masks=struct.pack("<III", 0x7C00, 0x3E0, 0x1F)))
    put("rgb565.bmp", bmp_file(width, height, 16, bmp_rows(words), compression=3,
                               masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)))
    quads = [deep[i, :, :2].astype("<u2").tobytes() for i in range(height)]
    for name, masks, header in (("bgrx", (0xFF0000, 0xFF00, 0xFF), 40), ("xbgr", (0xFF000000, 0xFF0000, 0xFF00), 40),
                                ("abgr", (0xFF000000, 0xFF0000, 0xFF00, 0xFF), 56),
                                ("rgba", (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 124),
                                ("bgar", (0xFF000000, 0xFF00, 0xFF, 0xFF0000), 108), ("none", (0, 0, 0, 0), 124)):
        put(f"masks_{name}.bmp", bmp_file(width, height, 32, bmp_rows(quads), compression=3, header=header,
                                          masks=struct.pack(f"<{len(masks)}I", *masks)))
    # 7 x 4: a run, the end of a row, plain values, a step, a run that is too long, the end
    codes8 = bytes([5, 200, 0, 0, 0, 3, 1, 2, 3, 0, 4, 9, 0, 0, 0, 2, 2, 1, 9, 77, 0, 1])
    put("rle8.bmp", bmp_file(7, 4, 8, codes8, palette, compression=1))
    codes4 = bytes([5, 0x12, 0, 0, 0, 3, 0x34, 0x50, 4, 0x67, 0, 0, 0, 2, 2, 1, 9, 0x89, 0, 1])
    put("rle4.bmp", bmp_file(7, 4, 4, codes4, palette[:64], compression=2))
    # Netpbm
    save("rgb.ppm", image, format="PPM")
    save("grey.pgm", l, format="PPM")
    save("bits1.pbm", l.convert("1"), format="PPM")
    words = " ".join(str(v) for v in rgb.ravel())
    put("plain.ppm", f"P3\n# a comment\n{width} {height}\n255\n{words}\n".encode())
    put("plain_few.pgm", b"P2 4 2 5 0 1 2 3 # a comment\n4 5 3 2")
    put("plain_wide.pgm", b"P2\n4 2\n1000\n0 1 2 3 4 5 500 1000\n")
    put("plain.pbm", b"P1\n# bits\n5 3\n10110\n0 1 0 0 1\n11111\n")
    put("few.pgm", f"P5 {width} {height} 100\n".encode() + (grey % 101).tobytes())
    put("beyond.pgm", f"P5 {width} {height} 100\n".encode() + grey.tobytes())
    put("few.ppm", f"P6\n{width} {height}\n#\n31\n".encode() + (rgb % 32).tobytes())
    put("wide.ppm", f"P6 {width} {height} 65535\n".encode() + deep[..., :3].tobytes())
    put("wide_few.ppm", f"P6 {width} {height} 1000\n".encode() + (deep[..., :3] % 1001).astype(">u2").tobytes())
    put("wide.pgm", f"P5 {width} {height} 65535\n".encode() + low.tobytes())
    put("wide_few.pgm", f"P5 {width} {height} 30000\n".encode() + low.tobytes())

    for name in made:
        opened = PIL.Image.open(here / name)
        one = opened.mode in ("1", "L", "LA", "I", "I;16", "I;16B") or name == "grey_alpha16.png"  # there RGBA
        pixels = np.asarray(opened.convert("RGB"))
        np.save(here / (name + ".npy"), np.ascontiguousarray(pixels[..., 0] if one else pixels))


def photographs():
    """Resize(size) and CenterCrop(size) of images as large, and as odd, as they come; a line a case as in transform.csv."""
    sizes = [(375, 500), (500, 333), (683, 1024), (1200, 1600), (224, 224), (225, 224), (223, 231), (336, 337), (3, 4),
             (1, 9), (9, 1), (2, 2), (40, 1500), (1500, 40), (224, 1999), (1024, 225), (2500, 300)]
    filters = [PIL.Image.Resampling.BILINEAR, PIL.Image.Resampling.BICUBIC]
    lines = [f"# Pillow {PIL.__version__}", "# height,width,channels,kind,size,out_channels,filter,crc32"]
    for number, (height, width) in enumerate(sizes):
        channels, kind = (3, 3, 1)[number % 3], number % 3
        state, values = height * 1000003 + width * 1009 + channels, bytearray()  # as in tests/data/make_sets.h
        for i in range(height * width * channels):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            byte = state >> 24
            values.append((255 if byte >= 128 else 0) if kind == 1 else byte if kind == 0
                          else (i * 7 // channels + (byte >> 5)) & 255)
        shape = (height, width, channels) if channels == 3 else (height, width)
        image = PIL.Image.fromarray(np.frombuffer(bytes(values), np.uint8).reshape(shape)).convert("RGB")
        for size in (224, 336):
            for number_of_filter in (0, 1):
                short = min(height, width)
                to = [size if side == short else int(size * side / short) for side in (width, height)]
                result = image if to == [width, height] else image.resize(to, filters[number_of_filter])
                left, top = (int(round((side - size) / 2.0)) for side in to)
                part = np.asarray(result.crop((left, top, left + size, top + size)))
                lines.append(f"{height},{width},{channels},{kind},{size},3,{number_of_filter},"
                             f"{zlib.crc32(part.tobytes()):08x}")
    (HERE.parent / "images" / "photographs.csv").write_text("\n".join(lines) + "\n")


def main():
    HERE.mkdir(exist_ok=True)
    svhn()
    cifar()
    npz()
    shards()
    decoders()
    photographs()


if __name__ == "__main__":
    main()
