#!/usr/bin/env python3
"""A study through a real Slurm of one node, with an element requeued, the controller killed, an element cancelled.

    slurm.py PROGRAM

Starts munged, slurmctld and slurmd of its own in a folder of its own, as root; exits with 77 where they
are missing (Debian: slurm-wlm, munge). In the end the table of the cells is that of the same study on this
machine alone.
"""
import csv, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")

BASE = """
[data]
train = "shapes:?count=3000&size=16"
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
every = "10st"
"""
STUDY = """
[study]
name = "tiny"
base = "base.toml"
[grid]
models = ["s", "m"]
epochs = [1, 2]
[grid.set."*"]
model.name = "nfnet"
model.depth = [1, 1, 1, 1]
model.stem = [4, 4, 4, 4]
model.stem_stride = [1, 2, 1, 2]
model.group_width = 8
[grid.set.s]
model.width = [8, 8, 16, 16]
[grid.set.m]
model.width = [16, 16, 32, 32]
[lr]
start = 0.2
max_trials = 3
certify = "all"
[noise]
repeats = 2
[compute]
axis = "flops"
[fit]
bootstrap = 50
"""
SLURM = """
[executor]
kind = "slurm"
slots = 4
lease = "20s"
[executor.slurm]
args = ["--time=10", "--mem=500"]
"""


def missing():
    if os.geteuid() != 0:
        return "needs root"
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    return ", ".join(p for p in NEEDED if not shutil.which(p))


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        for name in ("spool", "state", "log"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text((HERE / "slurm.conf.in").read_text().replace("@DIR@", str(folder)))
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.daemons = []
        self.daemon("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
                    f"--pid-file={folder}/munged.pid", f"--log-file={folder}/log/munged.log", f"--seed-file={folder}/munged.seed")
        wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        self.daemon("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        self.daemon("slurmd", "-D", "-N", "localhost", "-f", str(folder / "slurm.conf"))
        wait_for(lambda: "idle" in output("sinfo", "--noheader", "--format=%T"), "an idle node")

    def daemon(self, *words):
        log = open(self.folder / "log" / f"{words[0]}.out", "w")
        self.daemons.append(subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True))

    def stop(self):
        output("scancel", "--user=root")
        time.sleep(1)
        for d in reversed(self.daemons):
            d.terminate()
            try:
                d.wait(20)
            except subprocess.TimeoutExpired:
                d.kill()


def output(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def wait_for(ready, what, seconds=300):  # Slurm lets a requeued job wait for two minutes
    end = time.time() + seconds
    while not (value := ready()):
        if time.time() > end:
            sys.exit(f"{what} did not come in {seconds} s")
        time.sleep(0.2)
    return value


def running():
    """Elements that run, those of arrays as 12_3."""
    return output("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i").split()




def cells(out):
    with open(out / "cells.csv", newline="") as f:
        return [{k: v for k, v in row.items() if k != "device_hours"} for row in csv.DictReader(f)]


def main(program, folder):
    (folder / "base.toml").write_text(BASE)
    (folder / "alone.toml").write_text(STUDY + "[executor]\nslots = 2\n")
    (folder / "slurm.toml").write_text(STUDY + SLURM)
    study = lambda name, **more: subprocess.Popen([program, "study", "run", str(folder / f"{name}.toml"), "--out", str(folder / name)], **more)
    if study("alone").wait(600):
        sys.exit("the study alone failed")

    out, log = folder / "slurm", open(folder / "controller.log", "a")
    controller = study("slurm", stderr=log)
    element = wait_for(running, "a running element")[0]
    print(f"requeue {element}: {output('scontrol', 'requeue', element).strip() or 'taken'}")
    wait_for(lambda: list(out.glob("runs/*/result.json")), "a result")
    controller.kill()
    controller.wait()
    print(f"controller killed with {len(output('squeue', '--noheader', '--array').splitlines())} elements in the queue")
    controller = study("slurm", stderr=log)
    element = wait_for(running, "a running element")[0]
    print(f"scancel {element}: {output('scancel', element).strip() or 'taken'}")
    code = controller.wait(900)
    log.close()
    said = (folder / "controller.log").read_text()
    if code:
        sys.exit(f"the study ended with {code}:\n{said}")
    if cells(out) != cells(folder / "alone"):
        sys.exit(f"other cells:\n{cells(out)}\n{cells(folder / 'alone')}")
    runs = list(out.glob("runs/*/result.json"))
    arrays = list(out.glob("jobs/*.sh"))
    print(f"{len(runs)} trials in {len(arrays)} arrays, the cells those of the study alone")
    if len(runs) < 12:
        sys.exit("fewer than 12 trials")
    starts = [len(json.loads((run.parent / "run.json").read_text())["starts"]) for run in runs]
    if sum(starts) > len(runs) + 3:
        sys.exit(f"{len(runs)} trials were started {sum(starts)} times: the second controller found nothing again")


if __name__ == "__main__":
    if lack := missing():
        print(f"skipped: {lack}")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="nfscale-slurm-") as name:
        cluster = Cluster(pathlib.Path(name))
        try:
            main(sys.argv[1], pathlib.Path(name))
        finally:
            cluster.stop()
