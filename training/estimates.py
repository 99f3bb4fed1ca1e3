"""Estimates over several batches, outside of the training steps."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import models
import sharding
from randomness import Purpose, key
from training import batch_norm, levenberg_marquardt
from training.experiment import Experiment
from training.step import TrainState


def with_curvature(run: Experiment, state: TrainState, step: int) -> TrainState:
    """The state with new estimates of LeNet-5's curvatures, on images of the next batches.

    LeCun et al. 1998, section III.C: before each pass, on `config.optimizer.patterns` images.
    """
    count = run.config.optimizer.patterns
    batches = range(step, step - (-count // run.config.batch_size))
    images = jnp.concatenate([run.pipeline.batch(s)["image"] for s in batches])[:count]
    curvature = _curvature(run.network, sharding.replicated(run.mesh))(state.params, images)
    opt_state = levenberg_marquardt.with_curvature(state.opt_state, curvature)
    return state.replace(opt_state=opt_state)


@functools.lru_cache(maxsize=1)  # one compilation per run
def _curvature(network: models.Network, whole: jax.sharding.Sharding) -> Callable[..., Any]:
    estimate = functools.partial(levenberg_marquardt.curvature, network)
    return jax.jit(estimate, out_shardings=whole)


def with_batch_statistics(run: Experiment, state: TrainState) -> TrainState:
    """The state with batch-norm statistics recomputed for the final weights.

    Uses the `config.bn_recompute_batches` training batches after the last step.
    """
    batches = (
        (run.pipeline.batch(step)["image"], key(run.config.seed, Purpose.DROPOUT, step))
        for step in range(run.steps, run.steps + run.config.bn_recompute_batches)
    )
    batch_stats = batch_norm.recomputed(
        state.variables,
        batches,
        network=run.network,
        sharding=sharding.replicated(run.mesh),
    )
    if state.averages:
        return state.replace(averages={**state.averages, "batch_stats": batch_stats})
    return state.replace(batch_stats=batch_stats)
