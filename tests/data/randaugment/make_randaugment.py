#!/usr/bin/env python3
"""The 16 operations of RandAugment by Pillow, as bytes for src/data/randaugment_test.cpp: make_randaugment.py

Writes pillow.bin beside itself: for every operation in the order of data/randaugment.h, every strength and,
where it has a sign, both signs, 24 x 16 pixels. Made with Pillow 13.0.0.
"""
import math, pathlib
from PIL import Image, ImageEnhance, ImageOps, ImageFilter

W, H = 24, 16
STRENGTHS = (0.05, 0.1, 0.5, 1.0, 1.5)
SIGNED = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
CUTOUT = (7, 5)


def picture():
    pixels = bytes((20 + 9 * x + 3 * y + 40 * c + (x * y * (c + 3)) % 61) % 251 for y in range(H) for x in range(W) for c in range(3))
    return Image.frombytes("RGB", (W, H), pixels)


def affine(p, a, b, c, d, e, f):
    """Given from the middle of the picture; Pillow takes pixels' middles from the upper left corner."""
    cx, cy = W / 2, H / 2
    return p.transform((W, H), Image.Transform.AFFINE, (a, b, c + cx - a * cx - b * cy, d, e, f + cy - d * cx - e * cy),
                       Image.Resampling.NEAREST, fillcolor=(128, 128, 128))


def cutout(p, half):
    x, y = CUTOUT
    box = (max(0, x - half), max(0, y - half), min(W, x + half), min(H, y + half))
    p = p.copy()
    if box[0] < box[2] and box[1] < box[3]:
        p.paste((128, 128, 128), box)
    return p


def posterized(p, bits):
    return ImageOps.posterize(p, bits) if bits else p.point(lambda v: 0)


OPERATIONS = {
    "auto_contrast": lambda p, m: ImageOps.autocontrast(p),
    "equalize": lambda p, m: ImageOps.equalize(p),
    "invert": lambda p, m: ImageOps.invert(p),
    "rotate": lambda p, m: p.rotate(30 * m, Image.Resampling.NEAREST, fillcolor=(128, 128, 128)),
    "posterize": lambda p, m: posterized(p, math.floor(4 * m + 1e-9)),
    "solarize": lambda p, m: ImageOps.solarize(p, math.floor(256 * m + 1e-9)),
    "color": lambda p, m: ImageEnhance.Color(p).enhance(0.1 + 1.8 * m),
    "contrast": lambda p, m: ImageEnhance.Contrast(p).enhance(0.1 + 1.8 * m),
    "brightness": lambda p, m: ImageEnhance.Brightness(p).enhance(0.1 + 1.8 * m),
    "sharpness": lambda p, m: ImageEnhance.Sharpness(p).enhance(0.1 + 1.8 * m),
    "shear_x": lambda p, m: affine(p, 1, 0.3 * m, 0, 0, 1, 0),
    "shear_y": lambda p, m: affine(p, 1, 0, 0, 0.3 * m, 1, 0),
    "translate_x": lambda p, m: affine(p, 1, 0, 100 * m, 0, 1, 0),
    "translate_y": lambda p, m: affine(p, 1, 0, 0, 0, 1, 100 * m),
    "cutout": lambda p, m: cutout(p, math.floor(40 * m + 1e-9)),
    "solarize_add": lambda p, m: p.point(lambda v: min(255, v + math.floor(110 * m + 1e-9)) if v < 128 else v),
}

out = b""
for name, operation in OPERATIONS.items():
    for strength in STRENGTHS:
        for sign in (1, -1) if name in SIGNED else (1,):
            out += operation(picture(), sign * strength).tobytes()
(pathlib.Path(__file__).parent / "pillow.bin").write_bytes(out)
