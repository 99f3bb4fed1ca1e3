"""The named residual networks: those of He et al. 2016a and 2016b, and those of weight files.

Imports only `models`.
"""

from typing import Any

from models.presets import Preset
from models.resnet import SHORTCUTS, ResNet

# Units per stage, by depth: He et al. 2016a, Table 1; for 200 layers, the authors' released code.
IMAGENET_STAGES: dict[int, tuple[str, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}
TABLE_1 = "He et al. 2016a, Table 1"
SECTION_4_1 = "He et al. 2016a, Table 1, shortcuts of section 4.1"
SECTION_5 = "He et al. 2016b, section 5; units of each stage as in the authors' released code"
# Name, depth, fields, source, printed FLOPs (which are multiply-adds; "" if none are printed).
IMAGENET: tuple[tuple[str, int, dict[str, Any], str, str], ...] = (
    ("plain18", 18, {"shortcut": "none"}, TABLE_1, "1.8×10⁹"),
    ("resnet18_A", 18, {"shortcut": "A"}, SECTION_4_1, "1.8×10⁹"),
    ("resnet18_B", 18, {"shortcut": "B"}, SECTION_4_1, ""),
    ("resnet18_C", 18, {"shortcut": "C"}, SECTION_4_1, ""),
    ("plain34", 34, {"shortcut": "none"}, TABLE_1, "3.6×10⁹"),
    ("resnet34_A", 34, {"shortcut": "A"}, SECTION_4_1, "3.6×10⁹"),
    ("resnet34_B", 34, {"shortcut": "B"}, SECTION_4_1, ""),
    ("resnet34_C", 34, {"shortcut": "C"}, SECTION_4_1, ""),
    ("resnet50_v1", 50, {"stride_in": "1x1"}, TABLE_1, "3.8×10⁹"),
    ("resnet50_v1_5", 50, {"stride_in": "3x3", "pool1": "torch"}, TABLE_1, ""),
    ("resnet101_v1", 101, {"stride_in": "1x1"}, TABLE_1, "7.6×10⁹"),
    ("resnet101_v1_5", 101, {"stride_in": "3x3", "pool1": "torch"}, TABLE_1, ""),
    ("resnet152_v1", 152, {"stride_in": "1x1"}, TABLE_1, "11.3×10⁹"),
    ("resnet152_v1_5", 152, {"stride_in": "3x3", "pool1": "torch"}, TABLE_1, ""),
    ("resnet200_preact", 200, {"unit": "preact", "pool1": "torch"}, SECTION_5, ""),
    *(
        (
            f"resnet{depth}_torchvision",
            depth,
            {"shortcut": "B", "pool1": "torch"},
            f"{SECTION_4_1}; torchvision",
            "",
        )
        for depth in (18, 34)
    ),
    ("resnet50_caffe", 50, {"conv_bias": "conv1"}, f"{TABLE_1}; the authors' Caffe file", ""),
    *(
        (
            f"resnet{depth}_keras",
            depth,
            {"conv_bias": "all", "batch_norm_epsilon": 1.001e-5, "pool1": "torch"},
            f"{TABLE_1}; Keras applications",
            "",
        )
        for depth in (50, 101, 152)
    ),
)
POOL1_PADDED = (
    "The max pool after conv1 pads by 1 on all sides, as in Torch; the authors' does not pad."
)
STRIDED_3X3 = (
    "The 3×3 layer of the first bottleneck of conv3 to conv5 has the stride of 2, not its first "
    "1×1 layer."
)
BIASES: dict[str, tuple[str, ...]] = {
    "none": (),
    "conv1": ("conv1 has a bias before its batch norm, as in the authors' Caffe file.",),
    "all": ("Every convolution has a bias before its batch norm, whose epsilon is 1.001e-5.",),
}


def _deviations(fields: dict[str, Any]) -> tuple[str, ...]:
    strided = (STRIDED_3X3,) if fields.get("stride_in") == "3x3" else ()
    # The authors' nets of 2016 are for Torch.
    padded = fields.get("pool1") == "torch" and "unit" not in fields
    return strided + BIASES[fields.get("conv_bias", "none")] + ((POOL1_PADDED,) if padded else ())


def _imagenet(depth: int, fields: dict[str, Any], source: str, multiply_adds: str) -> Preset:
    block, stages = IMAGENET_STAGES[depth]
    size = {"input": (224, 224, 3), "num_classes": 1000}
    return Preset(
        ResNet,
        {**size, "block": block, "stages": stages, **fields},
        source,
        deviations=_deviations(fields),
        published={"multiply_adds": multiply_adds} if multiply_adds else {},
    )


# Nets of 6n+2 layers, n units of two 3×3 layers per stage: depth, shortcuts, printed parameters (of
# the plain and the A net). He et al. 2016a, section 4.2 and Table 6.
CIFAR: tuple[tuple[int, tuple[str, ...], str], ...] = (
    (20, SHORTCUTS, "0.27M"),
    (32, SHORTCUTS, "0.46M"),
    (44, SHORTCUTS, "0.66M"),
    (56, SHORTCUTS, "0.85M"),
    (110, SHORTCUTS, "1.7M"),
    (1202, ("A",), "19.4M"),
)
# Name, units per stage, block, shortcut, unit, classes, printed parameters: He et al. 2016b, Tables
# 2 to 4. Nets of 164 and 1001 layers have 9n+2 layers, in bottlenecks.
CIFAR_2016: tuple[tuple[str, int, str, str, str, int, str], ...] = (
    ("resnet110_cifar10_preact", 18, "basic", "A", "preact", 10, "1.7M"),
    ("resnet164_cifar10_original", 18, "bottleneck", "B", "original", 10, "1.7M"),
    ("resnet164_cifar10_preact", 18, "bottleneck", "B", "preact", 10, "1.7M"),
    ("resnet164_cifar100_original", 18, "bottleneck", "B", "original", 100, ""),
    ("resnet164_cifar100_preact", 18, "bottleneck", "B", "preact", 100, ""),
    ("resnet1001_cifar10_original", 111, "bottleneck", "B", "original", 10, "10.2M"),
    ("resnet1001_cifar10_preact", 111, "bottleneck", "B", "preact", 10, "10.2M"),
    ("resnet1001_cifar100_original", 111, "bottleneck", "B", "original", 100, ""),
    ("resnet1001_cifar100_preact", 111, "bottleneck", "B", "preact", 100, ""),
)


def _cifar(units: int, params: str, source: str, classes: int = 10, **fields: str) -> Preset:
    size = {"input": (32, 32, 3), "num_classes": classes}
    stages = {"stages": (units,) * 3, "features": (16, 32, 64), "stem": "cifar"}
    printed = {"params": params} if params else {}
    return Preset(ResNet, {**size, **stages, **fields}, source, published=printed)


def _cifar_2016a() -> dict[str, Preset]:
    presets = {}
    for depth, shortcuts, params in CIFAR:
        for shortcut in shortcuts:
            name, source = f"resnet{depth}_cifar10_{shortcut}", "He et al. 2016a, section 4.2"
            if shortcut == "none":
                name = f"plain{depth}_cifar10"
            elif shortcut != "A":
                source += f" with option {shortcut} of section 4.1"
            presets[name] = _cifar(
                (depth - 2) // 6,
                params if shortcut in ("none", "A") else "",
                source,
                block="basic",
                shortcut=shortcut,
            )
    return presets


SECTION_4 = "He et al. 2016b, section 4 and the authors' released code for its shortcuts"
PRESETS: dict[str, Preset] = {
    **{
        name: _imagenet(depth, fields, source, multiply_adds)
        for name, depth, fields, source, multiply_adds in IMAGENET
    },
    **_cifar_2016a(),
    **{
        name: _cifar(units, params, SECTION_4, classes, block=block, shortcut=shortcut, unit=unit)
        for name, units, block, shortcut, unit, classes, params in CIFAR_2016
    },
}
