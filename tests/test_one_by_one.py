"""The comparison of 1×1 convolutions with dense layers: what it finds, and that it can fail."""

import dataclasses

import pytest

import models
from inspection import one_by_one


def test_every_1x1_convolution_is_compared() -> None:
    network = models.create({"name": "resnet20_cifar10_C", "input": (8, 8, 3), "stages": (1, 1, 1)})
    found = one_by_one.compare(network)
    # Channels in and out, and positions of the output; two projections have stride 2.
    assert [dataclasses.astuple(layer)[:4] for layer in found] == [
        ("conv2_1/projection", 16, 16, 64),
        ("conv3_1/projection", 16, 32, 16),
        ("conv4_1/projection", 32, 64, 4),
    ]
    assert max(layer.difference for layer in found) < one_by_one.ROUNDING


def test_another_layer_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    network = models.create({"name": "lecture_conv1x1", "input": (4, 4, 6)})
    right = one_by_one.Conv.__call__
    monkeypatch.setattr(one_by_one.Conv, "__call__", lambda *args: 1.01 * right(*args))
    [layer] = one_by_one.compare(network)
    assert layer.difference == pytest.approx(0.01, rel=1e-3)
