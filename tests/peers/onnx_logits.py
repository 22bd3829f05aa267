#!/usr/bin/env python3
"""onnx_logits.py FOLDER: checks FOLDER/model.onnx and runs it, for Peers.* of torch_tests.

Reads images/0, images/1, ... of FOLDER/images.safetensors and writes logits/0, ... to
FOLDER/logits.safetensors.
"""
import pathlib, sys

import numpy, onnx, onnxruntime, safetensors.numpy

folder = pathlib.Path(sys.argv[1])
onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
images = safetensors.numpy.load_file(folder / "images.safetensors")
logits = {}
for name, pixels in images.items():
    logits[name.replace("images", "logits")] = numpy.ascontiguousarray(session.run(["logits"], {"images": pixels})[0])
safetensors.numpy.save_file(logits, folder / "logits.safetensors")
