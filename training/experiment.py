"""A config made into its parts: data, network, loss, optimizer, schedule, and durations in steps.

Everything that can be wrong with a config is found here, before anything compiles or is written.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import input_pipeline
import models
from errors import UserError
from training import losses, optimizers, schedules
from training.durations import in_steps
from training.losses import Loss
from training.schedules import Schedule
from training.step import Sums, empty_window

# Fields that must be 1 or more, and those that may be 0 besides.
POSITIVE = ("batch_size", "eval.batch_size", "checkpoint.keep")
NOT_NEGATIVE = ("seed", "data.size", "data.channels", "data.validation", "data.workers")


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
    steps: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int

    @property
    def evaluation_network(self) -> models.Network:
        """The network with the side heads that evaluation reports: config.eval.heads."""
        return self.network.clone(heads=tuple(self.config.eval.heads))

    @property
    def empty_window(self) -> Sums:
        """The state's window of training metrics as it is after a logged row."""
        return empty_window(self.loss)

    def due(self, step: int) -> set[str]:
        """What is to be done after `step` steps: "log", "evaluate", "save"; all after the last."""
        every = {
            "log": self.log_every,
            "evaluate": self.evaluate_every,
            "save": self.checkpoint_every,
        }
        return {what for what, n in every.items() if step % n == 0 or step == self.steps}


def create(config: ConfigDict, mesh: Mesh, data_dir: str | None = None) -> Experiment:
    """Builds all parts of `config`. Raises UserError, one line that names the wrong field."""
    for names, least in ((POSITIVE, 1), (NOT_NEGATIVE, 0)):
        for name in names:
            value = field(config, name)
            if not isinstance(value, int) or value < least:
                raise UserError(
                    f"config.{name}: must be a whole number from {least}, not {value!r}"
                )
    pipeline = input_pipeline.create(config, mesh, data_dir)
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
    return Experiment(
        config=config,
        mesh=mesh,
        pipeline=pipeline,
        network=network,
        loss=loss,
        evaluation_loss=loss.only(config.eval.heads),
        optimizer=optimizers.create(config.optimizer),
        schedule=schedules.create(config.schedule, steps, steps_of),
        steps=steps,
        log_every=steps_of("config.log_every", config.log_every),
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
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
