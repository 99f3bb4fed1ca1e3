"""The state of a run and the two pure functions on it: one training step, one evaluation step.

No logging or I/O; bind the arguments other than state and batch with functools.partial. All
randomness is a function of (seed, step).
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from inspection.cost import Traced, trace
from models import Network
from randomness import Purpose, key
from sharding import Batch
from training import batch_norm, optimizers, weight_averaging
from training.losses import Loss
from training.schedules import Schedule, ScheduleState
from training.weight_averaging import Averaging

Sums = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything a run remembers: what a checkpoint holds, and all that a resume needs.

    step: int32, updates done so far.
    metric_sums: sums of the training metrics since the last logged row, the number of steps in
        them, the last step's learning rate, and the first step whose loss was not finite (−1:
        none). Part of the state, so that a run cut off between two rows logs the same rows when it
        resumes.
    schedule_state: what the schedule keeps of the run; {} if the rate depends only on the step.
    averages: averaged params and batch_stats; {} where there are none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    metric_sums: Sums
    schedule_state: ScheduleState
    averages: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The variables for evaluation: the averages if there are any."""
        return self.averages or {"params": self.params, "batch_stats": self.batch_stats}


def empty_metric_sums(loss: Loss) -> Sums:
    """Sums over no steps."""
    sums = {name: jnp.zeros(()) for name in (*loss.names, "steps", "learning_rate")}
    return {**sums, "not_finite": jnp.full((), -1, jnp.int32)}


def create_state(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    schedule: Schedule | None = None,
    averaging: Averaging = weight_averaging.NONE,
    traced: Traced | None = None,
) -> TrainState:
    """The state before the first step: weights from (seed, INIT).

    traced: the trace of this network, if there is one already.
    """
    variables = (traced or trace(network)).init(key(seed, Purpose.INIT))
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        metric_sums=empty_metric_sums(loss),
        schedule_state=schedule.init() if schedule else {},
        averages=averaging.init({"params": params, "batch_stats": batch_stats}),
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
    averaging: Averaging = weight_averaging.NONE,
    gradient_accumulation: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update. Returns the new state and this step's metrics.

    batch: "image" [N, H, W, C], "label" [N], "mask" [N].
    gradient_accumulation: number of parts of the batch, whose gradients are computed one after the
        other: less memory, more time. Each part has whole batch-norm groups, and the running
        statistics are updated once.
    axis_name: the axis of jax.pmap (sharding.pmapped), over which gradients, statistics and metrics
        are averaged; None under jax.jit, where `batch` is the whole batch.
    """
    dropout = key(seed, Purpose.DROPOUT, state.step)
    if axis_name is not None:
        dropout = jax.random.fold_in(dropout, jax.lax.axis_index(axis_name))
    measure = partial(gradients, state, network=network, loss=loss)
    if gradient_accumulation == 1:
        measured = measure(batch, dropout)
    else:
        measured = accumulated(
            measure, split(batch, gradient_accumulation, _group(network)), dropout
        )
    if axis_name is not None:
        measured = jax.lax.pmean(measured, axis_name)
    measured = measured._replace(
        batch_stats=batch_norm.held(network, state.batch_stats, measured.batch_stats)
    )
    state = updated(
        state, measured, loss=loss, optimizer=optimizer, schedule=schedule, averaging=averaging
    )
    return state, measured.metrics


class Measured(NamedTuple):
    """The gradients, metrics and updated running statistics of a batch."""

    gradients: Any
    metrics: dict[str, jax.Array]
    batch_stats: Any


def gradients(
    state: TrainState, batch: Batch, dropout: jax.Array, *, network: Network, loss: Loss
) -> Measured:
    """Gradients, metrics and updated batch statistics of (a part of) a batch."""

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

    found, (metrics, batch_stats) = jax.grad(objective, has_aux=True)(state.params)
    return Measured(found, metrics, batch_stats)


def repeated(body: Callable[[Any, Any], Any], carry: Any, xs: Any, count: int) -> Any:
    """The carry after `count` calls of body(carry, x), with x = xs[0], xs[1], ... or None.

    A loop of the device, but on CPU the calls one after the other in the program: in a loop XLA's
    CPU backend runs convolutions on a slow path, on one core, and rounds otherwise.
    """
    if jax.default_backend() == "cpu":
        for index in range(count):
            # Not before the last call has ended: they share their memory.
            x = jax.tree.map(operator.itemgetter(index), xs)
            carry = body(*jax.lax.optimization_barrier((carry, x)))
        return carry
    return jax.lax.scan(lambda carry, x: (body(carry, x), None), carry, xs, length=count)[0]


def accumulated(
    measure: Callable[[Batch, jax.Array], Measured], parts: Batch, dropout: jax.Array
) -> Measured:
    """`measure` of each of the parts [parts, n, ...] in turn, averaged over unmasked images."""
    images = jnp.maximum(parts["mask"].sum(), 1)

    def add(sums: Measured, part: tuple[Batch, jax.Array]) -> Measured:
        batch, index = part
        share = batch["mask"].sum() / images
        measured = measure(batch, jax.random.fold_in(dropout, index))
        return jax.tree.map(lambda total, x: total + share * x, sums, measured)

    one = jax.tree.map(lambda x: x[0], parts)
    like = jax.eval_shape(measure, one, dropout)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    count = len(parts["mask"])
    return repeated(add, zeros, (parts, jnp.arange(count)), count)


def updated(
    state: TrainState,
    measured: Measured,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    schedule: Schedule,
    averaging: Averaging,
) -> TrainState:
    """The state after one update: new weights, sums, schedule state and averages."""
    rate = schedule.rate(state.schedule_state, state.step)
    updates, opt_state = optimizer.update(
        measured.gradients, state.opt_state, state.params, learning_rate=rate
    )
    params = optimizers.applied(state.params, updates)
    done = state.step + 1
    metrics, batch_stats = measured.metrics, measured.batch_stats
    finite = jnp.isfinite(metrics["loss"])
    sums = {name: state.metric_sums[name] + metrics[name] for name in loss.names}
    sums["steps"] = state.metric_sums["steps"] + 1
    sums["learning_rate"] = rate
    sums["not_finite"] = jnp.where(
        finite | (state.metric_sums["not_finite"] >= 0), state.metric_sums["not_finite"], state.step
    )
    return state.replace(
        step=done,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        metric_sums=sums,
        schedule_state=schedule.after_step(state.schedule_state, metrics["error"]),
        averages=averaging.update(
            state.averages, done, {"params": params, "batch_stats": batch_stats}
        ),
    )


def _group(network: Network) -> int:
    return getattr(network, "batch_norm_group", 0) or 1


def split(batch: Batch, parts: int, group: int) -> Batch:
    """[N, ...] -> [parts, N / parts, ...]; parts have whole groups of `group` images.

    Groups are dealt out in turn, so that a batch sharded over devices needs no transfers.
    """

    def deal(x: jax.Array) -> jax.Array:
        dealt = x.reshape(-1, parts, group, *x.shape[1:]).swapaxes(0, 1)
        return dealt.reshape(parts, -1, *x.shape[1:])

    return jax.tree.map(deal, dict(batch))


def evaluation_step(
    variables: Mapping[str, Any], batch: Batch, *, network: Network, loss: Loss
) -> tuple[Sums, jax.Array, jax.Array]:
    """Sums of the metrics over the unmasked images of one batch, and their "count".

    Also which images the network gets wrong, and which are unmasked: bool [N] each.
    """
    outputs: Any = network.apply(variables, batch["image"], train=False)
    count = batch["mask"].sum()
    sums = {name: value * count for name, value in loss(outputs, batch).items()}
    wrong = outputs.logits.argmax(-1) != batch["label"]
    return {**sums, "count": count}, wrong, batch["mask"] > 0


@jax.jit
def is_finite(state: TrainState) -> jax.Array:
    """Whether all weights, batch statistics, averages and optimizer values are finite, a bool.

    A loss of 0 does not tell: saturated outputs give it under weights that are not finite.
    """
    kept = (state.params, state.batch_stats, state.opt_state, state.averages)
    floats = [x for x in jax.tree.leaves(kept) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).all() for x in floats]).all()
