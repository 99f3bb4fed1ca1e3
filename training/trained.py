"""A trained network for use: `net = load("runs/lenet5_digits"); net.predict(images)`."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import input_pipeline
import sharding
from augmentations import recipe as recipes
from augmentations.recipe import Recipe
from configs import fields
from errors import UserError
from startup import xla_settings
from training import data_record, experiment, metrics
from training.checkpoints import Checkpoints
from training.data_record import DataRecord
from training.step import TrainState
from training.workdirs import CONFIG, DATA, FOLDER, config_digest, read_object

xla_settings.apply()  # in time where a notebook has not computed anything yet


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network, its weights at `step`, and the preprocessing it was trained with.

    apply(variables, images, train=False) is the network's own; `variables` holds params and
    batch statistics. record: what the run kept of its data set; no image is needed for use.
    """

    network: Any
    variables: dict[str, Any]
    recipe: Recipe
    record: DataRecord
    config: ConfigDict
    step: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class index; the number itself where the data set has no names."""
        dataset = self.record.dataset
        return dataset.class_names or tuple(map(str, range(dataset.classes)))

    def preprocess(self, images: np.ndarray | jax.Array) -> jax.Array:
        """uint8 images [N, H, W, C] of the data set -> the network's float32 input."""
        return self._preprocess(self.record.statistics, jnp.asarray(images))

    @functools.cached_property
    def _preprocess(self) -> Callable[..., jax.Array]:
        return jax.jit(self.recipe.test)

    def pipeline(self, data_dir: str | None = None) -> input_pipeline.Pipeline:
        """The run's data set, with the preprocessing of this network; the caller closes it.

        Raises UserError if the data set is not there.
        """
        opened = input_pipeline.create(self.config, sharding.create_mesh(), data_dir)
        opened.use(self.record.statistics)
        return opened

    def apply(self, images: jax.Array, **options: Any) -> Any:
        """Outputs of the network on preprocessed images; options as `capture=("conv1",)`."""
        return self.network.apply(self.variables, images, train=False, **options)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 images [N, H, W, C] of the data set -> class indices, int32 [N]."""
        classes = self.apply(self.preprocess(images)).logits.argmax(-1)
        return sharding.to_host(classes).astype(np.int32)


# How a checkpoint is chosen, besides by the number of its step.
CHOSEN = {"last": "the last saved step", "best": "least validation error of the saved steps"}


def step_named(text: str) -> int | str:
    """The `step` of `load` that --step names. Raises UserError if it is none."""
    if text in CHOSEN:
        return text
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"--step={text!r}: expected {', '.join(CHOSEN)} or the number of a step")
    return int(text)


def load(
    workdir: str | pathlib.Path, *, step: int | str = "last", mesh: Mesh | None = None
) -> Trained:
    """The trained network of `workdir`, at the "last" saved step, the "best" by validation, or N.

    Reads only the workdir: no images, and no optimizer state of the checkpoint. mesh: the devices
    that hold the network, all of them by default. Raises UserError if there is no such run or
    step.
    """
    xla_settings.check()
    workdir = pathlib.Path(workdir)
    if not (workdir / CONFIG).exists():
        raise UserError(f"{workdir}: no run here (it has no {CONFIG})")
    config = ConfigDict(fields.completed(read_object(workdir / CONFIG))).lock()
    try:
        fields.check(config)
    except UserError as error:
        raise UserError(f"{workdir / CONFIG}: {error}") from None
    if not (workdir / FOLDER).is_dir():
        raise UserError(f"{workdir}: the run has no checkpoint yet")
    record = data_record.read(workdir)
    if record is None:
        raise UserError(
            f"{workdir}: has no {DATA}, which holds the run's preprocessing; train.py "
            "writes it when the run is started again"
        )
    recipe = recipes.read(config.data, record.dataset.shape)
    traced = experiment.create_network(config.model, recipe.image_shape, record.dataset.classes)
    with Checkpoints(workdir, keep=config.checkpoint.keep, read_only=True) as checkpoints:
        wanted = _step(workdir, step, checkpoints.steps, validation=config.data.validation)
        made_of = {"config": config_digest(config.to_dict()), "data": record.sha256}
        checkpoints.require_made_of(wanted, made_of)
        like = _for_use(traced.variables, config, mesh or sharding.create_mesh())
        state = checkpoints.restore(wanted, like)
    network = traced.network.clone(heads=tuple(config.eval.heads))
    return Trained(network, state.variables, recipe, record, config, wanted)


def _for_use(variables: Mapping[str, Any], config: ConfigDict, mesh: Mesh) -> TrainState:
    """The shapes of what use needs of a state, whole on every device; None for all else."""
    whole = sharding.replicated(mesh)
    weights = {
        name: jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
            variables.get(name, {}),
        )
        for name in ("params", "batch_stats")
    }
    fields: dict[str, Any] = {field.name: None for field in dataclasses.fields(TrainState)}
    fields["step"] = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    if config.averaging.name == "none":
        return TrainState(**fields | weights | {"averages": {}})
    return TrainState(**fields | {"averages": weights})


def _step(workdir: pathlib.Path, step: int | str, saved: list[int], *, validation: int) -> int:
    if not saved:
        raise UserError(f"{workdir}: the run has no checkpoint yet")
    if step == "last":
        return saved[-1]
    if step == "best":
        if not validation:
            raise UserError(
                f"{workdir}: no best step, the run had no validation part "
                "(config.data.validation); the test set never chooses"
            )
        rows = [
            row for row in metrics.read(workdir) if "validation" in row and row["step"] in saved
        ]
        if not rows:
            raise UserError(
                f"{workdir / metrics.FILE}: no row has the validation error of a saved step "
                f"({', '.join(map(str, saved))}); put the file back, or name a step"
            )
        return min(rows, key=lambda row: row["validation"]["error"])["step"]
    if step not in saved:
        raise UserError(
            f"{workdir}: no checkpoint of step {step}; saved: {', '.join(map(str, saved))}"
        )
    return int(step)
