"""The pure step: losses by head, gradients, dropout and statistics, on one device and on many."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sharding
from errors import UserError
from models import Outputs
from tests.toy import batch, toy
from training import losses, optimizers, schedules
from training.step import TrainState, create_state, evaluation_step, train_step

CROSS_ENTROPY = {"kind": "cross_entropy", "label_smoothing": 0.0}
HEADS = ("aux1", "aux2")
WEIGHTS = {"main": 1.0, "aux1": 0.3, "aux2": 0.3}
SGD = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0}


def steps(network, weights, *, mesh=None, count=3, size=16, mapped=False):
    """State and metrics after `count` steps on fixed batches."""
    loss = losses.create({**CROSS_ENTROPY, "weights": weights}, network.heads)
    optimizer = optimizers.create(SGD)
    step = partial(
        train_step,
        network=network,
        loss=loss,
        optimizer=optimizer,
        schedule=schedules.of_step(lambda step: jnp.full((), 0.1)),
        seed=0,
    )
    state = create_state(network, loss, optimizer, seed=0)
    mesh = mesh or sharding.create_mesh(jax.devices()[:1])
    state = jax.device_put(state, sharding.replicated(mesh))
    if mapped:
        update = sharding.pmapped(step, mesh)
    else:
        update = jax.jit(step, out_shardings=sharding.replicated(mesh))
    for index in range(count):
        state, metrics = update(state, jax.device_put(batch(size, index), sharding.sharded(mesh)))
    return state, metrics


def assert_close(one, other, tolerance=1e-5):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), one, other)


def test_total_is_the_weighted_sum_of_all_terms() -> None:
    logits = {name: jnp.log(jnp.array([[0.5, 0.25, 0.25]])) for name in ("main", *HEADS)}
    outputs = Outputs(logits["main"], {name: logits[name] for name in HEADS}, {})
    data = {"label": jnp.array([1]), "mask": jnp.ones(1)}
    metrics = losses.create({**CROSS_ENTROPY, "weights": WEIGHTS}, HEADS)(outputs, data)
    for name in ("loss_main", "loss_aux1", "loss_aux2"):
        np.testing.assert_allclose(metrics[name], np.log(4), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 1.6 * np.log(4), rtol=1e-6)
    assert metrics["error"] == metrics["error_aux2"] == 1


def test_masked_images_count_for_nothing() -> None:
    logits = jnp.array([[2.0, 0.0], [0.0, 9.0]])
    data = {"label": jnp.array([0, 0]), "mask": jnp.array([1.0, 0.0])}
    metrics = losses.create({**CROSS_ENTROPY, "weights": {"main": 1.0}}, ())(
        Outputs(logits, {}, {}), data
    )
    np.testing.assert_allclose(metrics["loss"], np.log1p(np.exp(-2)), rtol=1e-6)
    assert metrics["error"] == 0


def test_rbf_losses_against_their_equations() -> None:
    """LeCun et al. 1998, eq. 8 and 9, on distances 1, 2 and 4 with the right class second."""
    distances = jnp.array([[1.0, 2.0, 4.0]])
    data = {"label": jnp.array([1]), "mask": jnp.ones(1)}
    outputs = Outputs(-distances, {}, {})
    eq8 = losses.create({"kind": "rbf_mse", "weights": {"main": 1.0}}, ())(outputs, data)
    np.testing.assert_allclose(eq8["loss"], 2.0)
    eq9 = losses.create({"kind": "rbf_map", "j": 1.0, "weights": {"main": 1.0}}, ())(outputs, data)
    expected = 2 + np.log(np.exp(-1) + np.exp(-1) + np.exp(-2) + np.exp(-4))
    np.testing.assert_allclose(eq9["loss"], expected, rtol=1e-6)


def test_zero_weight_heads_leave_the_trunk_as_without_heads() -> None:
    with_heads, _ = steps(toy(heads=HEADS), {"main": 1.0, "aux1": 0.0, "aux2": 0.0})
    without, _ = steps(toy(), {"main": 1.0})
    for layer in ("conv1", "fc2"):
        assert_close(with_heads.params[layer], without.params[layer])


def test_one_and_eight_devices_agree_with_dropout_and_grouped_statistics() -> None:
    network = toy(heads=HEADS, batch_norm_group=2)
    assert jax.device_count() == 8
    eight = steps(network, WEIGHTS, mesh=sharding.create_mesh())
    assert_close(steps(network, WEIGHTS), eight, 1e-5)


def test_whole_batch_statistics_do_not_depend_on_the_devices_either() -> None:
    assert_close(
        steps(toy(), {"main": 1.0}), steps(toy(), {"main": 1.0}, mesh=sharding.create_mesh())
    )


def test_the_same_step_under_pmap_gives_equal_metrics() -> None:
    """With dropout off: under pmap each device draws a mask for its own shard."""
    network = toy(heads=HEADS, batch_norm_group=2, dropout=0.0)
    mesh = sharding.create_mesh()
    jitted, metrics = steps(network, WEIGHTS, mesh=mesh, count=10)
    mapped, mapped_metrics = steps(network, WEIGHTS, mesh=mesh, count=10, mapped=True)
    assert_close(metrics, mapped_metrics)
    assert_close(jitted.params, mapped.params)
    assert_close(jitted.batch_stats, mapped.batch_stats)


def test_batch_statistics_change_only_in_training() -> None:
    network = toy()
    loss = losses.create({**CROSS_ENTROPY, "weights": {"main": 1.0}}, ())
    before = create_state(network, loss, optimizers.create(SGD), seed=0)
    after, _ = steps(network, {"main": 1.0}, count=1)
    assert np.abs(after.batch_stats["conv1"]["bn"]["mean"]).max() > 0
    assert np.abs(before.batch_stats["conv1"]["bn"]["mean"]).max() == 0
    variables = {"params": after.params, "batch_stats": after.batch_stats}
    sums = [evaluation_step(variables, batch(16), network=network, loss=loss)[0] for _ in range(2)]
    assert sums[0]["count"] == 16
    assert sums[0]["loss"] == sums[1]["loss"]  # no dropout, no drifting statistics


def test_the_window_sums_steps_and_names_the_first_step_that_is_not_finite() -> None:
    network = toy()
    loss = losses.create({**CROSS_ENTROPY, "weights": {"main": 1.0}}, ())
    optimizer = optimizers.create(SGD)
    state = create_state(network, loss, optimizer, seed=0)
    step = jax.jit(
        partial(
            train_step,
            network=network,
            loss=loss,
            optimizer=optimizer,
            schedule=schedules.of_step(lambda step: jnp.full((), 0.1)),
            seed=0,
        )
    )
    total = 0.0
    for index in range(2):
        state, metrics = step(state, batch(8, index))
        total += float(metrics["loss"])
    np.testing.assert_allclose(state.metric_sums["loss"], total, rtol=1e-6)
    assert (state.metric_sums["steps"], state.metric_sums["not_finite"]) == (2, -1)
    broken = batch(8)
    broken["image"] = jnp.full_like(broken["image"], jnp.nan)
    for _ in range(2):
        state, _ = step(state, broken)
    assert state.metric_sums["not_finite"] == 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"main": 1.0, "aux3": 0.3}, "config.loss.weights: the network has no head 'aux3'; heads:"),
        ({"main": 1.0}, "config.loss.weights: no weight for the network's head 'aux1'"),
        (
            {"aux1": 0.3, "aux2": 0.3},
            "config.loss.weights: no weight for the network's head 'main'",
        ),
    ],
)
def test_heads_and_weights_must_match(weights: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        losses.create({**CROSS_ENTROPY, "weights": weights}, HEADS)


def test_state_is_one_struct_of_arrays() -> None:
    """A numpy scalar among the leaves could be saved and not restored."""
    loss = losses.create({**CROSS_ENTROPY, "weights": {"main": 1.0}}, ())
    state = create_state(toy(), loss, optimizers.create(SGD), seed=0)
    assert isinstance(state, TrainState)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
