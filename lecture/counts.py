"""What is counted for the lecture's claims: sizes, parameters, multiply-adds, skips, views."""

import functools
import itertools
import json
import math
from typing import Any

import models
from inspection import cost, one_by_one
from lecture.claim import Count
from reproduction.study import ROOT

PROTOCOLS = ROOT / "results" / "protocols" / "lenet_fashion_mnist.json"


@functools.cache
def measured(name: str, **fields: Any) -> cost.Cost:
    """The cost of a network with these fields."""
    return cost.measure(models.create({"name": name, **fields}))


def layer(name: str, of: str) -> cost.Layer:
    """A layer of a network, by its name."""
    (found,) = (row for row in measured(of).layers if row.name == name)
    return found


def about(printed: float, counted: int, what: str) -> Count:
    """Whether a count is within 2% of what is printed."""
    return Count(abs(counted - printed) <= 0.02 * printed, f"{counted:,} {what}")


def lenet_parameters() -> Count:
    """LeNet-5 of 1998."""
    return about(60_000, measured("lenet5_1998").params, "parameters")


def lenet_shapes() -> Count:
    """The shapes behind each convolution and pool of the modern LeNet-5."""
    maps = [row.output for row in measured("lenet5_modern").layers if len(row.output) == 3]
    text = ", ".join("×".join(map(str, shape)) for shape in maps)
    return Count(maps == [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)], text)


def shrinking_and_growing(*names: str) -> Count:
    """Whether sides never grow and channels never become fewer, from convolution to convolution."""
    said, kept = [], True
    for name in names:
        maps = [row.output for row in measured(name).layers if row.kind.startswith("conv")]
        sides, channels = [shape[0] for shape in maps], [shape[2] for shape in maps]
        fewer = [(a, b) for a, b in itertools.pairwise(channels) if b < a]
        kept &= sides == sorted(sides, reverse=True) and not fewer
        text = f"{name}: sides {sides[0]} to {sides[-1]}, channels {channels[0]} to {channels[-1]}"
        said.append(text + "".join(f", but {b} after {a}" for a, b in fewer))
    return Count(kept, "; ".join(said))


def alexnet_parameters() -> Count:
    """AlexNet, and how often LeNet-5 goes into it."""
    params = measured("alexnet_2012").params
    times = params / measured("lenet5_1998").params
    return about(60e6, params, f"parameters, {times:,.0f} times LeNet-5's")


def alexnet_input() -> Count:
    """The side of AlexNet's conv1 from images of 227 and of 224 pixels, without padding."""
    side = {}
    for pixels in (227, 224):
        found = measured("alexnet_2012", input=(pixels, pixels, 3))
        side[pixels] = next(row.output[0] for row in found.layers if row.name == "conv1")
    text = f"conv1 is {side[227]}×{side[227]} from 227 pixels, {side[224]}×{side[224]} from 224"
    return Count(side == {227: 55, 224: 54}, text)


def dense_share() -> Count:
    """The part of AlexNet's parameters and multiply-adds that is in its dense layers."""
    found = measured("alexnet_2012")
    dense = [row for row in found.layers if row.kind == "dense"]
    params = sum(row.params for row in dense) / found.params
    work = sum(row.multiply_adds for row in dense) / found.multiply_adds
    text = f"{100 * params:.1f}% of the parameters, {100 * work:.1f}% of the multiply-adds"
    return Count(params > 0.5 > work, text)


def vgg_layers() -> Count:
    """The kernels, strides and pads of all convolutions and pools of VGG-16."""
    kinds: dict[str, set[Any]] = {"conv": set(), "max pool": set()}
    counts = dict.fromkeys(kinds, 0)
    for row in measured("vgg_D").layers:
        if row.kind in kinds:
            assert row.window is not None
            kinds[row.kind].add((*row.window.kernel, *row.window.stride, row.window.pad))
            counts[row.kind] += 1
    same = {"conv": {(3, 3, 1, 1, ((1, 1), (1, 1)))}, "max pool": {(2, 2, 2, 2, ((0, 0), (0, 0)))}}
    text = f"{counts['conv']} convolutions 3×3 / 1 / 1, {counts['max pool']} pools 2×2 / 2 / 0"
    return Count(kinds == same, text)


def vgg_doubling() -> Count:
    """The channels of VGG-16's stages."""
    stages = [layer(f"conv{stage}_1", "vgg_D").output for stage in range(1, 6)]
    text = ", ".join("×".join(map(str, shape)) for shape in stages)
    halved = all(a[0] == 2 * b[0] for a, b in itertools.pairwise(stages))
    doubled = [shape[2] for shape in stages] == [64, 128, 256, 512, 512]
    return Count(halved and doubled, f"{text}: doubled up to 512")


def vgg_parameters() -> Count:
    """VGG-16's parameters, with its multiply-adds, which are printed under the same name."""
    found = measured("vgg_D")
    text = f"parameters, and {found.multiply_adds:,} multiply-adds"
    return about(138e6, found.params, text)


def vgg_smaller_than_alexnet() -> Count:
    """Whether VGG-16 has fewer parameters than AlexNet, since its layers are simpler."""
    larger, smaller = measured("vgg_D").params, measured("alexnet_2012").params
    return Count(larger < smaller, f"{larger:,} against {smaller:,}: {larger / smaller:.2f} times")


def stacked_3x3() -> Count:
    """The receptive field and weights of two and of three 3×3 layers, with C channels."""
    two = _field("conv1_2")  # stride 1 from the image on
    three = (_field("conv3_3") - _field("pool2")) // 4 + 1  # in pixels of pool2's maps
    text = f"{two} and {three} pixels with 18C² and 27C² weights, not 25C² and 49C²"
    return Count((two, three) == (5, 7), text)


def _field(name: str) -> int:
    field = layer(name, "vgg_D").receptive_field
    assert field is not None
    return field[0]


def plain_and_residual() -> Count:
    """The totals of ResNet-34 with shortcuts A and of its plain twin."""
    plain, residual = measured("plain34"), measured("resnet34_A")
    same = (plain.params, plain.multiply_adds) == (residual.params, residual.multiply_adds)
    return Count(same, f"{plain.params:,} against {residual.params:,} parameters")


def weighted_skips() -> Count:
    """The skips of ResNet-34 that have a W_s: those of the units that change the shape."""
    skips = models.create({"name": "resnet34_B"}).skips
    total = sum(skips.counts.values())
    text = f"{len(skips.weighted)} of {total}: {', '.join(skips.weighted)}"
    changing = ("conv3_1", "conv4_1", "conv5_1")  # stride 2
    return Count(skips.weighted == changing, text)


def one_by_one_is_dense() -> Count:
    """Whether a 1×1 convolution is one dense product at each position, on drawn numbers."""
    (found,) = one_by_one.compare(models.create({"name": "lecture_conv1x1"}))
    text = f"equal to 1e-5 at {found.positions} positions of {one_by_one.IMAGES} images"
    return Count(found.difference < one_by_one.ROUNDING, text)


def one_by_one_shrinks() -> Count:
    """The channels in front of and behind the lecture's 1×1 convolution."""
    before, after = measured("lecture_conv1x1").input_shape, layer("1x1", "lecture_conv1x1").output
    text = f"{'×'.join(map(str, before))} to {'×'.join(map(str, after))}"
    return Count(before[:2] == after[:2] and after[2] < before[2], text)


def inception_channels() -> Count:
    """The channels of the four branches of module 3a, at one size."""
    outputs = [
        layer(f"inception_3a/{branch}", "googlenet_2014").output
        for branch in ("1x1", "3x3", "5x5", "pool_proj")
    ]
    channels = [shape[2] for shape in outputs]
    text = f"{' + '.join(map(str, channels))} = {sum(channels)} channels at 28×28"
    sides = {shape[:2] for shape in outputs}
    return Count(sides == {(28, 28)} and channels == [64, 128, 32, 32], text)


def bottleneck_multiplications() -> Count:
    """The multiplications of the lecture's 5×5 convolution, without and with a 1×1 before it."""
    whole, reduced = (measured(f"lecture_conv5x5{end}").multiply_adds for end in _BOTTLENECK)
    text = f"{whole:,} to {reduced:,}: {whole / reduced:.1f} times fewer"
    return Count((round(whole / 1e5), round(reduced / 1e5)) == (1204, 124), text)


def bottleneck_parameters() -> Count:
    """Whether 120 and 12.4 million are the parameters of the same layers."""
    whole, reduced = (measured(f"lecture_conv5x5{end}").params for end in _BOTTLENECK)
    right = (round(whole / 1e5), round(reduced / 1e5)) == (1204, 124)
    return Count(right, f"{whole:,} to {reduced:,} parameters")


_BOTTLENECK = ("", "_bottleneck")


def googlenet_modules() -> Count:
    """The Inception modules of GoogLeNet."""
    names = dict.fromkeys(
        row.name.split("/")[0]
        for row in measured("googlenet_2014").layers
        if row.name.startswith("inception_")
    )
    short = ", ".join(name.removeprefix("inception_") for name in names)
    return Count(len(names) == 9, f"{len(names)} modules: {short}")


def googlenet_against_alexnet() -> Count:
    """How many times fewer parameters than AlexNet GoogLeNet has; the paper prints 12."""
    ours, theirs = measured("googlenet_2014").params, measured("alexnet_2012").params
    return Count(
        round(theirs / ours) == 12, f"{ours:,} parameters, {theirs / ours:.1f} times fewer"
    )


def side_branches_are_free() -> Count:
    """What GoogLeNet has without its side branches, as used, and with them, as trained."""
    used, trained = measured("googlenet_2014"), measured("googlenet_2014_with_aux")
    text = f"{trained.params:,} parameters in training, {used.params:,} in use"
    return Count(used.params < trained.params, text)


def head_share() -> Count:
    """The parameters of a new head of ten classes on ResNet-50."""
    found = measured("resnet50_v1", num_classes=10)
    head = next(row.params for row in found.layers if row.name == "fc")
    text = f"{head:,} of {found.params:,} parameters are trained: {100 * head / found.params:.2f}%"
    return Count(head < found.params / 100, text)


def crops() -> Count:
    """Whether one trained net errs less on ten crops than on one, and what they cost.

    Beyond chance in the choice of test images at 5%, as if the two saw different images: they see
    the same ones, so the true chance is smaller.
    """
    rows = {row["protocol"]: row for row in json.loads(PROTOCOLS.read_text())["protocols"]}
    one, ten = rows["center"], rows["ten_crop"]
    errors = [row["top1"]["error"] for row in (one, ten)]
    spread = math.sqrt(sum(error * (1 - error) / one["images"] for error in errors))
    times = ten["multiply_adds"] / one["multiply_adds"]
    text = (
        f"{100 * errors[0]:.2f}% to {100 * errors[1]:.2f}% of {one['images']:,} images, by "
        f"{times:.0f} times the computation, one net"
    )
    return Count(errors[0] - errors[1] > 1.96 * spread and round(times) == 10, text)
