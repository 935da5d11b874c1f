#!/usr/bin/env python3
"""Makes tests/golden/images/: what Pillow and torchvision give for resizing, cropping and decoding.

    python3 tests/golden/images.py        (Pillow, torchvision, numpy)

resize.csv, transform.csv and crop.csv hold a line a case: the case's numbers and the CRC-32 of the result's
bytes.  The source images are made by the same generator here and in the test (pattern()).
*.jpg and *.png are small files, NAME.npy beside them what Image.open(...).convert("RGB") gives (one
channel where the file is grey).  ycck.jpg was written by libjpeg (jpeg_set_colorspace JCS_YCCK),
which Pillow cannot; it is read here, not made.
"""
import pathlib
import random
import zlib

import numpy as np
import PIL
import torchvision
from PIL import Image
from torchvision import transforms

HERE = pathlib.Path(__file__).parent / "images"
FILTERS = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]


def pattern(height, width, channels, kind):
    """A linear congruential generator; kind 0: its upper byte, kind 1: 0 or 255, kind 2: smooth."""
    out = np.zeros(height * width * channels, np.uint8)
    state = height * 1000003 + width * 1009 + channels
    for i in range(out.size):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        byte = state >> 24
        if kind == 1:
            byte = 255 if byte >= 128 else 0
        elif kind == 2:
            byte = (i * 7 // channels + (byte >> 5)) & 255
        out[i] = byte
    shape = (height, width, channels) if channels == 3 else (height, width)
    return Image.fromarray(out.reshape(shape))


def crc(image):
    return f"{zlib.crc32(np.asarray(image).tobytes()):08x}"


def resize_cases():
    draw = random.Random(1)
    sizes = [(1, 1), (1, 7), (7, 1), (2, 3), (5, 5), (17, 31), (28, 28), (32, 32), (33, 65), (96, 47)]
    cases = []
    for height, width in sizes:
        for out_height, out_width in [(1, 1), (3, 2), (28, 28), (32, 32), (height, 40), (37, width), (height, width)]:
            for filter_number in (0, 1):
                cases.append((height, width, out_height, out_width, filter_number))
    for _ in range(60):
        cases.append(tuple(draw.randint(1, 90) for _ in range(4)) + (draw.randint(0, 1),))
    lines = []
    for number, (height, width, out_height, out_width, f) in enumerate(cases):
        channels, kind = (1, 3)[number % 2], number % 3
        boxes = [(0.0, 0.0, float(width), float(height))]
        if number % 4 == 0:  # a part of the image, at quarters of pixels
            left, top = draw.randint(0, 2 * width) / 4, draw.randint(0, 2 * height) / 4
            boxes.append((left, top, width - draw.randint(0, width) / 4, height - draw.randint(0, height) / 4))
        for box in boxes:
            if not (box[0] < box[2] and box[1] < box[3]):
                continue
            image = pattern(height, width, channels, kind)
            result = image.resize((out_width, out_height), FILTERS[f], box=box)
            lines.append(f"{height},{width},{channels},{kind},{out_height},{out_width},{f},"
                         f"{box[0]},{box[1]},{box[2]},{box[3]},{crc(result)}")
    return lines


def transform_cases():
    draw = random.Random(2)
    modes = {torchvision.transforms.InterpolationMode.BILINEAR: 0, torchvision.transforms.InterpolationMode.BICUBIC: 1}
    sizes = [(32, 32), (28, 28), (64, 64), (33, 32), (32, 33), (1, 50), (50, 1), (1, 1), (100, 31), (75, 76),
             (128, 171), (171, 128), (35, 41)] + [(draw.randint(1, 120), draw.randint(1, 120)) for _ in range(40)]
    lines = []
    for number, (height, width) in enumerate(sizes):
        for mode, mode_number in modes.items():
            for channels, wanted in ((1, 1), (1, 3), (3, 1), (3, 3)):
                size = (32, 28, 9, 50)[number % 4]
                image = pattern(height, width, channels, number % 3).convert("RGB" if wanted == 3 else "L")
                result = transforms.CenterCrop(size)(transforms.Resize(size, mode)(image))
                lines.append(f"{height},{width},{channels},{number % 3},{size},{wanted},{mode_number},{crc(result)}")
    return lines


def crop_cases():
    """torchvision's resized_crop, which RandomResizedCrop calls."""
    draw = random.Random(3)
    modes = {torchvision.transforms.InterpolationMode.BILINEAR: 0, torchvision.transforms.InterpolationMode.BICUBIC: 1}
    lines = []
    for number in range(120):
        height, width = draw.randint(1, 130), draw.randint(1, 130)
        rows, columns = draw.randint(1, height), draw.randint(1, width)
        top, left = draw.randint(0, height - rows), draw.randint(0, width - columns)
        size = (32, 24, 60, 7)[number % 4]
        if number % 10 == 0 and min(height, width) >= size:  # a crop of the size itself
            rows = columns = size
            top, left = draw.randint(0, height - size), draw.randint(0, width - size)
        channels, wanted = ((1, 1), (1, 3), (3, 1), (3, 3))[number // 4 % 4]
        for mode, mode_number in modes.items():
            image = pattern(height, width, channels, number % 3).convert("RGB" if wanted == 3 else "L")
            result = transforms.functional.resized_crop(image, top, left, rows, columns, [size, size], mode)
            lines.append(f"{height},{width},{channels},{number % 3},{top},{left},{rows},{columns},{size},{wanted},"
                         f"{mode_number},{crc(result)}")
    return lines


def save_expected(path):
    image = Image.open(path)
    grey = image.mode in ("1", "L", "LA")
    pixels = np.asarray(image.convert("RGB"))
    np.save(path.with_name(path.name + ".npy"), np.ascontiguousarray(pixels[..., 0] if grey else pixels))


def files():
    rgb, grey = pattern(29, 37, 3, 2), pattern(29, 37, 1, 2)
    rgb.save(HERE / "rgb420.jpg", quality=80, subsampling=2)
    rgb.save(HERE / "rgb444.jpg", quality=90, subsampling=0)
    rgb.save(HERE / "progressive.jpg", quality=75, progressive=True)
    grey.save(HERE / "grey.jpg", quality=85)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn, which Image.open does not apply
    rgb.save(HERE / "turned.jpg", quality=85, exif=exif)
    cmyk = np.dstack([np.asarray(rgb), np.asarray(grey) // 2])
    Image.fromarray(cmyk, "CMYK").save(HERE / "cmyk.jpg", quality=90)
    rgb.save(HERE / "rgb.png")
    grey.save(HERE / "grey.png")
    grey.convert("1").save(HERE / "bits1.png")
    alpha = pattern(29, 37, 1, 0)
    Image.merge("RGBA", [*rgb.split(), alpha]).save(HERE / "rgba.png")
    Image.merge("LA", [grey, alpha]).save(HERE / "grey_alpha.png")
    for colors in (200, 16, 4, 2):
        palette = rgb.quantize(colors)
        palette.save(HERE / f"palette{colors}.png")
    rgb.quantize(60).save(HERE / "palette_clear.png", transparency=3)
    rgb.save(HERE / "rgb_clear.png", transparency=tuple(np.asarray(rgb)[3, 4].tolist()))
    grey.save(HERE / "grey_clear.png", transparency=int(np.asarray(grey)[3, 4]))


def main():
    HERE.mkdir(exist_ok=True)
    head = f"# Pillow {PIL.__version__}, torchvision {torchvision.__version__}\n"
    (HERE / "resize.csv").write_text(
        head + "# height,width,channels,kind,out_height,out_width,filter,box (4),crc32\n" + "\n".join(resize_cases()) + "\n")
    (HERE / "transform.csv").write_text(
        head + "# height,width,channels,kind,size,out_channels,filter,crc32\n" + "\n".join(transform_cases()) + "\n")
    (HERE / "crop.csv").write_text(
        head + "# height,width,channels,kind,top,left,rows,columns,size,out_channels,filter,crc32\n" + "\n".join(crop_cases()) + "\n")
    files()
    for path in sorted([*HERE.glob("*.jpg"), *HERE.glob("*.png")]):
        save_expected(path)


if __name__ == "__main__":
    main()
