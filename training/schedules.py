"""Learning-rate schedules by name: the rate of a step as a pure function of the step.

`config.schedule` holds the name and the schedule's own fields; durations in it ("32000 steps",
"30 epochs") are read like all durations.
"""

from collections.abc import Callable, Mapping, Sequence

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


def steps(
    total: int,
    in_steps: InSteps,
    *,
    rate: float,
    drops: Sequence[str],
    factor: float,
    warmup: str,
    warmup_rate: float,
) -> Schedule:
    """`rate`, divided by `factor` at each of the durations `drops`.

    warmup: for so long ("" for none) the rate is `warmup_rate`, flat: what He et al. 2016,
    section 4.2, do for their 110 layers. Drops count from the start of training.
    """
    at = [in_steps("config.schedule.drops", drop) for drop in drops]
    until = in_steps("config.schedule.warmup", warmup) if warmup else 0

    def schedule(step: jax.Array) -> jax.Array:
        passed = sum((step >= drop for drop in at), jnp.zeros((), jnp.int32))
        # A table and not a power: each rate is the nearest float to the printed one.
        rates = jnp.asarray([rate / factor**n for n in range(len(at) + 1)])
        return jnp.where(step < until, warmup_rate, rates[passed])

    return schedule


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "steps": steps,
}


def create(config: Mapping, total: int, in_steps: InSteps) -> Schedule:
    """The schedule of `config.schedule` over a run of `total` steps.

    Raises UserError for an unknown name, or fields that are not the schedule's own.
    """
    return parts.build("schedule", config, SCHEDULES, total, in_steps)
