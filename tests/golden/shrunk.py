#!/usr/bin/env python3
"""Makes tests/golden/shrunk/: JPEG files that Pillow decodes smaller, by Image.draft, and then resizes.

    python3 tests/golden/shrunk.py        (Pillow, numpy)

cases.csv holds a line a case: the file, the transform (size, channels, reducing gap), what comes of decoding
(height, width, channels, shrink) and where in values.npy its bytes begin, the decoded pixels first (unless the image
came out whole), then those of the transform: torchvision's Resize(size, bicubic) and CenterCrop(size) from the part of the
decoded image that the stored one covers, as Image.thumbnail(..., reducing_gap) resizes.
"""
import math
import pathlib

import numpy as np
import PIL
from PIL import Image

HERE = pathlib.Path(__file__).parent / "shrunk"
HEIGHT, WIDTH = 61, 93


def picture(height, width):
    """Waves, an edge and a little noise, in three colours."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    noise = np.random.default_rng(7).normal(0, 6, (height, width, 3))
    waves = np.stack([np.sin(x / 7 + y / 13), np.cos(x * y / 400), np.sin((x - y) / 5)], -1)
    return np.clip(128 + 80 * waves + 40 * (x > 2 * y)[..., None] + noise, 0, 255).astype(np.uint8)


def files():
    rgb = Image.fromarray(picture(HEIGHT, WIDTH))
    grey = rgb.convert("L")
    rgb.save(HERE / "rgb420.jpg", quality=85, subsampling=2)
    rgb.save(HERE / "rgb422.jpg", quality=85, subsampling=1, restart_marker_blocks=3)
    rgb.save(HERE / "rgb444.jpg", quality=92, subsampling=0)
    rgb.save(HERE / "progressive.jpg", quality=80, progressive=True)
    grey.save(HERE / "grey.jpg", quality=85)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn, which Image.open does not apply
    rgb.transpose(Image.Transpose.ROTATE_90).save(HERE / "turned.jpg", quality=85, exif=exif)
    cmyk = np.dstack([np.asarray(rgb), np.asarray(grey) // 2])
    Image.fromarray(cmyk, "CMYK").save(HERE / "cmyk.jpg", quality=90)
    Image.fromarray(picture(16, 200)).save(HERE / "sliver.jpg", quality=85)


def transformed(image, shrink, stored, size):
    """Resize(size) and CenterCrop(size) of torchvision for an image of the size `stored`."""
    width, height = stored
    box = (0, 0, width / shrink, height / shrink)
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    top, left = int(round((height - size) / 2.0)), int(round((width - size) / 2.0))
    return image.crop((left, top, left + size, top + size))


def main():
    HERE.mkdir(exist_ok=True)
    files()
    lines, values, at = [], [], 0
    for path in sorted(HERE.glob("*.jpg")):
        for size, wanted, gap in ((5, 3, 1), (7, 3, 1), (7, 1, 2), (14, 3, 1.5), (15, 3, 2), (30, 3, 1), (31, 3, 2)):
            image = Image.open(path)
            stored = image.size
            image.draft(None, (math.ceil(gap * size),) * 2)
            shrink = image.decoderconfig[0]
            grey = image.mode == "L"
            decoded = np.asarray(image if grey else image.convert("RGB"))
            result = np.asarray(transformed(image.convert("RGB" if wanted == 3 else "L"), shrink, stored, size))
            lines.append(f"{path.name},{size},{wanted},{gap},{decoded.shape[0]},{decoded.shape[1]},"
                         f"{1 if grey else 3},{shrink},{at}")
            values += [decoded.tobytes() if shrink > 1 else b"", result.tobytes()]
            at += len(values[-1]) + len(values[-2])
    (HERE / "cases.csv").write_text(f"# Pillow {PIL.__version__}\n# file,size,channels,gap,height,width,decoded channels,shrink,"
                                    "offset\n" + "\n".join(lines) + "\n")
    np.save(HERE / "values.npy", np.frombuffer(b"".join(values), np.uint8))


if __name__ == "__main__":
    main()
