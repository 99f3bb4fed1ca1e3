"""What Caffe's files call the layers of our networks, and how they store them.

Layer names are those of the public prototxt files of the authors and of Caffe. Kernels are
[out, in, H, W] there; a dense layer reads a map channel by channel there, pixel by pixel here; and
the first layer expects blue, green, red there. Its input channels are reversed here, so that images
stay red, green, blue everywhere in this project: a permutation, which keeps every bit, whereas
another order of colours in the preprocessing would be a second way to read images.

Where ours and Caffe's networks differ: CaffeNet pools before it normalises, AlexNet (Caffe's
bvlc_alexnet, and the paper's) after that. Their files have the same names and shapes; only the
name inside tells them apart.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np
from flax.traverse_util import flatten_dict

import models
from conversion.caffe_file import CaffeNet
from conversion.table import AS_HERE, CONV, DENSE, Row, flattened, map_before
from errors import UserError
from models import Network

Names = Callable[[str], str]  # the name of a layer there, from ours


def _same(name: str) -> str:
    return name


def _nin_imagenet(name: str) -> str:
    return f"{name}-1024" if name in ("conv4", "cccp7", "cccp8") else name


_GOOGLENET = {
    "conv1": "conv1/7x7_s2",
    "conv2_reduce": "conv2/3x3_reduce",
    "conv2": "conv2/3x3",
    "linear": "loss3/classifier",
}
_HEAD = {"conv": "conv", "fc": "fc", "linear": "classifier"}


def _googlenet(name: str) -> str:
    """aux1/linear is loss1/classifier; inception_3a/5x5 has the same name there."""
    found = re.fullmatch(r"aux(\d)/(\w+)", name)
    return f"loss{found[1]}/{_HEAD[found[2]]}" if found else _GOOGLENET.get(name, name)


def _resnet(*numbered: int) -> Names:
    """conv2_3/b is res2c_branch2b; in the stages `numbered`, conv4_8/b is res4b7_branch2b."""

    def rename(name: str) -> str:
        found = re.fullmatch(r"conv(\d)_(\d+)/(\w+)", name)
        if found is None:
            return {"fc": "fc1000"}.get(name, name)
        stage, index = int(found[1]), int(found[2])
        unit = f"b{index - 1}" if stage in numbered and index > 1 else "abcdef"[index - 1]
        branch = "branch1" if found[3] == "projection" else f"branch2{found[3]}"
        return f"res{stage}{unit}_{branch}"

    return rename


def _statistics(name: str) -> tuple[str, str]:
    """The BatchNorm and the Scale layer after the convolution `name`."""
    suffix = name.removeprefix("res") if name != "conv1" else "_conv1"
    return f"bn{suffix}", f"scale{suffix}"


NAMES: dict[str, Names] = {
    "alexnet_caffe": _same,
    "caffenet": _same,
    "vgg_D": _same,
    "vgg_E": _same,
    "googlenet_2014": _googlenet,
    "googlenet_2014_with_aux": _googlenet,
    "nin_imagenet": _nin_imagenet,
    "resnet50_caffe": _resnet(),
    "resnet101_v1": _resnet(3, 4),
    "resnet152_v1": _resnet(3, 4),
}
# What the released files call their networks, where names and shapes alone would not tell.
INSIDE = {"alexnet_caffe": "AlexNet", "caffenet": "CaffeNet"}


def rows(name: str, network: Network) -> list[Row]:
    """The table of the network `name`, a key of NAMES. Their names are "layer/blob number"."""
    rename = NAMES[name]
    found = []
    for path, leaf in sorted(flatten_dict(models.variables_of(network)).items()):
        layer, kind = "/".join(path[1:-1]), path[-1]
        norm = layer.endswith("/bn")
        theirs = rename(layer.removesuffix("/bn"))
        form = AS_HERE
        if norm:
            statistics, scale = _statistics(theirs)
            theirs = {
                "mean": f"{statistics}/0",
                "var": f"{statistics}/1",
                "scale": f"{scale}/0",
                "bias": f"{scale}/1",
            }[kind]
        elif kind == "bias":
            theirs = f"{theirs}/1"
        else:
            theirs = f"{theirs}/0"
            if leaf.ndim == 4:
                first = layer in ("conv1", "conv1_1") and leaf.shape[2] == 3
                form = dataclasses.replace(CONV, blue_first=first)
            else:
                window = map_before(network, layer)
                form = flattened(window) if window else DENSE
        found.append(Row("/".join(path), theirs, form))
    return found


def arrays_of(net: CaffeNet) -> dict[str, np.ndarray]:
    """The blobs of a file by "layer/number", statistics of batch norms divided by their factor.

    Caffe keeps sums of running means and variances, and their weight as a third blob; the authors'
    files have averages and 1. Raises UserError if a batch norm has not three blobs.
    """
    found: dict[str, np.ndarray] = {}
    for layer, blobs in net.layers.items():
        arrays = [_without_leading_ones(blob) for blob in blobs]
        if re.match(r"bn(_conv1|\d)", layer):
            if len(arrays) != 3 or arrays[2].shape != (1,):
                raise UserError(
                    f"{layer} has {len(arrays)} blobs of shapes "
                    f"{', '.join(str(array.shape) for array in arrays)}; a batch norm has mean, "
                    "variance and one factor"
                )
            weight = arrays[2][0]
            # Multiplying by 1 keeps the bits; Caffe multiplies by the reciprocal too.
            with np.errstate(over="ignore", invalid="ignore"):  # `take` refuses the result
                factor = np.float32(1) / weight if weight else np.float32(0)
                arrays = [arrays[0] * factor, arrays[1] * factor]
        for number, array in enumerate(arrays):
            found[f"{layer}/{number}"] = array
    return found


def _without_leading_ones(blob: np.ndarray) -> np.ndarray:
    """Biases and dense kernels of version 1 have four sizes, (1, 1, 1, out) and (1, 1, out, in).

    A convolution's first two sizes are its outputs and inputs, which are not both 1.
    """
    if blob.ndim == 4 and blob.shape[:2] == (1, 1):
        return blob.reshape(blob.shape[3:] if blob.shape[2] == 1 else blob.shape[2:])
    return blob


def net_of(name: str, arrays: Mapping[str, np.ndarray]) -> CaffeNet:
    """The file of arrays by "layer/number": the inverse of arrays_of."""
    layers: dict[str, list[np.ndarray]] = {}
    for full, array in sorted(arrays.items()):
        layers.setdefault(full.rpartition("/")[0], []).append(array)
    for layer, blobs in layers.items():
        if re.match(r"bn(_conv1|\d)", layer):
            blobs.append(np.ones(1, np.float32))
    return CaffeNet(INSIDE.get(name, name), layers)
