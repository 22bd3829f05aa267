"""The NFNets of this program out of timm's parts."""
from dataclasses import replace
import timm
from timm.models import nfnet


def build(name):
    """F0 ... F7 of timm; N0 ... N7 out of its parts (widths and strides as configs/ has them)."""
    if name.startswith("nfnet_f"):
        return timm.create_model("dm_" + name, num_classes=1000, drop_rate=0.0)
    depth = int(name.removeprefix("nfnet_n")) + 1
    config = nfnet._dm_nfnet_cfg(depths=tuple(depth * n for n in (1, 2, 6, 3)), channels=(32, 64, 192, 192))
    model = nfnet.NormFreeNet(replace(config, stem_chs=16, group_size=16, num_features=384), num_classes=10, drop_rate=0.0)
    before = 3
    for place, (channels, stride) in enumerate([(4, 1), (8, 1), (16, 1), (16, 2)]):
        kind = type(model.stem[2 * place])
        model.stem[2 * place] = kind(before, channels, 3, stride=stride, eps=1e-5)
        before = channels
    return model
