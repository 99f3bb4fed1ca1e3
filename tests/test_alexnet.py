"""AlexNet's towers, options and initial weights, and the cuda-convnet CIFAR networks."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn, initialised, outputs_of

import models

# The smallest valid size and an eighth of the width, to be fast.
TINY = {"name": "alexnet_2012", "input": (67, 67, 3), "width": 1 / 8, "num_classes": 10}


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layers_of(network):
    """The output shapes of all layers, batch of one, in order of their calls."""
    shapes = {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if context.module.path:
            shapes["/".join(context.module.path)] = out.shape[1:]
        return out

    images = jax.ShapeDtypeStruct((1, *network.input), jnp.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(network.init, jax.random.key(0), images)
    return shapes


def test_maps_are_the_printed_ones():
    """Fig. 2; the printed 253,440 neurons of conv1 are 55·48·96, not the 55·55·96 of the text."""
    shapes = layers_of(models.create({"name": "alexnet_2012"}))
    neurons = {name: int(np.prod(shapes[name])) for name in shapes if name.startswith(("c", "f"))}
    assert neurons == {
        "conv1": 55 * 55 * 96,
        "conv2": 186_624,
        "conv3": 64_896,
        "conv4": 64_896,
        "conv5": 43_264,
        "fc6": 4096,
        "fc7": 4096,
        "fc8": 1000,
    }
    assert sum(neurons.values()) == 659_272  # "650,000 neurons"
    assert [shapes[f"pool{i}"][:2] for i in (1, 2, 5)] == [(27, 27), (13, 13), (6, 6)]
    # 224 pixels as printed need conv1 padded.
    printed = models.create({"name": "alexnet_2012", "input": (224, 224, 3), "conv1_pad": 2})
    assert layers_of(printed) == shapes


def test_each_tower_reads_only_its_half():
    network = models.create(TINY)
    variables, images = drawn(network), jnp.asarray(normal(0, 1, 67, 67, 3))

    def halves(layer, of):
        """How the two halves of `layer` change if the weights of half of a lower layer change."""
        moved = jax.tree.map(np.copy, variables)
        kernel = moved["params"][of]["kernel"]
        kernel[..., : kernel.shape[-1] // 2] *= 2
        before, after = (
            outputs_of(network, v, images, capture=(layer,)).captured[layer]
            for v in (variables, moved)
        )
        change = np.abs(after - before).max((0, 1, 2))
        middle = len(change) // 2
        return change[:middle].max() > 0, change[middle:].max() > 0

    assert halves("conv5", of="conv4") == (True, False)
    assert halves("conv4", of="conv3") == (True, False)
    # conv3 is connected to both towers, so a change in one tower below it affects both halves.
    assert halves("conv3", of="conv2") == (True, True)
    # Normalisation mixes neighbouring maps of both towers, so conv2 is tested without it.
    network = network.clone(lrn=False)
    assert halves("conv2", of="conv1") == (True, False)


@pytest.mark.parametrize(
    ("fields", "ones", "spread"),
    [({}, 1.0, 0.01), ({"bias_one": 0.1, "dense_std": 0.005}, 0.1, 0.005)],
)
def test_initial_weights_are_the_printed_ones(fields, ones, spread):
    network = models.create({**TINY, "width": 1 / 4, **fields})
    params = initialised(network)[1]["params"]
    for name, weights in params.items():
        bias = ones if name in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0.0
        np.testing.assert_array_equal(weights["bias"], np.full_like(weights["bias"], bias))
        std = spread if name in ("fc6", "fc7") else 0.01
        draws = weights["kernel"].size
        # Five standard errors of a standard deviation.
        assert weights["kernel"].std() == pytest.approx(std, rel=5 / np.sqrt(2 * draws)), name


def test_switches_change_the_layers_they_name():
    shapes = layers_of(models.create(TINY))
    assert {"lrn1", "lrn2", "drop6", "drop7"} < set(shapes)
    assert set(shapes) - set(layers_of(models.create({**TINY, "lrn": False}))) == {"lrn1", "lrn2"}
    without = layers_of(models.create({**TINY, "removed": ("conv3", "conv4")}))
    assert set(shapes) - set(without) == {"conv3", "conv4"}
    # Overlapping pooling or not: the printed alternative has the same sizes at 227 up to pool5.
    apart = layers_of(models.create({"name": "alexnet_2012", "pool_window": 2}))
    assert [apart[f"pool{i}"][:2] for i in (1, 2, 5)] == [(27, 27), (13, 13), (6, 6)]


def test_lrn_constants_reach_the_layers():
    network = models.create({**TINY, "lrn_alpha": 0.5, "lrn_k": 1.0, "lrn_alpha_over_n": True})
    images = jnp.asarray(normal(1, 1, 67, 67, 3))
    captured = outputs_of(network, drawn(network), images, capture=("conv1", "lrn1")).captured
    a = np.maximum(np.asarray(captured["conv1"], np.float64), 0)
    squares = np.pad(a**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    total = sum(squares[..., i : i + a.shape[-1]] for i in range(5))
    np.testing.assert_allclose(captured["lrn1"], a / (1 + 0.1 * total) ** 0.75, atol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_dropout_comes_before_or_after_fc6(first):
    # All is dropped: a rate that configs may not have, so past the checks of models.create.
    network = models.create({**TINY, "dropout_first": first}).clone(dropout=1 - 1e-9)
    variables, images = drawn(network), jnp.asarray(normal(2, 1, 67, 67, 3))
    keys = {"dropout": jax.random.key(0)}
    fc6, fc7 = outputs_of(
        network, variables, images, train=True, capture=("fc6", "fc7"), rngs=keys
    ).captured.values()
    biases = [variables["params"][name]["bias"] for name in ("fc6", "fc7")]
    # With everything dropped a layer's output is its bias.
    assert np.allclose(fc6, biases[0]) == first
    assert np.allclose(fc7, biases[1])
    # There is no dropout in evaluation.
    fc7 = outputs_of(network, variables, images, capture=("fc7",)).captured["fc7"]
    assert not np.allclose(fc7, biases[1])


def test_dense_form_has_the_same_weights_and_slides():
    plain, dense = models.create(TINY), models.create({**TINY, "dense_form": True})
    assert models.variables_of(plain) == models.variables_of(dense)
    variables, images = drawn(plain), jnp.asarray(normal(3, 2, 67, 67, 3))
    scores = outputs_of(dense, variables, images).logits
    assert scores.shape == (2, 1, 1, 10)
    np.testing.assert_allclose(
        scores[:, 0, 0], outputs_of(plain, variables, images).logits, atol=1e-4
    )
    # One more output each way for 32 pixels more: the strides of conv1 and three poolings.
    larger = jax.ShapeDtypeStruct((1, 99, 131, 3), jnp.float32)
    assert jax.eval_shape(dense.apply, variables, larger).logits.shape == (1, 2, 3, 10)


def test_widths_stay_multiples_of_the_groups():
    shapes = layers_of(models.create({**TINY, "width": 0.13}))
    assert [shapes[f"conv{i}"][-1] for i in range(1, 6)] == [12, 34, 50, 50, 34]


# --- cuda-convnet


@functools.cache
def cifar(name, **fields):
    network = models.create({"name": f"cuda_convnet_cifar10_{name}", "width": 1 / 4, **fields})
    return network, jnp.asarray(normal(4, 2, *network.input)), drawn(network)


def test_released_nets_pool_before_the_first_nonlinearity():
    network, images, variables = cifar("18pct")
    names = ("conv1", "pool1", "conv2", "pool2", "pool3", "fc10")
    at = outputs_of(network, variables, images, capture=names).captured
    assert [at[name].shape[1] for name in names[:5]] == [32, 16, 16, 8, 4]
    assert at["pool1"].min() < 0  # the maximum of what conv1 gave, ReLU only then
    assert at["pool2"].min() >= 0  # the mean of what ReLU left
    # Ceil mode: the last window of pool1 holds two rows and two columns.
    np.testing.assert_allclose(
        at["pool1"][:, -1, -1], at["conv1"][:, 30:, 30:].max((1, 2)), rtol=1e-6
    )
    np.testing.assert_allclose(
        at["pool2"][:, -1, -1], np.maximum(at["conv2"][:, 14:, 14:], 0).mean((1, 2)), atol=1e-6
    )


def test_tanh_replaces_relu():
    network, images, variables = cifar("18pct")
    tanh = network.clone(activation="tanh")
    at = outputs_of(tanh, variables, images, capture=("conv3", "pool3")).captured
    want = np.tanh(np.asarray(at["conv3"]))[:, :2, :2]
    # The first window lies inside the map: nine pixels.
    first = np.tanh(np.asarray(at["conv3"]))[:, :3, :3].mean((1, 2))
    np.testing.assert_allclose(at["pool3"][:, 0, 0], first, atol=1e-5)
    assert want.min() < 0


def test_initial_weights_of_released_versions():
    stds = {
        "18pct": {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "fc10": 0.01},
        "80sec": {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "fc64": 0.1, "fc10": 0.1},
        "conv_local": {
            **{"conv1": 1e-4, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "fc10": 0.01}
        },
    }
    for name, layers in stds.items():
        network = models.create({"name": f"cuda_convnet_cifar10_{name}"})
        params = initialised(network)[1]["params"]
        assert set(params) == set(layers)
        for layer, std in layers.items():
            kernel = params[layer]["kernel"]
            tolerance = 5 / np.sqrt(2 * kernel.size)
            assert kernel.std() == pytest.approx(std, rel=tolerance), (name, layer)


def test_lrn_is_the_difference_between_the_13_and_the_11_percent_net():
    plain = layers_of(models.create({"name": "cuda_convnet_cifar10_conv_local"}))
    normed = layers_of(models.create({"name": "cuda_convnet_cifar10_conv_local", "lrn": True}))
    assert list(normed) == [
        *("conv1", "lrn1", "pool1", "conv2", "lrn2", "pool2", "local3", "local4", "fc10")
    ]
    assert set(normed) - set(plain) == {"lrn1", "lrn2"}


def test_parts_of_the_local_net_one_at_a_time():
    network, images, variables = cifar("conv_local", lrn=True)
    names = ("conv1", "lrn1", "pool1", "conv2", "lrn2", "pool2", "local4")
    at = outputs_of(network, variables, images, capture=names).captured
    assert [at[name].shape[1] for name in names] == [24, 24, 12, 12, 12, 6, 6]
    # Windows of 2 tile the map, where those of 3 overlap: the same sizes, other maxima.
    tiled = network.clone(pool_window=2)
    pool1 = outputs_of(tiled, variables, images, capture=("pool1",)).captured["pool1"]
    tiles = np.asarray(at["lrn1"]).reshape(2, 12, 2, 12, 2, -1)
    np.testing.assert_allclose(pool1, tiles.max((2, 4)), rtol=1e-6)
    assert (np.asarray(at["pool1"]) > np.asarray(pool1)).any()
    # In training only, dropout doubles the values that it keeps.
    dropped = network.clone(dropout=0.5)
    still = dropped.apply(variables, images, train=False)
    np.testing.assert_array_equal(still.logits, network.apply(variables, images).logits)
    ones = jax.tree.map(jnp.zeros_like, variables)
    ones["params"]["local4"]["bias"] += 1
    ones["params"]["fc10"]["kernel"] += 1
    logits = dropped.apply(ones, images, train=True, rngs={"dropout": jax.random.key(0)}).logits
    features = at["local4"][0].size
    assert (logits % 2 == 0).all()
    assert (logits > 0).all()
    assert (logits < 2 * features).all()
