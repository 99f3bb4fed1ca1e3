"""Frozen parameters and batch norms keep their bits; the others train as before."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import models
import sharding
from errors import UserError
from tests.toy import batch, lenet_config, toy
from training import (
    batch_norm,
    experiment,
    levenberg_marquardt,
    losses,
    optimizers,
    schedules,
    weight_averaging,
)
from training import step as steps
from training.optimizers import Rules

SGD = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1}
HEAD_ALONE = Rules(rates=(("fc2/*", 1.0), ("*", 0.0)), decay=(("*", 1.0),))
LOSS = losses.create(
    {"kind": "cross_entropy", "label_smoothing": 0.0, "weights": {"main": 1.0}}, ()
)


def parts(network: models.Network, rules: Rules, **more: Any) -> dict[str, Any]:
    return {
        "network": network,
        "loss": LOSS,
        "optimizer": optimizers.create(SGD, rules),
        "schedule": schedules.of_step(lambda step: jnp.float32(0.1)),
        "seed": 0,
        **more,
    }


def trained(made: Mapping[str, Any], count: int = 3, images: int = 12) -> Any:
    """The state before and after `count` steps; weights of −0 at the start, too."""
    created = {
        name: made[name]
        for name in ("network", "loss", "optimizer", "schedule", "seed", "averaging")
        if name in made
    }
    network, loss, optimizer = (created.pop(name) for name in ("network", "loss", "optimizer"))
    start = steps.create_state(network, loss, optimizer, **created)
    negative_zeros = jax.tree.map(lambda w: jnp.where(w == 0, -0.0, w), start.params)
    averages = start.averages and {**start.averages, "params": negative_zeros}
    start = state = start.replace(params=negative_zeros, averages=averages)
    update = jax.jit(partial(steps.train_step, **made))
    for index in range(count):
        state, _ = update(state, batch(images, seed=index))
    return start, state


def bits(tree: Any) -> dict[str, bytes]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf).tobytes()
        for path, leaf in leaves
    }


def unchanged(before: Any, after: Any) -> set[str]:
    """The names of the leaves that kept their bits."""
    one, other = bits(before), bits(after)
    assert one.keys() == other.keys()
    return {name for name in one if one[name] == other[name]}


TRUNK = {"conv1/kernel", "conv1/bn/scale", "conv1/bn/bias"}


@pytest.mark.parametrize("averaging", ["none", "polyak"])
def test_frozen_parameters_keep_their_bits_and_the_optimizer_knows_nothing_of_them(
    averaging: str,
) -> None:
    fields = {"name": averaging} | ({"start": ""} if averaging == "polyak" else {})
    made = parts(toy(), HEAD_ALONE, averaging=weight_averaging.create(fields, lambda f, t: 0))
    start, state = trained(made)
    assert unchanged(start.params, state.params) == TRUNK
    if averaging == "polyak":
        assert unchanged(start.params, state.averages["params"]) == TRUNK
    velocities = optax.tree_utils.tree_get(state.opt_state, "trace")
    assert set(bits(velocities)) == {"fc2/kernel", "fc2/bias"}
    # Nothing of the size of the trunk is anywhere in the optimizer's state.
    sizes = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
    assert sizes == sum(leaf.size for leaf in jax.tree.leaves(start.params["fc2"]))


def test_what_is_not_frozen_is_trained_as_before() -> None:
    """With the trunk at a rate of 0 and at the smallest rate above it, the head's bits agree."""
    tiny = Rules(rates=(("fc2/*", 1.0), ("*", 1e-30)), decay=HEAD_ALONE.decay)
    (_, frozen), (_, slow) = (
        trained(parts(toy(dropout=0.0), rules), count=2) for rules in (HEAD_ALONE, tiny)
    )
    assert unchanged(frozen.params["fc2"], slow.params["fc2"]) == {"kernel", "bias"}


def test_clipping_sees_only_the_gradient_of_what_is_trained() -> None:
    rules = Rules(rates=(("a/*", 0.0),), decay=(), clip_norm=1.0)
    optimizer = optimizers.create({"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}, rules)
    params = {name: {"kernel": jnp.ones(1)} for name in "ab"}
    gradients = {"a": {"kernel": jnp.asarray([300.0])}, "b": {"kernel": jnp.asarray([0.5])}}
    updates, _ = optimizer.update(
        gradients, optimizer.init(params), params, learning_rate=jnp.float32(1.0)
    )
    assert updates["a"]["kernel"] is None
    np.testing.assert_array_equal(updates["b"]["kernel"], [-0.5])


def test_the_gradients_of_a_frozen_trunk_are_not_computed() -> None:
    """Of toy's two kernels, only the dense one's gradient stays in the compiled step."""

    def convolutions(rules: Rules) -> int:
        made = parts(toy(dropout=0.0), rules)
        state, images = trained(made, count=0)[0], batch(4)
        compiled = jax.jit(partial(steps.train_step, **made)).lower(state, images).compile()
        return (compiled.as_text() or "").count(" convolution(")

    assert convolutions(HEAD_ALONE) < convolutions(Rules())


def test_none_freezes_and_freezing_everything_is_refused() -> None:
    params = models.variables_of(toy())["params"]
    config = {"rates": (("fc2/*", 0.5), ("*", None)), "decay": (), "clip_norm": 0.0}
    assert optimizers.rules(config, params).rates == (("fc2/*", 0.5), ("*", 0.0))
    with pytest.raises(UserError, match=r"config\.parameters\.rates: freeze every parameter"):
        optimizers.rules({**config, "rates": (("*", None), ("fc2/*", 1.0))}, params)


def test_curvatures_are_kept_of_trained_layers_alone() -> None:
    fields = {"name": "levenberg_marquardt", "mu": 0.02, "patterns": 1, "weight_decay": 0.0}
    optimizer = optimizers.create(fields, Rules(rates=(("C1/*", 0.0),)))
    params = {name: {"kernel": jnp.ones(2)} for name in ("C1", "F6")}
    state = levenberg_marquardt.with_curvature(optimizer.init(params), params)
    updates, _ = optimizer.update(params, state, params, learning_rate=jnp.float32(1.0))
    assert updates["C1"]["kernel"] is None
    np.testing.assert_allclose(updates["F6"]["kernel"], [-1 / 1.02] * 2, rtol=1e-6)


def resnet(**fields: Any) -> models.Network:
    return models.create(
        {
            "name": "resnet18_A",
            "width": 1 / 16,
            "input": (32, 32, 3),
            "num_classes": 3,
            "batch_norm_group": 4,
            **fields,
        }
    )


@pytest.mark.parametrize("remat", [False, True])
def test_a_frozen_batch_norm_normalises_in_training_as_in_evaluation(remat: bool) -> None:
    network = resnet(batch_norm_frozen=("*",), remat=remat)
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = network.init(jax.random.key(1), images)
    variables["batch_stats"] = jax.tree.map(lambda x: x + 0.3, variables["batch_stats"])
    seen: Any
    seen, changed = network.apply(variables, images, train=True, mutable=["batch_stats"])
    expected: Any = network.apply(variables, images, train=False)
    np.testing.assert_allclose(seen.logits, expected.logits, rtol=1e-5)
    assert unchanged(variables["batch_stats"], changed["batch_stats"]) == set(
        bits(variables["batch_stats"])
    )


def test_patterns_choose_which_batch_norms_are_frozen_and_capture_still_works() -> None:
    network = resnet(batch_norm_frozen=("conv1/*", "conv[23]_*"))
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = network.init(jax.random.key(1), images)
    outputs, changed = network.apply(
        variables, images, train=True, mutable=["batch_stats"], capture=("conv1",)
    )
    assert outputs.captured["conv1"].shape[0] == 4
    kept = {
        name.split("/")[0] for name in unchanged(variables["batch_stats"], changed["batch_stats"])
    }
    assert kept == {"conv1", "conv2_1", "conv2_2", "conv3_1", "conv3_2"}


@pytest.mark.parametrize("gradient_accumulation", [1, 3])
def test_frozen_statistics_keep_their_bits_over_steps(gradient_accumulation: int) -> None:
    """Three parts: the mean of three equal values may round to another value."""
    network = toy(batch_norm_group=4, batch_norm_frozen=("conv1/bn",))
    made = parts(network, HEAD_ALONE, gradient_accumulation=gradient_accumulation)
    created = steps.create_state(network, LOSS, made["optimizer"], seed=0)
    odd = jax.tree.map(lambda x: x + 0.1, created.batch_stats)
    state, _ = jax.jit(partial(steps.train_step, **made))(
        created.replace(batch_stats=odd), batch(12)
    )
    assert unchanged(odd, state.batch_stats) == {"conv1/bn/mean", "conv1/bn/var"}
    # and are not recomputed at the end of a run
    variables = {"params": state.params, "batch_stats": odd}
    batches = [(batch(8, index)["image"], jax.random.key(index)) for index in range(3)]
    anew = batch_norm.recomputed(variables, batches, network=network)
    assert unchanged(odd, anew) == {"conv1/bn/mean", "conv1/bn/var"}


def test_a_pattern_that_matches_no_batch_norm_is_refused() -> None:
    config = lenet_config().unlock()
    for model, there in (
        ({"name": "lenet5_modern"}, "none"),
        (
            {"name": "resnet20_cifar10_A", "batch_norm_group": 16},
            "conv1/bn, conv2_1/a/bn, .* \\.\\.\\.",
        ),
    ):
        config.model = {**model, "batch_norm_frozen": ("conv9*",)}
        message = rf"config\.model\.batch_norm_frozen: 'conv9\*' matches .* has {there}$"
        with pytest.raises(UserError, match=message):
            experiment.create(config, sharding.create_mesh(), data=False)
