"""The timed networks by name, with their batch sizes. Imports nothing slow."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    """The network of a config file, on generated images of `size` × `size` pixels."""

    config: str
    size: int
    channels: int
    classes: int
    batch: int


def _cifar(depth: int) -> Case:
    return Case(f"resnet_cifar.py:depth={depth},data=synthetic,scale=paper", 32, 3, 10, 128)


CASES = {
    "lenet5": Case("lenet5.py:data=synthetic", 32, 1, 10, 128),
    "resnet20": _cifar(20),
    "resnet32": _cifar(32),
    "resnet44": _cifar(44),
    "resnet56": _cifar(56),
    "resnet110": _cifar(110),
    "resnet164": _cifar(164),
    "cuda_convnet": Case("cuda_convnet.py:data=synthetic,scale=paper", 24, 3, 10, 128),
    "alexnet": Case(
        "alexnet.py:net=alexnet_owt_torchvision,data=synthetic,scale=paper", 224, 3, 1000, 16
    ),
    "vgg16": Case("vgg.py:net=vgg_D,data=synthetic,scale=paper", 224, 3, 1000, 16),
    "googlenet": Case("googlenet.py:data=synthetic,scale=paper", 224, 3, 1000, 16),
    "resnet50": Case("resnet_imagenet.py:depth=50,data=synthetic,scale=paper", 224, 3, 1000, 16),
}
# The networks of the main table; the others show the time by depth.
TABLE = (
    *("lenet5", "resnet20", "resnet56", "resnet110", "cuda_convnet"),
    *("alexnet", "vgg16", "googlenet", "resnet50"),
)
DEPTHS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet164")
