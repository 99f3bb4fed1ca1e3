"""LeNet-5 against the paper's tables and NumPy, and later networks of that name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import applied, drawn, initialised, outputs_of

import models
from models.lenet import EuclideanRBF, PartialConv, Subsample, rbf_centres, squash

# Table I as printed: a row for each map of S2, a column for each map of C3.
TABLE_1 = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def started(name):
    network = models.create({"name": name})
    return network, jnp.asarray(normal(0, 2, *network.input)), drawn(network)


def test_counts_are_the_papers():
    _, _, variables = started("lenet5_1998")
    params = {
        layer: sum(leaf.size for leaf in jax.tree.leaves(weights))
        for layer, weights in variables["params"].items()
    }
    # Section II.B, layer by layer; the RBF centres are constants.
    assert params == {"C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164}
    assert sum(params.values()) == 60_000


def test_connections_are_the_papers():
    """Each output unit's inputs and its bias; F6 and OUTPUT print no count of their own."""
    kernels = sum(row.count("X") for row in TABLE_1)
    c1 = 28 * 28 * 6 * (25 + 1)
    s2 = 14 * 14 * 6 * (4 + 1)
    c3 = 10 * 10 * (kernels * 25 + 16)
    s4 = 5 * 5 * 16 * (4 + 1)
    c5, f6, output = 120 * (16 * 25 + 1), 84 * (120 + 1), 84 * 10
    assert (c1, s2, c3, s4, c5) == (122_304, 5_880, 151_600, 2_000, 48_120)
    assert c1 + s2 + c3 + s4 + c5 + f6 + output == 340_908
    # What the layers declare is these without the biases, and one product a subsampling unit.
    _, _, variables = started("lenet5_1998")
    assert variables["params"]["C3"]["kernel"].shape == (5, 5, kernels)
    init = jax.nn.initializers.normal()
    third = PartialConv(table=((0,),) * kernels, kernel=(5, 5), kernel_init=init)
    assert third.multiply_adds((14, 14, 6)) == c3 - 10 * 10 * 16
    assert Subsample(kernel_init=init).multiply_adds((28, 28, 6)) == 14 * 14 * 6
    assert EuclideanRBF().multiply_adds((84,)) == output


def test_squashing_fixes_one_and_minus_one():
    # Appendix A: f(1) = 1 and f(−1) = −1, to the digits of the constants.
    np.testing.assert_allclose(
        squash(jnp.asarray([-1.0, 0.0, 1.0])), [-0.9999973, 0, 0.9999973], atol=2e-7
    )


def test_subsampling_scales_the_sum_of_four():
    x = normal(1, 2, 6, 4, 3)
    coefficient, bias = normal(2, 3), normal(3, 3)
    got = applied(
        Subsample(kernel_init=jax.nn.initializers.normal()),
        {"params": {"kernel": coefficient, "bias": bias}},
        jnp.asarray(x),
    )
    want = np.empty((2, 3, 2, 3))
    for i in range(3):
        for j in range(2):
            want[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum((1, 2))
    np.testing.assert_allclose(got, want * coefficient + bias, atol=1e-5)


def test_each_map_of_c3_reads_only_the_maps_of_table_1():
    network, images, variables = started("lenet5_1998")
    layer = PartialConv(
        table=tuple(
            tuple(source for source in range(6) if TABLE_1[source][target] == "X")
            for target in range(16)
        ),
        kernel=(5, 5),
        kernel_init=jax.nn.initializers.normal(),
    )
    weights = {"params": variables["params"]["C3"]}
    maps = jnp.asarray(normal(4, 1, 5, 5, 6))
    jacobian = jax.jacobian(lambda x: applied(layer, weights, x).reshape(16))(maps)
    sensitivity = np.abs(jacobian).max((1, 2, 3))  # [C3 map, S2 map]
    for target in range(16):
        for source in range(6):
            assert (sensitivity[target, source] > 0) == (TABLE_1[source][target] == "X")
    # The network's own C3 is this layer: same weights, same output.
    outputs = outputs_of(network, variables, images, capture=("S2", "C3"))
    np.testing.assert_array_equal(
        outputs.captured["C3"], applied(layer, weights, squash(outputs.captured["S2"]))
    )


def test_partial_c3_is_the_full_one_with_zeros():
    layer = PartialConv(
        table=((0, 2), (1,)), kernel=(3, 3), kernel_init=jax.nn.initializers.normal()
    )
    x = jnp.asarray(normal(5, 2, 4, 4, 3))
    variables = layer.init(jax.random.key(1), x)
    kernel = np.asarray(variables["params"]["kernel"])
    full = np.zeros((3, 3, 3, 2), np.float32)
    full[:, :, 0, 0], full[:, :, 2, 0], full[:, :, 1, 1] = np.moveaxis(kernel, -1, 0)
    want = np.empty((2, 2, 2, 2))
    for i in range(2):
        for j in range(2):
            want[:, i, j] = np.tensordot(x[:, i : i + 3, j : j + 3], full, 3)
    np.testing.assert_allclose(applied(layer, variables, x), want, atol=1e-5)


def test_logits_are_minus_the_distances_to_the_bitmaps():
    network, images, variables = started("lenet5_1998")
    outputs = outputs_of(network, variables, images, capture=("F6",))
    units = 1.7159 * np.tanh(2 / 3 * np.asarray(outputs.captured["F6"], np.float64))
    distances = np.empty((2, 10))
    for digit, centre in enumerate(rbf_centres()):
        distances[:, digit] = ((units - centre) ** 2).sum(1)
    np.testing.assert_allclose(outputs.logits, -distances, rtol=1e-5)
    # The bitmap of a digit has distance zero to its own class, the smallest.
    bitmaps = rbf_centres()
    logits = applied(EuclideanRBF(), {}, jnp.asarray(bitmaps))
    np.testing.assert_array_equal(logits.argmax(1), np.arange(10))
    np.testing.assert_array_equal(np.diagonal(logits), np.zeros(10))


def test_bitmaps_are_ten_signs_apart_on_a_grid_of_7_by_12():
    bitmaps = rbf_centres()
    assert bitmaps.shape == (10, 7 * 12)
    assert set(np.unique(bitmaps)) == {-1.0, 1.0}
    apart = [(bitmaps[i] != bitmaps[j]).sum() for i in range(10) for j in range(i)]
    assert (min(apart), max(apart)) == (12, 50)  # least between 6 and 8
    assert (bitmaps[6] != bitmaps[8]).sum() == 12
    one = "".join("#" if value > 0 else "." for value in bitmaps[1])
    assert one[:14] == "...##....###.."


@pytest.mark.parametrize(("initializer", "power"), [("paper", 1.0), ("lecun_sqrt_fan_in", 0.5)])
def test_weights_start_within_the_printed_range(initializer, power):
    network = models.create({"name": "lenet5_1998", "initializer": initializer})
    params = initialised(network)[1]["params"]
    fan_ins = {"C1": 25, "S2": 4, "S4": 4, "C5": 400, "F6": 120}
    for layer, fan_in in fan_ins.items():
        bound = 2.4 / fan_in**power
        largest = np.abs(params[layer]["kernel"]).max()
        assert bound / 2 < largest <= bound * (1 + 1e-6), layer
        assert not np.any(params[layer]["bias"])
    # C3 by map: the first six see 3 maps, the next nine 4, the last 6.
    kernel = np.abs(params["C3"]["kernel"])
    for part, fan_in in ((slice(0, 18), 75), (slice(18, 54), 100), (slice(54, 60), 150)):
        bound = 2.4 / fan_in**power
        assert 0.97 * bound < kernel[..., part].max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("name", ["lenet5_1998", "lenet5_modern"])
def test_dense_form_is_the_network_at_every_fourth_pixel(name):
    """No layer is padded, so each position is exactly the network on its own 32×32 crop."""
    network, _, variables = started(name)
    image = jnp.asarray(normal(6, 1, 36, 40, 1))
    dense = models.create({"name": name, "dense_form": True})
    scores = outputs_of(dense, variables, image).logits
    assert scores.shape == (1, 2, 3, 10)
    crops = [image[0, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32] for i in range(2) for j in range(3)]
    want = outputs_of(network, variables, jnp.stack(crops)).logits
    np.testing.assert_allclose(scores.reshape(6, 10), want, rtol=1e-4, atol=1e-4)


def test_impossible_fields_of_the_printed_network_are_named():
    for field, value, message in (
        ("num_classes", 100, "num_classes: the RBF output has bitmaps for 10 classes, not 100"),
        ("width", 0.5, "width: Table I connects 6 to 16 maps; .* c3='full'"),
    ):
        with pytest.raises(ValueError, match=message):
            models.check(models.create({"name": "lenet5_1998", field: value}))
    models.check(models.create({"name": "lenet5_1998", "width": 0.5, "c3": "full"}))


MODERN_FIELDS = {
    "c3": "full",
    "subsampling": "max",
    "activation": "relu",
    "output": "softmax",
}
MODERN_NAMES = {
    "C1": "conv1",
    "C3": "conv2",
    "C5": "fc3",
    "F6": "fc4",
    "OUTPUT": "fc5",
}


@pytest.mark.parametrize(("subsampling", "pool"), [("max", "max"), ("average", "average")])
def test_printed_network_with_all_changes_is_the_modern_one(subsampling, pool):
    changed = models.create(
        {"name": "lenet5_1998", **MODERN_FIELDS, "subsampling": subsampling, "num_classes": 7}
    )
    modern = models.create({"name": "lenet5_modern", "pool": pool, "num_classes": 7})
    variables = drawn(changed)
    assert not changed.gives_distances
    params = {MODERN_NAMES[name]: dict(leaf) for name, leaf in variables["params"].items()}
    # C5 is a convolution over the whole 5×5 map, fc3 a dense layer on its values in the same order.
    params["fc3"]["kernel"] = params["fc3"]["kernel"].reshape(400, 120)
    images = jnp.asarray(normal(8, 3, 32, 32, 1))
    np.testing.assert_allclose(
        outputs_of(changed, variables, images).logits,
        outputs_of(modern, {"params": params}, images).logits,
        rtol=1e-4,
        atol=1e-4,
    )


def test_unknown_parts_of_the_printed_network_are_named():
    for field, message in (
        ("c3", "c3: 'x' is none of partial, full"),
        ("subsampling", "subsampling: 'x' is none of trainable, average, max"),
        ("activation", "activation: 'x' is none of scaled_tanh, relu"),
        ("output", "output: 'x' is none of rbf, softmax"),
    ):
        with pytest.raises(ValueError, match=message):
            models.check(models.create({"name": "lenet5_1998", field: "x"}))


def test_modern_fields_change_what_they_say():
    network, images, variables = started("lenet5_modern")
    default = outputs_of(network, variables, images).logits
    for change in ({"pool": "average"}, {"activation": "tanh"}):
        other = outputs_of(network.clone(**change), variables, images).logits
        assert np.abs(other - default).max() > 1e-3
    small = models.create({"name": "lenet5_modern", "input": (28, 28, 1), "conv_pad": 2})
    # 28×28 with two pixels of padding is the same network as 32×32 with the padding in the image.
    middle = images[:, 2:30, 2:30]
    padded = jnp.pad(middle, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_allclose(
        outputs_of(small, variables, middle).logits,
        outputs_of(network, variables, padded).logits,
        rtol=1e-4,
        atol=1e-5,
    )


def test_caffes_lenet_has_one_nonlinearity():
    network, images, variables = started("lenet_caffe")
    for weights in variables["params"].values():
        weights["bias"] *= 0

    def hidden(x):
        return outputs_of(network, variables, x, capture=("ip1",)).captured["ip1"]

    # Up to ip1 only maxima: without biases, twice the image gives twice the output.
    np.testing.assert_allclose(hidden(2 * images), 2 * hidden(images), rtol=1e-4, atol=1e-4)
    assert np.abs(hidden(-images) + hidden(images)).max() > 1e-2  # maxima are not linear
