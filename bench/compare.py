#!/usr/bin/env python3
"""This program beside timm under each of its settings, by turns in one run: compare.py CASE...

Cases: f0 (training step of F0, 128 px, batch 8), n0 (nfnet_n0, 32 px, batch 64), f0-eval (evaluation
of F0, 192 px, batch 8), vit-s16 (training step of vit_s16, 224 px, batch 8), vit-n0 (vit_n0, 32 px, batch 64). Every round measures this program before each setting of timm; a ratio is
that of two neighbours. bench/results/CASE.json keeps commit, machine, command and every block.
Needs ./dev peers and a built program; alone on the machine.
"""
import json, os, pathlib, statistics, subprocess, sys
from record import ROOT, git, processor

CASES = {
    "f0": ("nfnet_f0", 128, 8, "train"),
    "n0": ("nfnet_n0", 32, 64, "train"),
    "f0-eval": ("nfnet_f0", 192, 8, "eval"),
    "vit-s16": ("vit_s16", 224, 8, "train"),
    "vit-n0": ("vit_n0", 32, 64, "train"),
}
PEER = [str(ROOT / ".peers/bin/python"), str(ROOT / "bench/timm_peer.py")]
PROGRAM = str(ROOT / "build/release/nfscale")
ROUNDS, SECONDS = 4, 3


class Peer:
    def __init__(self, words):
        self.process = subprocess.Popen(PEER + words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)

    def block(self, setting, seconds):
        print(json.dumps({"setting": setting, "seconds": seconds}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        return json.loads(line) if line else sys.exit(f"timm_peer.py ended at the setting {setting}")

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def own_block(words, precision, seconds):
    out = subprocess.run([PROGRAM, "bench", "step", *words, "--precision", precision, "--seconds", str(seconds), "--json"],
                         check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)


def compare(case):
    model, size, batch, mode = CASES[case]
    words = ["--model", model, "--size", str(size), "--batch", str(batch), "--mode", mode]
    settings = subprocess.run(PEER + ["--settings"], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")[:-1]
    if mode == "eval":
        settings = [s for s in settings if "tuned" not in s]
    load = os.getloadavg()[0]
    # Memory: a process of its own for one setting; others would add to it.
    alone = Peer(words)
    eager_bytes = alone.block("bf16 nhwc", 0)["peak_rss_bytes"]
    alone.end()
    peer = Peer(words)
    for setting in settings:
        print(f"{case}: building {setting}", file=sys.stderr)
        versions = peer.block(setting, 0)
    blocks = {s: {"peer_ms": [], "own_ms": []} for s in settings}
    own_bytes = 0
    for round in range(ROUNDS):
        for setting in settings:
            own = own_block(words, "f32" if setting.startswith("f32") else "bf16", SECONDS)
            theirs = peer.block(setting, SECONDS)
            blocks[setting]["own_ms"].append(own["ms"]["step"])
            blocks[setting]["peer_ms"].append(statistics.median(theirs["ms"]))
            if own["precision"] == "bf16":
                own_bytes = max(own_bytes, own["peak_rss_bytes"])
            print(f"{case} round {round + 1}/{ROUNDS}: {setting}: {blocks[setting]['own_ms'][-1]:.1f} ms here, "
                  f"{blocks[setting]['peer_ms'][-1]:.1f} there", file=sys.stderr)
    peer.end()
    for b in blocks.values():
        ratios = [t / o for o, t in zip(b["own_ms"], b["peer_ms"])]
        b["ratio"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    fastest = min(blocks, key=lambda s: statistics.median(blocks[s]["peer_ms"]))
    record = {
        "case": case, "command": f"bench/compare.py {case}", "commit": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")), "processor": processor(),
        "threads": len(os.sched_getaffinity(0)), "load_before": load, "torch": versions["torch"], "timm": versions["timm"],
        "model": model, "image_size": size, "batch": batch, "mode": mode, "fastest": fastest,
        "peak_rss_bytes": {"own": own_bytes, "timm bf16 nhwc": eager_bytes}, "blocks": blocks,
    }
    file = ROOT / "bench/results" / f"{case}.json"
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{case}: {model}, {size} px, batch {batch}, {mode}; commit {record['commit'][:10]}; {record['processor']}")
    print(f"{'timm':<26} {'ms there':>9} {'ms here':>9}   ratio (least to most)")
    for s, b in blocks.items():
        r = b["ratio"]
        print(f"{s:<26} {statistics.median(b['peer_ms']):>9.1f} {statistics.median(b['own_ms']):>9.1f}   "
              f"{r['median']:.2f} ({r['least']:.2f} to {r['most']:.2f}){'  <- fastest' if s == fastest else ''}")
    print(f"peak memory, bf16: {own_bytes / 1e9:.2f} GB here, {eager_bytes / 1e9:.2f} GB there: {own_bytes / eager_bytes:.2f}")
    print(file.relative_to(ROOT))


if __name__ == "__main__":
    if not sys.argv[1:] or set(sys.argv[1:]) - set(CASES):
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        compare(name)
