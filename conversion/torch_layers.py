"""What torchvision's state dicts call the layers of our networks.

Kernels are [out, in, H, W] there, and a dense layer reads a map channel by channel. timm's ResNets
and DenseNet-121 have the same names. A batch norm's count of batches has no place here: nothing in
these networks depends on it.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
from flax.traverse_util import flatten_dict

import models
from conversion.table import AS_HERE, CONV, DENSE, Row, flattened, map_before
from errors import UserError
from models import Network
from models.vgg import CONFIGURATIONS

Names = Callable[[str], str]  # the name of a layer there, from ours

COUNT = ".num_batches_tracked"
KINDS = {"kernel": "weight", "bias": "bias", "scale": "weight"}
STATISTICS = {"mean": "running_mean", "var": "running_var"}
# torch allowed dots in names until 2017: norm.1 is norm1.
OLDER_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)")

_ALEXNET = {
    **{"conv1": "features.0", "conv2": "features.3", "conv3": "features.6"},
    **{"conv4": "features.8", "conv5": "features.10"},
    **{"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
}
_VGG_DENSE = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
_INCEPTION = {
    **{"1x1": "branch1", "3x3_reduce": "branch2.0", "3x3": "branch2.1"},
    **{"5x5_reduce": "branch3.0", "5x5": "branch3.1", "pool_proj": "branch4.1"},
}
_GOOGLENET = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3", "linear": "fc"}
_HEAD = {"conv": "conv", "fc": "fc1", "linear": "fc2"}
_DENSE_LAYER = {"bn1": "norm1", "conv1": "conv1", "conv1/bn": "norm2", "conv2": "conv2"}
_DENSENET = {
    **{"conv0": "features.conv0", "conv0/bn": "features.norm0"},
    **{"norm5": "features.norm5", "fc": "classifier"},
}


def _vgg(configuration: str, norms: bool) -> Names:
    """conv1_2 is features.2, after a convolution and its ReLU; a batch norm has a number, too."""
    places, place = dict(_VGG_DENSE), 0
    for stage, kernels in enumerate(CONFIGURATIONS[configuration], start=1):
        for index, _ in enumerate(kernels, start=1):
            places[f"conv{stage}_{index}"] = f"features.{place}"
            places[f"conv{stage}_{index}/bn"] = f"features.{place + 1}"
            place += 3 if norms else 2
        place += 1  # the pooling
    return places.__getitem__


def _googlenet(name: str) -> str:
    """inception_3a/5x5/bn is inception3a.branch3.1.bn; aux1/linear is aux1.fc2."""
    layer, norm = name.removesuffix("/bn"), name.endswith("/bn")
    block, _, inner = layer.partition("/")
    if block.startswith("inception_"):
        there = f"{block.replace('_', '')}.{_INCEPTION[inner]}"
    elif block.startswith("aux"):
        there = f"{block}.{_HEAD[inner]}"
    else:
        there = _GOOGLENET[block]
    if there.rpartition(".")[2].startswith("fc"):
        return there
    return f"{there}.{'bn' if norm else 'conv'}"


def _resnet(name: str) -> str:
    """conv3_1/a/bn is layer2.0.bn1; conv3_1/projection is layer2.0.downsample.0."""
    layer, norm = name.removesuffix("/bn"), name.endswith("/bn")
    found = re.fullmatch(r"conv(\d)_(\d+)/(\w+)", layer)
    if found is None:
        return "bn1" if norm else layer
    unit = f"layer{int(found[1]) - 1}.{int(found[2]) - 1}"
    if found[3] == "projection":
        return f"{unit}.downsample.{int(norm)}"
    return f"{unit}.{'bn' if norm else 'conv'}{'abc'.index(found[3]) + 1}"


def _densenet(name: str) -> str:
    """dense2_3/conv1/bn is features.denseblock2.denselayer3.norm2."""
    block, _, inner = name.partition("/")
    if found := re.fullmatch(r"dense(\d)_(\d+)", block):
        there = _DENSE_LAYER[inner]
        return f"features.denseblock{found[1]}.denselayer{found[2]}.{there}"
    if block.startswith("transition"):
        return f"features.{block}.{'norm' if inner == 'bn' else inner}"
    return _DENSENET[name]


NAMES: dict[str, Names] = {
    "alexnet_owt_torchvision": _ALEXNET.__getitem__,
    **{f"vgg_{column}": _vgg(column, norms=False) for column in "ABDE"},
    **{f"vgg_{column}_bn": _vgg(column, norms=True) for column in "ABDE"},
    "googlenet_torchvision": _googlenet,
    "googlenet_torchvision_with_aux": _googlenet,
    **{f"resnet{depth}_torchvision": _resnet for depth in (18, 34)},
    **{f"resnet{depth}_v1_5": _resnet for depth in (50, 101, 152)},
    "densenet121": _densenet,
}


def rows(name: str, network: Network) -> list[Row]:
    """The table of the network `name`, a key of NAMES."""
    found = []
    for path, leaf in sorted(flatten_dict(models.variables_of(network)).items()):
        layer, kind = "/".join(path[1:-1]), path[-1]
        there = f"{NAMES[name](layer)}.{(KINDS | STATISTICS)[kind]}"
        form = AS_HERE
        if kind == "kernel" and leaf.ndim == 4:
            form = CONV
        elif kind == "kernel":
            window = map_before(network, layer)
            form = flattened(window) if window else DENSE
        found.append(Row("/".join(path), there, form))
    return found


def arrays_of(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a state dict by their present names, without the batch norms' counts.

    Raises UserError if two arrays have one name.
    """
    found: dict[str, np.ndarray] = {}
    for name, array in state.items():
        older = OLDER_DENSENET.fullmatch(name)
        now = older[1] + older[2] if older else name
        if now in found:
            raise UserError(f"{name}: the file has {now} twice, by its older name, too")
        found[now] = array
    counts = [
        name
        for name in found
        if name.endswith(COUNT) and name.removesuffix(COUNT) + ".running_mean" in found
    ]
    for name in counts:
        array = found.pop(name)
        if array.shape or array.dtype != np.int64:
            raise UserError(f"{name} is {array.dtype} of shape {array.shape}, not one int64")
    return found
