"""Learning-rate schedules by name: the rate of a step, from the step or from the run so far.

`config.schedule` holds the name and the schedule's own fields; durations in it ("32000 steps",
"30 epochs") are read like all durations. What a schedule keeps of the run is its state: part
of the training state, so that a run cut off across a drop ends with the same bits.
optax's schedules see only the step; rates that papers print come from a table here, to the digit.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from errors import UserError
from training import parts

ScheduleState = dict[str, jax.Array]
InSteps = Callable[[str, str], int]  # (field, duration) -> steps


def _unchanged(state: ScheduleState, *_: object) -> ScheduleState:
    return state


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The rate of a step, and the updates of the schedule's state.

    rate: (state, step counted from 0) -> the rate. start: the state before the first step.
    after_step: (state, training error of the step) -> state; runs inside the jitted step.
    after_evaluation: (state, validation error) -> state; runs every `config.eval.every`.
    validates: whether it needs a validation part. of_total: whether the rates depend on the total
    number of steps of the run.
    """

    rate: Callable[[ScheduleState, jax.Array], jax.Array]
    start: Mapping[str, float] = dataclasses.field(default_factory=dict)
    after_step: Callable[[ScheduleState, jax.Array], ScheduleState] = _unchanged
    after_evaluation: Callable[[ScheduleState, jax.Array], ScheduleState] = _unchanged
    validates: bool = False
    of_total: bool = False

    def init(self) -> ScheduleState:
        """The state before the first step, float32 scalars."""
        return {name: jnp.full((), value, jnp.float32) for name, value in self.start.items()}


def of_step(rate: Callable[[jax.Array], jax.Array], *, of_total: bool = False) -> Schedule:
    """A schedule of only the step, or of the step and the number of steps."""
    return Schedule(lambda state, step: rate(step), of_total=of_total)


def constant(total: int, in_steps: InSteps, *, rate: float) -> Schedule:
    """The same rate throughout."""
    return of_step(lambda step: jnp.full((), rate))


def cosine(total: int, in_steps: InSteps, *, rate: float, warmup: str) -> Schedule:
    """A linear increase to `rate` over `warmup` ("" for none), then half a cosine down to 0."""
    climb = _warmup(total, in_steps, warmup)

    def schedule(step: jax.Array) -> jax.Array:
        done = jnp.clip((step - climb) / max(total - climb, 1), 0, 1)
        fall = 0.5 * rate * (1 + jnp.cos(jnp.pi * done))
        return jnp.where(step < climb, rate * (step + 1) / max(climb, 1), fall)

    return of_step(schedule, of_total=True)


def _warmup(total: int, in_steps: InSteps, warmup: str) -> int:
    """The steps of a warm-up, "" for none. Raises UserError if the run ends before it does."""
    count = in_steps("config.schedule.warmup", warmup) if warmup else 0
    if count > total:
        raise UserError(
            f"config.schedule.warmup: {warmup!r} is {count} steps, more than the run's {total}"
        )
    return count


def _stepwise(rates: Sequence[float], changes: Sequence[int]) -> Callable[[jax.Array], jax.Array]:
    """rates[i] from step changes[i−1] on; a table, so that rates are exactly those printed."""

    def rate(step: jax.Array) -> jax.Array:
        passed = sum((step >= change for change in changes), jnp.zeros((), jnp.int32))
        return jnp.asarray(rates, jnp.float32)[passed]

    return rate


def _dropping(in_steps: InSteps, rate: float, drops: Sequence[str], factor: float):
    changes = [in_steps("config.schedule.drops", drop) for drop in drops]
    _ascending("config.schedule.drops", changes)
    return _stepwise([rate / factor**n for n in range(len(changes) + 1)], changes)


def _ascending(field: str, changes: Sequence[int]) -> None:
    if list(changes) != sorted(set(changes)):
        raise UserError(f"{field}: {tuple(changes)} steps are not in ascending order")


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

    During `warmup` ("" for none) the rate is `warmup_rate`, as in every CIFAR run of He et al.
    2016b, for 400 steps. Drops count from the start of training.
    """
    later = _dropping(in_steps, rate, drops, factor)
    until = _warmup(total, in_steps, warmup)
    return of_step(lambda step: jnp.where(step < until, warmup_rate, later(step)))


def steps_after_error(
    total: int,
    in_steps: InSteps,
    *,
    rate: float,
    drops: Sequence[str],
    factor: float,
    warmup_rate: float,
    below: float,
    over: str,
) -> Schedule:
    """As `steps`, with the flat warm-up until the training error is below `below`.

    He et al. 2016a, section 4.2, for 110 layers: 0.01 "until the training error is below 80%". The
    error is the mean over each stretch of `over`: that of one batch is noise.
    """
    later = _dropping(in_steps, rate, drops, factor)
    stretch = in_steps("config.schedule.over", over)

    def after_step(state: ScheduleState, error: jax.Array) -> ScheduleState:
        total_error, count = state["error"] + error, state["count"] + 1
        whole = count >= stretch
        learned = whole & (total_error < below * count)
        return {
            "warming": jnp.where(learned, 0.0, state["warming"]),
            "error": jnp.where(whole, 0.0, total_error),
            "count": jnp.where(whole, 0.0, count),
        }

    return Schedule(
        lambda state, step: jnp.where(state["warming"] > 0, warmup_rate, later(step)),
        start={"warming": 1.0, "error": 0.0, "count": 0.0},
        after_step=after_step,
    )


def piecewise(
    total: int, in_steps: InSteps, *, rates: Sequence[float], changes: Sequence[str]
) -> Schedule:
    """rates[0], then the next of `rates` after each of the durations `changes`.

    LeCun et al. 1998, section III.B, print rates by pass.
    """
    if len(rates) != len(changes) + 1:
        raise UserError(
            f"config.schedule.rates: {len(changes)} changes need {len(changes) + 1} rates, "
            f"not {len(rates)}"
        )
    at = [in_steps("config.schedule.changes", change) for change in changes]
    _ascending("config.schedule.changes", at)
    return of_step(_stepwise(rates, at))


def exponential(
    total: int, in_steps: InSteps, *, rate: float, factor: float, every: str
) -> Schedule:
    """`rate` times `factor` after each duration `every`: GoogLeNet's ×0.96 every 8 epochs."""
    stretch = in_steps("config.schedule.every", every)
    return of_step(lambda step: rate * jnp.float32(factor) ** (step // stretch))


def polynomial(total: int, in_steps: InSteps, *, rate: float, power: float) -> Schedule:
    """rate·(1 − step/total)^power; with power 0.5, Caffe's quick solver of GoogLeNet."""
    return of_step(lambda step: rate * jnp.clip(1 - step / total, 0, 1) ** power, of_total=True)


def plateau(
    total: int,
    in_steps: InSteps,
    *,
    rate: float,
    factor: float,
    of: str,
    patience: int,
    least: float,
    drops: int,
) -> Schedule:
    """`rate`, divided by `factor` whenever the error stalls, at most `drops` times.

    of: the "validation" error (Krizhevsky et al. 2012; Simonyan and Zisserman 2015; He et al.
    2016a) or the "training" error (Lin et al. 2014), its mean since the previous evaluation. It
    stalls if `patience` evaluations in a row do not improve on the best by more than `least`.
    """
    if of not in ("validation", "training"):
        raise UserError(f"config.schedule.of: {of!r} is none of validation, training")

    def after_step(state: ScheduleState, error: jax.Array) -> ScheduleState:
        return {**state, "error": state["error"] + error, "count": state["count"] + 1}

    def after_evaluation(state: ScheduleState, validation: jax.Array) -> ScheduleState:
        trained = state["error"] / jnp.maximum(state["count"], 1)
        error = validation if of == "validation" else trained
        better = error < state["best"] - least
        stalled = jnp.where(better, 0.0, state["stalled"] + 1)
        drop = stalled >= patience
        return {
            "best": jnp.where(better, error, state["best"]),
            "stalled": jnp.where(drop, 0.0, stalled),
            "drops": jnp.minimum(state["drops"] + drop, float(drops)),
            "error": jnp.zeros(()),
            "count": jnp.zeros(()),
        }

    table = [rate / factor**n for n in range(drops + 1)]
    return Schedule(
        lambda state, step: jnp.asarray(table, jnp.float32)[state["drops"].astype(jnp.int32)],
        start={"best": float("inf"), "stalled": 0.0, "drops": 0.0, "error": 0.0, "count": 0.0},
        after_step=after_step,
        after_evaluation=after_evaluation,
        validates=of == "validation",
    )


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "steps": steps,
    "steps_after_error": steps_after_error,
    "piecewise": piecewise,
    "exponential": exponential,
    "polynomial": polynomial,
    "plateau": plateau,
}


def create(config: Mapping, total: int, in_steps: InSteps) -> Schedule:
    """The schedule of `config.schedule` over a run of `total` steps.

    Raises UserError for an unknown name, or fields that the schedule does not have.
    """
    return parts.build("schedule", config, SCHEDULES, total, in_steps)
