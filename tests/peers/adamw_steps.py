#!/usr/bin/env python3
"""adamw_steps.py IN OUT: steps of torch.optim.AdamW, for Peers.* of torch_tests.

IN holds weight and grads [steps, ...]; step t has the rate 0.01 (t + 1), decay is 0.1. OUT gets weight.
"""
import sys

import safetensors.torch, torch

given = safetensors.torch.load_file(sys.argv[1])
weight = torch.nn.Parameter(given["weight"].double())
optimizer = torch.optim.AdamW([weight], weight_decay=0.1)
for step, grad in enumerate(given["grads"]):
    weight.grad = grad.double()
    optimizer.param_groups[0]["lr"] = 0.01 * (step + 1)
    optimizer.step()
safetensors.torch.save_file({"weight": weight.detach()}, sys.argv[2])
