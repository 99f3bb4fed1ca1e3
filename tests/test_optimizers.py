"""Optimizers against hand-rolled NumPy loops, rules by parameter name, averages, LeNet-5's own
step sizes against finite differences and against its equations written out.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from errors import UserError
from training import levenberg_marquardt, optimizers, weight_averaging
from training.durations import in_steps
from training.optimizers import Rules

PARAMS = {"conv1": {"kernel": 1.0, "bias": 0.5}, "cccp6": {"kernel": -2.0, "bias": 0.25}}
# The rate changes in the loop, since that is where the two conventions differ.
RATES = [0.1] * 4 + [0.01] * 6


def tree(values: dict) -> dict:
    return jax.tree.map(lambda value: jnp.asarray([value], jnp.float32), values)


def gradient(step: int) -> dict:
    """A gradient that differs for each parameter and step."""
    return {
        layer: {
            name: np.float32(np.cos(step + 3 * i + j))
            for j, name in enumerate(sorted(PARAMS[layer]))
        }
        for i, layer in enumerate(sorted(PARAMS))
    }


def stepped(optimizer: optimizers.Optimizer, rates: list[float] = RATES) -> dict:
    params = tree(PARAMS)
    state = optimizer.init(params)
    for step, rate in enumerate(rates):
        updates, state = optimizer.update(
            tree(gradient(step)), state, params, learning_rate=jnp.float32(rate)
        )
        params = jax.tree.map(jnp.add, params, updates)
    return params


def by_hand(inside: bool, decay: dict, factors: dict) -> dict:
    """Ten steps of SGD with momentum 0.9 and L2 of 0.1 in the gradient, a loop of plain NumPy."""
    params = {layer: dict(values) for layer, values in PARAMS.items()}
    velocity = {layer: dict.fromkeys(values, 0.0) for layer, values in PARAMS.items()}
    for step, rate in enumerate(RATES):
        g = gradient(step)
        for layer in params:
            for name in params[layer]:
                w, v = params[layer][name], velocity[layer][name]
                slope = g[layer][name] + 0.1 * decay.get(f"{layer}/{name}", 0.0) * w
                own = rate * factors.get(f"{layer}/{name}", 1.0)
                v = 0.9 * v + (own * slope if inside else slope)
                velocity[layer][name] = v
                params[layer][name] = w - (v if inside else own * v)
    return params


def assert_trees_close(one: dict, other: dict, rtol: float = 2e-5) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=rtol, atol=1e-6),
        one,
        other,
    )


@pytest.mark.parametrize(("name", "inside"), [("sgd", False), ("caffe_sgd", True)])
def test_both_momentum_conventions_against_a_loop_by_hand(name: str, inside: bool) -> None:
    fields = {"name": name, "momentum": 0.9, "weight_decay": 0.1}
    kernels = {"conv1/kernel": 1.0, "cccp6/kernel": 1.0}
    assert_trees_close(stepped(optimizers.create(fields)), by_hand(inside, kernels, {}))
    # NiN: the last layer at a tenth, biases at double; decay on chosen parameters.
    rules = Rules(
        rates=(("cccp6/kernel", 0.1), ("cccp6/*", 0.2), ("*bias", 2.0)),
        decay=(("conv1/*", 1.0), ("cccp6/bias", 3.0)),
    )
    factors = {"cccp6/kernel": 0.1, "cccp6/bias": 0.2, "conv1/bias": 2.0}
    decay = {"conv1/kernel": 1.0, "conv1/bias": 1.0, "cccp6/bias": 3.0}
    assert_trees_close(stepped(optimizers.create(fields, rules)), by_hand(inside, decay, factors))


def test_the_conventions_differ_after_a_drop_and_agree_before() -> None:
    fields = {"momentum": 0.9, "weight_decay": 0.1}
    inside = optimizers.create({"name": "caffe_sgd", **fields})
    outside = optimizers.create({"name": "sgd", **fields})
    before, after = RATES[:4], RATES[:5]
    assert_trees_close(stepped(inside, before), stepped(outside, before))
    # One step after the rate falls to a tenth, `inside` still moves by 0.9 of the old velocity.
    moved, less = stepped(inside, after), stepped(outside, after)
    assert abs(moved["conv1"]["bias"] - less["conv1"]["bias"]).item() > 1e-3


def test_adam_has_its_decay_in_the_gradient() -> None:
    fields = {"b1": 0.9, "b2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1}
    got = stepped(optimizers.create({"name": "adam", **fields}))
    w, m, v = PARAMS["conv1"]["kernel"], 0.0, 0.0
    for step, rate in enumerate(RATES):
        g = gradient(step)["conv1"]["kernel"] + 0.1 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= rate * (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
    np.testing.assert_allclose(got["conv1"]["kernel"], [w], rtol=1e-4)


def test_clipping_bounds_the_norm_of_the_whole_gradient_and_comes_before_decay() -> None:
    fields = {"name": "sgd", "momentum": 0.0, "weight_decay": 1.0}
    optimizer = optimizers.create(fields, Rules(clip_norm=1.0))
    params = {"a": {"kernel": jnp.asarray([2.0])}, "b": {"bias": jnp.asarray([5.0])}}
    gradients = {"a": {"kernel": jnp.asarray([3.0])}, "b": {"bias": jnp.asarray([4.0])}}
    updates, _ = optimizer.update(
        gradients, optimizer.init(params), params, learning_rate=jnp.float32(1.0)
    )
    assert_trees_close(updates, {"a": {"kernel": [-2.6]}, "b": {"bias": [-0.8]}})


def test_decay_acts_only_on_kernels_by_default() -> None:
    """Batch norm's scale and shift, and biases, are left alone: the ResNet authors' reading."""
    network = models.create({"name": "resnet20_cifar10_A"})
    params = models.variables_of(network)["params"]
    decayed = [
        name
        for name in jax.tree.leaves(optimizers.names(params))
        if optimizers.factor_of(name, optimizers.KERNELS, 0.0)
    ]
    # conv1, 9 units of two layers, fc; option A has no weights.
    assert len(decayed) == 1 + 18 + 1
    assert {name.rsplit("/")[-1] for name in decayed} == {"kernel"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"rates": (("cccp7/*", 0.1),)},
            "config.parameters.rates: 'cccp7/\\*' matches no parameter",
        ),
        (
            {"rates": (("cccp6/*", -1.0),)},
            "config.parameters.rates: must be a number from 0, not -1.0",
        ),
        ({"decay": ("*kernel",)}, "config.parameters.decay: '\\*kernel' is not a pair"),
        ({"decay": (("*", float("nan")),)}, "config.parameters.decay: must be a number from 0"),
        ({"rates": (5,)}, "config.parameters.rates: 5 is not a pair"),
    ],
)
def test_bad_rules_are_named(fields: dict, message: str) -> None:
    config = {"rates": (), "decay": (), "clip_norm": 0.0, **fields}
    with pytest.raises(UserError, match=message):
        optimizers.rules(config, PARAMS)


def averaged(config: dict, values: list[float]) -> float:
    def steps_of(field: str, duration: str) -> int:
        return in_steps(field, duration, steps_per_epoch=10, batch_size=1)

    chosen = weight_averaging.create(config, steps_of)
    averages = chosen.init({"params": jnp.float32(7.0)})
    for done, value in enumerate(values, start=1):
        averages = chosen.update(averages, jnp.int32(done), {"params": jnp.float32(value)})
    return float(averages["params"])


def test_polyak_is_the_plain_mean_and_exponential_its_recursion() -> None:
    values = [3.0, -1.0, 4.0, 1.5, 9.25, 2.0, 6.0]
    polyak = averaged({"name": "polyak", "start": ""}, values)
    assert polyak == pytest.approx(np.mean(values), rel=1e-6)
    late = averaged({"name": "polyak", "start": "3 steps"}, values)
    assert late == pytest.approx(np.mean(values[3:]), rel=1e-6)
    expected = values[2]
    for value in values[3:]:
        expected = 0.8 * expected + 0.2 * value
    got = averaged({"name": "exponential", "decay": 0.8, "start": "2 steps"}, values)
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def lenet():
    """LeNet-5, its weights and three patterns."""
    network = models.create({"name": "lenet5_1998", "initializer": "lecun_sqrt_fan_in"})
    images = jax.random.uniform(jax.random.key(1), (3, 32, 32, 1), minval=-0.1, maxval=1.2)
    leaves, structure = jax.tree.flatten(models.variables_of(network)["params"])
    # Kernels of ±1/√fan-in and small biases, drawn here: no initialisation to compile.
    draws = np.random.RandomState(0)
    params = jax.tree.unflatten(
        structure,
        [
            jnp.asarray(
                draws.normal(size=leaf.shape) / np.sqrt(max(leaf.size / leaf.shape[-1], 9))
            ).astype(jnp.float32)
            for leaf in leaves
        ],
    )
    curvature = jax.jit(lambda p, x: levenberg_marquardt.curvature(network, p, x))(params, images)
    return network, params, images, curvature


@pytest.mark.parametrize("place", [("F6", "kernel", (17, 40)), ("C5", "kernel", (2, 3, 5, 60))])
def test_curvature_is_the_gauss_newton_diagonal_by_finite_differences(lenet, place) -> None:
    """E = Σ_j (x_j − c_j)²: Gauss-Newton's diagonal is 2·Σ_j (∂x_j/∂w)², a mean over patterns.

    Exact in F6 and C5, from whose units on no two paths lead to the same weight.
    """
    network, params, images, curvature = lenet
    layer, name, index = place

    def units(shift: float) -> np.ndarray:
        moved = params[layer][name].at[index].add(shift)
        changed = {**params, layer: {**params[layer], name: moved}}
        captured = network.apply({"params": changed}, images, capture=("F6",)).captured["F6"]
        return np.asarray(1.7159 * np.tanh(np.asarray(captured, np.float64) * 2 / 3))

    slopes = (units(1e-2) - units(-1e-2)) / 2e-2
    expected = 2 * np.square(slopes).reshape(len(images), -1).sum(1).mean()
    np.testing.assert_allclose(curvature[layer][name][index], expected, rtol=5e-3)


def test_curvature_against_its_equations_written_out(lenet) -> None:
    """Eq. 24-27 connection by connection: H_k = f′(a_k)² Σ_i u_ik² H_i, h = Σ H_i x_j²."""
    network, params, images, curvature = lenet
    names = ("C1", "S2", "C3", "S4", "C5", "F6")
    captured = network.apply({"params": params}, images, capture=names).captured
    a = {name: np.asarray(captured[name], np.float64) for name in names}
    x = {name: 1.7159 * np.tanh(2 / 3 * value) for name, value in a.items()}
    slope2 = {name: np.square(1.7159 * 2 / 3 / np.cosh(2 / 3 * v) ** 2) for name, v in a.items()}
    w = jax.tree.map(lambda v: np.asarray(v, np.float64), params)

    h_f6 = 2.0 * slope2["F6"].reshape(3, 84)
    x_c5 = x["C5"].reshape(3, 120)
    np.testing.assert_allclose(
        curvature["F6"]["kernel"], np.einsum("ni,nj->ji", h_f6, x_c5**2) / 3, rtol=1e-4
    )
    h_c5 = (h_f6 @ np.square(w["F6"]["kernel"]).T) * slope2["C5"].reshape(3, 120)
    # C5 sees all of S4, 5×5: a dense layer.
    kernel = w["C5"]["kernel"]
    expected = np.einsum("no,nijc->ijco", h_c5, x["S4"] ** 2) / 3
    np.testing.assert_allclose(curvature["C5"]["kernel"], expected, rtol=1e-4)
    h_s4 = np.einsum("no,ijco->nijc", h_c5, kernel**2) * slope2["S4"]
    # S4: each of the four inputs is a connection that shares the map's coefficient.
    squares = (x["C3"] ** 2).reshape(3, 5, 2, 5, 2, 16).sum((2, 4))
    expected = np.einsum("nijc,nijc->c", h_s4, squares) / 3
    np.testing.assert_allclose(curvature["S4"]["kernel"], expected, rtol=1e-4)
    np.testing.assert_allclose(curvature["S4"]["bias"], h_s4.sum((0, 1, 2)) / 3, rtol=1e-4)
    spread = (h_s4 * np.square(w["S4"]["kernel"])).repeat(2, 1).repeat(2, 2)
    h_c3 = spread * slope2["C3"]
    # C3's first connection is from map 0 of S2 to its map 0: 10×10 positions share 5×5 weights.
    expected = [
        [
            np.sum(h_c3[..., 0] * np.square(x["S2"][:, i : i + 10, j : j + 10, 0])) / 3
            for j in range(5)
        ]
        for i in range(5)
    ]
    np.testing.assert_allclose(curvature["C3"]["kernel"][:, :, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(curvature["C3"]["bias"], h_c3.sum((0, 1, 2)) / 3, rtol=1e-4)


@pytest.mark.parametrize("subsampling", ["average", "max"])
def test_curvature_of_the_nets_between_1998_and_today(lenet, subsampling) -> None:
    """The same equations where pooling has fixed weights, ReLU a slope of 0 or 1, and the output a
    Hessian of p_i (1 − p_i): softmax with cross-entropy.
    """
    _, params, images, _ = lenet
    fields = {"c3": "full", "activation": "relu", "output": "softmax", "num_classes": 10}
    network = models.create({"name": "lenet5_1998", "subsampling": subsampling, **fields})
    draws = np.random.RandomState(1)
    new = {"C3": (5, 5, 6, 16), "OUTPUT": (84, 10)}
    params = {name: params[name] for name in ("C1", "C5", "F6")} | {
        name: {
            "kernel": jnp.asarray(0.1 * draws.normal(size=shape), jnp.float32),
            "bias": jnp.zeros(shape[-1]),
        }
        for name, shape in new.items()
    }
    curvature = levenberg_marquardt.curvature(network, params, images)
    assert curvature.keys() == params.keys()  # pooling has no weights
    names = ("C3", "S4", "C5", "F6", "OUTPUT")
    outputs: Any = network.apply({"params": params}, images, capture=names)
    a = {name: np.asarray(outputs.captured[name], np.float64) for name in names}
    w = {name: np.asarray(params[name]["kernel"], np.float64) for name in ("C5", "F6", "OUTPUT")}

    likely = np.exp(a["OUTPUT"]) / np.exp(a["OUTPUT"]).sum(1, keepdims=True)
    h_output = likely * (1 - likely)
    expected = np.einsum("no,ni->io", h_output, np.maximum(a["F6"].reshape(3, 84), 0) ** 2) / 3
    np.testing.assert_allclose(curvature["OUTPUT"]["kernel"], expected, rtol=1e-4)
    h_f6 = (h_output @ np.square(w["OUTPUT"]).T) * (a["F6"].reshape(3, 84) > 0)
    h_c5 = (h_f6 @ np.square(w["F6"]).T) * (a["C5"].reshape(3, 120) > 0)
    np.testing.assert_allclose(curvature["C5"]["bias"], h_c5.sum(0) / 3, rtol=1e-4)
    h_s4 = np.einsum("no,ijco->nijc", h_c5, np.square(w["C5"]))  # no sigmoid after S4
    # Of 2×2 units each has a weight of a quarter, or the largest has one of 1.
    spread = h_s4.repeat(2, 1).repeat(2, 2)
    squashed = np.maximum(a["C3"], 0)
    if subsampling == "average":
        spread = spread / 16
    else:
        spread = spread * (squashed == a["S4"].repeat(2, 1).repeat(2, 2))
    h_c3 = spread * (a["C3"] > 0)
    np.testing.assert_allclose(curvature["C3"]["bias"], h_c3.sum((0, 1, 2)) / 3, rtol=1e-4)


def test_the_step_is_eta_over_mu_plus_h(lenet) -> None:
    """Eq. 18 and 21; h is 0 until it is estimated, and the estimate is part of the state."""
    _, params, _, curvature = lenet
    fields = {"mu": 0.02, "patterns": 500, "weight_decay": 0.0}
    optimizer = optimizers.create({"name": "levenberg_marquardt", **fields})
    ones = jax.tree.map(jnp.ones_like, params)
    state = optimizer.init(params)
    eta = jnp.float32(5e-4)
    updates, state = optimizer.update(ones, state, params, learning_rate=eta)
    np.testing.assert_allclose(updates["C1"]["bias"], -5e-4 / 0.02, rtol=1e-6)
    state = levenberg_marquardt.with_curvature(state, curvature)
    updates, _ = optimizer.update(ones, state, params, learning_rate=eta)
    jax.tree.map(
        lambda u, h: np.testing.assert_allclose(u, -5e-4 / (0.02 + np.asarray(h)), rtol=1e-5),
        updates,
        curvature,
    )
