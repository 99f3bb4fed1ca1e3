"""Residual networks against direct formulas, and the properties that the papers state."""

import dataclasses
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import (
    compiled,
    conv,
    images_for,
    initial,
    initialised,
    norm,
    relu,
    run,
    scrambled,
    shapes,
    zeroed,
)
from jax.extend.core import jaxprs_in_params

import models
from inspection import cost
from models import resnet, resnet_presets

SMALL = {"name": "resnet20_cifar10_A", "input": (8, 8, 3), "width": 0.25, "stages": (1, 1, 1)}


def small(**fields: Any) -> models.Network:
    return models.create({**SMALL, **fields})


def unit(block: str = "basic", stride: int = 1, features: int = 4, **fields: Any) -> resnet.Unit:
    defaults: dict[str, Any] = {
        "stride_in": "1x1",
        "shortcut": "A",
        "unit": "original",
        "preactivated": False,
        "zero_scale": False,
        "shortcut_scale": 1.0,
        "residual_scale": 1.0,
        "gate": "none",
        "gate_bias": 0.0,
        "shortcut_dropout": 0.0,
        "conv": partial(resnet.Conv, bias=False, batch_norm={}),
        "norm": resnet.BatchNorm,
    }
    return resnet.Unit(features=features, block=block, stride=stride, **{**defaults, **fields})


def unit_input(channels: int = 4, side: int = 6) -> np.ndarray:
    draw = np.random.default_rng(2)
    return draw.standard_normal((2, side, side, channels), dtype=np.float32)


# Straight-line formulas, none of them ours.


def figure_4(kind: str, x: Any, variables: Any) -> jax.Array:
    """The units (a) to (e) of He et al. 2016b, Fig. 4, with two layers and an identity shortcut."""
    p, s = variables["params"], variables["batch_stats"]

    def bn(layer: str, x: Any) -> jax.Array:
        return norm(x, p[layer]["bn"], s[layer]["bn"])

    if kind == "original":
        return relu(x + bn("b", conv(relu(bn("a", conv(x, p["a"]))), p["b"])))
    if kind == "bn_after_addition":
        total = x + conv(relu(bn("a", conv(x, p["a"]))), p["b"])
        return relu(norm(total, p["bn_sum"], s["bn_sum"]))
    if kind == "relu_before_addition":
        return x + relu(bn("b", conv(relu(bn("a", conv(x, p["a"]))), p["b"])))
    if kind == "relu_only_preact":
        return x + bn("b", conv(relu(bn("a", conv(relu(x), p["a"]))), p["b"]))
    before = relu(norm(x, p["bn1"], s["bn1"]))
    return x + conv(relu(bn("a", conv(before, p["a"]))), p["b"])


@pytest.mark.parametrize("kind", resnet.UNITS)
def test_units_are_those_of_figure_4(kind: str) -> None:
    layer, x = unit(unit=kind), unit_input()
    variables = scrambled(initial(layer, x, False))
    np.testing.assert_allclose(
        run(layer, variables, x, False), figure_4(kind, x, variables), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("block", ["basic", "bottleneck", "one_layer"])
def test_unit_with_zero_weights_is_relu_of_its_input(block: str, train: bool) -> None:
    layer = unit(block)
    x = unit_input(16 if block == "bottleneck" else 4)
    variables = initial(layer, x, False)
    variables = {**variables, "params": zeroed(variables["params"], "kernel")}
    out, _ = run(layer, variables, x, train, mutable=["batch_stats"])
    np.testing.assert_array_equal(out, relu(x))


@pytest.mark.parametrize("shape", [(4, 4, 6), (4, 8, 6), (4, 8, 5)])
def test_residual_minus_shortcut_equals_plain(shape: tuple[int, int, int]) -> None:
    # Without the ReLU after the addition, so that the difference is the shortcut itself.
    channels, features, side = shape
    stride, x = (1 if features == channels else 2), unit_input(channels, side)
    residual = unit(unit="preact", features=features, stride=stride)
    plain = unit(unit="preact", features=features, stride=stride, shortcut="none")
    variables = scrambled(initial(residual, x, False))
    # Option A: every second pixel, and zeros in the channels that are new.
    half = -(-side // stride)
    shortcut = np.zeros((2, half, half, features), np.float32)
    for row in range(half):
        for column in range(half):
            shortcut[:, row, column, :channels] = x[:, stride * row, stride * column]
    np.testing.assert_allclose(
        run(residual, variables, x, False) - shortcut,
        run(plain, variables, x, False),
        rtol=1e-5,
        atol=1e-5,
    )


def test_plain_and_residual_differ_in_one_field() -> None:
    for plain, residual in (
        ("plain20_cifar10", "resnet20_cifar10_A"),
        ("plain56_cifar10", "resnet56_cifar10_A"),
        ("plain34", "resnet34_A"),
    ):
        one, other = models.create({"name": plain}), models.create({"name": residual})
        assert type(one) is type(other)
        names = [field.name for field in dataclasses.fields(one) if field.name != "parent"]
        assert [n for n in names if getattr(one, n) != getattr(other, n)] == ["shortcut"]


def test_zero_scaling_of_the_shortcut_is_the_plain_net() -> None:
    # He et al. 2016b, Table 1: "constant scaling, 0 and 1: this is a plain net".
    plain, scaled = small(shortcut="none"), small(shortcut_scale=0.0)
    variables, images = initial(plain), images_for(plain)
    np.testing.assert_array_equal(
        run(plain, variables, images).logits, run(scaled, variables, images).logits
    )


@pytest.mark.parametrize(("gate", "on_residual"), [("exclusive", 0.5), ("shortcut_only", 1.0)])
def test_closed_gates_are_constant_scaling(gate: str, on_residual: float) -> None:
    # g = sigmoid(0) = 1/2 everywhere where the gate has no weights and b_g = 0.
    x = unit_input()
    gated = unit(gate=gate)
    variables = scrambled(initial(gated, x, False))
    params = zeroed(variables["params"], "gate")
    scaled = unit(shortcut_scale=0.5, residual_scale=on_residual)
    np.testing.assert_allclose(
        run(gated, {**variables, "params": params}, x, False),
        run(scaled, variables, x, False),
        rtol=1e-6,
    )


@pytest.mark.parametrize("gate", ["exclusive", "shortcut_only"])
def test_gates_start_at_their_bias_and_multiply(gate: str) -> None:
    x = unit_input()
    layer = unit(gate=gate, gate_bias=-6.0)
    variables = initial(layer, x, False)
    p, s = variables["params"], variables["batch_stats"]
    fresh = compiled(lambda key, x: layer.init(key, x, False)["params"]["gate"]["bias"])
    p["gate"]["bias"] = fresh(jax.random.key(0), x)
    np.testing.assert_array_equal(p["gate"]["bias"], np.full(4, -6, np.float32))
    g = 1 / (1 + jnp.exp(-conv(x, p["gate"])))
    a = relu(norm(conv(x, p["a"]), p["a"]["bn"], s["a"]["bn"]))
    residual = norm(conv(a, p["b"]), p["b"]["bn"], s["b"]["bn"])
    expected = relu((1 - g) * x + (g if gate == "exclusive" else 1) * residual)
    np.testing.assert_allclose(run(layer, variables, x, False), expected, rtol=1e-4, atol=1e-5)


def test_dropout_is_on_the_shortcut_and_only_in_training() -> None:
    x = jnp.abs(unit_input(side=16)) + 1
    layer = unit(shortcut_dropout=0.5)
    variables = initial(layer, x, False)
    variables = {**variables, "params": zeroed(variables["params"], "kernel")}
    np.testing.assert_array_equal(run(layer, variables, x, False), x)
    out, _ = run(
        layer, variables, x, True, rngs={"dropout": jax.random.key(3)}, mutable=["batch_stats"]
    )
    ratio = np.asarray(out / x)
    assert set(np.unique(ratio.round(5))) == {0.0, 2.0}
    assert abs((ratio == 0).mean() - 0.5) < 0.05  # of 2048 values: four standard deviations


def test_projections_are_where_the_shapes_say() -> None:
    def projections(name: str) -> list[str]:
        params = models.variables_of(models.create({"name": name}))["params"]
        return [unit for unit, layers in params.items() if "projection" in layers]

    # He et al. 2016a, section 4.1: of the 16 shortcuts of ResNet-34, B projects 3 and C all.
    assert projections("resnet34_B") == ["conv3_1", "conv4_1", "conv5_1"]
    assert len(projections("resnet34_C")) == 16
    assert projections("resnet34_A") == projections("plain34") == []
    # Bottlenecks widen in the first stage as well.
    assert projections("resnet50_v1") == ["conv2_1", "conv3_1", "conv4_1", "conv5_1"]
    assert projections("resnet164_cifar10_preact") == ["conv2_1", "conv3_1", "conv4_1"]


@pytest.mark.parametrize(
    "name",
    ["plain34", "resnet34_A", "resnet34_B", "resnet18_C", "resnet50_v1", "resnet20_cifar10_B"],
)
def test_skips_are_the_additions_of_the_traced_network(name: str) -> None:
    network = models.create({"name": name})
    variables = models.variables_of(network)
    images = jax.ShapeDtypeStruct((1, *network.input), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda v, x: network.apply(v, x)[0])(variables, images)

    # An addition of two maps is a skip; batch norm adds a vector, which was broadcast.
    def additions(jaxpr: Any) -> int:
        broadcast: set[int] = set()
        count = 0
        for equation in jaxpr.eqns:
            if equation.primitive.name == "broadcast_in_dim":
                broadcast.update(map(id, equation.outvars))
            if equation.primitive.name == "add" and len(equation.outvars[0].aval.shape) == 4:
                shapes = {x.aval.shape for x in equation.invars}
                count += len(shapes) == 1 and not any(id(x) in broadcast for x in equation.invars)
            for inner in jaxprs_in_params(equation.params):
                count += additions(inner)
        return count

    assert sum(network.skips.counts.values()) == additions(jaxpr.jaxpr)
    with_projection = [unit for unit, of in variables["params"].items() if "projection" in of]
    assert sorted(network.skips.weighted) == sorted(with_projection)


@pytest.mark.parametrize(("name", "side"), [("resnet50_v1", 28), ("resnet50_v1_5", 56)])
def test_version_one_and_a_half_strides_in_the_3x3(name: str, side: int) -> None:
    network = models.create({"name": name})
    layers = ("conv1", "pool1", "conv3_1/a", "conv3_1/b", "conv3_1/projection")
    outputs = jax.eval_shape(
        lambda v, x: network.apply(v, x, capture=layers),
        models.variables_of(network),
        jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32),
    )
    sides = [outputs.captured[layer].shape[1] for layer in layers]
    assert sides == [112, 56, side, 28, 28]


@pytest.mark.parametrize(
    ("name", "pad"),
    [
        # The authors' Caffe files say kernel 3, stride 2 and no pad: of 112 pixels the last window
        # hangs over the right and bottom edge by one.
        *((name, (0, 1)) for name in ("plain18", "resnet34_A", "resnet50_v1", "resnet152_v1")),
        # Torch pads by 1 on both sides; of 112 pixels the last window then ends inside.
        ("resnet50_v1_5", (1, 1)),
        ("resnet200_preact", (1, 1)),
    ],
)
def test_pool1_pads_as_its_release(name: str, pad: tuple[int, int]) -> None:
    rows = {layer.name: layer for layer in cost.measure(models.create({"name": name})).layers}
    window = rows["pool1"].window
    assert window is not None
    assert window.pad == (pad, pad)
    assert rows["pool1"].output == (56, 56, 64)


def test_preactivation_carries_the_signal_unchanged() -> None:
    network = small(unit="preact", stages=(4,), features=(16,))
    images, variables = images_for(network), initial(network)
    variables = {**variables, "params": zeroed(variables["params"], r"conv2_\d/b/kernel")}
    captured = run(network, variables, images, capture=("conv1", "conv2_4")).captured
    np.testing.assert_array_equal(captured["conv2_4"], relu(captured["conv1"]))


def test_preactivation_shares_the_first_and_ends_with_a_last_norm() -> None:
    network = models.create({"name": "resnet110_cifar10_preact"})
    params = models.variables_of(network)["params"]
    assert "bn" in params["conv1"]
    without = [name for name in params if re.match(r"conv\d_", name) and "bn1" not in params[name]]
    assert without == ["conv2_1"]
    assert params["final_bn"]["scale"].shape == (64,)


def test_last_activation_of_a_preactivation_net() -> None:
    for kind in ("preact", "relu_only_preact"):
        network = small(unit=kind)
        variables, images = scrambled(initial(network)), images_for(network)
        captured = run(network, variables, images, capture=("conv4_1", "global_avg_pool")).captured
        last = captured["conv4_1"]
        if kind == "preact":
            weights = variables["params"]["final_bn"]
            last = norm(last, weights, variables["batch_stats"]["final_bn"])
        np.testing.assert_allclose(
            captured["global_avg_pool"], relu(last).mean((1, 2)), rtol=1e-4, atol=1e-5
        )


def test_without_batch_norm_every_convolution_has_a_bias() -> None:
    network = small(batch_norm=False)
    tree = models.variables_of(network)
    assert set(tree) == {"params"}
    kinds = {name for layer in tree["params"]["conv2_1"].values() for name in layer}
    assert kinds | set(tree["params"]["conv1"]) == {"kernel", "bias"}

    images, variables = images_for(network), scrambled(initial(network))
    p = variables["params"]
    captured = run(network, variables, images, capture=("conv2_1",)).captured
    x = relu(conv(images, p["conv1"]))
    second = conv(relu(conv(x, p["conv2_1"]["a"])), p["conv2_1"]["b"])
    np.testing.assert_allclose(captured["conv2_1"], relu(x + second), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["original", "preact"])
def test_inserting_a_zero_unit_leaves_the_outputs_unchanged(kind: str) -> None:
    # He et al. 2016a, section 1: the solution by construction, for which depth does not hurt.
    shallow, deep = small(unit=kind), small(unit=kind, stages=(1, 2, 1))
    images, variables, longer = images_for(shallow), initial(shallow), initial(deep, seed=7)
    inserted = zeroed(longer["params"]["conv3_2"], "kernel")
    variables = {
        "params": {**variables["params"], "conv3_2": inserted},
        "batch_stats": {
            **variables["batch_stats"],
            "conv3_2": longer["batch_stats"]["conv3_2"],
        },
    }
    np.testing.assert_array_equal(
        run(shallow, variables, images).logits, run(deep, variables, images).logits
    )


@pytest.mark.parametrize("train", [False, True])
def test_a_unit_of_scale_zero_can_be_inserted_into_a_trained_net(train: bool) -> None:
    """The same function at once, to the bit, and not with the usual scale of 1."""
    shallow, deep = small(), small(stages=(1, 2, 1), zero_scale=("conv3_2",))
    _, longer = initialised(deep)
    scales = {
        f"{unit}/{layer}": longer["params"][unit][layer]["bn"]["scale"]
        for unit in deep.units
        for layer in "ab"
    }
    assert {name for name, scale in scales.items() if not scale.any()} == {"conv3_2/b"}
    images, variables = images_for(shallow), scrambled(initial(shallow))
    inserted = {
        kind: {**variables[kind], "conv3_2": longer[kind]["conv3_2"]}
        for kind in ("params", "batch_stats")
    }
    options: Any = {"train": train, "mutable": ["batch_stats"]}

    def logits(network: Any, variables: Any) -> np.ndarray:
        return run(network, variables, images, **options)[0].logits

    before = logits(shallow, variables)
    np.testing.assert_array_equal(logits(deep, inserted), before)
    ordinary = jax.tree.map(lambda leaf: leaf, inserted)
    ordinary["params"]["conv3_2"]["b"]["bn"]["scale"] = np.ones(8, np.float32)
    assert np.abs(logits(deep, ordinary) - before).max() > 0.01


def test_recomputation_changes_neither_weights_nor_gradients() -> None:
    kept, recomputed = small(unit="preact"), small(unit="preact", remat=True)
    images, variables = images_for(kept), initial(kept)
    again = models.variables_of(recomputed)
    assert shapes(variables) == shapes(again)

    def gradients(network: models.Network) -> Any:
        def loss(params: Any) -> jax.Array:
            out, _ = network.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            return jnp.square(out.logits).sum()

        return compiled(jax.grad(loss))(variables["params"])

    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
        gradients(kept),
        gradients(recomputed),
    )
    with pytest.raises(ValueError, match="capture: needs remat=False"):
        recomputed.apply(variables, images, capture=("conv1",))


def test_batch_norm_groups_reach_every_norm() -> None:
    # Two groups of two in one batch are two batches of two.
    grouped, alone = small(unit="preact", batch_norm_group=2), small(unit="preact")
    images, variables = images_for(grouped, count=4), initial(grouped)

    def logits(network: models.Network, x: Any) -> jax.Array:
        return run(network, variables, x, train=True, mutable=["batch_stats"])[0].logits

    halves = [logits(alone, images[:2]), logits(alone, images[2:])]
    np.testing.assert_allclose(
        logits(grouped, images), jnp.concatenate(halves), rtol=1e-3, atol=1e-4
    )


def test_bfloat16_is_near_float32() -> None:
    exact, rough = small(), small(dtype="bfloat16")
    images, variables = images_for(exact, count=8), initial(exact)
    expected = run(exact, variables, images).logits
    outputs, moved = run(rough, variables, images, train=True, mutable=["batch_stats"])
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs.logits, moved))} == {
        jnp.dtype("float32")
    }
    # bfloat16 rounds to 2^-9 of a value; eight layers add up to well under 5% of the spread.
    error = jnp.abs(run(rough, variables, images).logits - expected).max()
    assert 0 < error < 0.05 * expected.std()


@pytest.mark.parametrize("name", [name for name in resnet_presets.PRESETS if "v1_5" not in name])
def test_depth_is_that_of_the_name(name: str) -> None:
    network = models.create({"name": name})
    assert isinstance(network, resnet.ResNet)
    found = re.match(r"[a-z]+(\d+)", name)
    assert found
    layers = sum(network.stages) * len(resnet.BLOCKS[network.block]) + 2
    assert layers == int(found[1])


def test_one_layer_skips_keep_the_depth() -> None:
    # He et al. 2016b, Table 3: ResNet-110 with a skip over each layer, the same layers otherwise.
    network = models.create(
        {"name": "resnet110_cifar10_A", "block": "one_layer", "stages": (36, 36, 36)}
    )
    leaves = jax.tree.leaves(models.variables_of(network)["params"])
    assert sum(leaf.size for leaf in leaves) == 1_727_962


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shortcut": "D"}, "shortcut: 'D' is none of none, A, B, C"),
        ({"unit": "post"}, "unit: 'post' is none of original, bn_after_addition"),
        ({"stem": "tiny"}, "stem: 'tiny' is none of imagenet, cifar"),
        ({"block": "wide"}, "block: 'wide' is none of basic, bottleneck, one_layer"),
        ({"stride_in": "2"}, "stride_in: '2' is none of 1x1, 3x3"),
        ({"gate": "open"}, "gate: 'open' is none of none, exclusive, shortcut_only"),
        ({"stages": (3, 3)}, r"stages: \(3, 3\) must hold"),
        ({"stages": (3, 0, 3)}, r"stages: \(3, 0, 3\) must hold"),
        ({"shortcut_dropout": 1.0}, "shortcut_dropout: must be from 0 to below 1"),
        ({"zero_scale": ("conv2_2",)}, "zero_scale: 'conv2_2' matches no unit; .* to conv4_1"),
        ({"zero_scale": ("*",), "unit": "preact"}, r"zero_scale: .* needs a unit of original"),
        ({"zero_scale": ("*",), "batch_norm": False}, "zero_scale: .* needs batch_norm=True"),
        ({"batch_norm": False, "unit": "bn_after_addition"}, "batch_norm: .* needs a unit of"),
        ({"batch_norm_group": -1}, "batch_norm_group: -1: a whole number must be from 0"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**fields)


def test_a_network_without_side_heads_refuses_them() -> None:
    with pytest.raises(ValueError, match="heads: ResNet has no side head 'aux1'"):
        models.check(small(heads=("aux1",)))


def test_option_a_does_not_drop_channels() -> None:
    with pytest.raises(ValueError, match="shortcut: A only appends channels, so 4 cannot become 2"):
        models.check(small(features=(16, 8, 16)))
