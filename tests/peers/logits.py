#!/usr/bin/env python3
"""logits.py NAME SIZE FOLDER: logits of timm's model, for Peers.* of torch_tests.

Loads FOLDER/weights.safetensors, or makes it with timm's own initialisation where it is not there;
writes images [2, 3, SIZE, SIZE] and logits to FOLDER/logits.safetensors.
"""
import pathlib, sys

import safetensors.torch, timm, torch

name, size, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
torch.manual_seed(0)
weights = folder / "weights.safetensors"
if weights.exists():
    given = safetensors.torch.load_file(weights)
    classes = next(given[n] for n in ("head.fc.weight", "head.weight") if n in given).shape[0]
    model = timm.create_model(name, num_classes=classes).eval()
    model.load_state_dict(given)
else:
    model = timm.create_model(name).eval()
    safetensors.torch.save_file(model.state_dict(), weights)
images = torch.randn(2, 3, size, size)
with torch.inference_mode():
    logits = model(images)
safetensors.torch.save_file({"images": images, "logits": logits}, folder / "logits.safetensors")
