#!/usr/bin/env python3
"""timm's NFNets as their users run them, for compare.py: timm_peer.py --model M --size PX --batch N --mode train|eval

Reads a line of JSON, {"setting": NAME, "seconds": S}, runs steps of that setting for so long (one at
least) and answers with a line, {"ms": [...], "peak_rss_bytes": N}. A setting is built, and where it
says so compiled, at its first use. `--settings` lists the names.

A training step is forward, loss with label smoothing 0.1, backward, and of an NFNet adaptive clipping
0.01 without the head, SGD with Nesterov momentum and coupled decay, of a Transformer a limit of 1 on the
norm of the gradient and AdamW; then an average of the weights in float32. "tuned" replaces timm's
adaptive clipping, one parameter after the other, by one over all of them, and compiles it with the
optimizer: not what a user gets, but the stricter comparison.
"""
import argparse, json, resource, sys, time

SETTINGS = {  # type of the activations, layout, compiled, tuned
    "f32 nchw": ("f32", "nchw", False, False),
    "f32 nhwc": ("f32", "nhwc", False, False),
    "amp nchw": ("amp", "nchw", False, False),
    "amp nhwc": ("amp", "nhwc", False, False),
    "bf16 nchw": ("bf16", "nchw", False, False),
    "bf16 nhwc": ("bf16", "nhwc", False, False),
    "bf16 nhwc compiled": ("bf16", "nhwc", True, False),
    "bf16 nhwc compiled tuned": ("bf16", "nhwc", True, True),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="nfnet_f0")
parser.add_argument("--size", type=int, default=128)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--mode", choices=["train", "eval"], default="train")
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--settings", action="store_true", help="print the names of the settings and end")
options = parser.parse_args()
if options.settings:
    sys.exit(print("\n".join(SETTINGS)))

import timm, torch
from timm.utils.agc import adaptive_clip_grad
from timm_models import build

if options.threads:
    torch.set_num_threads(options.threads)


def standardized(module):
    """A plain convolution with the weights that a weight-standardised one computes at every call."""
    weight = module.weight.detach().flatten(1)
    variance, mean = torch.var_mean(weight, dim=1, unbiased=False, keepdim=True)
    weight = (weight - mean) * torch.rsqrt(variance + module.eps) * module.gain.detach().flatten(1) * module.scale
    plain = torch.nn.Conv2d(module.in_channels, module.out_channels, module.kernel_size, module.stride,
                            module.padding, module.dilation, module.groups)
    plain.weight.data.copy_(weight.view_as(module.weight))
    plain.bias.data.copy_(module.bias.detach())
    if not getattr(module, "same_pad", False):
        return plain
    from timm.layers import pad_same
    plain.register_forward_pre_hook(lambda m, inputs: (pad_same(inputs[0], m.kernel_size, m.stride, m.dilation),))
    return plain


def fold(model):
    for name, module in list(model.named_modules()):
        if type(module).__name__.startswith("ScaledStdConv2d"):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, standardized(module))
    return model


def norms(tensors):
    return [t.norm().reshape(1) if t.ndim < 2 else torch.linalg.vector_norm(t.flatten(1), dim=1) for t in tensors]


def clip_together(weights, grads):
    limits = torch.cat(norms(weights)).clamp(min=1e-3) * 0.01
    own = norms(grads)
    scales = (limits / torch.cat(own).clamp(min=1e-6)).clamp(max=1).split([n.numel() for n in own])
    torch._foreach_mul_(grads, [s.view([-1] + [1] * (g.ndim - 1)) if g.ndim > 1 else s.view([1] * g.ndim)
                                for s, g in zip(scales, grads)])


class Evaluation:
    def __init__(self, model, kind, layout, compiled):
        model = fold(model.eval())
        self.amp = kind == "amp"
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        layout = torch.channels_last if layout == "nhwc" else torch.contiguous_format
        model = model.to(dtype).to(memory_format=layout)
        self.model = torch.compile(model) if compiled else model
        self.images = torch.randn(options.batch, 3, options.size, options.size, dtype=dtype).to(memory_format=layout)

    def step(self):
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.amp):
            self.model(self.images)


class Training:
    def __init__(self, model, kind, layout, compiled, tuned):
        for name, parameter in model.named_parameters():
            if name.endswith("skipinit_gain"):
                parameter.data.fill_(0.1)  # at 0 all gradients of the branch are
        self.amp, self.tuned = kind == "amp", tuned
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        layout = torch.channels_last if layout == "nhwc" else torch.contiguous_format
        # bf16: the model computes with copies of float32 weights, which the optimizer holds.
        self.master = [p.detach().clone() for p in model.parameters()] if kind == "bf16" else None
        model = model.train().to(dtype).to(memory_format=layout)
        self.parameters = list(model.parameters())
        self.weights = self.master or self.parameters
        for w in self.master or []:
            w.grad = torch.zeros_like(w)
        self.model = torch.compile(model) if compiled else model
        self.transformer = options.model.startswith("vit")
        self.optimizer = (torch.optim.AdamW(self.weights, lr=1e-4, weight_decay=0.03, fused=True) if self.transformer else
                          torch.optim.SGD(self.weights, lr=1e-4, momentum=0.9, nesterov=True, weight_decay=2e-5, fused=True))
        self.average = [w.detach().clone().float() for w in self.weights]
        self.images = torch.randn(options.batch, 3, options.size, options.size, dtype=dtype).to(memory_format=layout)
        self.labels = torch.randint(0, 10, (options.batch,))
        self.update = torch.compile(self.clip_and_step) if tuned else self.clip_and_step

    def clip_and_step(self):
        body = self.weights[:-2]
        if self.transformer:
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        elif self.tuned:
            clip_together([w.detach() for w in body], [w.grad for w in body])
        else:
            adaptive_clip_grad(body, 0.01)
        self.optimizer.step()

    def step(self):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.amp):
            logits = self.model(self.images)
        torch.nn.functional.cross_entropy(logits.float(), self.labels, label_smoothing=0.1).backward()
        with torch.no_grad():
            if self.master:
                torch._foreach_copy_([w.grad for w in self.master], [p.grad for p in self.parameters])
            self.update()
            if self.master:
                torch._foreach_copy_(self.parameters, self.master)
            torch._foreach_lerp_(self.average, self.weights, 1e-4)
        for p in self.parameters:
            p.grad = None


built = {}
for line in sys.stdin:
    request = json.loads(line)
    name = request["setting"]
    if name not in built:
        kind, layout, compiled, tuned = SETTINGS[name]
        torch.manual_seed(0)
        model = build(options.model)
        built[name] = (Evaluation(model, kind, layout, compiled) if options.mode == "eval" else
                       Training(model, kind, layout, compiled, tuned))
        for _ in range(3):
            built[name].step()
    times, end = [], time.perf_counter() + request["seconds"]
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        built[name].step()
        times.append(1e3 * (time.perf_counter() - started))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"ms": times, "peak_rss_bytes": peak, "torch": torch.__version__, "timm": timm.__version__}), flush=True)
