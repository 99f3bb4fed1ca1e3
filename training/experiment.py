"""A config made into its parts: data, network, loss, optimizer, schedule, and durations in steps.

Everything that can be wrong with a config is found here, before anything compiles or is written.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import input_pipeline
import models
import sharding
from errors import UserError
from models.lenet import LeNet5
from randomness import Purpose, key
from training import (
    alarms,
    averaging,
    batch_norm,
    levenberg_marquardt,
    losses,
    optimizers,
    schedules,
)
from training.averaging import Averaging
from training.durations import in_steps
from training.losses import Loss
from training.schedules import Schedule
from training.step import Sums, TrainState, create_state, empty_window
from training.workdirs import flat

# Fields that must be 1 or more, and those that may be 0 besides.
POSITIVE = ("batch_size", "micro_batches", "eval.batch_size", "checkpoint.keep")
NOT_NEGATIVE = (
    "seed",
    "data.size",
    "data.channels",
    "data.validation",
    "data.train_images",
    "data.workers",
    "batch_norm_batches",
)
# Every field there is; those of a part that a config names (its "name" or "kind") are its own.
FIELDS = (
    *("seed", "duration", "batch_size", "micro_batches", "batch_norm_batches", "log_every"),
    *("model", "data", "loss", "optimizer", "schedule", "averaging"),
    *("parameters.rates", "parameters.decay", "parameters.clip_norm"),
    *("eval.every", "eval.batch_size", "eval.heads"),
    *("checkpoint.every", "checkpoint.keep", "alarms.stuck_after"),
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of one run; `steps` and the `*_every` are in steps."""

    config: ConfigDict
    mesh: Mesh
    pipeline: Any
    network: models.Network
    loss: Loss
    evaluation_loss: Loss
    optimizer: optax.GradientTransformationExtraArgs
    schedule: Schedule
    averaging: Averaging
    alarms: alarms.Alarms
    steps: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int

    @property
    def evaluation_network(self) -> models.Network:
        """The network with the side heads that evaluation reports: config.eval.heads."""
        return self.network.clone(heads=tuple(self.config.eval.heads))

    @property
    def step_parts(self) -> dict[str, Any]:
        """What training.step.train_step needs besides state and batch."""
        return {
            "network": self.network,
            "loss": self.loss,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "averaging": self.averaging,
            "micro_batches": self.config.micro_batches,
            "seed": self.config.seed,
        }

    def create_state(self) -> TrainState:
        """The state before the first step, on all devices of the mesh."""
        state = create_state(
            self.network,
            self.loss,
            self.optimizer,
            seed=self.config.seed,
            schedule=self.schedule,
            averaging=self.averaging,
        )
        return jax.device_put(state, sharding.replicated(self.mesh))

    def before_step(self, state: TrainState, step: int) -> TrainState:
        """The state with what is estimated anew before each pass: LeNet-5's curvatures."""
        if self.estimate_curvature is None or step % self.pipeline.steps_per_epoch:
            return state
        count = self.config.optimizer.patterns
        batches = range(step, step - (-count // self.config.batch_size))
        images = jnp.concatenate([self.pipeline.batch(s)["image"] for s in batches])[:count]
        curvature = self.estimate_curvature(state.params, images)
        opt_state = levenberg_marquardt.with_curvature(state.opt_state, curvature)
        return state.replace(opt_state=opt_state)

    @functools.cached_property
    def estimate_curvature(self) -> Callable[[Any, jax.Array], Any] | None:
        """(params, images) -> curvatures, jitted; None where the optimizer takes none."""
        if self.config.optimizer.name != "levenberg_marquardt":
            return None
        estimate = functools.partial(levenberg_marquardt.curvature, self.network)
        return jax.jit(estimate, out_shardings=sharding.replicated(self.mesh))

    def after_last_step(self, state: TrainState) -> TrainState:
        """The state with batch-norm statistics of the final weights, where the config has it so.

        They are taken from the training batches that would have come next.
        """
        count = self.config.batch_norm_batches
        if not count:
            return state
        batches = (
            (self.pipeline.batch(step)["image"], key(self.config.seed, Purpose.DROPOUT, step))
            for step in range(self.steps, self.steps + count)
        )
        batch_stats = batch_norm.recomputed(
            state.variables,
            batches,
            network=self.network,
            sharding=sharding.replicated(self.mesh),
        )
        if state.averages:
            return state.replace(averages={**state.averages, "batch_stats": batch_stats})
        return state.replace(batch_stats=batch_stats)

    @property
    def empty_window(self) -> Sums:
        """The state's window of training metrics as it is after a logged row, on all devices.

        Made of host values: of those, every process of a job can place its part.
        """
        values = jax.device_get(empty_window(self.loss))
        return jax.device_put(values, sharding.replicated(self.mesh))

    def due(self, step: int) -> set[str]:
        """What is to be done after `step` steps: "log", "evaluate", "save"; all after the last."""
        every = {
            "log": self.log_every,
            "evaluate": self.evaluate_every,
            "save": self.checkpoint_every,
        }
        return {what for what, n in every.items() if step % n == 0 or step == self.steps}

    def rows_due(self, upto: int) -> dict[int, set[str]]:
        """The rows of the first `upto` steps: by step, the groups of metrics that each holds."""
        tested = {split for split in ("validation", "test") if split in self.pipeline.examples}
        groups = {"log": {"train"}, "evaluate": tested, "save": set()}
        steps = {upto} if upto == self.steps else set()
        for every in (self.log_every, self.evaluate_every):
            steps |= set(range(every, upto + 1, every))
        return {
            step: set().union(*(groups[what] for what in self.due(step))) for step in sorted(steps)
        }

    def steps_of(self, duration: str) -> int:
        """A duration of training in steps."""
        return in_steps(
            "config.duration",
            duration,
            steps_per_epoch=self.pipeline.steps_per_epoch,
            batch_size=self.config.batch_size,
        )


def create(
    config: ConfigDict, mesh: Mesh, data_dir: str | None = None, *, data: bool = True
) -> Experiment:
    """Builds all parts of `config`. Raises UserError, one line that names the wrong field.

    data: False leaves the images alone; the pipeline then knows their shape and number, no more.
    """
    for name in flat(config.to_dict()):
        if not any(name == known or name.startswith(f"{known}.") for known in FIELDS):
            raise UserError(f"config.{name}: there is no such field")
    for names, least in ((POSITIVE, 1), (NOT_NEGATIVE, 0)):
        for name in names:
            value = field(config, name)
            if not isinstance(value, int) or value < least:
                raise UserError(
                    f"config.{name}: must be a whole number from {least}, not {value!r}"
                )
    pipeline: Any = (
        input_pipeline.create(config, mesh, data_dir)
        if data
        else input_pipeline.declare(config, mesh)
    )
    network = create_network(config.model, pipeline.image_shape, pipeline.num_classes)
    loss = losses.create(config.loss, network.heads)
    for head in config.eval.heads:
        if head not in network.heads:
            valid = ", ".join(network.heads) or "none"
            raise UserError(f"config.eval.heads: no side head {head!r}; side heads: {valid}")

    def steps_of(name: str, duration: str) -> int:
        return in_steps(
            name,
            duration,
            steps_per_epoch=pipeline.steps_per_epoch,
            batch_size=config.batch_size,
        )

    steps = steps_of("config.duration", config.duration)
    evaluate_every = steps_of("config.eval.every", config.eval.every)
    checkpoint_every = steps_of("config.checkpoint.every", config.checkpoint.every)
    if "validation" in pipeline.examples and checkpoint_every % evaluate_every:
        raise UserError(
            f"config.checkpoint.every: {checkpoint_every} steps is no multiple of the "
            f"{evaluate_every} steps of config.eval.every: the best by validation could not be kept"
        )
    variables = models.variables_of(network)
    rules = optimizers.rules(config.parameters, variables["params"])
    schedule = schedules.create(config.schedule, steps, steps_of)
    if schedule.validates and "validation" not in pipeline.examples:
        raise UserError(
            f"config.schedule: {config.schedule.name} looks at the validation error, and "
            "config.data.validation=0 leaves no validation part"
        )
    check_combinations(config, network, has_batch_norm=bool(variables.get("batch_stats")))
    stuck_after = config.alarms.stuck_after
    return Experiment(
        config=config,
        mesh=mesh,
        pipeline=pipeline,
        network=network,
        loss=loss,
        evaluation_loss=loss.only(config.eval.heads),
        optimizer=optimizers.create(config.optimizer, rules),
        schedule=schedule,
        averaging=averaging.create(config.averaging, steps_of),
        alarms=alarms.Alarms(
            chance=alarms.chance_of(config.loss.kind, pipeline.num_classes),
            after=steps_of("config.alarms.stuck_after", stuck_after) if stuck_after else 0,
        ),
        steps=steps,
        log_every=steps_of("config.log_every", config.log_every),
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
    )


def check_combinations(
    config: ConfigDict, network: models.Network, *, has_batch_norm: bool
) -> None:
    """Raises UserError for fields that are each right and do not go together."""
    micro, batch = config.micro_batches, config.batch_size
    if batch % micro:
        raise UserError(f"config.micro_batches: {micro} does not divide the batch of {batch}")
    group = getattr(network, "batch_norm_group", 0)
    if has_batch_norm and group and batch % group:
        raise UserError(
            f"config.model.batch_norm_group: {group} does not divide the batch of {batch}"
        )
    if has_batch_norm and micro > 1:
        if not group:
            raise UserError(
                f"config.micro_batches: {micro} parts of a batch have no statistics of the whole "
                "batch; set config.model.batch_norm_group"
            )
        if batch // micro % group:
            raise UserError(
                f"config.micro_batches: parts of {batch // micro} images are no multiple of "
                f"config.model.batch_norm_group={group}"
            )
    if config.batch_norm_batches and not has_batch_norm:
        raise UserError("config.batch_norm_batches: the network has no batch norm")
    if network.dtype == "float16":
        raise UserError(
            "config.model.dtype: float16 gradients vanish without a scaled loss; "
            "bfloat16 is the mixed precision here"
        )
    radial = isinstance(network, LeNet5)
    if config.loss.kind.startswith("rbf") and not radial:
        raise UserError(
            f"config.loss.kind: {config.loss.kind} needs outputs that are distances: "
            "lenet5_1998, lenet5_1998_full_c3"
        )
    if config.optimizer.name == "levenberg_marquardt" and not (
        radial and config.loss.kind.startswith("rbf") and network.dtype == "float32"
    ):
        raise UserError(
            "config.optimizer: levenberg_marquardt is LeNet-5's own: it needs lenet5_1998 or "
            "lenet5_1998_full_c3 in float32, and config.loss.kind rbf_mse or rbf_map"
        )


def create_network(
    model: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> models.Network:
    """The network of `config.model` for images of this shape; traced once, to see it takes them."""
    for name in ("input", "num_classes"):
        if name in model:
            raise UserError(f"config.model.{name}: is decided by the data, not by the config")
    spec = {**model, "input": tuple(image_shape), "num_classes": num_classes}
    try:
        network = models.create(spec)
        models.check(network)
    except ValueError as error:
        raise UserError(f"config.model: {error}") from None
    return network


def field(config: ConfigDict, name: str) -> Any:
    """The value of a dotted field. Raises UserError where the config lacks it."""
    value: Any = config
    for part in name.split("."):
        if part not in value:
            raise UserError(f"config.{name}: is missing")
        value = value[part]
    return value


def parameter_count(params: Any) -> int:
    """The number of trainable values, of arrays or of shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
