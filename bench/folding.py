#!/usr/bin/env python3
"""What it is worth that `export --format onnx` folds the standardisation of weights: folding.py

F0 at 192 px, batches of 1 and 8, in onnxruntime, by turns in one run: the exported graph; the same with
the standardisation in it, computed from the stored weights and gains, which onnxruntime folds as it loads
the file; and that without its folding, as a runtime that has none computes it, for every batch. All three
must give the same logits. bench/results/folding.json keeps commit, machine and every block. Needs ./dev peers
and a built program; alone on the machine.
"""
import json, os, pathlib, statistics, subprocess, sys, tempfile, time
import numpy, onnx, onnxruntime, safetensors.torch, torch
from onnx import helper, numpy_helper
from record import ROOT, git, processor
from timm_models import build

MODEL, SIZE, BATCHES = "nfnet_f0", 192, (1, 8)
ROUNDS, SECONDS, EPSILON = 5, 3, 1e-5


def standardisation(name, weight, gain, folded):
    """Nodes and constants that make the folded weight of a convolution out of the stored ones."""
    count, axes = weight[0].size, tuple(range(1, weight.ndim))
    plain = (weight - weight.mean(axes, keepdims=True)) / numpy.sqrt((weight.var(axes, keepdims=True) + EPSILON) * count)
    place = numpy.unravel_index(numpy.abs(folded).argmax(), folded.shape)
    factor = folded[place] / (plain * gain)[place]
    constants = {"weight": weight, "gain": gain * factor, "epsilon": numpy.float32(EPSILON * count), "count": numpy.float32(count)}
    node = lambda kind, inputs, output, **more: helper.make_node(kind, [f"{name}.{i}" for i in inputs], [f"{name}.{output}"], **more)
    nodes = [node("ReduceMean", ["weight"], "mean", axes=axes, keepdims=1), node("Sub", ["weight", "mean"], "centred"),
             node("Mul", ["centred", "centred"], "square"), node("ReduceMean", ["square"], "variance", axes=axes, keepdims=1),
             node("Mul", ["variance", "count"], "sum"), node("Add", ["sum", "epsilon"], "raised"), node("Sqrt", ["raised"], "norm"),
             node("Div", ["gain", "norm"], "scale"), node("Mul", ["centred", "scale"], "folded")]
    return nodes, [numpy_helper.from_array(numpy.asarray(v, numpy.float32), f"{name}.{k}") for k, v in constants.items()]


def unfolded(graph_file, weights, to):
    model = onnx.load(graph_file)
    kept, nodes = [], []
    for constant in model.graph.initializer:
        name = constant.name.removesuffix(".weight")
        if name + ".gain" not in weights:
            kept.append(constant)
            continue
        more, constants = standardisation(name, weights[constant.name].numpy(), weights[name + ".gain"].numpy(),
                                          numpy_helper.to_array(constant))
        nodes += more
        kept += constants
        for user in model.graph.node:
            for i, read in enumerate(user.input):
                if read == constant.name:
                    user.input[i] = name + ".folded"
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    model.opset_import[0].version = min(model.opset_import[0].version, 17)  # ReduceMean takes its axes as an attribute
    onnx.save(model, to)


def session(file, **more):
    started = time.monotonic()
    made = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"], **more)
    return made, time.monotonic() - started


def block(runtime, images):
    times, end = [], time.monotonic() + SECONDS
    while not times or time.monotonic() < end:
        started = time.monotonic()
        runtime.run(["logits"], {"images": images})
        times.append(1000 * (time.monotonic() - started))
    return statistics.median(times)


def main(folder):
    torch.manual_seed(0)
    model = build(MODEL)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    subprocess.run([ROOT / "build/release/nfscale", "export", folder / "model.safetensors", "--format", "onnx",
                    "--out", folder / "folded.onnx", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    unfolded(folder / "folded.onnx", weights, folder / "unfolded.onnx")
    sessions = {"folded": session(folder / "folded.onnx"), "unfolded": session(folder / "unfolded.onnx"),
                "unfolded, every batch": session(folder / "unfolded.onnx", disabled_optimizers=["ConstantFolding"])}
    record = {"command": "bench/folding.py", "commit": git("rev-parse", "HEAD"), "processor": processor(),
              "changed": bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")),
              "threads": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0], "onnxruntime": onnxruntime.__version__,
              "load_s": {name: seconds for name, (_, seconds) in sessions.items()}, "batches": {}}
    for batch in BATCHES:
        images = numpy.random.default_rng(0).standard_normal((batch, 3, SIZE, SIZE), dtype=numpy.float32)
        logits = {name: runtime.run(["logits"], {"images": images})[0] for name, (runtime, _) in sessions.items()}
        for name, own in logits.items():
            distance = numpy.abs(own - logits["folded"]).max() / numpy.abs(logits["folded"]).max()
            if not distance < 1e-4:
                sys.exit(f"{name}: logits differ by {distance:.1e} of the largest")
        blocks = {name: [] for name in sessions}
        for _ in range(ROUNDS):
            for name, (runtime, _) in sessions.items():
                blocks[name].append(block(runtime, images))
        record["batches"][batch] = {}
        for name, ms in blocks.items():
            ratios = [own / folded for own, folded in zip(ms, blocks["folded"])]
            record["batches"][batch][name] = {"ms": ms, "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}}
            print(f"batch {batch}, {name}: {statistics.median(ms):.1f} ms, {statistics.median(ratios):.2f} of folded "
                  f"({min(ratios):.2f} to {max(ratios):.2f}); loaded in {record['load_s'][name]:.2f} s")
    (ROOT / "bench/results/folding.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        main(pathlib.Path(name))
