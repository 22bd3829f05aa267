#!/usr/bin/env python3
"""What pretraining is worth to a small set of pictures, and what each part of the recipe adds.

  bench/finetuning.py NFSCALE CIFAR10 OUT [--threads N] [--seeds N] [--only NAME...]

CIFAR10 holds train-000.tar .. train-009.tar, test-000.tar and classes.txt (10 classes, shards that hold
as many of each). Pretrains nfnet_n0 on all classes, on the first five and on fractals, fine-tunes each on
2,000 pictures (200 of each class), judges on the 10,000 test pictures, and does the like on a few
photographs. Every run is one folder in OUT; started again it does what is missing. Ends with the tables, also in OUT/finetuning.json.
"""
import argparse
import io
import json
import math
import pathlib
import statistics
import subprocess
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRETRAIN = ROOT / "configs/cifar10/nfnet_n0.toml"
FINETUNE = ROOT / "configs/cifar10/finetune.toml"

# Pretrained on as many pictures, 100,000; of five classes there are half.
PRETRAINED = {
    "all": ["train.duration=2ep"],
    "half": ["train.duration=4ep"],
    "fractal": ["train.duration=2ep", "data.heldout=fractal:?classes=1000&per_class=2&size=32&split=heldout"],
}
# What a run costs, in passes of the 2,000 pictures through forward and backward: 8. A fifth of the rows
# (7 of 32) climbs in the base, so that its 6.56 epochs cost as much.
PICTURES = 2000
COST = 8 * PICTURES
BASE_EXAMPLES = round(COST / (1 + 7 / 32))
CONDITIONS = {
    "from scratch": (None, [], COST),
    "from scratch, 4 times the cost": (None, [], 4 * COST),
    "fractals": ("fractal", [], BASE_EXAMPLES),
    "five classes": ("half", [], BASE_EXAMPLES),
    "all classes": ("all", [], BASE_EXAMPLES),
    "no SAM": ("all", ["optim.sam_rho=0"], COST),
    "SAM on all rows": ("all", ["optim.sam_fraction=1"], COST // 2),
    "repeated augmentation, K = 4": ("all", ["data.augment.repeat=4"], BASE_EXAMPLES),
    "no dropout, no stochastic depth": ("all", ["model.drop_rate=0", "model.stochastic_depth=0"], BASE_EXAMPLES),
}
BASE = "all classes"
# 144 photographs of six kinds of clothes, judged on 48 others (tests/data/folder-mini), 40 passes.
CLOTHES = {
    "clothes, from scratch": (None, [], 40 * 144),
    "clothes, all classes": ("all", [], round(40 * 144 / (1 + 7 / 32))),
}


def pictures_of(shards):
    """(name, bytes of the picture, label) of WebDataset shards."""
    for shard in shards:
        with tarfile.open(shard) as tar:
            members = {}
            for member in tar:
                stem, _, ending = member.name.rpartition(".")
                members.setdefault(stem, {})[ending] = tar.extractfile(member).read()
            for stem, parts in members.items():
                picture = next(e for e in parts if e != "cls")
                yield f"{stem}.{picture}", parts[picture], int(parts["cls"])


def write_shard(file, chosen, classes):
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent / "classes.txt").write_text("\n".join(classes) + "\n")
    with tarfile.open(file, "w") as tar:
        for name, picture, label in chosen:
            stem = name.rpartition(".")[0]
            for path, data in ((name, picture), (f"{stem}.cls", str(label).encode())):
                info = tarfile.TarInfo(path)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def prepare(cifar, out):
    classes = (cifar / "classes.txt").read_text().split()
    shards = sorted(cifar.glob("train-*.tar"))
    if not (out / "few/train.tar").exists():
        count = dict.fromkeys(range(10), 0)
        few = []
        for example in pictures_of(shards[:1]):
            if count[example[2]] < 200:
                count[example[2]] += 1
                few.append(example)
        assert set(count.values()) == {200}, count
        write_shard(out / "few/train.tar", few, classes)
    if not (out / "half/train.tar").exists():
        write_shard(out / "half/train.tar", [e for e in pictures_of(shards) if e[2] < 5], classes[:5])
        write_shard(out / "half/test.tar", [e for e in pictures_of([cifar / "test-000.tar"]) if e[2] < 5],
                    classes[:5])
    train = {"all": f"wds:{cifar}/train-{{000..009}}.tar", "half": f"wds:{out}/half/train.tar",
             "fractal": "fractal:?classes=1000&per_class=50&size=32"}
    return train


def run(nfscale, command, config, settings, out, threads, init=None):
    result = out / "result.json"
    if not result.exists() or json.loads(result.read_text())["status"] != "done":
        argv = [nfscale, command, "--config", str(config), "--out", str(out), "--threads", str(threads),
                "--quiet"]
        if init:
            argv += ["--init", str(init)]
        for setting in settings:
            argv += ["--set", setting]
        subprocess.run(argv, check=True)
    return json.loads(result.read_text())


def interval(differences):
    """Mean and half of the 95 % interval (Student's t) of paired differences."""
    t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}[len(differences)]
    mean = statistics.mean(differences)
    return mean, t * statistics.stdev(differences) / math.sqrt(len(differences))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("nfscale")
    parser.add_argument("cifar", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of conditions")
    args = parser.parse_args()
    train = prepare(args.cifar, args.out)
    test = f"data.heldout=wds:{args.cifar}/test-000.tar"
    conditions = CONDITIONS | CLOTHES
    pictures = {name: (f"wds:{args.out}/few/train.tar", f"wds:{args.cifar}/test-000.tar") for name in CONDITIONS}
    pictures |= {name: tuple(f"folder:{ROOT}/tests/data/folder-mini/{part}" for part in ("train", "test"))
                 for name in CLOTHES}
    top1 = {name: [] for name in conditions if not args.only or name in args.only}
    for seed in range(args.seeds):
        for name in top1:
            start, settings, examples = conditions[name]
            init = None
            if start:
                init = args.out / "pretrained" / start
                heldout = f"data.heldout=wds:{args.out}/half/test.tar" if start == "half" else test
                run(args.nfscale, "pretrain", PRETRAIN,
                    [f"data.train={train[start]}", heldout, *PRETRAINED[start]], init, args.threads)
            folder = args.out / "runs" / f"{name.replace(' ', '_').replace(',', '')}-s{seed}"
            result = run(args.nfscale, "finetune" if start else "pretrain",
                         FINETUNE if start else PRETRAIN,
                         [f"data.train={pictures[name][0]}", f"data.heldout={pictures[name][1]}",
                          f"train.seed={seed}",
                          f"train.duration={examples}ex",
                          *([] if start else ["train.batch=64"]), *settings],
                         folder, args.threads, init)
            top1[name].append(100 * result["heldout"]["top1"])
            print(f"{name}, seed {seed}: {top1[name][-1]:.2f} %", flush=True)
    print("\n| run | pictures trained on | top-1, % (least to most) | over the base |\n| --- | --- | --- | --- |")
    rows = []
    for name, values in top1.items():
        base = "clothes, from scratch" if name in CLOTHES else BASE
        row = {"name": name, "examples": conditions[name][2], "top1": values, "mean": statistics.mean(values)}
        gain = "base"
        if name != base and base in top1 and len(values) > 1:
            row["gain"], row["half_interval"] = interval([a - b for a, b in zip(values, top1[base])])
            gain = f"{row['gain']:+.2f} [{row['gain'] - row['half_interval']:+.2f}, " \
                   f"{row['gain'] + row['half_interval']:+.2f}]"
        rows.append(row)
        print(f"| {name} | {row['examples']} | {row['mean']:.2f} ({min(values):.2f} to {max(values):.2f}) | {gain} |")
    (args.out / "finetuning.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
