"""Deleting a block, and its size, against networks built without it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from drawn import images_for, initial, relu, run, scrambled

import models
from studies import lesions


def small(**fields: Any) -> models.Network:
    spec = {"name": "resnet20_cifar10_A", "input": (8, 8, 3), "width": 0.25, "stages": (1, 2, 1)}
    return models.create({**spec, **fields})


@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_without_a_block_a_net_is_the_shorter_net(shortcut: str) -> None:
    whole, shorter = small(shortcut=shortcut), small(shortcut=shortcut, stages=(1, 1, 1))
    images, variables = images_for(whole, 64), scrambled(initial(whole))
    left = {
        kind: {name: part for name, part in tree.items() if name != "conv3_2"}
        for kind, tree in variables.items()
    }
    # Logits of mean 0, so that answers differ between images.
    fc = variables["params"]["fc"]
    fc["bias"] = fc["bias"] - run(shorter, left, images).logits.mean(0)
    batch = {
        "image": images,
        "label": run(shorter, left, images).logits.argmax(-1),
        "mask": jnp.ones(64),
    }
    errors = lesions.errors_without(whole, variables, batch)
    # A plain unit that halves the map cannot be left out; a shortcut halves it, too.
    units = ["conv2_1", "conv3_1", "conv3_2", "conv4_1"]
    assert list(errors) == (units if shortcut == "A" else ["conv2_1", "conv3_2"])
    assert errors["conv3_2"] == 0
    assert errors["conv2_1"] > 0
    masked = {**batch, "mask": jnp.arange(64) < 1}  # one image
    assert set(lesions.errors_without(whole, variables, masked).values()) <= {0.0, 1.0}


def test_layers_of_vgg_that_keep_the_shape_can_be_deleted() -> None:
    network = models.create({"name": "vgg_A", "input": (32, 32, 3), "width": 0.0625})
    image = jnp.zeros((1, 32, 32, 3))
    assert lesions.deletable(network, image) == ("conv3_2", "conv4_2", "conv5_1", "conv5_2")


def test_the_share_of_a_residual_is_that_of_its_norms() -> None:
    network = small(stages=(1, 1, 1))
    images, variables = images_for(network, 3), scrambled(initial(network))
    mask = np.array([1, 1, 0], np.float32)
    layers = ("conv1", "conv2_1", "conv3_1", "conv2_1/b", "conv3_1/b", "conv4_1/b")
    got = run(network, variables, images, capture=layers).captured

    def share(residual: Any, passed: Any) -> float:
        norms = [np.linalg.norm(np.reshape(x[:2], (2, -1)), axis=1) for x in (residual, passed)]
        return (norms[0] / norms[1]).mean()

    expected = {
        "conv2_1": share(got["conv2_1/b"], relu(got["conv1"])),
        "conv3_1": share(got["conv3_1/b"], got["conv2_1"][:, ::2, ::2]),
        "conv4_1": share(got["conv4_1/b"], got["conv3_1"][:, ::2, ::2]),
    }
    batch = {"image": images, "mask": mask}
    found = lesions.residual_shares(network, variables, batch)
    assert found == pytest.approx(expected, rel=1e-4)
    assert lesions.residual_shares(network.clone(shortcut="none"), variables, batch) == {}
