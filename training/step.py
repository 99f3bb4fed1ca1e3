"""The state of a run and the two pure functions on it: one training step, one evaluation step.

Nothing here logs, reads or writes; what a step needs is bound once with functools.partial. All
randomness is a function of (seed, step).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from models import Network
from randomness import Purpose, key
from training.losses import Batch, Loss
from training.schedules import Schedule

Sums = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything a run remembers: what a checkpoint holds, and all that a resume needs.

    step: int32, updates done so far.
    window: sums of the training metrics since the last logged row, the number of steps they hold,
        and the first step whose loss was not finite (−1: none). Part of the state, so that a run
        cut off between two rows logs the same rows when it resumes.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    window: Sums


def empty_window(loss: Loss) -> Sums:
    """A window that holds no step yet."""
    sums = {name: jnp.zeros(()) for name in loss.names}
    return {**sums, "steps": jnp.zeros(()), "not_finite": jnp.full((), -1, jnp.int32)}


def create_state(
    network: Network, loss: Loss, optimizer: optax.GradientTransformation, *, seed: int
) -> TrainState:
    """The state before the first step: weights from (seed, INIT)."""
    variables = network.init(key(seed, Purpose.INIT), jnp.zeros((1, *network.input)))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
        window=empty_window(loss),
    )


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    schedule: Schedule,
    seed: int,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update. Returns the new state and this step's metrics.

    batch: "image" [N, H, W, C], "label" [N], "mask" [N].
    axis_name: set by a caller that maps the step over devices by hand (jax.pmap): gradients,
        statistics and metrics are averaged over that axis. Under jit and a mesh it stays None.
    """
    dropout = key(seed, Purpose.DROPOUT, state.step)

    def objective(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        outputs, changed = network.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch["image"],
            train=True,
            rngs={"dropout": dropout},
            mutable=["batch_stats"],
        )
        metrics = loss(outputs, batch)
        return metrics["loss"], (metrics, changed.get("batch_stats", {}))

    gradients, (metrics, batch_stats) = jax.grad(objective, has_aux=True)(state.params)
    if axis_name is not None:
        gradients, metrics, batch_stats = jax.lax.pmean(
            (gradients, metrics, batch_stats), axis_name
        )
    updates, opt_state = optimizer.update(
        gradients, state.opt_state, state.params, learning_rate=schedule(state.step)
    )
    finite = jnp.isfinite(metrics["loss"])
    window = {name: state.window[name] + metrics[name] for name in loss.names}
    window["steps"] = state.window["steps"] + 1
    window["not_finite"] = jnp.where(
        finite | (state.window["not_finite"] >= 0), state.window["not_finite"], state.step
    )
    state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        window=window,
    )
    return state, metrics


def evaluation_step(
    variables: Mapping[str, Any], batch: Batch, *, network: Network, loss: Loss
) -> Sums:
    """Sums of the metrics over the unmasked images of one batch, and their "count"."""
    outputs: Any = network.apply(variables, batch["image"], train=False)
    count = batch["mask"].sum()
    sums = {name: value * count for name, value in loss(outputs, batch).items()}
    return {**sums, "count": count}
