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


def train(data, out, heldout=None, want=0, more=()):
    sets = {"model.name": "nfnet", "model.depth": "[1,1,1,1]", "model.width": "[8,8,16,16]", "model.group_width": "8", "model.stem": "[4,4,4,4]", "model.stem_stride": "[1,2,1,2]",
            "data.train": f"folder:{data}", "train.duration": "3st", "train.batch": "8", "train.image_size": "16", "train.precision": "f32", "schedule.warmup": "0"}
    if heldout:
        sets["data.heldout"] = f"folder:{heldout}"
    return nfscale("pretrain", "--out", out, "--threads", 1, *[part for k, v in [*sets.items(), *more] for part in ("--set", f"{k}={v}")], want=want)


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

    def test_a_model_may_have_more_classes_than_its_data(self):
        data, run = folder("some", {"a": False, "b": False}), ROOT / "some-run"
        train(data, run, more=[("model.classes", "4")])
        result = json.loads(nfscale("eval", run, "--data", f"folder:{data}", "--json").stdout)
        self.assertEqual([c["class"] for c in result["classes"]], ["a", "b", "2", "3"])
        self.assertEqual(sum(c["examples"] for c in result["classes"]), 12)

    def test_a_broken_picture_among_several_is_told_in_its_place(self):
        data, out = folder("mixed", {"a": False, "b": False}), ROOT / "mixed-run"
        train(data, out)
        files = sorted((data / "a").iterdir())
        files[2].write_bytes(b"no picture")
        alone = [json.loads(nfscale("predict", out, f, "--json", want=2 if f == files[2] else 0).stdout)["images"][0] for f in files]
        several = json.loads(nfscale("predict", out, *files, "--batch", 4, "--json", want=2).stdout)["images"]
        self.assertEqual([i["file"] for i in several], [str(f) for f in files])
        self.assertIn("not-an-image", several[2]["error"])
        for one, other in zip(alone, several):
            for t, u in zip(one.get("top", []), other.get("top", []), strict=True):
                self.assertEqual(t["name"], u["name"])
                self.assertAlmostEqual(t["p"], u["p"], places=3)

    def test_an_export_keeps_weights_and_meaning(self):
        data, run, out = folder("export", {"x": False, "y": False}), ROOT / "export-run", ROOT / "export.safetensors"
        train(data, run)
        nfscale("export", run, "--format", "safetensors", "--out", out)
        evaluated = [nfscale("eval", w, "--data", f"folder:{data}", "--json").stdout for w in (run, out)]
        self.assertEqual(evaluated[0], evaluated[1])


def tensors(path):
    """Names, shapes and numbers of a float32 safetensors file."""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:8 + length]), data[8 + length:]
    header.pop("__metadata__", None)
    return {k: (v["shape"], struct.unpack(f"<{(v['data_offsets'][1] - v['data_offsets'][0]) // 4}f", body[slice(*v["data_offsets"])])) for k, v in header.items()}


def finetune(backbone, data, out, sets=(), want=0):
    rest = [part for s in ("train.duration=2st", "train.batch=8", "train.precision=f32", *sets) for part in ("--set", s)]
    return nfscale("finetune", "--init", backbone, "--threads", 1, "--set", f"data.train=folder:{data}", "--out", out, *rest, want=want)


class FineTuning(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.backbone = ROOT / "backbone"
        train(folder("many", {c: False for c in "abcde"}), cls.backbone)
        cls.data = folder("few", {"cat": False, "dog": False})

    def test_everything_but_the_classifier_is_that_of_the_backbone(self):
        out = ROOT / "tuned"
        finetune(self.backbone, self.data, out, ["optim.lr=1e-12", "optim.weight_decay=0", "data.mean=[0.1,0.2,0.3]"])
        before, after = tensors(self.backbone / "model.safetensors"), tensors(out / "model.safetensors")
        self.assertEqual(before.keys(), after.keys())
        for name in before:
            if name.startswith("head."):
                self.assertEqual(after[name][0][0], 2, name)
            else:
                self.assertEqual(before[name][0], after[name][0], name)
                self.assertLess(max(abs(a - b) for a, b in zip(before[name][1], after[name][1])), 1e-6, name)
        config = (out / "config.toml").read_text()
        self.assertIn("mean = [0.1, 0.2, 0.3]", config)
        self.assertIn("image_size = 16", config)       # the backbone's
        top = json.loads(nfscale("predict", out, self.data / "cat", "--top", 2, "--json").stdout)["images"][0]["top"]
        self.assertEqual({t["name"] for t in top}, {"cat", "dog"})

    def test_another_size_and_sharpness_aware_steps(self):
        out = ROOT / "larger"
        finetune(self.backbone, self.data, out, ["train.image_size=24", "optim.sam_rho=0.05", "optim.sam_group=4", "model.drop_rate=0.2", "ema.decay=0.9"])
        compute = json.loads((out / "result.json").read_text())["compute"]
        self.assertAlmostEqual(compute["flops"] / (6 * json.loads((out / "result.json").read_text())["model"]["macs"] * 16), 1.25)   # 1 of 4 rows climbs
        self.assertEqual(finetune(self.backbone, self.data, out, ["train.image_size=24", "optim.sam_rho=0.05", "optim.sam_group=4", "model.drop_rate=0.2", "ema.decay=0.9"]).stdout, "")   # it has ended

    # rwightman/pytorch-image-models#1794, #2332: from a local file neither head nor position embedding was
    # adapted, and elsewhere tensors were passed over that did not fit.
    def test_a_file_is_adapted_in_one_line_or_refused_by_name(self):
        vit, out = ROOT / "vit", ROOT / "vit-tuned"
        nfscale("pretrain", "--out", vit, "--threads", 1, *[part for s in (
            "model.name=vit_n0", f"data.train=folder:{folder('patches', {c: False for c in 'abcde'})}", "train.duration=3st", "train.batch=8",
            "train.image_size=16", "train.precision=f32", "schedule.warmup=0", "optim.name=adamw") for part in ("--set", s)])
        err = finetune(vit, self.data, out, ["train.image_size=24"]).stderr
        lines = [l for l in err.splitlines() if "classifier" in l]
        self.assertEqual(len(lines), 1, err)
        self.assertIn("2 classes", lines[0])
        self.assertRegex(lines[0], r"position embedding resized from (\d+) x \1 to (\d+) x \2 patches")
        top = json.loads(nfscale("predict", out, self.data / "cat", "--json").stdout)["images"][0]["top"]
        self.assertEqual({t["name"] for t in top}, {"cat", "dog"})
        for backbone, tensor in ((vit, "blocks.0.attn.qkv.weight"), (self.backbone, "stages.0.0.conv1.weight")):
            whole = (backbone / "model.safetensors").read_bytes()
            length = struct.unpack("<Q", whole[:8])[0]
            header = json.loads(whole[8:8 + length])
            other = {(k.replace("0", "7", 1) if k == tensor else k): v for k, v in header.items()}
            text = json.dumps(other).encode()
            renamed = ROOT / "renamed.safetensors"
            renamed.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length:])
            err = finetune(renamed, self.data, ROOT / "no", want=2).stderr.strip()
            self.assertEqual(err.count("\n"), 0, err)
            self.assertIn(tensor, err)
            self.assertIn(tensor.replace("0", "7", 1), err)

    def test_runs_are_averaged_where_they_are_of_one_model(self):
        runs = [ROOT / f"soup{i}" for i in range(3)]
        for i, run in enumerate(runs):
            finetune(self.backbone, self.data, run, [f"train.seed={i}", "optim.lr=0.05"])
        uniform, greedy = ROOT / "uniform.safetensors", ROOT / "greedy.safetensors"
        nfscale("average", *runs, "--out", uniform)
        members = [tensors(r / "model.safetensors") for r in runs]
        for name, (shape, mean) in tensors(uniform).items():
            for j, value in enumerate(mean):
                self.assertAlmostEqual(value, sum(m[name][1][j] for m in members) / 3, places=5, msg=name)
        result = json.loads(nfscale("average", *runs, "--data", f"folder:{self.data}", "--out", greedy, "--json").stdout)
        alone = [s["loss"] for s in result["steps"]]
        self.assertEqual(alone, sorted(alone))
        self.assertLessEqual(result["loss"], alone[0])
        evaluated = json.loads(nfscale("eval", greedy, "--data", f"folder:{self.data}", "--json").stdout)
        self.assertAlmostEqual(evaluated["loss"], result["loss"], places=6)
        overflowing, whole = ROOT / "overflowing.safetensors", bytearray((runs[0] / "model.safetensors").read_bytes())
        length = struct.unpack("<Q", whole[:8])[0]
        begin, end = json.loads(whole[8:8 + length])["head.fc.weight"]["data_offsets"]
        whole[8 + length + begin:8 + length + end] = struct.pack("<f", 3e38) * ((end - begin) // 4)
        overflowing.write_bytes(whole)
        steps = json.loads(nfscale("average", overflowing, runs[0], "--data", f"folder:{self.data}", "--out", greedy, "--json").stdout)["steps"]
        self.assertEqual([s["taken"] for s in steps], [True, False])      # a loss that is no number is the worst, in any order
        self.assertEqual(steps[1]["checkpoint"], str(overflowing))
        self.assertIn("one model", nfscale("average", runs[0], self.backbone, "--out", ROOT / "no.safetensors", want=2).stderr)
        self.assertFalse((ROOT / "no.safetensors").exists())

    def test_what_does_not_fit_is_refused_in_a_line(self):
        def line(*args, **kw):
            err = finetune(*args, want=2, **kw).stderr.strip()
            self.assertEqual(err.count("\n"), 0, err)
            return err
        vit = line(self.backbone, self.data, ROOT / "no", ["model.name=vit_n0"])
        self.assertIn("model.name", vit)
        self.assertIn("backbone", vit)
        self.assertIn("one class", line(self.backbone, folder("single", {"only": False}), ROOT / "no"))
        self.assertIn("repeat", line(self.backbone, self.data, ROOT / "no", ["data.augment.repeat=3"]))
        whole = (self.backbone / "model.safetensors").read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        damaged = bytearray(whole)
        damaged[8 + length:8 + length + 4] = struct.pack("<f", float("nan"))
        (ROOT / "nan.safetensors").write_bytes(damaged)
        self.assertIn("not finite", line(ROOT / "nan.safetensors", self.data, ROOT / "no"))
        self.assertFalse((ROOT / "no" / "result.json").exists())


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)
