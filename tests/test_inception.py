"""GoogLeNet against Table 1 and direct formulas, and the lecture's worked example."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import compiled, conv, images_for, initial, relu, run

import models
from models import inception, layers

SMALL = {"name": "googlenet_small", "input": (16, 16, 3), "width": 0.125}
BOTH = ("aux1", "aux2")


def small(**fields: Any) -> models.Network:
    return models.create({**SMALL, **fields})


def captured_shapes(network: models.Network, names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    outputs = jax.eval_shape(
        lambda v, x: network.apply(v, x, capture=names),
        models.variables_of(network),
        jax.ShapeDtypeStruct((1, *network.input), jnp.float32),
    )
    return {name: outputs.captured[name].shape[1:] for name in names}


# Szegedy et al. 2015, Table 1, its column "output size". The floor would give 55 for the first.
TABLE_1 = {
    "conv1": (112, 112, 64),
    "pool1": (56, 56, 64),
    "conv2": (56, 56, 192),
    "pool2": (28, 28, 192),
    "inception_3a": (28, 28, 256),
    "inception_3b": (28, 28, 480),
    "pool3": (14, 14, 480),
    "inception_4a": (14, 14, 512),
    "inception_4b": (14, 14, 512),
    "inception_4c": (14, 14, 512),
    "inception_4d": (14, 14, 528),
    "inception_4e": (14, 14, 832),
    "pool4": (7, 7, 832),
    "inception_5a": (7, 7, 832),
    "inception_5b": (7, 7, 1024),
    "pool5": (1024,),
    "linear": (1000,),
}


@pytest.mark.parametrize("name", ["googlenet_2014", "googlenet_torchvision"])
def test_sizes_are_those_of_table_1(name: str) -> None:
    assert captured_shapes(models.create({"name": name}), tuple(TABLE_1)) == TABLE_1


def test_heads_are_on_4a_and_4d_in_that_order() -> None:
    network = models.create({"name": "googlenet_2014_with_aux"})
    assert network.heads == BOTH
    outputs = jax.eval_shape(
        network.apply,
        models.variables_of(network),
        jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32),
    )
    assert list(outputs.side_logits) == ["aux1", "aux2"]
    assert {value.shape for value in outputs.side_logits.values()} == {(2, 1000)}
    # Section 5: 4×4×512 for 4a and 4×4×528 for 4d, 128 maps, 1024 units.
    expected = {
        "aux1/pool": (4, 4, 512),
        "aux2/pool": (4, 4, 528),
        "aux1/conv": (4, 4, 128),
        "aux1/fc": (1024,),
        "aux2/linear": (1000,),
    }
    assert captured_shapes(network, tuple(expected)) == expected


def test_heads_in_another_order_are_refused() -> None:
    for heads in (("aux2", "aux1"), ("aux1", "aux3"), ("aux1", "aux1")):
        with pytest.raises(ValueError, match=r"heads: .* in that order"):
            small(heads=heads)
    assert small(heads=["aux2"]).heads == ("aux2",)


def test_without_heads_there_are_no_side_logits() -> None:
    network = models.create({"name": "googlenet_2014"})
    assert not [name for name in models.variables_of(network)["params"] if "aux" in name]
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    outputs = jax.eval_shape(network.apply, models.variables_of(network), images)
    assert outputs.side_logits == {}


def max_pool(x: np.ndarray) -> np.ndarray:
    """3×3 with stride 1 and a border of one, pixel by pixel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    height, width = x.shape[1:3]
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.max(shifts, axis=0)


@pytest.mark.parametrize("kind", ["reduced", "naive"])
def test_module_is_that_of_figure_2(kind: str) -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, 5, 5, 6), dtype=np.float32)
    fields: dict[str, Any] = {"conv": {}, "kernel_5x5": 5}
    module = inception.InceptionModule((2, 3, 4, 2, 3, 5), kind, **fields)
    p = initial(module, x, False)["params"]

    one, pooled = relu(conv(x, p["1x1"])), max_pool(x)
    if kind == "naive":
        branches = [one, conv(x, p["3x3"]), conv(x, p["5x5"]), pooled]
        expected = [branches[0], relu(branches[1]), relu(branches[2]), branches[3]]
        channels = 2 + 4 + 3 + 6  # the input's six come along
    else:
        three = conv(relu(conv(x, p["3x3_reduce"])), p["3x3"])
        five = conv(relu(conv(x, p["5x5_reduce"])), p["5x5"])
        projected = conv(pooled, p["pool_proj"])
        expected = [one, relu(three), relu(five), relu(projected)]
        channels = 2 + 4 + 3 + 5
    out = run(module, {"params": p}, x, False)
    assert out.shape == (2, 5, 5, channels)
    np.testing.assert_allclose(out, np.concatenate(expected, -1), rtol=1e-4, atol=1e-5)


def test_naive_modules_grow_by_their_input() -> None:
    # 192 + (64+128+32) = 416, + (128+192+96) = 832, + (192+208+48) = 1280: Fig. 2a's blow-up.
    shapes = captured_shapes(
        models.create({"name": "googlenet_naive"}), ("inception_3a", "inception_3b", "inception_4a")
    )
    assert [shape[-1] for shape in shapes.values()] == [416, 832, 1280]


def test_normalisation_is_at_its_two_places() -> None:
    network = small()
    variables, images = initial(network), 30 * images_for(network)
    names = ("pool1", "norm1", "conv2", "norm2")
    captured = run(network, variables, images, capture=names).captured
    for before, after in ((captured["pool1"], "norm1"), (relu(captured["conv2"]), "norm2")):
        a = np.asarray(before)
        expected = np.empty_like(a)
        for i in range(a.shape[-1]):
            near = a[..., max(0, i - 2) : i + 3]
            expected[..., i] = a[..., i] / (1 + 1e-4 / 5 * (near**2).sum(-1)) ** 0.75
        assert np.abs(expected - a).max() > 1e-3  # there is something to normalise
        np.testing.assert_allclose(captured[after], expected, rtol=1e-4, atol=1e-5)


def test_separable_conv1_is_a_7x7_of_lower_rank() -> None:
    fields = {"input": (32, 32, 3), "width": 0.0625}
    separable = models.create({"name": "googlenet_2014_separable_conv1", **fields})
    plain = models.create({"name": "googlenet_2014", **fields})
    params, images = initial(separable)["params"], images_for(separable)
    assert params["conv1_depthwise"]["kernel"].shape == (7, 7, 1, 24)
    # Colour c owns depthwise maps 8c to 8c+7.
    depthwise = params["conv1_depthwise"]["kernel"].reshape(7, 7, 3, 8)
    pointwise = params["conv1"]["kernel"].reshape(3, 8, -1)
    kernel = np.einsum("hwcm,cmo->hwco", depthwise, pointwise)
    whole = {name: value for name, value in params.items() if name != "conv1_depthwise"}
    whole["conv1"] = {**params["conv1"], "kernel": kernel}
    np.testing.assert_allclose(
        run(separable, {"params": params}, images, capture=("conv1",)).captured["conv1"],
        run(plain, {"params": whole}, images, capture=("conv1",)).captured["conv1"],
        rtol=1e-3,
        atol=1e-4,
    )


def test_torchvision_is_another_network() -> None:
    network = models.create({"name": "googlenet_torchvision_with_aux"})
    params = models.variables_of(network)["params"]
    assert params["inception_4a"]["5x5"]["kernel"].shape[:2] == (3, 3)
    assert "bias" not in params["conv1"]
    # Fresh statistics are mean 0 and variance 1, so that only epsilon = 0.001 is left of the norm.
    tiny = models.create({"name": "googlenet_torchvision", "input": (32, 32, 3), "width": 0.0625})
    variables, images = initial(tiny), images_for(tiny)
    captured = run(tiny, variables, images, capture=("conv2_reduce", "pool1")).captured
    layer = {"kernel": variables["params"]["conv2_reduce"]["kernel"]}
    expected = conv(captured["pool1"], layer) / np.sqrt(1.001)
    np.testing.assert_allclose(captured["conv2_reduce"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [14, 7, 5, 4])
def test_adaptive_pooling_divides_as_pytorch_does(side: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, side, side, 3), dtype=np.float32)
    expected = np.empty((2, 4, 4, 3), np.float32)
    for i in range(4):
        for j in range(4):
            rows = slice(int(np.floor(i * side / 4)), int(np.ceil((i + 1) * side / 4)))
            columns = slice(int(np.floor(j * side / 4)), int(np.ceil((j + 1) * side / 4)))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    pool = inception.AdaptiveAvgPool(4)
    np.testing.assert_allclose(run(pool, {}, x), expected, rtol=1e-5, atol=1e-6)


def test_dropout_drops_what_the_paper_says() -> None:
    network = small(heads=BOTH, width=0.5)
    images, names = images_for(network, count=8), ("pool5", "dropout", "aux1/fc", "aux1/dropout")
    rngs = {"dropout": jax.random.key(1)}
    captured = run(network, initial(network), images, train=True, capture=names, rngs=rngs).captured
    for before, after, rate in (
        (captured["pool5"], captured["dropout"], 0.4),
        (relu(captured["aux1/fc"]), captured["aux1/dropout"], 0.7),
    ):
        alive = np.asarray(before) != 0
        dropped = (np.asarray(after) == 0)[alive].mean()
        assert abs(dropped - rate) < 0.06  # of a thousand values or more: three deviations


def test_initialisation_is_caffes() -> None:
    network = small(heads=BOTH)

    def drawn(key: jax.Array, images: jax.Array) -> Any:
        params: Any = network.init(key, images)["params"]
        heads = [params[name]["fc"]["bias"] for name in BOTH]
        module = params["inception_4a"]["3x3"]
        classifiers = [params["linear"]["bias"], params["aux2"]["linear"]["bias"]]
        return module["kernel"], [module["bias"], *heads], classifiers

    kernel, biases, classifiers = compiled(drawn)(jax.random.key(0), images_for(network))
    bound = np.sqrt(3 / np.prod(kernel.shape[:-1]))
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert all(np.all(bias == np.float32(0.2)) for bias in biases)
    assert not any(np.any(bias) for bias in classifiers)


def test_bfloat16_is_near_float32() -> None:
    exact, rough = small(), small(dtype="bfloat16")
    images, variables = images_for(exact, count=8), initial(exact)
    expected = run(exact, variables, images).logits
    outputs = run(rough, variables, images)
    assert outputs.logits.dtype == jnp.float32
    # bfloat16 rounds to 2^-9 of a value; 22 layers add up to under 10% of the logits' size.
    error = jnp.abs(outputs.logits - expected).max()
    assert 0 < error < 0.1 * jnp.abs(expected).max()


def test_too_small_an_input_says_the_least() -> None:
    # The heads pool 2×2 at 4a; windows of 3 with stride 2, rounded up, leave 2 of 4 and 4 of 8
    # pixels, but 1 of 3 and 3 of 7.
    network = small(heads=BOTH, input=(4, 4, 3))
    with pytest.raises(ValueError, match="input: 4×4 is too small, the smallest valid size is 8×8"):
        models.check(network)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stem": "5x5"}, "stem: '5x5' is none of 7x7, separable_7x7, 3x3"),
        ({"module": "wide"}, "module: 'wide' is none of reduced, naive"),
        ({"head_pool": "max"}, "head_pool: 'max' is none of"),
        ({"kernel_5x5": 7}, "kernel_5x5: 7 is none of 3, 5"),
        ({"pool4": 4}, "pool4: 4 is none of 2, 3"),
        ({"dropout": 1.0}, "dropout: must be from 0 to below 1, not 1.0"),
        ({"batch_norm_group": -2}, "batch_norm_group: -2: a whole number must be from 0"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**fields)


def test_1x1_convolution_is_a_dense_layer_at_each_position() -> None:
    draw = np.random.default_rng(3)
    x = draw.standard_normal((2, 4, 5, 6), dtype=np.float32)
    layer = layers.Conv(3, (1, 1))
    variables = initial(layer, x)
    expected = np.einsum("nhwc,co->nhwo", x, variables["params"]["kernel"][0, 0])
    np.testing.assert_allclose(run(layer, variables, x), expected, rtol=1e-4, atol=1e-5)


def test_pooling_changes_the_map_and_a_1x1_convolution_the_channels() -> None:
    x = np.ones((1, 28, 28, 192), np.float32)
    assert run(layers.MaxPool(2, 2), {}, x).shape == (1, 14, 14, 192)
    network = models.create({"name": "lecture_conv1x1"})
    assert captured_shapes(network, ("1x1",)) == {"1x1": (28, 28, 32)}


def test_lecture_bottleneck_shrinks_before_it_widens() -> None:
    network = models.create({"name": "lecture_conv5x5_bottleneck"})
    assert captured_shapes(network, ("5x5_reduce", "5x5")) == {
        "5x5_reduce": (28, 28, 16),
        "5x5": (28, 28, 32),
    }


def assert_sane(outputs: Any) -> None:
    for logits in (outputs.logits, *outputs.side_logits.values()):
        assert np.isfinite(logits).all()
        assert 1e-4 < float(logits.std()) < 1e3


def recommended(name: str) -> models.Network:
    initializer = models.preset(name).recommended_initializer
    return models.create({"name": name, "initializer": initializer})


def test_outputs_of_drawn_weights() -> None:
    # He's, drawn without the network; test_initial_outputs.py has every network's own.
    network = small(heads=BOTH)
    assert_sane(run(network, initial(network), images_for(network)))
