#!/usr/bin/env python3
"""embed.py CMAKE BUILD NFSCALE: installs, builds examples/embed against what was installed, and holds its
answers against those of `nfscale predict`."""
import json, pathlib, subprocess, sys, tempfile

cmake, build, nfscale = sys.argv[1:]
root = pathlib.Path(__file__).resolve().parent.parent


def run(*args, want=0):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    assert done.returncode == want, f"{args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


with tempfile.TemporaryDirectory() as scratch:
    scratch = pathlib.Path(scratch)
    run(cmake, "--install", build, "--prefix", scratch / "installed")
    run(cmake, "-S", root / "examples/embed", "-B", scratch / "built", f"-DCMAKE_PREFIX_PATH={scratch / 'installed'}")
    run(cmake, "--build", scratch / "built")
    header = (scratch / "installed/include/nfscale.h").read_text()
    assert "ATen" not in header and '#include "' not in header, "the installed header stands alone"
    installed = scratch / "installed/bin/nfscale"
    photos = root / "tests/data/photos-wds/photos-000.tar"
    folder = scratch / "photos"
    folder.mkdir()
    run("tar", "-xf", photos, "-C", folder)
    files = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png"))[:12]
    run(installed, "pretrain", "--set", "model.name=nfnet_n0", "--set", f"data.train=wds:{photos}", "--set", "train.image_size=32", "--set", "train.batch=8",
        "--set", "train.duration=3st", "--set", "optim.lr=0.05", "--out", scratch / "run", "--quiet")
    predicted = json.loads(run(nfscale, "predict", scratch / "run", *files, "--top", 3, "--json").stdout)["images"]
    lines = run(scratch / "built/classify", scratch / "run", *files).stdout.splitlines()
    assert len(lines) == len(files) == 12
    for image, line in zip(predicted, lines):
        name, *guesses = line.split("  ")
        assert name == image["file"] + ":", (line, image)
        # A picture alone and one in a batch may differ in the last digit.
        for guess, top in zip(guesses, image["top"], strict=True):
            label, probability = guess.split()
            assert label == top["name"] and abs(float(probability) - top["p"]) <= 2e-4, (line, image)
    (scratch / "no.jpg").write_bytes(b"no picture")
    broken = run(scratch / "built/classify", scratch / "run", scratch / "no.jpg", want=2).stderr
    assert "no.jpg" in broken and broken.count("\n") == 1, broken
    missing = run(scratch / "built/classify", scratch / "absent", scratch / "no.jpg", want=2).stderr
    assert "absent" in missing and missing.count("\n") == 1, missing
