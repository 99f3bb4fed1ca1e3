"""DenseNet: the input of a layer is all layers before it in its block; widths follow from that."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import conv, initial, norm, relu, run, scrambled

import models
from models import densenet


def small(**fields: Any) -> models.Network:
    return models.create(
        {"name": "densenet121", "input": (32, 32, 3), "blocks": (2, 1), "growth": 4, **fields}
    )


def test_layer_appends_to_its_input() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 6), dtype=np.float32)
    fields = {"bias": False, "dtype": "float32", "param_dtype": "float32"}
    layer = densenet.DenseLayer(3, {}, fields)
    variables = scrambled(initial(layer, x, False))
    out = run(layer, variables, x, False)
    np.testing.assert_array_equal(out[..., :6], x)
    # Section 3: BN, ReLU, 1×1 to 4k maps, BN, ReLU, 3×3 to k maps.
    p, s = variables["params"], variables["batch_stats"]
    assert p["conv1"]["kernel"].shape == (1, 1, 6, 12)
    inner = conv(relu(norm(x, p["bn1"], s["bn1"])), p["conv1"])
    new = conv(relu(norm(inner, p["conv1"]["bn"], s["conv1"]["bn"])), p["conv2"])
    np.testing.assert_allclose(out[..., 6:], new, rtol=1e-4, atol=1e-5)


def test_widths_grow_by_k_and_transitions_halve_them() -> None:
    network = models.create({"name": "densenet121"})
    names = ("pool0", "dense1_6", "transition1", "transition2", "transition3", "dense4_16")
    outputs = jax.eval_shape(
        lambda v, x: network.apply(v, x, capture=names),
        models.variables_of(network),
        jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32),
    )
    # Huang et al. 2017, Table 1: k0 + k·l maps after l layers, θ = 0.5.
    assert {name: outputs.captured[name].shape[1:] for name in names} == {
        "pool0": (56, 56, 64),
        "dense1_6": (56, 56, 64 + 6 * 32),
        "transition1": (28, 28, 128),
        "transition2": (14, 14, (128 + 12 * 32) // 2),
        "transition3": (7, 7, (256 + 24 * 32) // 2),
        "dense4_16": (7, 7, 512 + 16 * 32),
    }


def test_depth_is_that_of_the_name() -> None:
    network = models.create({"name": "densenet121"})
    assert isinstance(network, densenet.DenseNet)
    # conv0, two per layer, one per transition, the classifier.
    assert 1 + 2 * sum(network.blocks) + len(network.blocks) - 1 + 1 == 121


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": (2, 0)}, r"blocks: \(2, 0\) must hold 1 or more"),
        ({"growth": 0}, "growth: must be 1 or more, not 0"),
        ({"compression": 1.5}, r"compression: must be in \(0, 1\], not 1.5"),
        ({"batch_norm_group": -1}, "batch_norm_group: -1: a whole number must be from 0"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**fields)


def test_connections_are_those_of_section_3() -> None:
    # Layer l of a block reads l maps: 1 + 2 + ... + L = L(L + 1)/2.
    skips = small(blocks=(3, 1)).skips
    assert skips.counts == {"dense1": 1 + 2 + 3, "dense2": 1}
    assert skips.weighted == ()
