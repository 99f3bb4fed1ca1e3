"""Averages of the weights over training, by name; evaluation uses them instead of the last weights.

GoogLeNet's final models used Polyak averaging (Szegedy et al. 2015, section 6). The averages are
part of the training state: {"params", "batch_stats"}, or {} if there are none.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from training import parts
from training.schedules import InSteps

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Averaging:
    """The update average + share·(weights − average).

    share: (number of updates, int32 from 1) -> the weight of the newest; None: no averages.
    """

    share: Callable[[jax.Array], jax.Array] | None = None

    def init(self, variables: Variables) -> Variables:
        """The averages before the first step."""
        return {} if self.share is None else variables

    def update(self, averages: Variables, done: jax.Array, variables: Variables) -> Variables:
        """The averages after `done` updates; `variables` are those after the last."""
        if self.share is None:
            return averages
        share = self.share(done)

        # Not optax.incremental_update: share·new + (1 − share)·mean loses digits of a long mean.
        def moved(mean: jax.Array, new: jax.Array) -> jax.Array:
            # What is frozen keeps its bits: −0 + 0 would be 0.
            return jnp.where(new == mean, mean, mean + share * (new - mean))

        return jax.tree.map(moved, averages, variables)


NONE = Averaging()


def none(in_steps: InSteps) -> Averaging:
    """No averages: evaluation uses the last weights."""
    return NONE


def polyak(in_steps: InSteps, *, start: str) -> Averaging:
    """The mean of the weights after each step since `start` ("" for all steps)."""
    first = in_steps("config.averaging.start", start) if start else 0
    return Averaging(lambda done: 1 / jnp.maximum(done - first, 1).astype(jnp.float32))


def exponential(in_steps: InSteps, *, decay: float, start: str) -> Averaging:
    """decay·average + (1 − decay)·weights after each step; the weights themselves until `start`."""
    first = in_steps("config.averaging.start", start) if start else 0
    return Averaging(lambda done: jnp.where(done - first <= 1, 1.0, 1.0 - decay))


AVERAGINGS: dict[str, Callable[..., Averaging]] = {
    "none": none,
    "polyak": polyak,
    "exponential": exponential,
}


def create(config: Mapping, in_steps: InSteps) -> Averaging:
    """The averaging of `config.averaging`.

    Raises UserError for an unknown name, or fields that the averaging does not have.
    """
    return parts.build("averaging", config, AVERAGINGS, in_steps)
