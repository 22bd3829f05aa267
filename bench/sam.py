#!/usr/bin/env python3
"""Sharpness-aware steps beside plain ones, by turns in one run: sam.py

F0 at 128 px, batch 8, and nfnet_n0 at 32 px, batch 32; the ascent on 20 % of the rows and on all. Every
block stands between two of plain steps; a ratio is that to their mean. bench/results/sam.json keeps
commit, machine and every block. Needs a built program; alone on the machine.
"""
import json, os, statistics, subprocess, sys
from record import ROOT, git, processor

CASES = {"f0": ("nfnet_f0", 128, 8), "n0": ("nfnet_n0", 32, 32)}
ROUNDS, SECONDS = 6, 4


def block(case, fraction):
    model, size, batch = CASES[case]
    words = ["bench", "step", "--model", model, "--size", str(size), "--batch", str(batch), "--seconds", str(SECONDS), "--json"]
    if fraction:
        words += ["--set", "optim.sam_rho=0.05", "--set", f"optim.sam_fraction={fraction}"]
    out = subprocess.run([str(ROOT / "build/release/nfscale"), *words], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)["ms"]["step"]


def main():
    record = {"command": "bench/sam.py", "commit": git("rev-parse", "HEAD"), "processor": processor(),
              "changed": bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")),
              "threads": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0], "cases": {}}
    for case in CASES:
        blocks = {f: {"plain_ms": [], "sam_ms": []} for f in (0.2, 1.0)}
        for fraction, b in blocks.items():
            before = block(case, 0)
            for _ in range(ROUNDS):
                b["sam_ms"].append(block(case, fraction))
                after = block(case, 0)
                b["plain_ms"].append((before + after) / 2)
                before = after
            ratios = [s / p for s, p in zip(b["sam_ms"], b["plain_ms"])]
            b["ratio"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
            print(f"{case}, ascent on {100 * fraction:.0f} %: {statistics.median(b['sam_ms']):.1f} ms, plain "
                  f"{statistics.median(b['plain_ms']):.1f}: {b['ratio']['median']:.2f} "
                  f"({b['ratio']['least']:.2f} to {b['ratio']['most']:.2f})")
        record["cases"][case] = {str(f): b for f, b in blocks.items()}
    (ROOT / "bench/results/sam.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(__doc__)
    main()
