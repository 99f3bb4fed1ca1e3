"""What Keras's files call the layers of our networks.

Kernels are stored as here. Keras's applications were converted from the authors' Caffe files and
take blue, green, red images, less the mean pixel: the input channels of the first layer are
reversed here, as for Caffe. Batch norms are in the file in the order scale, shift, mean, variance.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flax.traverse_util import flatten_dict

import models
from conversion.table import AS_HERE, Form, Row
from models import Network

Names = Callable[[str], str]

_VGG_DENSE = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
# The layers of a unit in the order of Keras's list of layers, by depth in its graph.
_UNIT = {"a": 1, "b": 2, "projection": 0, "c": 3}
_KINDS = {  # our arrays' places among a layer's
    "conv": ("kernel", "bias"),
    "bn": ("scale", "bias", "mean", "var"),
    "dense": ("kernel", "bias"),
}
_CLASSES = {"conv": "conv2d", "bn": "batch_normalization", "dense": "dense"}


def _vgg(name: str) -> str:
    """conv3_2 is block3_conv2."""
    found = re.fullmatch(r"conv(\d)_(\d)", name)
    return f"block{found[1]}_conv{found[2]}" if found else _VGG_DENSE[name]


def _resnet(name: str) -> str:
    """conv3_1/projection/bn is conv3_block1_0_bn; conv3_1/a is conv3_block1_1_conv."""
    layer, norm = name.removesuffix("/bn"), name.endswith("/bn")
    found = re.fullmatch(r"conv(\d)_(\d+)/(\w+)", layer)
    if layer == "fc":
        return "predictions"
    before = f"conv{found[1]}_block{found[2]}_{_UNIT[found[3]]}" if found else layer
    return f"{before}_{'bn' if norm else 'conv'}"


NAMES: dict[str, Names] = {
    "vgg_D": _vgg,
    "vgg_E": _vgg,
    "resnet50_keras": _resnet,
    "resnet101_keras": _resnet,
    "resnet152_keras": _resnet,
}


def rows(name: str, network: Network) -> list[Row]:
    """The table of the network `name`, a key of NAMES. Their names are "layer/number"."""
    found = []
    for path in sorted(flatten_dict(models.variables_of(network))):
        layer = "/".join(path[1:-1])
        place = _KINDS[_kind(layer)].index(path[-1])
        first = path[-1] == "kernel" and layer in ("conv1", "conv1_1") and network.input[2] == 3
        form = Form(blue_first=True) if first else AS_HERE
        found.append(Row("/".join(path), f"{NAMES[name](layer)}/{place}", form))
    return found


def _kind(layer: str) -> str:
    if layer.endswith("/bn"):
        return "bn"
    return "dense" if layer.startswith("fc") else "conv"


def arrays_of(
    name: str, network: Network, layers: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, np.ndarray]:
    """The weights of a file by "layer/number".

    The newer layout numbers the layers of each class in the order of Keras's list: they get their
    names here.
    """
    names = numbered(name, network) if any(key in layers for key in _CLASSES.values()) else {}
    return {
        f"{names.get(layer, layer)}/{number}": array
        for layer, arrays in layers.items()
        for number, array in enumerate(arrays)
    }


def numbered(name: str, network: Network) -> dict[str, str]:
    """Names of the newer layout (conv2d_3) -> the layers' own, for one network."""
    ours = {path[1:-1] for path in flatten_dict(models.variables_of(network))}

    def in_keras(path: tuple[str, ...]) -> tuple[int, ...]:
        """Sorts by stage, unit and place in the unit."""
        stage, _, unit = path[0].removeprefix("conv").removeprefix("fc").partition("_")
        inside = list(_UNIT).index(path[1]) if path[1:] and path[1] in _UNIT else 0
        return int(stage or 0), int(unit or 0), inside

    found: dict[str, str] = {}
    counts = dict.fromkeys(_CLASSES, 0)
    for path in sorted(ours, key=in_keras):
        layer = "/".join(path)
        kind = _kind(layer)
        number = f"_{counts[kind]}" if counts[kind] else ""
        found[_CLASSES[kind] + number] = NAMES[name](layer)
        counts[kind] += 1
    return found


def layers_of(arrays: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The layers of a file from arrays by "layer/number": the inverse of arrays_of."""
    layers: dict[str, list[np.ndarray]] = {}
    for full, array in sorted(arrays.items()):
        layers.setdefault(full.rpartition("/")[0], []).append(array)
    return layers
