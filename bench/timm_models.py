"""The models of this program out of timm's parts."""
from dataclasses import replace
import timm
from timm.models import nfnet, vision_transformer


# Patch, image, width, depth, hidden width of an MLP, heads, classes; pooling by attention.
TRANSFORMERS = {
    "vit_ti16": (16, 224, 192, 12, 768, 3, 1000),
    "vit_s16": (16, 224, 384, 12, 1536, 6, 1000),
    "vit_b16": (16, 224, 768, 12, 3072, 12, 1000),
    "vit_n0": (4, 32, 64, 3, 344, 4, 10),
    "vit_n1": (4, 32, 80, 4, 344, 5, 10),
    "vit_n2": (4, 32, 96, 4, 424, 6, 10),
    "vit_n3": (4, 32, 96, 5, 456, 6, 10),
}


def build(name):
    """F0 ... F7 of timm; N0 ... N7 out of its parts (widths and strides as configs/ has them)."""
    if name in TRANSFORMERS:
        patch, image, width, depth, hidden, heads, classes = TRANSFORMERS[name]
        return vision_transformer.VisionTransformer(
            img_size=image, patch_size=patch, embed_dim=width, depth=depth, mlp_ratio=hidden / width, num_heads=heads,
            num_classes=classes, class_token=False, global_pool="map")
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
