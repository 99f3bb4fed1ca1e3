"""Learning-rate schedules by name: the rate of a step as a pure function of the step.

`config.schedule` holds the name and the schedule's own fields; durations in it ("32000 steps",
"30 epochs") are read like all durations.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from training import parts

Schedule = Callable[[jax.Array], jax.Array]  # step, counted from 0 -> rate
InSteps = Callable[[str, str], int]  # (field, duration) -> steps


def constant(total: int, in_steps: InSteps, *, rate: float) -> Schedule:
    """The same rate throughout."""
    return lambda step: jnp.full((), rate)


def cosine(total: int, in_steps: InSteps, *, rate: float, warmup: str) -> Schedule:
    """A linear climb to `rate` over `warmup` ("" for none), then half a cosine down to 0."""
    climb = in_steps("config.schedule.warmup", warmup) if warmup else 0

    def schedule(step: jax.Array) -> jax.Array:
        done = jnp.clip((step - climb) / max(total - climb, 1), 0, 1)
        fall = 0.5 * rate * (1 + jnp.cos(jnp.pi * done))
        return jnp.where(step < climb, rate * (step + 1) / max(climb, 1), fall)

    return schedule


SCHEDULES: dict[str, Callable[..., Schedule]] = {"constant": constant, "cosine": cosine}


def create(config: Mapping, total: int, in_steps: InSteps) -> Schedule:
    """The schedule of `config.schedule` over a run of `total` steps.

    Raises UserError for an unknown name, or fields that are not the schedule's own.
    """
    return parts.build("schedule", config, SCHEDULES, total, in_steps)
