#!/usr/bin/env python3
"""Whole training runs: restarts to the same bytes, and every way a run may end.

Run by ctest as `test_runs.py PROGRAM`; PROGRAM and options of unittest by hand:
    tests/runs/test_runs.py build/release/nfscale -v Resume.test_order_after_a_kill_in_the_second_epoch
"""
import hashlib, json, os, pathlib, random, shutil, signal, struct, subprocess, sys, tempfile, time, unittest

PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve()) if len(sys.argv) > 1 else ""
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="nfscale-runs-"))

# 130 pictures in batches of 16: epochs end inside batches, restarts fall inside epochs.
TOY = {
    "model.name": '"nfnet"', "model.depth": "[1, 1, 1, 1]", "model.width": "[8, 8, 16, 16]", "model.group_width": "8", "model.stem": "[4, 4, 4, 4]",
    "model.stem_stride": "[1, 2, 1, 2]", "model.drop_rate": "0.1", "model.stochastic_depth": "0.2",
    "data.train": '"shapes:?count=130&size=16"', "data.heldout": '"shapes:?count=40&size=16&split=heldout"', "data.augment.crop": '"pad"', "data.ledger": '"sums"',
    "train.duration": '"3ep"', "train.batch": "16", "train.image_size": "16", "train.precision": '"f32"', "train.seed": "7",
    "optim.lr": "0.05", "schedule.warmup": '"4st"', "ema.decay": "0.9", "checkpoint.every": '"3st"', "checkpoint.keep_last": "4", "log.every": '"1st"'}
STEPS = 25
# The same as a Vision Transformer.
VIT = {
    "model__name": '"vit"', "model__depth": "2", "model__width": "16", "model__group_width": None, "model__stem": None, "model__stem_stride": None,
    "model__patch": "4", "model__mlp": "32", "model__heads": "2", "optim__lr": "0.003"}


def command(out, **changes):
    settings = {**TOY, **{k.replace("__", "."): v for k, v in changes.items()}}
    fork = settings.pop("fork", None)
    return [PROGRAM, "pretrain", "--out", str(out), "--threads", "1"] + (["--fork", fork] if fork else []) + [
        part for k, v in settings.items() if v is not None for part in ("--set", f"{k}={v}")]


def run(out, want=0, **changes):
    r = subprocess.run(command(out, **changes), capture_output=True, text=True, timeout=300)
    assert r.returncode == want, f"exit {r.returncode}, not {want}: {r.stderr[-500:]}"
    return r


def start(out, **changes):
    return subprocess.Popen(command(out, **changes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def lines(path):
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def wait_for_steps(process, out, steps):
    while process.poll() is None and lines(out / "metrics.jsonl") < steps:
        time.sleep(0.002)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def result(out):
    return json.loads((out / "result.json").read_text())


def losses(out):
    return [m for m in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in m]


def newest(out):
    return sorted((out / "checkpoints").glob("step-*"))[-1]


def event_steps(out):
    """Steps of every scalar in TensorBoard's file, which must be whole; the frames are TFRecord's."""
    (file,) = out.glob("events.out.tfevents.*")
    data, at, frames = file.read_bytes(), 0, 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        at += 8 + 4 + size + 4
        frames += 1
    assert at == len(data), "the last record is cut"
    return frames - 1      # the first names the version of the format


class _Case(unittest.TestCase):
    @classmethod
    def whole(cls):
        """The directory of an undisturbed run."""
        out = ROOT / "whole"
        if not out.exists():
            run(out)
        return out

    def fresh(self, name=""):
        return ROOT / (self.id().rsplit(".", 1)[1] + name)

    def killed_at(self, steps, **changes):
        """The directory of a run that got SIGKILL once so many steps were logged."""
        out = self.fresh()
        p = start(out, **changes)
        wait_for_steps(p, out, steps)
        p.kill()
        p.wait()
        return out

    def same_end(self, out, whole=None, steps=STEPS):
        whole = whole or self.whole()
        self.assertEqual(digest(out / "model.safetensors"), digest(whole / "model.safetensors"))
        for file in ("model", "ema", "optimizer"):
            self.assertEqual(digest(newest(out) / f"{file}.safetensors"), digest(newest(whole) / f"{file}.safetensors"), file)
        self.assertEqual((out / "ledger.jsonl").read_text(), (whole / "ledger.jsonl").read_text())
        for key in ("status", "steps", "examples", "certificate", "heldout", "data"):
            self.assertEqual(result(out)[key], result(whole)[key], key)
        self.assertEqual([m["step"] for m in losses(out)], list(range(1, steps + 1)))
        self.assertEqual([p for p in out.rglob("*") if p.suffix == ".tmp"], [])


class Resume(_Case):
    def test_order_after_a_kill_in_the_second_epoch(self):
        """modelscope/ms-swift#10050: a loader that went back to the order of epoch 0 trained on some pictures twice."""
        out = self.killed_at(12)
        run(out)
        self.same_end(out)
        self.assertEqual(result(out)["certificate"]["epochs"], 3)

    def test_average_and_weights_are_both_restored(self):
        """Megvii-BaseDetection/YOLOX#1318: only the EMA was saved, and both were restored from it."""
        out = self.killed_at(5)
        run(out)
        self.same_end(out)
        self.assertNotEqual(digest(newest(out) / "model.safetensors"), digest(newest(out) / "ema.safetensors"))
        evaluated = [json.loads(subprocess.run([PROGRAM, "eval", str(out), "--data", "shapes:?count=40&size=16&split=heldout", "--ema", e, "--json"], capture_output=True, check=True).stdout)
                     for e in ("on", "off")]
        self.assertNotEqual(evaluated[0]["loss"], evaluated[1]["loss"])
        self.assertAlmostEqual(evaluated[0]["loss"], result(out)["heldout"]["loss"], delta=1e-5)

    def test_another_duration_is_refused_and_logging_may_change(self):
        """mlfoundations/open_clip#413: the duration was changed on resume, and the rate jumped."""
        out = self.fresh()
        run(out)
        before = digest(out / "model.safetensors")
        refusal = run(out, want=2, train__duration='"6ep"').stderr
        for part in ("train.duration", "3ep", "6ep", "--init"):
            self.assertIn(part, refusal)
        run(out, log__every='"2st"', checkpoint__keep_last="9")
        self.assertEqual(digest(out / "model.safetensors"), before)
        self.assertEqual(json.loads((out / "run.json").read_text())["config"]["log.every"], "2st")

    def test_metrics_hold_each_step_once(self):
        """roboflow/rf-detr#1321: metrics of before the resume were lost, or steps came twice."""
        out = self.killed_at(17, checkpoint__every='"10st"')
        with open(out / "metrics.jsonl", "ab") as f:
            f.write(b'{"step": 99, "lo')
        (events,) = out.glob("events.out.tfevents.*")
        events.write_bytes(events.read_bytes()[:-3])
        run(out, checkpoint__every='"10st"')
        self.assertEqual([m["step"] for m in losses(out)], list(range(1, STEPS + 1)))
        self.assertEqual(event_steps(out), STEPS + 1)      # the evaluation is one more

    def test_twenty_kills_at_random_moments_change_no_byte(self):
        """Lightning-AI/pytorch-lightning#19970: a kill in the middle of a save left half a checkpoint under a final name."""
        out, whole, draw, kills = self.fresh(), self.fresh("-whole"), random.Random(20231025), 0
        changes = {"checkpoint__every": '"2st"', "train__duration": '"30ep"'}
        run(whole, **changes)
        while kills < 20:
            p = start(out, **changes)
            # Start-up takes a part of a second; a save is a few milliseconds of every second step.
            wait_for_steps(p, out, lines(out / "metrics.jsonl") + draw.randint(0, 4))
            time.sleep(draw.random() * 0.03)
            self.assertIsNone(p.poll(), "the run ended before it was killed twenty times")
            p.kill()
            p.wait()
            kills += 1
        run(out, **changes)
        self.same_end(out, whole, steps=244)

    def test_newest_good_checkpoint_is_taken(self):
        """marin-community/marin#5386: the newest checkpoint was broken, and restarts kept trying it."""
        stopped = self.fresh("-stopped")
        p = start(stopped)
        wait_for_steps(p, stopped, 15)
        p.terminate()
        self.assertEqual(p.wait(60), 75)
        damages = {
            "a bit of the optimizer": lambda c: flip(c / "optimizer.safetensors"),
            "no state.json": lambda c: (c / "state.json").unlink(),
            "half a MANIFEST": lambda c: os.truncate(c / "MANIFEST", 90),
            "LAST names nothing": lambda c: (c.parent / "LAST").write_text("step-00099999\n"),
            "LAST is empty": lambda c: (c.parent / "LAST").write_text("")}
        for what, damage in damages.items():
            with self.subTest(what):
                out = self.fresh("-" + what.replace(" ", "-"))
                shutil.copytree(stopped, out)
                last = newest(out)
                damage(last)
                said = run(out).stderr
                self.assertIn(last.name, said)
                self.same_end(out)
        out = self.fresh("-all")
        shutil.copytree(stopped, out)
        for c in (out / "checkpoints").glob("step-*"):
            flip(c / "model.safetensors")
        run(out, want=3)
        run(out, want=3)      # not a fresh start over old data, the second time either


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Transformers(_Case):
    def test_a_kill_changes_no_byte_with_any_optimizer(self):
        for optimizer in "adamw", "adafactor":
            with self.subTest(optimizer):
                changes = {**VIT, "optim__name": f'"{optimizer}"', "optim__min_dim_factored": "8"}
                undisturbed = self.fresh("-whole-" + optimizer)
                run(undisturbed, **changes)
                killed = self.killed_at(11, **changes)
                run(killed, **changes)
                self.assertEqual(digest(undisturbed / "model.safetensors"), digest(killed / "model.safetensors"))
                shutil.rmtree(killed)

    def test_a_fork_ends_as_a_run_of_its_own_would(self):
        changes = {**VIT, "optim__name": '"adamw"', "schedule__kind": '"rsqrt"'}
        trunk, fork, alone = self.fresh("-trunk"), self.fresh("-fork"), self.fresh("-alone")
        run(trunk, checkpoint__keep_every='"9st"', **changes)
        short = {**changes, "train__duration": '"19st"', "schedule__cooldown": '"10st"'}
        run(fork, fork=f"{trunk}@9", **short)
        run(alone, **short)
        self.assertEqual(digest(fork / "model.safetensors"), digest(alone / "model.safetensors"))
        shared = result(fork)["compute"]["trunk"]
        self.assertEqual((shared["step"], shared["examples"]), (9, 9 * 16))
        self.assertAlmostEqual(shared["share"], 9 / 19)
        r = run(self.fresh("-none"), want=2, fork=f"{trunk}@10", **short)
        self.assertIn("no checkpoint of step 10 (there are: 9, ", r.stderr)
        r = run(self.fresh("-late"), want=2, fork=f"{trunk}@18", **{**short, "train__duration": '"20st"'})
        self.assertIn("the cool-down begins at step 10", r.stderr)
        r = run(self.fresh("-other"), want=2, fork=f"{trunk}@9", **{**short, "optim__lr": "0.1"})
        self.assertIn("optim.lr is 0.003", r.stderr)


class Ends(_Case):
    def test_gradients_do_not_depend_on_the_micro_batch(self):
        """modelscope/ms-swift#10084: the last, smaller group of micro-batches was divided by the size of a full one."""
        found = {}
        for micro in (24, 16, 7, 1):
            out = self.fresh(f"-{micro}")
            run(out, train__batch="24", train__micro_batch=str(micro), train__duration='"4st"')
            found[micro] = losses(out)
        for micro in (16, 7, 1):
            for a, b in zip(found[24], found[micro]):
                self.assertAlmostEqual(b["grad_norm"] / a["grad_norm"], 1, delta=1e-5)
                self.assertAlmostEqual(b["loss"] / a["loss"], 1, delta=1e-6)

    def stopped(self, out, signals, after, **changes):
        p = start(out, **changes)
        after(p)
        for s in signals:
            p.send_signal(s)
        return p.wait(60)

    def test_signals_save_whenever_they_come(self):
        """goodfire-ai/spd#741: the stop flag was looked at only between training steps."""
        def steps(n):
            return lambda out: (lambda p: wait_for_steps(p, out, n))

        def opened(out):
            def wait(p):
                while p.poll() is None and not (out / "run.json").exists():
                    time.sleep(0.001)
            return wait

        moments = {"in training": steps(10), "twice": steps(8), "before the first step": opened, "in the evaluation": steps(STEPS)}
        for name, moment in moments.items():
            with self.subTest(name):
                out = self.fresh("-" + name.replace(" ", "-"))
                changes = {"data__heldout": '"shapes:?count=4000&size=16&split=heldout"'} if name == "in the evaluation" else {}
                signals = [signal.SIGTERM] * (2 if name == "twice" else 1)
                code = self.stopped(out, signals, moment(out), **changes)
                self.assertEqual(code, 75)
                self.assertEqual(result(out)["status"], "preempted")
                run(out, **changes)
                if changes:
                    whole = self.fresh("-whole")
                    run(whole, **changes)
                    self.same_end(out, whole)
                else:
                    self.same_end(out)

    def test_a_second_interrupt_stops_at_once(self):
        out = self.fresh()
        p = start(out, checkpoint__every='"0st"', data__heldout='"shapes:?count=100000&size=16&split=heldout"')
        wait_for_steps(p, out, STEPS)
        p.send_signal(signal.SIGINT)
        p.send_signal(signal.SIGINT)
        self.assertIn(p.wait(60), (75, 130))

    def test_a_second_process_is_refused_naming_the_first(self):
        out = self.fresh()
        p = start(out, train__duration='"100ep"')
        wait_for_steps(p, out, 2)
        refusal = run(out, want=2, train__duration='"100ep"').stderr
        self.assertIn(f"process {p.pid}", refusal)
        self.assertIsNone(p.poll())
        p.terminate()
        self.assertEqual(p.wait(60), 75)

    def test_divergence_is_a_result(self):
        out = self.fresh()
        run(out, want=4, optim__lr="1e30", optim__agc="0", schedule__kind='"constant"', schedule__warmup='"0st"')
        self.assertEqual(result(out)["status"], "diverged")
        run(out, want=4, optim__lr="1e30", optim__agc="0", schedule__kind='"constant"', schedule__warmup='"0st"')

    def test_weights_that_the_last_step_destroys_are_no_result(self):
        for heldout in (TOY["data.heldout"], None):
            out = self.fresh("-with" if heldout else "-without")
            r = run(out, want=4, train__duration='"1st"', optim__lr="1e39", optim__agc="0", schedule__kind='"constant"', schedule__warmup='"0st"',
                    ema__decay="0", data__heldout=heldout)
            self.assertIn("the weights are not finite", r.stderr)
            self.assertEqual(result(out)["status"], "diverged")
            self.assertFalse((out / "model.safetensors").exists())

    def test_a_folder_that_is_no_run_keeps_what_is_in_it(self):
        for name in ("paper.tmp", "config.toml", "model.safetensors", "events.out.tfevents.other", "work.tmp/x"):
            out = self.fresh("-" + name.replace("/", "-"))
            (out / name).parent.mkdir(parents=True)
            (out / name).write_text("mine")
            self.assertIn("no folder of a run", run(out, want=2).stderr)
            self.assertEqual([p.read_text() for p in out.rglob("*") if p.is_file()], ["mine"])
        # Hidden files of systems, and what a run left that was killed at its beginning.
        out = self.fresh("-hidden")
        out.mkdir()
        (out / ".DS_Store").write_text("")
        (out / "run.json.0123456789abcdef.tmp").write_text("{")
        run(out)
        # Beside a run its user may keep files.
        (out / "notes.tmp").write_text("mine")
        run(out)
        self.assertEqual((out / "notes.tmp").read_text(), "mine")

    def test_a_step_of_broken_pictures_alone_has_no_loss(self):
        pictures = self.fresh("-pictures")
        mini = pathlib.Path(__file__).resolve().parents[1] / "data/folder-mini"
        for k, good in enumerate(sorted(mini.rglob("*.jpg"))[:4]):
            folder = pictures / "ab"[k % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(good, folder / f"good{k}.jpg")
            (folder / f"bad{k}.png").write_text("no picture")
        out = self.fresh()
        run(out, data__train=f'"folder:{pictures}"', data__heldout=None, data__max_damage="1", train__batch="1", train__duration='"1ep"')
        known = [m["loss"] for m in losses(out) if m["loss"] is not None]
        self.assertEqual(len(losses(out)), 8)
        self.assertEqual(len(known), 4)
        self.assertNotIn(0, known)
        self.assertAlmostEqual(result(out)["train"]["loss"], sum(known) / 4, places=5)

    def test_other_data_at_a_resume_is_refused(self):
        out = self.fresh()
        run(out)
        self.assertIn("data.train", run(out, want=2, data__train='"shapes:?count=131&size=16"').stderr)


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)
