"""A trained network for use: `net = load("runs/lenet5_digits"); net.predict(images)`."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from ml_collections import ConfigDict

import sharding
from errors import UserError
from startup import xla_settings
from training import experiment, metrics
from training.checkpoints import Checkpoints
from training.workdirs import CONFIG, FOLDER, read_object

xla_settings.apply()  # in time where a notebook has not computed anything yet


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network, its weights at `step`, and the preprocessing it was trained with.

    apply(variables, images, train=False) is the network's own; `variables` holds params and
    batch statistics.
    """

    network: Any
    variables: dict[str, Any]
    pipeline: Any
    config: ConfigDict
    step: int

    def preprocess(self, images: np.ndarray) -> jax.Array:
        """uint8 images [N, H, W, C] of the data set -> the network's float32 input."""
        return self.pipeline.preprocess(images)

    def apply(self, images: jax.Array, **options: Any) -> Any:
        """Outputs of the network on preprocessed images; options as `capture=("conv1",)`."""
        return self.network.apply(self.variables, images, train=False, **options)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 images [N, H, W, C] of the data set -> class indices, int32 [N]."""
        return np.asarray(self.apply(self.preprocess(images)).logits.argmax(-1), np.int32)


def load(
    workdir: str | pathlib.Path,
    *,
    step: int | str = "last",
    data_dir: str | None = None,
    mesh: Mesh | None = None,
) -> Trained:
    """The trained network of `workdir`, at the "last" saved step, the "best" by validation, or N.

    data_dir: where the data set lies; its training part defines the preprocessing. mesh: the
    devices that hold the network, all of them by default. Raises UserError where there is no such
    run or step.
    """
    xla_settings.check()
    workdir = pathlib.Path(workdir)
    if not (workdir / CONFIG).exists():
        raise UserError(f"{workdir}: no run here (it has no {CONFIG})")
    stored = read_object(workdir / CONFIG)
    if not (workdir / FOLDER).is_dir():
        raise UserError(f"{workdir}: the run has no checkpoint yet")
    config = ConfigDict(stored).lock()
    run = experiment.create(config, mesh or sharding.create_mesh(), data_dir)
    # The shapes alone: weights that a checkpoint replaces need not be drawn.
    whole = sharding.replicated(run.mesh)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
        jax.eval_shape(run.create_state),
    )
    with Checkpoints(workdir, keep=config.checkpoint.keep, read_only=True) as checkpoints:
        wanted = _step(workdir, step, checkpoints.steps)
        _require_same_network(workdir / FOLDER / str(wanted), like.params)
        state = checkpoints.restore(wanted, like)
    return Trained(run.evaluation_network, state.variables, run.pipeline, config, wanted)


def _require_same_network(checkpoint: pathlib.Path, params: Any) -> None:
    """Raises UserError where the weights in `checkpoint` are not named and shaped like `params`.

    Orbax would say so too, in many lines. What cannot be read at all is left to the restore.
    """
    handler = ocp.StandardCheckpointHandler()
    try:
        tree = handler.metadata(checkpoint.absolute() / "state").tree
        stored = _shapes(tree["params"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    finally:
        handler.close()
    wanted = _shapes(params)
    for name in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(name, "missing"), wanted.get(name, "missing")
        if there != here:
            raise UserError(
                f"{checkpoint}: a checkpoint of another network than config.json describes: "
                f"{name} is {there} in it, {here} in the config's"
            )


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each weight, by a name such as conv1/kernel."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}


def _step(workdir: pathlib.Path, step: int | str, saved: list[int]) -> int:
    if not saved:
        raise UserError(f"{workdir}: the run has no checkpoint yet")
    if step == "last":
        return saved[-1]
    if step == "best":
        rows = [
            row for row in metrics.read(workdir) if "validation" in row and row["step"] in saved
        ]
        if not rows:
            raise UserError(
                f"{workdir}: no best step, the run had no validation part "
                "(config.data.validation); the test set never chooses"
            )
        return min(rows, key=lambda row: row["validation"]["error"])["step"]
    if step not in saved:
        raise UserError(
            f"{workdir}: no checkpoint of step {step}; saved: {', '.join(map(str, saved))}"
        )
    return int(step)
