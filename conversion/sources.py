"""The frameworks whose weights are converted: what each file must hold, and how images enter.

A source reads a file into arrays by name and writes them back; its table says which array is which
of ours. Images are red, green, blue in 0..255 here, and means are in that order too.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from augmentations.recipe import Statistics
from conversion import (
    caffe_file,
    caffe_layers,
    keras_file,
    keras_layers,
    torch_file,
    torch_layers,
)
from conversion.table import Row
from errors import UserError
from models import Network

Arrays = Mapping[str, np.ndarray]
Pixel = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images enter: config.data.normalize, and the statistics of its calls."""

    normalize: tuple[str, ...]
    statistics: Statistics

    def __str__(self) -> str:
        numbers = [
            ", ".join(f"{number:.6g}" for number in array)
            for arrays in self.statistics.values()
            for array in arrays
        ]
        return f"{', '.join(self.normalize)} of {'; '.join(numbers)}"


def less_mean(mean: Pixel) -> Preprocessing:
    """Pixels in 0..255 less their mean."""
    return Preprocessing(("channel_mean()",), {"channel_mean": (np.array(mean, np.float32),)})


def standardised(mean: Pixel, sd: Pixel) -> Preprocessing:
    """Pixels in 0..1, less their mean, divided by their standard deviation."""
    statistics = np.array(mean, np.float32), np.array(sd, np.float32)
    return Preprocessing(("scale()", "mean_sd()"), {"mean_sd": statistics})


@dataclasses.dataclass(frozen=True)
class Source:
    """A framework.

    networks: those supported, by our names, and the preprocessing of each; None: its mean is in
        another file, which the user gives.
    read: (file, name, network) -> arrays by their names. write: (file, name, arrays).
    rows: the table of a network.
    less_mean: whether its networks only subtract a mean, of which the user may give another.
    """

    networks: Mapping[str, Preprocessing | None]
    read: Callable[[pathlib.Path, str, Network], Arrays]
    write: Callable[[pathlib.Path, str, Arrays], None]
    rows: Callable[[str, Network], list[Row]]
    less_mean: bool = True

    def require(self, name: str) -> None:
        """Raises UserError, with the valid names, if the network is not supported."""
        if name not in self.networks:
            raise UserError(f"--network={name}: valid names: {', '.join(self.networks)}")


# The mean pixel of ImageNet that Simonyan and Zisserman subtract, and Keras after them; and
# GoogLeNet's in Caffe's definition. Both are printed blue first there.
VGG_MEAN = less_mean((123.68, 116.779, 103.939))
GOOGLENET_MEAN = less_mean((123.0, 117.0, 104.0))
# torchvision's and timm's mean and deviation of ImageNet.
TORCHVISION = standardised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# What torchvision's `transform_input` makes of images that are standardised so: its GoogLeNet came
# from TensorFlow, with pixels in -1..1. The two steps are one.
TRANSFORM_INPUT = standardised((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TRANSFORMING = ("googlenet_torchvision", "googlenet_torchvision_with_aux")


def _read_caffe(path: pathlib.Path, name: str, network: Network) -> Arrays:
    net = caffe_file.read_net(path)
    inside = caffe_layers.INSIDE
    others = {there: ours for ours, there in inside.items() if ours != name}
    if name in inside and net.name in others:
        raise UserError(
            f"{path}: holds {net.name!r}, whose layers have the same names and another order; "
            f"convert it with --network={others[net.name]}"
        )
    return caffe_layers.arrays_of(net)


def _write_caffe(path: pathlib.Path, name: str, arrays: Arrays) -> None:
    caffe_file.write_net(path, caffe_layers.net_of(name, arrays))


def _read_keras(path: pathlib.Path, name: str, network: Network) -> Arrays:
    return keras_layers.arrays_of(name, network, keras_file.read(path))


def _write_keras(path: pathlib.Path, name: str, arrays: Arrays) -> None:
    keras_file.write(path, keras_layers.layers_of(arrays))


def _read_torchvision(path: pathlib.Path, name: str, network: Network) -> Arrays:
    return torch_layers.arrays_of(torch_file.read(path))


def _write_torchvision(path: pathlib.Path, name: str, arrays: Arrays) -> None:
    torch_file.write(path, arrays)


SOURCES: dict[str, Source] = {
    "torchvision": Source(
        dict.fromkeys(torch_layers.NAMES, TORCHVISION)
        | dict.fromkeys(TRANSFORMING, TRANSFORM_INPUT),
        _read_torchvision,
        _write_torchvision,
        torch_layers.rows,
        less_mean=False,
    ),
    "caffe": Source(
        {
            "alexnet_caffe": None,
            "caffenet": None,
            "vgg_D": VGG_MEAN,
            "vgg_E": VGG_MEAN,
            "googlenet_2014": GOOGLENET_MEAN,
            "googlenet_2014_with_aux": GOOGLENET_MEAN,
            "nin_imagenet": None,
            "resnet50_caffe": None,
            "resnet101_v1": None,
            "resnet152_v1": None,
        },
        _read_caffe,
        _write_caffe,
        caffe_layers.rows,
    ),
    "keras": Source(
        dict.fromkeys(keras_layers.NAMES, VGG_MEAN),
        _read_keras,
        _write_keras,
        keras_layers.rows,
    ),
}


def mean_pixel(text: str) -> Pixel:
    """A mean pixel as the source prints it: blue, green, red. Raises UserError."""
    try:
        blue, green, red = (float(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"--mean_pixel={text}: expected BLUE,GREEN,RED") from None
    if not all(0 <= value <= 255 for value in (blue, green, red)):
        raise UserError(f"--mean_pixel={text}: each must be from 0 to 255")
    return red, green, blue


def mean_image(path: pathlib.Path, side: int) -> np.ndarray:
    """The central side × side pixels of a mean image, [H, W, red green blue].

    The centre is where test images are cut (augmentations.boxes.centre). Raises UserError.
    """
    mean = caffe_file.read_mean(path)
    channels, height, width = mean.shape
    if channels != 3 or min(height, width) < side:
        raise UserError(
            f"{path}: is a mean of {channels} channels and {height}×{width} pixels; the network "
            f"needs 3 channels and at least {side}×{side}"
        )
    if not np.isfinite(mean).all():
        raise UserError(f"{path}: holds numbers that are not finite")
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return mean[::-1, top : top + side, left : left + side].transpose(1, 2, 0).copy()
