#!/usr/bin/env python3
"""autocast_gradients.py IN OUT: gradients of timm's model in bfloat16 by PyTorch's autocast, for Peers.* of torch_tests.

IN holds images [batches, N, 3, H, W], labels [batches, N] and the weights param/NAME of nfnet_n0;
OUT gets the gradients of the mean loss of each batch, NAME [batches, ...].
"""
import pathlib, sys

import safetensors.torch, torch

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
from timm_models import build

given = safetensors.torch.load_file(sys.argv[1])
model = build("nfnet_n0").train().to(memory_format=torch.channels_last)
model.load_state_dict({name.removeprefix("param/"): t for name, t in given.items() if name.startswith("param/")})
grads = {name: [] for name, _ in model.named_parameters()}
for images, labels in zip(given["images"], given["labels"]):
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images.to(memory_format=torch.channels_last))
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    for name, parameter in model.named_parameters():
        grads[name].append(parameter.grad.clone())
safetensors.torch.save_file({name: torch.stack(g).contiguous() for name, g in grads.items()}, sys.argv[2])
