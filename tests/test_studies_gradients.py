"""Norms of gradients and responses by layer, on nets where they are known otherwise."""

import math
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from drawn import images_for, initial

import models
from studies import gradients, responses
from training import losses


def test_signals_are_those_of_jax_grad() -> None:
    """One image of one pixel: the gradient by an output is that by the layer's bias."""
    network: Any = models.create(
        {
            "name": "resnet20_cifar10_A",
            "input": (1, 1, 3),
            "stages": (1, 1, 1),
            "batch_norm": False,
        }
    )
    variables = initial(network)
    loss = losses.create(
        {"kind": "cross_entropy", "label_smoothing": 0.0, "weights": {"main": 1}}, ()
    )
    batch = {
        "image": images_for(network, 1),
        "label": np.array([3], np.int32),
        "mask": np.ones(1, np.float32),
    }
    layers = responses.layers_of(network)
    assert layers == ("conv1", *(f"conv{n}_1/{layer}" for n in (2, 3, 4) for layer in "ab"))
    found = gradients.Signals(network, loss, layers)(variables, batch)

    def objective(params: Any) -> jax.Array:
        return loss(network.apply({"params": params}, batch["image"], train=True), batch)["loss"]

    by = jax.grad(objective)(variables["params"])
    flat = {"conv1": by["conv1"]}
    flat |= {f"{unit}/{layer}": by[unit][layer] for unit in network.units for layer in "ab"}
    captured = network.apply(variables, batch["image"], capture=layers).captured
    for place, name in enumerate(layers):
        for what, expected in (
            ("gradient", np.linalg.norm(flat[name]["bias"])),
            ("kernel", np.linalg.norm(flat[name]["kernel"])),
            ("response", math.sqrt(np.square(captured[name]).mean())),
        ):
            assert found[what][place] == pytest.approx(expected, rel=1e-4), (name, what)


def test_growth_is_in_decades_of_the_first_layers_over_the_last() -> None:
    # conv1, four first layers (10 to 10^4: 2.5), one between, four last ones (10^-1: -1).
    sizes = [7, 10, 100, 1000, 10_000, 5, 0.1, 0.1, 0.1, 0.1]
    record: Any = SimpleNamespace(probe={"0": {"gradient": sizes}, "44": {"gradient": [0.0] * 10}})
    assert gradients.growth(record) == pytest.approx(3.5)
    assert gradients.growth(record, step=44) == 0  # below what float32 holds, all the same
