"""Builds the parts of a config: data, network, loss, optimizer, schedule, durations in steps.

Also calls the checks, so that errors in a config are found before anything compiles or is written.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

import input_pipeline
import models
import sharding
from configs import fields
from errors import UserError
from inspection import cost
from startup import environment
from training import (
    alarms,
    checks,
    losses,
    optimizers,
    schedules,
    weight_averaging,
)
from training.durations import in_steps
from training.losses import Loss
from training.schedules import Schedule
from training.step import Sums, TrainState, create_state, empty_metric_sums
from training.weight_averaging import Averaging


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of one run; `steps` and the `*_every` are in steps."""

    config: ConfigDict
    mesh: Mesh
    pipeline: Any
    network: models.Network
    traced: cost.Traced
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
    def multiply_adds(self) -> int:
        """Multiply-adds per image in evaluation; traces again if there are side heads."""
        network = self.evaluation_network
        traced = self.traced if network == self.network else cost.trace(network)
        return traced.cost.multiply_adds

    @property
    def step_parts(self) -> dict[str, Any]:
        """The arguments of training.step.train_step other than state and batch."""
        return {
            "network": self.network,
            "loss": self.loss,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "averaging": self.averaging,
            "gradient_accumulation": self.config.gradient_accumulation,
            "seed": self.config.seed,
        }

    def first_state(self) -> TrainState:
        """The state before the first step."""
        return create_state(
            self.network,
            self.loss,
            self.optimizer,
            seed=self.config.seed,
            schedule=self.schedule,
            averaging=self.averaging,
            traced=self.traced,
        )

    def create_state(self) -> TrainState:
        """The state before the first step, on all devices of the mesh."""
        return jax.device_put(self.first_state(), sharding.replicated(self.mesh))

    @property
    def estimates_curvature(self) -> bool:
        """Whether the optimizer needs curvatures, estimated before each pass (only LeNet-5's)."""
        return self.config.optimizer.name in optimizers.OF_CURVATURE

    @property
    def empty_metric_sums(self) -> Sums:
        """The state's sums of training metrics after a logged row, on all devices.

        Made from host values, so that every process of a job can place its part.
        """
        values = sharding.to_host(empty_metric_sums(self.loss))
        return jax.device_put(values, sharding.replicated(self.mesh))

    def due(self, step: int) -> set[str]:
        """What to do after `step` steps: "log", "evaluate", "save"; all after the last step."""
        every = {
            "log": self.log_every,
            "evaluate": self.evaluate_every,
            "save": self.checkpoint_every,
        }
        return {what for what, n in every.items() if step % n == 0 or step == self.steps}

    def dispatches(self, start: int) -> Iterator[range]:
        """The steps from `start` to the last, `config.steps_per_dispatch` at a time.

        Steps are single where fewer are left before something is due or the epoch ends: two sizes,
        so that two programs are compiled at most.
        """
        most = self.config.steps_per_dispatch
        every = (
            *(self.log_every, self.evaluate_every, self.checkpoint_every),
            self.pipeline.steps_per_epoch,
        )
        step = start
        while step < self.steps:
            left = min(self.steps - step, *(n - step % n for n in every))
            count = most if most <= left else 1
            yield range(step, step + count)
            step += count

    def rows_due(self, upto: int) -> dict[int, set[str]]:
        """The rows of the first `upto` steps: the groups of metrics by step."""
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

    data: False reads no images; the pipeline then has only their shape and number.
    """
    fields.check(config)
    environment.convolution_form()  # raises UserError if the environment names no form
    pipeline: Any = (
        input_pipeline.create(config, mesh, data_dir)
        if data
        else input_pipeline.declare(config, mesh)
    )
    traced = create_network(config.model, pipeline.image_shape, pipeline.num_classes)
    network, variables = traced.network, traced.variables
    loss = losses.create(config.loss, network.heads)

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
            f"config.checkpoint.every: {checkpoint_every} steps is not a multiple of the "
            f"{evaluate_every} of config.eval.every, so the best by validation would not be saved"
        )
    rules = optimizers.rules(config.parameters, variables["params"])
    schedule = schedules.create(config.schedule, steps, steps_of)
    checks.check(
        config,
        network,
        schedule,
        pipeline.examples,
        engine=input_pipeline.engine_of(config.data, pipeline.dataset),
        batch_norms=batch_norms(variables),
    )
    stuck_after = config.alarms.stuck_after
    return Experiment(
        config=config,
        mesh=mesh,
        pipeline=pipeline,
        network=network,
        traced=traced,
        loss=loss,
        evaluation_loss=loss.only(config.eval.heads),
        optimizer=optimizers.create(config.optimizer, rules),
        schedule=schedule,
        averaging=weight_averaging.create(config.averaging, steps_of),
        alarms=alarms.Alarms(
            chance=alarms.chance_of(config.loss.kind, pipeline.num_classes),
            after=steps_of("config.alarms.stuck_after", stuck_after) if stuck_after else 0,
        ),
        steps=steps,
        log_every=steps_of("config.log_every", config.log_every),
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
    )


def batch_norms(variables: Mapping[str, Any]) -> list[str]:
    """The names of a network's batch norms ("conv1/bn"), in order."""
    kept = flatten_dict(variables.get("batch_stats", {}))
    return list(dict.fromkeys("/".join(path[:-1]) for path in kept))


def create_network(
    model: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int
) -> cost.Traced:
    """The network of `config.model`, traced on an image of this shape."""
    for name in ("input", "num_classes"):
        if name in model:
            raise UserError(f"config.model.{name}: is set by the data; remove it")
    spec = {**model, "input": tuple(image_shape), "num_classes": num_classes}
    try:
        network = models.create(spec)
        checks.check_precision(network)
        return models.check(network, cost.trace)
    except ValueError as error:
        raise UserError(f"config.model: {error}") from None
