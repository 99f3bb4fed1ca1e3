"""torchvision's networks, written down in plain torch from their published structure.

They know nothing of `models`. Modules have the names that torchvision's state dicts have. `width`
multiplies the maps, and VGG takes its grid before the dense layers from the image, so that small
nets are tested as well. Also a program that compares all layers with ours:

    PYTHONPATH=. python tests/torchvision_nets.py [NETWORK ...]
"""

import pathlib
import platform
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from drawn import compiled

import models
from conversion.sources import SOURCES
from conversion.table import take

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn
Module: Any = torch.nn.Module
F = torch.nn.functional


def scaled(width: float, *maps: int) -> list[int]:
    return [max(1, round(number * width)) for number in maps]


class AlexNet(Module):
    def __init__(self, width: float, side: int):
        super().__init__()
        one, two, three, four, five, dense = scaled(width, 64, 192, 384, 256, 256, 4096)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, one, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(one, two, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(two, three, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(three, four, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(four, five, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(five * 36, dense), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(dense, dense), nn.ReLU(), nn.Linear(dense, 1000)),
        )

    def forward(self, x: Any) -> dict[str, Any]:
        return {"main": self.classifier(self.avgpool(self.features(x)).flatten(1))}


class VGG(Module):
    def __init__(self, width: float, side: int, depths: Sequence[int], norms: bool):
        super().__init__()
        layers: list[Any] = []
        before = 3
        for depth, maps in zip(depths, scaled(width, 64, 128, 256, 512, 512), strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(before, maps, 3, padding=1))
                layers += [nn.BatchNorm2d(maps)] if norms else []
                layers.append(nn.ReLU())
                before = maps
            layers.append(nn.MaxPool2d(2, 2))
        grid, (dense,) = side // 32, scaled(width, 4096)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(grid)  # 7×7 for images of 224
        self.classifier = nn.Sequential(
            *(nn.Linear(before * grid**2, dense), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(dense, dense), nn.ReLU(), nn.Dropout(), nn.Linear(dense, 1000)),
        )

    def forward(self, x: Any) -> dict[str, Any]:
        return {"main": self.classifier(self.avgpool(self.features(x)).flatten(1))}


class Unit(Module):
    """BasicBlock (widen 1) and Bottleneck (widen 4), whose 3×3 layer has the stride."""

    def __init__(self, before: int, maps: int, stride: int, widen: int):
        super().__init__()
        if widen == 1:
            shapes = [(before, maps, 3, stride), (maps, maps, 3, 1)]
        else:
            shapes = [(before, maps, 1, 1), (maps, maps, 3, stride), (maps, maps * widen, 1, 1)]
        self.depth = len(shapes)
        for number, (of, to, kernel, step) in enumerate(shapes, start=1):
            conv = nn.Conv2d(of, to, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(to))
        self.downsample: Any = None
        if stride > 1 or before != maps * widen:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, maps * widen, 1, stride, bias=False),
                nn.BatchNorm2d(maps * widen),
            )

    def forward(self, x: Any) -> Any:
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = F.relu(y) if number < self.depth else y
        return F.relu(y + (self.downsample(x) if self.downsample is not None else x))


class ResNet(Module):
    def __init__(self, width: float, side: int, depths: Sequence[int], widen: int):
        super().__init__()
        stages = scaled(width, 64, 128, 256, 512)
        before = stages[0]
        self.conv1 = nn.Conv2d(3, before, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, (depth, maps) in enumerate(zip(depths, stages, strict=True), start=1):
            units = []
            for index in range(depth):
                units.append(Unit(before, maps, 2 if stage > 1 and index == 0 else 1, widen))
                before = maps * widen
            self.add_module(f"layer{stage}", nn.Sequential(*units))
        self.fc = nn.Linear(before, 1000)

    def forward(self, x: Any) -> dict[str, Any]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return {"main": self.fc(x.mean((2, 3)))}


class Normed(Module):
    """BasicConv2d: a convolution, its batch norm (epsilon 0.001) and ReLU."""

    def __init__(self, before: int, maps: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(before, maps, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(maps, eps=0.001)

    def forward(self, x: Any) -> Any:
        return F.relu(self.bn(self.conv(x)))


class Inception(Module):
    def __init__(self, before: int, maps: Sequence[int]):
        super().__init__()
        one, three_before, three, five_before, five, pooled = maps
        self.branch1 = Normed(before, one, 1)
        self.branch2 = nn.Sequential(
            Normed(before, three_before, 1), Normed(three_before, three, 3)
        )
        self.branch3 = nn.Sequential(Normed(before, five_before, 1), Normed(five_before, five, 3))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), Normed(before, pooled, 1)
        )
        self.maps = one + three + five + pooled

    def forward(self, x: Any) -> Any:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], 1)


class SideHead(Module):
    def __init__(self, width: float, before: int):
        super().__init__()
        maps, dense = scaled(width, 128, 1024)
        self.conv = Normed(before, maps, 1)
        self.fc1 = nn.Linear(maps * 16, dense)
        self.fc2 = nn.Linear(dense, 1000)

    def forward(self, x: Any) -> Any:
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


class GoogLeNet(Module):
    MODULES = (
        ("3a", (64, 96, 128, 16, 32, 32)),
        ("3b", (128, 128, 192, 32, 96, 64)),
        ("4a", (192, 96, 208, 16, 48, 64)),
        ("4b", (160, 112, 224, 24, 64, 64)),
        ("4c", (128, 128, 256, 24, 64, 64)),
        ("4d", (112, 144, 288, 32, 64, 64)),
        ("4e", (256, 160, 320, 32, 128, 128)),
        ("5a", (256, 160, 320, 32, 128, 128)),
        ("5b", (384, 192, 384, 48, 128, 128)),
    )
    HEADS = (("aux1", "4a"), ("aux2", "4d"))

    def __init__(self, width: float, side: int, heads: bool, transform_input: bool = False):
        super().__init__()
        self.transform_input, self.heads = transform_input, heads
        before, maps = scaled(width, 64, 192)
        self.conv1 = Normed(3, before, 7, 2)
        self.conv2 = Normed(before, before, 1)
        self.conv3 = Normed(before, maps, 3)
        widths = {}
        for name, features in self.MODULES:
            module = Inception(maps, scaled(width, *features))
            self.add_module(f"inception{name}", module)
            widths[name] = maps = module.maps
        for head, place in self.HEADS if heads else ():
            self.add_module(head, SideHead(width, widths[place]))
        self.fc = nn.Linear(maps, 1000)

    def forward(self, x: Any) -> dict[str, Any]:
        if self.transform_input:
            mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
            sd = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
            x = x * (sd / 0.5) + (mean - 0.5) / 0.5
        x = F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        outputs = {}
        for name, _ in self.MODULES:
            if name in ("4a", "5a"):
                x = F.max_pool2d(x, 3 if name == "4a" else 2, 2, ceil_mode=True)
            x = getattr(self, f"inception{name}")(x)
            for head, place in self.HEADS:
                if self.heads and place == name:
                    outputs[head] = getattr(self, head)(x)
        return {"main": self.fc(x.mean((2, 3))), **outputs}


class DenseLayer(Module):
    def __init__(self, before: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


class Transition(Module):
    def __init__(self, before: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.conv = nn.Conv2d(before, before // 2, 1, bias=False)

    def forward(self, x: Any) -> Any:
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet(Module):
    def __init__(self, width: float, side: int, depths: Sequence[int] = (6, 12, 24, 16)):
        super().__init__()
        (growth,) = scaled(width, 32)
        maps = 2 * growth
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, maps, 7, 2, 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(maps))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        for block, depth in enumerate(depths, start=1):
            layers = nn.Sequential()
            for layer in range(1, depth + 1):
                layers.add_module(f"denselayer{layer}", DenseLayer(maps, growth))
                maps += growth
            self.features.add_module(f"denseblock{block}", layers)
            if block < len(depths):
                self.features.add_module(f"transition{block}", Transition(maps))
                maps //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(maps))
        self.classifier = nn.Linear(maps, 1000)

    def forward(self, x: Any) -> dict[str, Any]:
        return {"main": self.classifier(F.relu(self.features(x)).mean((2, 3)))}


VGGS = {"A": (1, 1, 2, 2, 2), "B": (2,) * 5, "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
NETS: dict[str, tuple[Any, ...]] = {
    "alexnet_owt_torchvision": (AlexNet,),
    **{f"vgg_{column}": (VGG, depths, False) for column, depths in VGGS.items()},
    **{f"vgg_{column}_bn": (VGG, depths, True) for column, depths in VGGS.items()},
    "googlenet_torchvision": (GoogLeNet, False),
    "googlenet_torchvision_with_aux": (GoogLeNet, True),
    **{f"resnet{depth}_torchvision": (ResNet, depths, 1) for depth, depths in BASIC.items()},
    **{f"resnet{depth}_v1_5": (ResNet, depths, 4) for depth, depths in BOTTLENECK.items()},
    "densenet121": (DenseNet,),
}


def drawn_net(name: str, width: float, side: int, seed: int = 0) -> Any:
    """The network in evaluation, with random weights: no bias 0, no scale 1, no mean 0."""
    kind, *arguments = NETS[name]
    net = kind(width, side, *arguments).eval()
    numbers = np.random.default_rng(seed)
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            values: Any = numbers.standard_normal(tuple(tensor.shape)).astype(np.float32)
            if tensor.ndim > 1:
                values *= np.float32(np.sqrt(2 / np.prod(tensor.shape[1:])))
            elif key.endswith("running_var") or (key.endswith("weight") and tensor.ndim == 1):
                values = 1 + 0.1 * np.abs(values)
            elif key.endswith("num_batches_tracked"):
                continue
            else:
                values *= np.float32(0.1)
            tensor.copy_(torch.tensor(values))
    return net


def run(net: Any, images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The logits of every head, and the output of every module, for images [N, H, W, C]."""
    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, given: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                found = output.numpy()
                outputs[name] = found.transpose(0, 2, 3, 1) if found.ndim == 4 else found

        return hook

    for name, module in net.named_modules():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        heads = net(torch.tensor(images.transpose(0, 3, 1, 2)))
    return {name: logits.numpy() for name, logits in heads.items()}, outputs


def differences(name: str, width: float, side: int, folder: pathlib.Path) -> dict[str, float]:
    """The largest difference in each layer and head, in units of its largest value.

    The weights go through a file that torch writes and `conversion` reads.
    """
    net = drawn_net(name, width, side)
    path = folder / f"{name}.pth"
    torch.save(net.state_dict(), path)
    network = models.create({"name": name, "width": width, "input": side})
    source = SOURCES["torchvision"]
    rows = source.rows(name, network)
    variables = take(rows, models.variables_of(network), source.read(path, name, network))
    path.unlink()
    images = np.random.default_rng(1).standard_normal((1, side, side, 3)).astype(np.float32)
    heads, modules = run(net, images)

    # Each of our layers with weights, and the module of torch with the same output.
    layers = {row.ours.partition("/")[2].rpartition("/")[0]: row.theirs for row in rows}
    there = {layer.removesuffix("/bn"): key.rpartition(".")[0] for layer, key in layers.items()}
    there |= {
        layer.removesuffix("/bn"): key.rpartition(".")[0]
        for layer, key in layers.items()
        if layer.endswith("/bn")
    }
    captured = [layer for layer in there if f"params/{layer}/kernel" in {row.ours for row in rows}]
    outputs = compiled(partial(network.apply, capture=captured))(variables, images)
    pairs = {layer: (outputs.captured[layer], modules[there[layer]]) for layer in captured}
    pairs |= {"main": (outputs.logits, heads["main"])}
    pairs |= {head: (outputs.side_logits[head], heads[head]) for head in network.heads}
    return {
        layer: float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())
        for layer, (ours, theirs) in pairs.items()
    }


def main(names: Sequence[str]) -> None:
    """Compares networks at full size, and prints a table."""
    print("Largest difference between our outputs and torch's, of the largest output of the layer.")
    print("Random weights through a .pth; full size, images of 224×224, float32.\n")
    print(f"{'network':31} {'layers':>6} {'worst':>8}  {'in':20} heads")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = differences(name, 1.0, 224, pathlib.Path(folder))
        heads = {head: found.pop(head) for head in ("main", "aux1", "aux2") if head in found}
        worst = max(found, key=found.__getitem__)
        shown = ", ".join(f"{head} {value:.1e}" for head, value in heads.items())
        print(f"{name:31} {len(found):6} {found[worst]:8.1e}  {worst:20} {shown}", flush=True)
    print(f"\n{platform.machine()}, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}, jax {jax.__version__}, numpy {np.__version__}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETS))
