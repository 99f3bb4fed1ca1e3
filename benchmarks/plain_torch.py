"""The same networks in PyTorch with channels-last memory: eager, or with torch.compile."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.cases import CASES

DEPTH = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}


def normed(before: int, after: int, size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))


class Basic(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.more = after - before
        self.a = normed(before, after, 3, 2 if self.more else 1)
        self.b = normed(after, after, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.b(F.relu(self.a(x)))
        if self.more:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))
        return F.relu(x + branch)


class Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(
            *(normed(before, width, 1, stride), nn.ReLU()),
            *(normed(width, width, 3), nn.ReLU()),
            normed(width, 4 * width, 1),
        )
        same = before == 4 * width
        self.shortcut = nn.Identity() if same else normed(before, 4 * width, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


class Inception(nn.Module):
    def __init__(self, before: int, a: int, b0: int, b: int, c0: int, c: int, d: int):
        super().__init__()

        def conv(i: int, o: int, size: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(i, o, size, padding=size // 2), nn.ReLU())

        self.branches = nn.ModuleList(
            [
                conv(before, a, 1),
                nn.Sequential(conv(before, b0, 1), conv(b0, b, 3)),
                nn.Sequential(conv(before, c0, 1), conv(c0, c, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(before, d, 1)),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(nn.Module):
    """With both side heads."""

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.a = nn.Sequential(
            *(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), pool, nn.LocalResponseNorm(5)),
            *(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 192, 3, 1, 1), nn.ReLU()),
            *(nn.LocalResponseNorm(5), pool),
            Inception(192, 64, 96, 128, 16, 32, 32),
            *(Inception(256, 128, 128, 192, 32, 96, 64), pool),
            Inception(480, 192, 96, 208, 16, 48, 64),
        )
        self.b = nn.Sequential(
            Inception(512, 160, 112, 224, 24, 64, 64),
            Inception(512, 128, 128, 256, 24, 64, 64),
            Inception(512, 112, 144, 288, 32, 64, 64),
        )
        self.c = nn.Sequential(
            *(Inception(528, 256, 160, 320, 32, 128, 128), pool),
            Inception(832, 256, 160, 320, 32, 128, 128),
            Inception(832, 384, 192, 384, 48, 128, 128),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(1024, 1000)),
        )
        self.heads = nn.ModuleList([self.head(512), self.head(528)])

    @staticmethod
    def head(channels: int) -> nn.Sequential:
        return nn.Sequential(
            *(nn.AvgPool2d(5, 3), nn.Conv2d(channels, 128, 1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(0.7), nn.Linear(1024, 1000)),
        )

    def forward(self, x: torch.Tensor) -> Any:
        first = self.a(x)
        second = self.b(first)
        main = self.c(second)
        return (main, self.heads[0](first), self.heads[1](second)) if self.training else main


def dense(*widths: int, dropout: bool = True) -> list[nn.Module]:
    """Dense layers with ReLU between, dropout before all but the last."""
    made: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        made += [nn.Linear(before, after), nn.ReLU()]
        made += [nn.Dropout(0.5)] if dropout else []
    return made[: -2 if dropout else -1]


def lenet5() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((1, 6), (6, 16)):
        layers += [nn.Conv2d(before, after, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, *dense(400, 120, 84, 10, dropout=False))


class Local(nn.Module):
    """A 3×3 convolution, padded by 1, with weights of its own at each position."""

    def __init__(self, before: int, after: int, side: int):
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(0.04 * torch.randn(side * side, 9 * before, after))
        self.bias = nn.Parameter(torch.zeros(side * side, after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = F.unfold(x, 3, padding=1).permute(2, 0, 1)
        found = torch.baddbmm(self.bias[:, None], seen, self.weight)
        return found.permute(1, 2, 0).reshape(len(x), -1, self.side, self.side)


def cuda_convnet() -> nn.Module:
    """The 11% net of conv-local."""
    layers: list[nn.Module] = []
    for before in (3, 64):
        layers += [nn.Conv2d(before, 64, 5, padding=2), nn.ReLU()]
        layers += [nn.LocalResponseNorm(5, 0.001, k=1.0), nn.MaxPool2d(3, 2, ceil_mode=True)]
    layers += [Local(64, 32, 6), nn.ReLU(), Local(32, 32, 6), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1152, 10))


def alexnet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *dense(9216, 4096, 4096, 1000),
    )


def vgg16() -> nn.Module:
    layers: list[nn.Module] = []
    before = 3
    for count, after in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *dense(25088, 4096, 4096, 1000))


def resnet50() -> nn.Module:
    layers: list[nn.Module] = [normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    before = 64
    for stage, (count, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for unit in range(count):
            layers.append(Bottleneck(before, width, 2 if stage and not unit else 1))
            before = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def resnet_cifar(depth: int) -> nn.Module:
    layers: list[nn.Module] = [normed(3, 16, 3), nn.ReLU()]
    before = 16
    for width in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(Basic(before, width))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


BUILDERS = {
    "lenet5": lenet5,
    "cuda_convnet": cuda_convnet,
    "alexnet": alexnet,
    "vgg16": vgg16,
    "resnet50": resnet50,
    "googlenet": GoogLeNet,
}


def versions() -> dict[str, str]:
    """What runs the steps, and on which device."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"torch": torch.__version__, "device": device, "threads": str(torch.get_num_threads())}


def build(network: str, mode: str, dtype: str, batch: int, variant: str) -> Callable[[int], int]:
    """A function that takes so many steps of training or evaluation, and returns their number.

    variant: "compiled" or "", eager. On a GPU float32 products and convolutions may use TF32, as
    jax's default precision does, and cuDNN chooses its algorithms by measurement, as XLA does.
    """
    case = CASES[network]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
    torch.backends.cudnn.benchmark = True
    model = BUILDERS[network]() if network in BUILDERS else resnet_cifar(DEPTH[network])
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, case.channels, case.size, case.size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, case.classes, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    model.train(mode == "train")
    call = torch.compile(model) if variant == "compiled" else model
    mixed = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def step() -> None:
        if mode == "evaluate":
            with torch.no_grad(), mixed:
                call(images)
            return
        optimizer.zero_grad()
        with mixed:
            outputs = call(images)
            heads = outputs if isinstance(outputs, tuple) else (outputs,)
            losses = [F.cross_entropy(logits, labels) for logits in heads]
            loss = losses[0] + 0.3 * sum(losses[1:])
        loss.backward()
        optimizer.step()

    def run(count: int) -> int:
        for _ in range(count):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return count

    return run
