"""A trained network for use: `net = load("runs/lenet5_digits"); net.predict(images)`."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from errors import UserError
from training import devices, experiment, metrics
from training.checkpoints import FOLDER, Checkpoints


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
    workdir = pathlib.Path(workdir)
    try:
        stored = json.loads((workdir / "config.json").read_text())
    except OSError:
        raise UserError(f"{workdir}: no run here (it has no config.json)") from None
    if not (workdir / FOLDER).is_dir():
        raise UserError(f"{workdir}: the run has no checkpoint yet")
    config = ConfigDict(stored).lock()
    run = experiment.create(config, mesh or devices.create_mesh(), data_dir)
    state = run.create_state()
    with Checkpoints(workdir, keep=config.checkpoint.keep) as checkpoints:
        wanted = _step(workdir, step, checkpoints.steps)
        state = checkpoints.restore(wanted, state)
    return Trained(run.evaluation_network, state.variables, run.pipeline, config, wanted)


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
