#!/usr/bin/env python3
"""Writes the folders beside it with MosaicML's own writer (mosaicml-streaming 0.13), so that they are
no echo of our reader. Pixel (x, y) of picture i is (40 x, 50 y, 30 i), of a gray one 10 (x + y + i),
alpha is 128; the tests compute the same.

    make.py                       needs mosaicml-streaming, Pillow
"""
import shutil
from pathlib import Path

from PIL import Image
from streaming import MDSWriter

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT, COUNT = 5, 4, 6


def picture(i, mode):
    image = Image.new(mode, (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            color = (40 * x, 50 * y, 30 * i)
            image.putpixel((x, y), {"L": 10 * (x + y + i), "RGB": color, "RGBA": color + (128,)}[mode])
    return image


def write(name, columns, samples, **options):
    shutil.rmtree(HERE / name, ignore_errors=True)
    with MDSWriter(out=str(HERE / name), columns=columns, **options) as writer:
        for sample in samples:
            writer.write(sample)


modes = ["RGB", "L", "RGBA"]
write("pil-gz", {"i": "int", "x": "pil", "y": "uint16"},
      [{"i": 100 + i, "x": picture(i, modes[i % 3]), "y": 300 * i} for i in range(COUNT)],
      compression="gz:6", hashes=["blake2s", "sha256"], size_limit=500)
write("png-zstd", {"cls": "str", "picture": "png", "thumbnail": "bytes"},
      [{"cls": ["cat", "dog", "2"][i % 3], "picture": picture(i, "RGB"), "thumbnail": b"x"} for i in range(COUNT)],
      compression="zstd", hashes=["xxh3_128"], size_limit=500)
write("jpeg", {"id": "uint64", "image": "jpeg", "key": "int32", "label": "int8"},
      [{"id": 2**63 + i - 2, "image": Image.new("RGB", (8, 8), (10 * i, 100, 200)), "key": -i, "label": i}
       for i in range(COUNT)])
(HERE / "png-zstd/classes.txt").write_text("dog\ncat\nfox\n")
