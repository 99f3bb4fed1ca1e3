"""A converted network as an ordinary workdir: config, preprocessing, one checkpoint, provenance.

The config says how images enter; training it again needs an optimizer and a duration of one's own.
The checkpoint is of step 0: no update was made here.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import data
import sharding
from augmentations.recipe import Statistics
from configs.base import base
from errors import UserError
from training import data_record, experiment, workdirs
from training.checkpoints import Checkpoints
from training.data_record import DataRecord
from training.step import TrainState, empty_metric_sums

DATA = "imagenet2012"
SHORT_SIDE = 256  # of test images before the central cut, as the sources' authors had it
PROVENANCE = "source.json"


def config_of(
    name: str, heads: tuple[str, ...], side: int, normalize: tuple[str, ...]
) -> ConfigDict:
    """The config of a converted network. normalize: call strings, ("channel_mean()",)."""
    config = base()
    config.model.name = name
    config.data.name = DATA
    config.data.size, config.data.short_side = side, SHORT_SIDE
    config.data.normalize = normalize
    config.loss.weights = {"main": 1.0, **dict.fromkeys(heads, 0.3)}
    config.eval.heads = heads
    config.optimizer = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    config.schedule = {"name": "constant", "rate": 0.001}
    return config.lock()


def write(
    workdir: pathlib.Path,
    config: ConfigDict,
    variables: Mapping[str, Any],
    statistics: Statistics,
    class_names: tuple[str, ...] | None,
    provenance: Mapping[str, Any],
) -> None:
    """Writes the workdir. Raises UserError if there is a run in it, or it cannot be written.

    statistics: of config.data.normalize. provenance: for source.json.
    """
    mesh = sharding.create_mesh(jax.devices()[:1])  # a checkpoint is the same from any devices
    made = experiment.create(config, mesh, data=False)
    dataset = data.dataset(config.data.name)
    if class_names is not None:
        dataset = dataclasses.replace(dataset, class_names=class_names)
    # The images it was trained on are not here: no digest equals that of any.
    record = DataRecord(
        dataset, made.pipeline.examples, dict.fromkeys(made.pipeline.examples, ""), statistics
    )
    weights = {name: variables.get(name, {}) for name in ("params", "batch_stats")}
    weights = jax.device_put(weights, sharding.replicated(mesh))
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        opt_state=made.optimizer.init(weights["params"]),
        metric_sums=empty_metric_sums(made.loss),
        schedule_state=made.schedule.init(),
        averages=made.averaging.init(weights),
        **weights,
    )
    with workdirs.claim(workdir):
        if (workdir / workdirs.CONFIG).exists() or (workdir / workdirs.FOLDER).exists():
            raise UserError(f"--workdir: {workdir} holds a run; choose another folder")
        workdirs.write_json(workdir / workdirs.CONFIG, config.to_dict())
        data_record.keep(workdir, record)
        workdirs.write_json(workdir / PROVENANCE, provenance)
        with Checkpoints(workdir, keep=config.checkpoint.keep) as checkpoints:
            checkpoints.save(
                0,
                state,
                validation_error=None,
                metadata={
                    "config": workdirs.config_digest(config.to_dict()),
                    "data": record.sha256,
                },
            )


def sha256(path: pathlib.Path) -> str:
    """The digest of a file. Raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
