"""VGG's columns, its dense form and its batch norm, at a sixteenth of the width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn, initialised, outputs_of

import models
from models import vgg

TINY = {"input": (32, 32, 3), "width": 1 / 16, "num_classes": 10}


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def kernels_of(name):
    params = models.variables_of(models.create({"name": name}))["params"]
    return {layer: weights["kernel"].shape for layer, weights in params.items()}


@pytest.mark.parametrize(
    ("column", "weight_layers"),
    [("A", 11), ("A_LRN", 11), ("B", 13), ("C", 16), ("D", 16), ("E", 19)],
)
def test_columns_have_their_weight_layers(column, weight_layers):
    """The second line of Table 1."""
    kernels = kernels_of(f"vgg_{column}")
    assert len(kernels) == weight_layers
    assert kernels["fc6"] == (7 * 7 * 512, 4096)
    ones = {layer for layer, shape in kernels.items() if shape[:2] == (1, 1)}
    assert ones == ({"conv3_3", "conv4_3", "conv5_3"} if column == "C" else set())
    if f"vgg_{column}_bn" in vgg.PRESETS:
        assert kernels_of(f"vgg_{column}_bn") == kernels


def test_stacked_3x3_layers_cover_a_large_kernel_with_fewer_weights():
    """Section 2.3: 27C² weights against 49C² for the same 7×7 of the image."""
    kernels = kernels_of("vgg_E")
    channels = 512
    three = sum(int(np.prod(kernels[f"conv5_{i}"])) for i in (1, 2, 3))
    assert three == 27 * channels**2
    assert 49 * channels**2 / three == pytest.approx(1.81, abs=0.01)  # "81% more"
    # Each pair of B becomes one 5×5: the same receptive field, 25C² weights instead of 18C².
    pair, single = kernels_of("vgg_B"), kernels_of("vgg_B_5x5")
    assert int(np.prod(single["conv5_1"])) == 25 * channels**2
    assert sum(int(np.prod(pair[f"conv5_{i}"])) for i in (1, 2)) == 18 * channels**2
    assert set(pair) - set(single) == {f"conv{stage}_2" for stage in range(1, 6)}


def test_lrn_follows_only_conv1_1():
    network = models.create({"name": "vgg_A_LRN", **TINY})
    variables, images = drawn(network), jnp.asarray(normal(0, 1, 32, 32, 3))
    at = outputs_of(network, variables, images, capture=("conv1_1", "lrn1", "pool1")).captured
    a = np.maximum(np.asarray(at["conv1_1"], np.float64), 0)
    squares = np.pad(a**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    total = sum(squares[..., i : i + a.shape[-1]] for i in range(5))
    normed = a / (2 + 1e-4 * total) ** 0.75  # AlexNet's constants
    np.testing.assert_allclose(at["lrn1"], normed, rtol=1e-5, atol=1e-7)
    pooled = normed.reshape(1, 16, 2, 16, 2, -1).max((2, 4))
    np.testing.assert_allclose(at["pool1"], pooled, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="no layer 'lrn1'"):
        jax.eval_shape(
            functools.partial(models.create({"name": "vgg_A", **TINY}).apply, capture=("lrn1",)),
            variables,
            images,
        )


def test_dense_form_is_the_crop_wise_network_where_they_agree():
    plain = models.create({"name": "vgg_A", **TINY})
    dense = models.create({"name": "vgg_A", **TINY, "dense_form": True})
    assert models.variables_of(plain) == models.variables_of(dense)
    variables = drawn(plain)
    # On an image of the network's input size, both forms are the same network.
    images = jnp.asarray(normal(1, 2, 32, 32, 3))
    scores = outputs_of(dense, variables, images).logits
    assert scores.shape == (2, 1, 1, 10)
    np.testing.assert_allclose(
        scores[:, 0, 0], outputs_of(plain, variables, images).logits, atol=1e-4
    )


def test_dense_form_slides_fc6_over_the_last_map_of_a_larger_image():
    """Convolutions pad at the crop's edge, so that crops agree only from pool5 on."""
    fields = {"name": "vgg_A", **TINY, "input": (64, 64, 3)}
    plain, dense = models.create(fields), models.create({**fields, "dense_form": True})
    variables = drawn(plain)
    image = jnp.asarray(normal(2, 1, 96, 128, 3))
    outputs = outputs_of(dense, variables, image, capture=("pool5",))
    pool5 = np.asarray(outputs.captured["pool5"])
    assert pool5.shape[1:3] == (3, 4)
    assert outputs.logits.shape == (1, 2, 3, 10)  # ⌊Q/32⌋ − (2 − 1) each way
    layers = [variables["params"][name] for name in ("fc6", "fc7", "fc8")]
    for i in range(2):
        for j in range(3):
            x = pool5[:, i : i + 2, j : j + 2].reshape(1, -1)
            for number, layer in enumerate(layers):
                x = x @ layer["kernel"] + layer["bias"]
                x = np.maximum(x, 0) if number < 2 else x
            np.testing.assert_allclose(outputs.logits[:, i, j], x, rtol=1e-3, atol=1e-4)


def test_batch_norm_statistics_change_only_in_training():
    network = models.create({"name": "vgg_A_bn", **TINY, "batch_norm_group": 2})
    variables, images = drawn(network), jnp.asarray(normal(3, 4, 32, 32, 3))
    stats = variables["batch_stats"]
    assert set(stats) == {name for name in kernels_of("vgg_A") if name.startswith("conv")}

    @functools.partial(jax.jit, static_argnames="train")
    def run(images, train):
        keys = {"dropout": jax.random.key(0, impl="unsafe_rbg")}
        return network.apply(variables, images, train=train, rngs=keys, mutable=["batch_stats"])

    _, moved = run(images, train=True)
    for name in stats:
        assert (
            np.abs(moved["batch_stats"][name]["bn"]["mean"] - stats[name]["bn"]["mean"]).max() > 0
        )
    _, kept = run(images, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], stats)
    with pytest.raises(ValueError, match="batch_norm_group: 2 does not divide the batch of 3"):
        jax.eval_shape(functools.partial(run, train=True), images[:3])


@pytest.mark.parametrize(
    ("fields", "std"),
    [
        ({}, 0.1),
        ({"init_std": 0.01}, 0.01),
        ({"initializer": "glorot"}, np.sqrt(2 / (9 * 16 + 9 * 32))),
    ],
)
def test_initial_weights_are_the_printed_ones(fields, std):
    """Section 2.1: zero mean, variance 10⁻²; or Glorot's. conv4_1 maps 16 to 32 channels here."""
    network = models.create({"name": "vgg_A", **TINY, **fields})
    _, variables = initialised(network)
    kernel = variables["params"]["conv4_1"]["kernel"]
    assert kernel.shape == (3, 3, 16, 32)
    assert kernel.std() == pytest.approx(std, rel=5 / np.sqrt(2 * kernel.size))
    assert not any(np.any(layer["bias"]) for layer in variables["params"].values())
