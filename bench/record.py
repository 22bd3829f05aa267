#!/usr/bin/env python3
"""Runs a measuring command a few times and keeps everything: record.py [--times N] NAME COMMAND...

The command prints one JSON document. build/bench/NAME.json holds the commit, the machine, the
command, the document of every repetition, and of every number in it the median and the spread
(largest minus smallest, as a part of the median). Compare two versions in one session, by turns; a
difference below the spread is none.
"""
import json, os, pathlib, platform, statistics, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def git(*words):
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()


def numbers(document, prefix=""):
    """{"ms.forward": 1.5, ...}; lists are left out."""
    found = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + key] = value
    return found


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments):
    times = 3
    if arguments[:1] == ["--times"]:
        times, arguments = int(arguments[1]), arguments[2:]
    if len(arguments) < 2:
        sys.exit(__doc__)
    name, *command = arguments
    load = os.getloadavg()[0]
    runs = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(times)]
    summary = {}
    for key in numbers(runs[0]):
        values = [numbers(run)[key] for run in runs]
        median = statistics.median(values)
        if min(values) != max(values):
            summary[key] = {"median": median, "spread": round((max(values) - min(values)) / abs(median), 4) if median else None}
    record = {
        "commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        "command": command, "processor": processor(), "cores": len(os.sched_getaffinity(0)),
        "load_before": load, "system": platform.platform(), "summary": summary, "runs": runs,
    }
    file = ROOT / "build/bench" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    for key, value in summary.items():
        print(f"{name}  {key:<20} {value['median']:.6g}  spread {100 * (value['spread'] or 0):.1f} %")
    print(file.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
