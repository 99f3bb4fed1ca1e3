"""The networks of Caffe's and Keras's files in torch, written down from their definitions.

They know nothing of `models`: each layer draws its weights when it is first used, under the name
and in the arrangement of its own framework, so that they can be written to a file as that
framework would. Images are [N, blue green red, H, W] in 0..255, less a mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
F = torch.nn.functional


class Weights:
    """The arrays of each layer, drawn on first use, and the output of each layer by name."""

    def __init__(self, width: float = 1.0):
        self.width = width
        self.arrays: dict[str, list[np.ndarray]] = {}
        self.outputs: dict[str, Any] = {}
        self.numbers = np.random.default_rng(0)

    def kernel(self, shape: Sequence[int], fan_in: int) -> np.ndarray:
        values = self.numbers.standard_normal(shape) * np.sqrt(2 / fan_in)
        return values.astype(np.float32)

    def small(self, size: int) -> np.ndarray:
        return (0.1 * self.numbers.standard_normal(size)).astype(np.float32)

    def near_one(self, size: int) -> np.ndarray:
        return (1 + 0.1 * self.numbers.random(size)).astype(np.float32)

    def wide(self, maps: int) -> int:
        return max(1, round(maps * self.width))


class Caffe(Weights):
    """Caffe's layers: kernels [out, in, H, W], pooling rounded up, batch norm in two layers."""

    def conv(
        self,
        x: Any,
        name: str,
        maps: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        group: int = 1,
        bias: bool = True,
    ) -> Any:
        if name not in self.arrays:
            inside = x.shape[1] // group
            shape = (maps, inside, kernel, kernel)
            self.arrays[name] = [self.kernel(shape, inside * kernel**2)]
            self.arrays[name] += [self.small(maps)] if bias else []
        weights = [torch.tensor(array) for array in self.arrays[name]]
        x = F.conv2d(x, *weights, stride=stride, padding=pad, groups=group)
        self.outputs[name] = x
        return x

    def dense(self, x: Any, name: str, maps: int) -> Any:
        x = x.flatten(1)  # channel by channel
        if name not in self.arrays:
            self.arrays[name] = [self.kernel((maps, x.shape[1]), x.shape[1]), self.small(maps)]
        kernel, bias = (torch.tensor(array) for array in self.arrays[name])
        self.outputs[name] = x @ kernel.T + bias
        return self.outputs[name]

    def normed(self, x: Any, name: str, maps: int, kernel: int, stride: int = 1) -> Any:
        """A ResNet's convolution, its BatchNorm and its Scale layer."""
        x = self.conv(x, name, maps, kernel, stride, kernel // 2, bias=name in self.biased)
        suffix = "_conv1" if name == "conv1" else name.removeprefix("res")
        if f"bn{suffix}" not in self.arrays:
            factor = np.full(1, 4.0, np.float32)  # sums of four averages
            statistics = [4 * self.small(maps), 4 * self.near_one(maps), factor]
            self.arrays[f"bn{suffix}"] = statistics
            self.arrays[f"scale{suffix}"] = [self.near_one(maps), self.small(maps)]
        mean, var, factor = (torch.tensor(array) for array in self.arrays[f"bn{suffix}"])
        scale, shift = (torch.tensor(array) for array in self.arrays[f"scale{suffix}"])
        return F.batch_norm(x, mean / factor, var / factor, scale, shift, eps=1e-5)

    biased: tuple[str, ...] = ()  # convolutions of a ResNet that have a bias


def pool(x: Any, kernel: int = 3, stride: int = 2, pad: int = 0) -> Any:
    return F.max_pool2d(x, kernel, stride, pad, ceil_mode=True)


def lrn(x: Any) -> Any:
    """local_size 5, alpha 1e-4 over 5, beta 0.75, k 1: Caffe's and torch's own conventions."""
    return F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)


def alexnet(w: Caffe, x: Any, pool_first: bool) -> dict[str, Any]:
    two = lambda x: lrn(pool(x)) if pool_first else pool(lrn(x))  # noqa: E731
    maps = [2 * round(n * w.width / 2) for n in (96, 256, 384, 384, 256, 4096, 4096)]
    x = two(F.relu(w.conv(x, "conv1", maps[0], 11, 4)))
    x = two(F.relu(w.conv(x, "conv2", maps[1], 5, pad=2, group=2)))
    x = F.relu(w.conv(x, "conv3", maps[2], 3, pad=1))
    x = F.relu(w.conv(x, "conv4", maps[3], 3, pad=1, group=2))
    x = pool(F.relu(w.conv(x, "conv5", maps[4], 3, pad=1, group=2)))
    x = F.relu(w.dense(x, "fc6", maps[5]))
    return {"main": w.dense(F.relu(w.dense(x, "fc7", maps[6])), "fc8", 1000)}


def vgg(w: Caffe, x: Any, depths: Sequence[int]) -> dict[str, Any]:
    for stage, (depth, maps) in enumerate(
        zip(depths, (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for index in range(1, depth + 1):
            x = F.relu(w.conv(x, f"conv{stage}_{index}", w.wide(maps), 3, pad=1))
        x = pool(x, 2)
    x = F.relu(w.dense(x, "fc6", w.wide(4096)))
    return {"main": w.dense(F.relu(w.dense(x, "fc7", w.wide(4096))), "fc8", 1000)}


def nin_imagenet(w: Caffe, x: Any) -> dict[str, Any]:
    for names, maps, kernel, stride, pad in (
        (("conv1", "cccp1", "cccp2"), (96, 96, 96), 11, 4, 0),
        (("conv2", "cccp3", "cccp4"), (256, 256, 256), 5, 1, 2),
        (("conv3", "cccp5", "cccp6"), (384, 384, 384), 3, 1, 1),
        (("conv4-1024", "cccp7-1024", "cccp8-1024"), (1024, 1024, 0), 3, 1, 1),
    ):
        if names[0] != "conv1":
            x = pool(x)
        for index, (name, n) in enumerate(zip(names, maps, strict=True)):
            how = (kernel, stride, pad) if index == 0 else (1, 1, 0)
            x = F.relu(w.conv(x, name, w.wide(n) if n else 1000, *how))
    return {"main": x.mean((2, 3))}


INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(w: Caffe, x: Any) -> dict[str, Any]:
    def conv(x: Any, name: str, maps: int, kernel: int, stride: int = 1) -> Any:
        return F.relu(w.conv(x, name, w.wide(maps), kernel, stride, kernel // 2))

    def head(x: Any, number: int) -> Any:
        x = conv(F.avg_pool2d(x, 5, 3, ceil_mode=True), f"loss{number}/conv", 128, 1)
        x = F.relu(w.dense(x, f"loss{number}/fc", w.wide(1024)))
        return w.dense(x, f"loss{number}/classifier", 1000)

    outputs = {}
    x = lrn(pool(conv(x, "conv1/7x7_s2", 64, 7, 2)))
    x = conv(conv(x, "conv2/3x3_reduce", 64, 1), "conv2/3x3", 192, 3)
    x = pool(lrn(x))
    for name, (one, three_in, three, five_in, five, projected) in INCEPTION.items():
        at = f"inception_{name}"
        x = pool(x) if name in ("4a", "5a") else x
        x = torch.cat(
            (
                conv(x, f"{at}/1x1", one, 1),
                conv(conv(x, f"{at}/3x3_reduce", three_in, 1), f"{at}/3x3", three, 3),
                conv(conv(x, f"{at}/5x5_reduce", five_in, 1), f"{at}/5x5", five, 5),
                conv(pool(x, 3, 1, 1), f"{at}/pool_proj", projected, 1),
            ),
            1,
        )
        if name in ("4a", "4d"):
            number = 1 if name == "4a" else 2
            outputs[f"aux{number}"] = head(x, number)
    return {"main": w.dense(x.mean((2, 3)), "loss3/classifier", 1000), **outputs}


def resnet(w: Caffe, x: Any, units: Sequence[Sequence[str]]) -> dict[str, Any]:
    """units: the authors' names of the units of each stage, ("2a", "2b", "2c") and so on."""
    x = pool(F.relu(w.normed(x, "conv1", w.wide(64), 7, 2)))
    for stage, maps in zip(units, (64, 128, 256, 512), strict=True):
        for unit in stage:
            stride = 2 if unit.endswith("a") and unit != "2a" else 1
            shortcut = x
            if unit.endswith("a"):
                shortcut = w.normed(x, f"res{unit}_branch1", w.wide(4 * maps), 1, stride)
            x = F.relu(w.normed(x, f"res{unit}_branch2a", w.wide(maps), 1, stride))
            x = F.relu(w.normed(x, f"res{unit}_branch2b", w.wide(maps), 3))
            x = w.normed(x, f"res{unit}_branch2c", w.wide(4 * maps), 1)
            x = F.relu(x + shortcut)
    return {"main": w.dense(x.mean((2, 3)), "fc1000", 1000)}


class Keras(Weights):
    """Keras's layers: kernels [H, W, in, out], batch norm of epsilon 1.001e-5."""

    def conv(self, x: Any, name: str, maps: int, kernel: int, stride: int = 1, pad: int = 0) -> Any:
        if name not in self.arrays:
            shape = (kernel, kernel, x.shape[1], maps)
            self.arrays[name] = [self.kernel(shape, x.shape[1] * kernel**2), self.small(maps)]
        weights, bias = (torch.tensor(array) for array in self.arrays[name])
        x = F.conv2d(x, weights.permute(3, 2, 0, 1), bias, stride, pad)
        self.outputs[name] = x
        return x

    def norm(self, x: Any, name: str) -> Any:
        maps = x.shape[1]
        if name not in self.arrays:
            self.arrays[name] = [self.near_one(maps), self.small(maps)]
            self.arrays[name] += [self.small(maps), self.near_one(maps)]
        scale, shift, mean, var = (torch.tensor(array) for array in self.arrays[name])
        return F.batch_norm(x, mean, var, scale, shift, eps=1.001e-5)

    def dense(self, x: Any, name: str, maps: int) -> Any:
        x = x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x  # pixel by pixel
        if name not in self.arrays:
            self.arrays[name] = [self.kernel((x.shape[1], maps), x.shape[1]), self.small(maps)]
        kernel, bias = (torch.tensor(array) for array in self.arrays[name])
        return x @ kernel + bias


def keras_vgg(w: Keras, x: Any, depths: Sequence[int]) -> dict[str, Any]:
    for stage, (depth, maps) in enumerate(
        zip(depths, (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for index in range(1, depth + 1):
            x = F.relu(w.conv(x, f"block{stage}_conv{index}", w.wide(maps), 3, pad=1))
        x = F.max_pool2d(x, 2)
    x = F.relu(w.dense(x, "fc1", w.wide(4096)))
    return {"main": w.dense(F.relu(w.dense(x, "fc2", w.wide(4096))), "predictions", 1000)}


def keras_resnet(w: Keras, x: Any, depths: Sequence[int]) -> dict[str, Any]:
    x = F.relu(w.norm(w.conv(x, "conv1_conv", w.wide(64), 7, 2, 3), "conv1_bn"))
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)  # zeros around, as Keras pads
    for stage, (depth, maps) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=2):
        for index in range(1, depth + 1):
            at, stride = f"conv{stage}_block{index}", 2 if stage > 2 and index == 1 else 1
            y = F.relu(w.norm(w.conv(x, f"{at}_1_conv", w.wide(maps), 1, stride), f"{at}_1_bn"))
            y = F.relu(w.norm(w.conv(y, f"{at}_2_conv", w.wide(maps), 3, 1, 1), f"{at}_2_bn"))
            if index == 1:
                x = w.norm(w.conv(x, f"{at}_0_conv", w.wide(4 * maps), 1, stride), f"{at}_0_bn")
            y = w.norm(w.conv(y, f"{at}_3_conv", w.wide(4 * maps), 1), f"{at}_3_bn")
            x = F.relu(x + y)
    return {"main": w.dense(x.mean((2, 3)), "predictions", 1000)}
