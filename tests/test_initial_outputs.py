"""The first outputs of every network are plausible, with the recommended initialisation.

Operation by operation: nets share most of these, and compiling a whole one takes minutes. A net
of a thousand layers takes seconds this way.
"""

from collections.abc import Iterator

import jax
import numpy as np
import pytest
from drawn import images_for

import models


@pytest.fixture(scope="module", autouse=True)
def optimised() -> Iterator[None]:
    """Full nets compute for longer than the compiler takes, other than those of all other tests."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


# More than ten seconds each: with the slow tests.
SLOW = ("densenet121", "googlenet_torchvision", "googlenet_2014", "vgg_A_bn")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in models.NETWORKS
    ],
)
def test_first_outputs_are_neither_dead_nor_wild(name: str) -> None:
    initializer = models.preset(name).recommended_initializer
    network = models.create({"name": name, "initializer": initializer})
    # The default generator takes longer for the weights than the network for its images.
    rngs = {use: jax.random.key(0, impl="unsafe_rbg") for use in ("params", "dropout")}
    # In training, where batch norm sees the batch: fresh running statistics normalise nothing.
    outputs, _ = network.init_with_output(rngs, images_for(network), train=True)
    for logits in (outputs.logits, *outputs.side_logits.values()):
        assert logits.shape == (2, network.num_classes)
        assert np.isfinite(logits).all()
        # Where variance is kept, logits are of order 1; a head's fan-in leaves a factor of 30.
        assert 1 / 30 < float(logits.std()) < 30
        # Two images are told apart: a dead layer gives all the biases' own outputs.
        assert float(abs(logits[0] - logits[1]).mean()) > 0.01 * float(logits.std())
