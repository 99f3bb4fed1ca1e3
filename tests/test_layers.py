"""The shared layers against direct sums and loops, and the checks of the networks' fields."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import applied, drawn, outputs_of

import models
from models import resnet
from models.layers import (
    INITIALIZERS,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    GlobalAvgPool,
    LocalConv,
    LocalResponseNorm,
    MaxPool,
)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- local response normalisation


def lrn_by_sum(a, size, alpha, beta, k):
    """Krizhevsky et al. 2012, section 3.3, as printed: one channel at a time."""
    a = a.astype(np.float64)
    out = np.empty_like(a)
    channels = a.shape[-1]
    for i in range(channels):
        low, high = max(0, i - size // 2), min(channels - 1, i + size // 2)
        total = sum(a[..., j] ** 2 for j in range(low, high + 1))
        out[..., i] = a[..., i] / (k + alpha * total) ** beta
    return out


@pytest.mark.parametrize(
    ("fields", "printed"),
    [
        ({}, (5, 1e-4, 0.75, 2.0)),
        # Large enough for the sum to matter.
        ({"alpha": 0.5}, (5, 0.5, 0.75, 2.0)),
        ({"alpha": 0.5, "size": 3, "beta": 0.5}, (3, 0.5, 0.5, 2.0)),
        # Caffe's convention: the same layer with α five times as large in it.
        ({"alpha": 0.5, "k": 1.0, "alpha_over_n": True}, (5, 0.1, 0.75, 1.0)),
    ],
)
def test_lrn_is_the_printed_sum(fields, printed):
    a = normal(0, 2, 3, 4, 7)
    got = applied(LocalResponseNorm(**fields), {}, jnp.asarray(a))
    np.testing.assert_allclose(got, lrn_by_sum(a, *printed), rtol=2e-6)


def test_lrn_gradient_is_the_difference_quotient():
    a, weights = normal(1, 1, 1, 2, 6), normal(2, 1, 1, 2, 6)
    layer = LocalResponseNorm(alpha=0.5)
    got = jax.grad(lambda x: (applied(layer, {}, x) * weights).sum())(jnp.asarray(a))

    def value(x):
        return (lrn_by_sum(x, 5, 0.5, 0.75, 2.0) * weights).sum()

    np.testing.assert_allclose(got, difference_quotient(value, a), rtol=1e-4, atol=1e-5)


def difference_quotient(value, at, step=1e-5):
    """The gradient of `value` at `at` by central differences, in double precision."""
    at = at.astype(np.float64)
    gradient = np.empty_like(at)
    for index in np.ndindex(at.shape):
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * step
            ends.append(value(moved))
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


# --- convolutions


def conv_by_loop(x, kernel, bias, stride, pad):
    x = np.pad(x.astype(np.float64), ((0, 0), *pad, (0, 0)))
    height, width = kernel.shape[:2]
    rows = (x.shape[1] - height) // stride + 1
    columns = (x.shape[2] - width) // stride + 1
    out = np.empty((x.shape[0], rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, i * stride : i * stride + height, j * stride : j * stride + width]
            out[:, i, j] = np.tensordot(patch, kernel, 3) + bias
    return out


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [((3, 3), 1, 1), ((5, 3), 2, ((1, 2), (0, 1))), ((1, 1), 1, 0), ((3, 3), 2, 1)],
)
@pytest.mark.parametrize("size", [(8, 7), (2, 2), (2, 7), (3, 2)])
def test_conv_is_a_loop_over_patches(kernel, stride, pad, size):
    """Maps smaller than the kernel too, which are multiplied out."""
    x = normal(3, 2, *size, 3)
    layer = Conv(features=4, kernel=kernel, stride=stride, pad=pad, bias_init=jax.random.normal)
    variables = layer.init(jax.random.key(0), jnp.asarray(x))
    weights = {name: np.asarray(value) for name, value in variables["params"].items()}
    pads = ((pad, pad), (pad, pad)) if isinstance(pad, int) else pad
    want = conv_by_loop(x, weights["kernel"], weights["bias"], stride, pads)
    np.testing.assert_allclose(applied(layer, variables, jnp.asarray(x)), want, atol=2e-5)


def test_grouped_convolution_is_two_separate_ones():
    x = jnp.asarray(normal(4, 2, 6, 6, 8))
    layer = Conv(features=10, kernel=(3, 3), pad=1, groups=2, bias_init=jax.random.normal)
    variables = layer.init(jax.random.key(1), x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (3, 3, 4, 10)
    halves = [
        applied(
            Conv(features=5, kernel=(3, 3), pad=1),
            {"params": {"kernel": kernel[..., maps], "bias": bias[maps]}},
            x[..., seen],
        )
        for seen, maps in ((slice(0, 4), slice(0, 5)), (slice(4, 8), slice(5, 10)))
    ]
    np.testing.assert_allclose(
        applied(layer, variables, x), np.concatenate(halves, axis=-1), atol=1e-5
    )


def test_groups_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match="2 groups do not divide 3 input"):
        Conv(features=4, kernel=(1, 1), groups=2, name="conv2").init(
            jax.random.key(0), jnp.zeros((1, 2, 2, 3))
        )


def test_local_convolution_has_its_own_kernel_at_each_position():
    x = normal(5, 2, 4, 5, 3)
    layer = LocalConv(features=2, kernel=(3, 3), pad=1, bias_init=jax.random.normal)
    variables = layer.init(jax.random.key(2), jnp.asarray(x))
    weights = {name: np.asarray(value) for name, value in variables["params"].items()}
    assert weights["kernel"].shape == (4, 5, 27, 2)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    want = np.empty((2, 4, 5, 2))
    for i in range(4):
        for j in range(5):
            patch = padded[:, i : i + 3, j : j + 3].reshape(2, 27)
            want[:, i, j] = patch @ weights["kernel"][i, j] + weights["bias"][i, j]
    np.testing.assert_allclose(applied(layer, variables, jnp.asarray(x)), want, atol=1e-5)
    # 4·5 positions, 3·3 taps on 3 maps, 2 kernels.
    assert layer.multiply_adds((4, 5, 3)) == 4 * 5 * 27 * 2


# --- pooling


def pool_by_loop(x, window, stride, pad, ceil_mode, kind):
    """Caffe's pooling layer, window by window: sizes, edges and divisors as its source has them."""
    counts = []
    for side in x.shape[1:3]:
        steps = (side + 2 * pad - window) / stride
        count = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
        if pad and (count - 1) * stride >= side + pad:
            count -= 1
        counts.append(count)
    out = np.empty((x.shape[0], *counts, x.shape[3]))
    for i in range(counts[0]):
        for j in range(counts[1]):
            spans, area = [], 1
            for start, side in ((i * stride - pad, x.shape[1]), (j * stride - pad, x.shape[2])):
                end = min(start + window, side + pad)
                area *= end - start
                spans.append(slice(max(start, 0), min(end, side)))
            patch = x[:, spans[0], spans[1]].astype(np.float64)
            out[:, i, j] = patch.max((1, 2)) if kind is MaxPool else patch.sum((1, 2)) / area
    return out


@pytest.mark.parametrize("kind", [MaxPool, AvgPool])
@pytest.mark.parametrize(
    ("size", "window", "stride", "pad", "ceil_mode", "output"),
    [
        ((8, 8), 3, 2, 0, True, (4, 4)),  # the last window hangs over
        ((8, 8), 3, 2, 0, False, (3, 3)),
        ((7, 9), 3, 2, 0, True, (3, 4)),  # fits exactly
        ((6, 6), 2, 2, 0, True, (3, 3)),
        ((5, 7), 2, 2, 0, False, (2, 3)),
        ((5, 5), 2, 2, 1, True, (3, 3)),  # Caffe drops the fourth: it would see padding alone
        ((6, 6), 3, 2, 1, True, (4, 4)),
        ((8, 8), 3, 1, 1, False, (8, 8)),
        ((10, 10), 5, 3, 0, True, (3, 3)),
        ((7, 7), 2, 3, 0, True, (3, 3)),  # windows with gaps between them
    ],
)
def test_pooling_is_caffes_loop(kind, size, window, stride, pad, ceil_mode, output):
    x = normal(6, 2, *size, 3) - 3  # below zero, so that padding with zeros would show
    got = applied(kind(window, stride, pad, ceil_mode), {}, jnp.asarray(x))
    assert got.shape[1:3] == output
    np.testing.assert_allclose(
        got, pool_by_loop(x, window, stride, pad, ceil_mode, kind), rtol=1e-5
    )


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2)])
def test_max_pooling_hands_the_gradient_to_the_largest_pixel(window, stride):
    x = np.random.default_rng(7).permutation(6 * 6).reshape(1, 6, 6, 1).astype(np.float32)
    layer = MaxPool(window, stride, ceil_mode=True)
    got = jax.grad(lambda x: applied(layer, {}, x).sum())(jnp.asarray(x))
    want = np.zeros_like(x)
    for i in range(0, 6, stride):
        for j in range(0, 6, stride):
            patch = x[0, i : i + window, j : j + window, 0]
            row, column = np.unravel_index(patch.argmax(), patch.shape)
            want[0, i + row, j + column, 0] += 1
    np.testing.assert_array_equal(got, want)


def test_pooling_keeps_channels_and_a_1x1_convolution_keeps_positions():
    x = jnp.asarray(normal(8, 1, 8, 6, 5))
    for kind in (MaxPool, AvgPool):
        assert applied(kind(2, 2), {}, x).shape == (1, 4, 3, 5)
    conv = Conv(features=9, kernel=(1, 1))
    assert applied(conv, conv.init(jax.random.key(0), x), x).shape == (1, 8, 6, 9)
    np.testing.assert_allclose(
        applied(GlobalAvgPool(), {}, x), np.asarray(x, np.float64).mean((1, 2)), atol=1e-6
    )


def test_a_1x1_convolution_is_a_dense_layer_at_each_position():
    x = jnp.asarray(normal(9, 2, 3, 4, 5))
    conv = Conv(features=6, kernel=(1, 1), bias_init=jax.random.normal)
    variables = conv.init(jax.random.key(3), x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    dense = {"params": {"kernel": kernel.reshape(5, 6), "bias": bias}}
    convolved = applied(conv, variables, x)
    for i in range(3):
        for j in range(4):
            want = applied(Dense(features=6), dense, x[:, i, j])
            np.testing.assert_allclose(convolved[:, i, j], want, atol=1e-5)


def test_a_dense_layer_slides_over_a_larger_map_with_the_same_weights():
    x = jnp.asarray(normal(10, 2, 5, 4, 3))
    layer = Dense(features=7, window=(3, 2), bias_init=jax.random.normal)
    variables = layer.init(jax.random.key(4), x)
    slid = applied(layer, variables, x)
    assert slid.shape == (2, 3, 3, 7)
    for i in range(3):
        for j in range(3):
            want = applied(Dense(features=7), variables, x[:, i : i + 3, j : j + 2])
            np.testing.assert_allclose(slid[:, i, j], want, atol=1e-5)


# --- batch norm


def batch_norm_by_loop(x, group, scale, shift, epsilon=1e-5):
    """Outputs, and the mean and (biased) variance of each group, channel by channel."""
    x = x.astype(np.float64)
    out, means, variances = np.empty_like(x), [], []
    for start in range(0, len(x), group):
        part = x[start : start + group]
        means.append([part[..., c].mean() for c in range(x.shape[-1])])
        variances.append([part[..., c].var() for c in range(x.shape[-1])])
        for c in range(x.shape[-1]):
            normal = (part[..., c] - means[-1][c]) / np.sqrt(variances[-1][c] + epsilon)
            out[start : start + group, ..., c] = normal * scale[c] + shift[c]
    return out, np.mean(means, 0), np.mean(variances, 0)


@pytest.mark.parametrize("group", [0, 6, 2, 1])
def test_batch_norm_groups_are_a_loop(group):
    x = 2 * normal(11, 6, 3, 2, 4) + 1
    scale, shift = normal(12, 4), normal(13, 4)
    mean, var = normal(14, 4), normal(15, 4) ** 2
    variables = {
        "params": {"scale": scale, "bias": shift},
        "batch_stats": {"mean": mean, "var": var},
    }
    layer = BatchNorm(group=group)
    got, moved = layer.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
    want, batch_mean, batch_var = batch_norm_by_loop(x, group or 6, scale, shift)
    np.testing.assert_allclose(got, want, atol=2e-5)
    stats = moved["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.9 * mean + 0.1 * batch_mean, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * var + 0.1 * batch_var, atol=1e-5)

    got, kept = layer.apply(variables, jnp.asarray(x), train=False, mutable=["batch_stats"])
    np.testing.assert_allclose(got, (x - mean) / np.sqrt(var + 1e-5) * scale + shift, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], variables["batch_stats"])


def test_batch_norm_gradient_is_the_difference_quotient():
    x, weights = normal(16, 4, 2, 1, 2), normal(17, 4, 2, 1, 2)
    layer = BatchNorm(group=2)
    variables = layer.init(jax.random.key(0), jnp.asarray(x), train=False)

    def loss(x):
        out, _ = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        return (out * weights).sum()

    def value(x):
        return (batch_norm_by_loop(x, 2, np.ones(2), np.zeros(2))[0] * weights).sum()

    np.testing.assert_allclose(
        jax.grad(loss)(jnp.asarray(x)), difference_quotient(value, x), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("group", [0, 2])
def test_batch_norm_gradients_are_those_of_its_definition(group):
    """By x, scale and shift, in float64 against jax's derivative of the formula."""
    with jax.enable_x64():
        draw = np.random.default_rng(20)
        x, g = draw.standard_normal((2, 6, 3, 2, 4))
        params = dict(zip(("scale", "bias"), draw.standard_normal((2, 4)), strict=True))
        layer = BatchNorm(group=group, dtype=jnp.float64, param_dtype=jnp.float64)
        statistics = layer.init(jax.random.key(0), x, train=False)["batch_stats"]

        def ours(x, params):
            variables = {"params": params, "batch_stats": statistics}
            return layer.apply(variables, x, train=True, mutable=["batch_stats"])[0]

        def formula(x, params):
            groups = x.reshape(-1, group or 6, *x.shape[1:])
            mean, var = (f(groups, (1, 2, 3), keepdims=True) for f in (jnp.mean, jnp.var))
            wide = {name: value.reshape(1, 1, 1, 1, 4) for name, value in params.items()}
            normed = (groups - mean) / jnp.sqrt(var + 1e-5)
            return (normed * wide["scale"] + wide["bias"]).reshape(x.shape)

        for got, want in zip(
            *(jax.tree.leaves(jax.vjp(f, x, params)[1](g)) for f in (ours, formula)), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_batch_norm_starts_from_zero_mean_and_unit_variance():
    x = jnp.asarray(normal(18, 4, 2, 2, 3)) + 5
    stats = BatchNorm().init(jax.random.key(0), x, train=True)["batch_stats"]
    np.testing.assert_array_equal(stats["mean"], np.zeros(3))
    np.testing.assert_array_equal(stats["var"], np.ones(3))


def test_batch_norm_group_that_does_not_divide_the_batch_is_named():
    layer = BatchNorm(group=4)
    x = jnp.zeros((6, 2, 2, 3))
    variables = layer.init(jax.random.key(0), x, train=False)
    with pytest.raises(ValueError, match="batch_norm_group: 4 does not divide the batch of 6"):
        layer.apply(variables, x, train=True, mutable=["batch_stats"])


# --- number types


@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNorm(alpha=0.5),
        MaxPool(3, 2),
        AvgPool(3, 2, ceil_mode=True),
        GlobalAvgPool(),
        Conv(features=8, kernel=(3, 3), pad=1, dtype=jnp.bfloat16),
        Conv(features=8, kernel=(9, 9), pad=4, dtype=jnp.bfloat16),
        LocalConv(features=8, kernel=(3, 3), dtype=jnp.bfloat16),
        Dense(features=8, dtype=jnp.bfloat16),
    ],
    ids=lambda layer: f"{type(layer).__name__}{getattr(layer, 'kernel', '')}",
)
def test_bfloat16_is_within_its_rounding_of_float32(layer):
    """Eight significant bits: an input, a weight and the sum are each off by at most 2⁻⁹."""
    x = jnp.asarray(normal(19, 2, 8, 8, 16))
    variables = layer.init(jax.random.key(5), x)
    wide = layer.clone(dtype=jnp.float32) if hasattr(layer, "dtype") else layer
    want = applied(wide, variables, x)
    got = applied(layer, variables, x.astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    error = np.abs(np.asarray(got, np.float32) - want).max()
    assert 0 < error <= 3 * 2**-9 * np.abs(want).max()


def test_a_network_computes_in_bfloat16_with_float32_weights_statistics_and_logits():
    network = models.create({"name": "vgg_A_bn", "dtype": "bfloat16"})
    variables = models.variables_of(network, batch=2)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    apply = functools.partial(network.apply, capture=("conv3_2", "fc7"))
    outputs = jax.eval_shape(apply, variables, images)
    assert outputs.logits.dtype == jnp.float32
    assert {layer.dtype for layer in outputs.captured.values()} == {jnp.dtype("bfloat16")}


def test_a_network_in_bfloat16_is_within_its_rounding_of_float32():
    wide = models.create({"name": "lenet5_modern"})
    narrow = models.create({"name": "lenet5_modern", "dtype": "bfloat16"})
    variables, x = drawn(wide), jnp.asarray(normal(20, 8, 32, 32, 1))
    want, got = (outputs_of(network, variables, x).logits for network in (wide, narrow))
    # Five layers, each with inputs, weights and outputs off by at most 2⁻⁹.
    assert 0 < np.abs(got - want).max() <= 5 * 3 * 2**-9 * np.abs(want).max()


# --- initialisation


def test_initialisations_have_their_papers_spread():
    shape, fan_in, fan_out = (3, 3, 64, 128), 9 * 64, 9 * 128
    draws = {
        name: np.asarray(init(jax.random.key(7), shape, jnp.float32))
        for name, init in INITIALIZERS.items()
    }
    # 73,728 draws: the standard error of a standard deviation is a quarter of a percent.
    assert draws["he"].std() == pytest.approx(math.sqrt(2 / fan_in), rel=0.01)
    assert np.abs(draws["he"]).max() > 4 * math.sqrt(2 / fan_in)  # not truncated
    for name, bound in (
        ("glorot", math.sqrt(6 / (fan_in + fan_out))),
        ("lecun_fan_in", 2.4 / fan_in),
        ("lecun_sqrt_fan_in", 2.4 / math.sqrt(fan_in)),
    ):
        assert 0.999 * bound < np.abs(draws[name]).max() <= bound * (1 + 1e-6)
        assert draws[name].std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


# --- what all networks share


def test_captured_layers_are_those_that_make_the_logits():
    network = models.create({"name": "lenet5_modern"})
    x = jnp.asarray(normal(21, 2, 32, 32, 1))
    variables = drawn(network)
    outputs = jax.jit(functools.partial(network.apply, capture=("conv1", "fc5")))(variables, x)
    assert outputs.captured["conv1"].shape == (2, 28, 28, 6)
    np.testing.assert_array_equal(outputs.captured["fc5"], outputs.logits)
    np.testing.assert_array_equal(outputs.logits, jax.jit(network.apply)(variables, x).logits)
    with pytest.raises(ValueError, match="capture: no layer 'conv9'; layers: conv1, pool1, conv2"):
        jax.eval_shape(functools.partial(network.apply, capture=("conv9",)), variables, x)


def test_images_of_other_channels_are_refused():
    network = models.create({"name": "lenet5_modern"})
    with pytest.raises(ValueError, match=r"images must be \[N, H, W, 1\]"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "needs a name"),
        ({"name": "vgg_F"}, "no network is called 'vgg_F'; did you mean: .*vgg_A"),
        ({"name": "alexnet_2012", "grops": 2}, "alexnet_2012 has no field 'grops'; .*groups"),
        ({"name": "vgg_D", "dropout": "half"}, "dropout: 'half' is not of type float"),
        ({"name": "vgg_D", "width": 0}, "width: must be above 0"),
        ({"name": "vgg_D", "width": float("inf")}, "width: inf: a number must be finite"),
        ({"name": "vgg_D", "width": float("nan")}, "width: nan: a number must be finite"),
        ({"name": "vgg_D", "width": 1e9}, "width: must be above 0, at most 1000"),
        ({"name": "vgg_D", "num_classes": 0}, "num_classes: must be 1 or more"),
        ({"name": "vgg_D", "num_classes": 10**21}, "num_classes: 10+: a whole number must be from"),
        ({"name": "vgg_D", "dropout": 1.0}, "dropout: must be from 0 to below 1, not 1.0"),
        ({"name": "lenet5_modern", "conv_pad": -1}, "conv_pad: -1: a whole number must be from 0"),
        (
            {"name": "lenet5_modern", "conv_features": ()},
            r"conv_features: \(\) is not of type tuple",
        ),
        (
            {"name": "lenet5_modern", "conv_features": ("a", "b")},
            r"conv_features: \('a', 'b'\) is not of type tuple\[int, int\]",
        ),
        (
            {"name": "lenet5_modern", "conv_features": (10**9, 16)},
            r"conv_features: \(1000000000, 16\): a whole number must be from 0 to 1000000",
        ),
        ({"name": "lenet5_modern", "dense_features": (1e9,)}, "is not of type tuple"),
        (
            {"name": "lenet5_modern", "conv_features": (0, 5)},
            r"conv_features: \(0, 5\) must hold 1 or more for each layer",
        ),
        (
            {"name": "nin_cifar10", "widths": ((1, 1, 1), (1, 0, 1), (1, 1))},
            r"widths: .* must hold 1 or more for each layer",
        ),
        (
            {"name": "resnet20_cifar10_A", "batch_norm_group": -1},
            "batch_norm_group: -1: a whole number",
        ),
        (
            {"name": "nin_cifar10", "widths": ((1, 2), 3)},
            r"is not of type tuple\[tuple\[int, \.\.\.",
        ),
        ({"name": "vgg_D", "input": 99_999_999}, "input: .* whole numbers from 1 to"),
        ({"name": "vgg_D", "input": (0, 0, 0)}, r"input: \(0, 0, 0\) is not \(height, width, chan"),
        ({"name": "vgg_D", "input": (32, 32)}, r"input: \(32, 32\) is not \(height, width, chann"),
        ({"name": "vgg_D", "input": ("a", "b", "c")}, r"input: \('a', 'b', 'c'\) is not"),
        ({"name": "vgg_D", "input": (32, 32, 1.5)}, r"input: \(32, 32, 1.5\) is not"),
        ({"name": "vgg_D", "input": None}, "input: None is not"),
        ({"name": "vgg_D", "initializer": "xavier"}, "initializer: 'xavier' is none of paper, he"),
        ({"name": "vgg_D", "dtype": "int8"}, "dtype: 'int8' is none of float32"),
    ],
)
def test_bad_specifications_are_named(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        models.create(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_norm_group", -1), ("shortcut_dropout", 1.0), ("features", (0, 128, 256, 512))],
)
def test_a_class_built_directly_checks_its_fields(field, value):
    with pytest.raises(ValueError, match=f"{field}: "):
        resnet.ResNet(input=(32, 32, 3), num_classes=10, **{field: value})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "vgg_A", "configuration": "F"}, "configuration: 'F' is none of A, B, C, D, E"),
        ({"name": "nin_cifar10", "head": "fc"}, "head: 'fc' is none of gap, dense"),
        ({"name": "nin_cifar10", "pool2": "mean"}, "pool2: 'mean' is none of max, average"),
        ({"name": "alexnet_2012", "removed": ("conv1",)}, "removed: 'conv1' is none of conv2"),
        ({"name": "lenet5_modern", "activation": "selu"}, "activation: 'selu' is none of relu"),
        ({"name": "lenet5_1998", "c3": "half"}, "c3: 'half' is none of partial, full"),
    ],
)
def test_values_no_layer_knows_are_named_before_anything_runs(spec, message):
    with pytest.raises(ValueError, match=message):
        models.check(models.create(spec))


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [
        ("lenet5_1998", 28, 32),  # C5's window is the whole of a 5×5 map
        ("lenet5_modern", 12, 16),
        ("vgg_A", 31, 32),  # five halvings
        ("alexnet_2012", 62, 67),  # 67 → 15 → 7 → 3 → 1
    ],
)
def test_an_input_too_small_is_told_the_least_size(name, size, least):
    small = models.create({"name": name}).input
    network = models.create({"name": name, "input": (size, size, small[2])})
    with pytest.raises(
        ValueError, match=f"{size}×{size} is too small, the smallest valid size is {least}×"
    ):
        models.check(network)
    models.check(models.create({"name": name, "input": (least, least, small[2])}))
