#!/usr/bin/env python3
"""A whole study with real trainings: its runner killed ten times ends with the table of an undisturbed one.

Run by ctest as `test_study.py PROGRAM`.
"""
import csv, os, pathlib, random, shutil, signal, subprocess, sys, tempfile, time, unittest

PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve()) if len(sys.argv) > 1 else ""
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="nfscale-study-"))
MEASURED = {"device_hours"}

BASE = """
[data]
train = "shapes:?count=256&size=16"
heldout = "shapes:?count=64&size=16&split=heldout"
[train]
batch = 16
image_size = 16
precision = "f32"
[optim]
agc_exclude = ["head.fc.weight", "*.skipinit_gain"]
clip_norm = 0.5
[schedule]
warmup = "1st"
[checkpoint]
every = "3st"
"""
STUDY = """
[study]
name = "tiny"
base = "base.toml"
seed = 1
[grid]
models = ["s", "m", "v"]
epochs = [0.5, 1]
[grid.set."[sm]"]
model.name = "nfnet"
model.depth = [1, 1, 1, 1]
model.stem = [4, 4, 4, 4]
model.stem_stride = [1, 2, 1, 2]
model.group_width = 8
[grid.set.s]
model.width = [8, 8, 16, 16]
[grid.set.m]
model.width = [16, 16, 32, 32]
[grid.set.v]
model.name = "vit"
model.patch = 4
model.width = 16
model.depth = 1
model.mlp = 32
model.heads = 2
optim.name = "adamw"
optim.lr = 1e-3
optim.agc = 0
[lr]
start = 0.2
max_trials = 3
certify = "none"
[noise]
repeats = 1
[compute]
axis = "flops"
[fit]
bootstrap = 50
"""


def cells(out):
    with open(out / "cells.csv", newline="") as f:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(f)]


class Runner(unittest.TestCase):
    def test_ten_kills_of_the_runner_change_no_cell(self):
        (ROOT / "base.toml").write_text(BASE)
        (ROOT / "study.toml").write_text(STUDY)
        whole, killed = ROOT / "whole", ROOT / "killed"
        command = lambda out: [PROGRAM, "study", "run", str(ROOT / "study.toml"), "--out", str(out), "--quiet"]
        started = time.time()
        subprocess.run(command(whole), check=True, timeout=600)
        seconds, draw, kills = time.time() - started, random.Random(7), 0
        while kills < 10:
            p = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL)
            try:
                p.wait(draw.uniform(0.05, seconds / 12))      # ten of these cannot reach the end
                self.assertEqual(p.returncode, 2)      # a child of the runner that was killed still holds the study
                time.sleep(0.5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                kills += 1
        for _ in range(60):
            if subprocess.run(command(killed), timeout=600, stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(1)
        self.assertEqual(cells(killed), cells(whole))
        self.assertEqual(len(cells(whole)), 6)


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)
