"""Network in Network: mlpconv layers, the two heads, pooling and dropout, at a sixteenth width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn, initialised, outputs_of

import models

TINY = {"name": "nin_cifar10", "width": 1 / 16}


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def tiny(**fields):
    network = models.create({**TINY, **fields})
    return network, jnp.asarray(normal(0, 2, *network.input)), drawn(network)


def test_maps_shrink_in_ceil_mode():
    network, images, variables = tiny()
    names = ("conv1", "cccp2", "pool1", "cccp4", "pool2", "cccp6", "poolg")
    at = jax.eval_shape(functools.partial(network.apply, capture=names), variables, images).captured
    sides = [at[name].shape[1] for name in names[:-1]]
    assert sides == [32, 32, 16, 16, 8, 8]
    assert at["cccp6"].shape[3] == 10  # one map a class
    assert at["poolg"].shape == (2, 10)


def test_every_layer_ends_in_relu_the_last_before_the_mean():
    network, images, variables = tiny()
    outputs = outputs_of(network, variables, images, capture=("cccp1", "cccp2", "cccp6"))
    last = np.asarray(outputs.captured["cccp6"])
    assert last.min() < 0
    np.testing.assert_allclose(outputs.logits, np.maximum(last, 0).mean((1, 2)), atol=1e-6)
    # A cccp layer is a dense layer across the maps of each pixel.
    weights = variables["params"]["cccp2"]
    pixels = np.maximum(outputs.captured["cccp1"], 0) @ weights["kernel"][0, 0] + weights["bias"]
    np.testing.assert_allclose(outputs.captured["cccp2"], pixels, atol=1e-5)


def test_dense_head_follows_the_class_maps():
    network, images, variables = tiny(head="dense")
    weights = variables["params"]["fc10"]
    assert weights["kernel"].shape == (8 * 8 * 10, 10)
    outputs = outputs_of(network, variables, images, capture=("cccp6",))
    maps = np.maximum(outputs.captured["cccp6"], 0).reshape(2, -1)
    want = maps @ weights["kernel"] + weights["bias"]
    np.testing.assert_allclose(outputs.logits, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("pool2", "of_window"), [("max", np.max), ("average", np.mean)])
def test_pool2_is_the_switch(pool2, of_window):
    network, images, variables = tiny(pool2=pool2)
    at = outputs_of(
        network, variables, images, capture=("cccp2", "pool1", "cccp4", "pool2")
    ).captured
    for before, after, reduce in (("cccp2", "pool1", np.max), ("cccp4", "pool2", of_window)):
        maps = np.maximum(at[before], 0)
        np.testing.assert_allclose(
            at[after][:, 0, 0], reduce(maps[:, :3, :3], axis=(1, 2)), atol=1e-5
        )
        # The last window hangs over the edge and holds two by two pixels.
        np.testing.assert_allclose(
            at[after][:, -1, -1], reduce(maps[:, -2:, -2:], axis=(1, 2)), atol=1e-5
        )


@pytest.mark.parametrize(
    ("after", "zeroed"),
    [(("pool1", "pool2"), ("conv2", "conv3")), (("pool2",), ("conv3",)), ((), ())],
)
def test_dropout_follows_the_poolings_it_names(after, zeroed):
    network, images, variables = tiny()
    network = network.clone(dropout=1 - 1e-9, dropout_after=after)
    names = ("conv2", "conv3")
    keys = {"dropout": jax.random.key(0)}
    at = outputs_of(network, variables, images, train=True, rngs=keys, capture=names).captured
    for name in names:
        # With everything dropped a convolution's output is its bias.
        bias = np.broadcast_to(variables["params"][name]["bias"], at[name].shape)
        assert np.allclose(at[name], bias) == (name in zeroed)


def test_dropout_of_the_head_is_before_the_dense_layer():
    network, images, variables = tiny(head="dense")
    dropped = network.clone(dropout=0.0, head_dropout=1 - 1e-9)
    keys = {"dropout": jax.random.key(0)}
    outputs = outputs_of(dropped, variables, images, train=True, rngs=keys, capture=("conv3",))
    # With everything dropped the logits are the bias; the convolutions are as without dropout.
    bias = np.broadcast_to(variables["params"]["fc10"]["bias"], outputs.logits.shape)
    np.testing.assert_allclose(outputs.logits, bias, atol=1e-6)
    before = outputs_of(network, variables, images, capture=("conv3",))
    np.testing.assert_allclose(outputs.captured["conv3"], before.captured["conv3"], atol=1e-5)
    np.testing.assert_allclose(
        outputs_of(dropped, variables, images).logits, before.logits, atol=1e-5
    )
    with pytest.raises(ValueError, match="head_dropout: the head is 'gap', it needs 'dense'"):
        outputs_of(tiny()[0].clone(head_dropout=0.5), tiny()[2], images)


def test_initial_weights_are_the_authors():
    wide = {"width": 1 / 4}
    stds = {
        "nin_cifar10": {"conv1": 0.05, "cccp1": 0.05, "conv3": 0.05, "cccp6": 0.05},
        "nin_cifar100": {"conv1": 0.001, "cccp1": 0.01, "cccp2": 0.01, "conv2": 0.05},
    }
    for name, layers in stds.items():
        _, variables = initialised(models.create({"name": name, **wide, "last_bias": 1.0}))
        for layer, std in layers.items():
            kernel = variables["params"][layer]["kernel"]
            assert kernel.std() == pytest.approx(std, rel=5 / np.sqrt(2 * kernel.size)), layer
        for layer, weights in variables["params"].items():
            assert np.all(weights["bias"] == (1.0 if layer == "cccp6" else 0.0))


def test_imagenet_has_a_fourth_layer_and_caffes_sizes():
    network = models.create({"name": "nin_imagenet"})
    names = ("conv1", "pool1", "pool2", "pool3", "cccp8")
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    apply = functools.partial(network.apply, capture=names)
    at = jax.eval_shape(apply, models.variables_of(network), images).captured
    assert [at[name].shape[1] for name in names] == [54, 27, 13, 6, 6]
    assert at["cccp8"].shape[-1] == 1000
