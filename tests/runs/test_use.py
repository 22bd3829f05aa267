#!/usr/bin/env python3
"""Use of what was trained: classes by name, held-out sets with other classes, exports.

Run by ctest as `test_use.py PROGRAM`.
"""
import json, pathlib, random, shutil, struct, subprocess, sys, tempfile, unittest, zlib

PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve()) if len(sys.argv) > 1 else ""
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="nfscale-use-"))


def png(seed, size=16):
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * size) for _ in range(size))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def folder(name, classes, count=6):
    """A folder of pictures; a class of no pictures is an empty folder."""
    root = ROOT / name
    for label, empty in classes.items():
        (root / label).mkdir(parents=True)
        for i in range(0 if empty else count):
            (root / label / f"{i}.png").write_bytes(png(f"{label}{i}"))
    return root


def nfscale(*args, want=0):
    r = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=300)
    assert r.returncode == want, f"exit {r.returncode}, not {want}: {r.stderr[-500:]}"
    return r


def train(data, out, heldout=None, want=0):
    sets = {"model.name": "nfnet", "model.depth": "[1,1,1,1]", "model.width": "[8,8,16,16]", "model.group_width": "8", "model.stem": "[4,4,4,4]", "model.stem_stride": "[1,2,1,2]",
            "data.train": f"folder:{data}", "train.duration": "3st", "train.batch": "8", "train.image_size": "16", "train.precision": "f32", "schedule.warmup": "0"}
    if heldout:
        sets["data.heldout"] = f"folder:{heldout}"
    return nfscale("pretrain", "--out", out, "--threads", 1, *[part for k, v in sets.items() for part in ("--set", f"{k}={v}")], want=want)


class Classes(unittest.TestCase):
    def test_classes_are_matched_by_name_never_by_place(self):
        """pytorch/vision#714: folders 1, 2, 10 sort as 1, 10, 2; a model was evaluated with another order."""
        data, run = folder("numbers", {"1": False, "2": False, "10": False}), ROOT / "numbers-run"
        train(data, run)
        whole = json.loads(nfscale("eval", run, "--data", f"folder:{data}", "--json").stdout)
        self.assertEqual(whole["examples"], 18)
        renamed = folder("renamed", {"01": False, "02": False, "10": False})
        self.assertIn("01", nfscale("eval", run, "--data", f"folder:{renamed}", want=2).stderr)
        fewer = folder("fewer", {"2": False, "10": False})
        losses = [json.loads(nfscale("eval", run, "--data", f"folder:{d}", "--json").stdout) for d in (fewer, folder("one", {"1": False}))]
        self.assertAlmostEqual((2 * losses[0]["loss"] + losses[1]["loss"]) / 3, whole["loss"], places=5)
        top = json.loads(nfscale("predict", run, data / "10", "--top", 3, "--json").stdout)["images"][0]["top"]
        self.assertEqual({t["name"]: t["class"] for t in top}, {"1": 0, "10": 1, "2": 2})      # the order of the bytes

    def test_an_empty_class_of_a_heldout_set_moves_no_label(self):
        """pytorch/vision#8297: a class without pictures in the validation folder was an error, or moved the labels."""
        data = folder("abc", {"a": False, "b": False, "c": False})
        sets = [folder("with-empty", {"a": False, "b": True, "c": False}), folder("without", {"a": False, "c": False})]
        losses = []
        for heldout in sets:
            run = ROOT / f"{heldout.name}-run"
            train(data, run, heldout)
            losses.append(json.loads((run / "result.json").read_text())["heldout"]["loss"])
        self.assertEqual(losses[0], losses[1])
        self.assertIn("b", train(folder("hole", {"a": False, "b": True, "c": False}), ROOT / "hole-run", want=2).stderr)

    def test_an_export_keeps_weights_and_meaning(self):
        data, run, out = folder("export", {"x": False, "y": False}), ROOT / "export-run", ROOT / "export.safetensors"
        train(data, run)
        nfscale("export", run, "--format", "safetensors", "--out", out)
        evaluated = [nfscale("eval", w, "--data", f"folder:{data}", "--json").stdout for w in (run, out)]
        self.assertEqual(evaluated[0], evaluated[1])


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)
