"""Sends a run's rows to a tracker too: Weights & Biases, trackio or TensorBoard.

metrics.jsonl stays the record. A tracker that fails is left alone after one line, and what it lacks
is sent when the run is started again. Nothing of a tracker goes into a run.
"""

import importlib
import importlib.util
import os
import pathlib
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from errors import UserError
from training import metrics, workdirs

PACKAGES = {"wandb": "wandb", "trackio": "trackio", "tensorboard": "tensorboardX"}
FILE = "tracking.json"  # in the workdir: by tracker, the run's id there and the last step it has
PROJECT = "convnet-case-studies"  # $WANDB_PROJECT replaces it


def require(name: str) -> None:
    """Raises UserError for an unknown tracker, or one whose package is not installed."""
    if name not in PACKAGES:
        raise UserError(f"--track: {name!r} is none of {', '.join(PACKAGES)}")
    package = PACKAGES[name]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"--track={name}: needs a package: pip install {package}")


class Tracker:
    """The same run of a tracker, however often the run is resumed. Starts with the first row.

    name: of the tracker; None: rows are sent nowhere. Raises UserError as `require` does. Trackers
    send in the background, so that only those rows count as sent that were written before an end in
    good order: after a kill some come a second time, at the same step with the same numbers.
    """

    def __init__(self, name: str | None, workdir: pathlib.Path, config: ConfigDict):
        if name is not None:
            require(name)
        self.name, self.workdir, self.config = name, workdir, config
        self.given_up = name is None
        self.run: Any = None
        self.sent: dict[str, Any] = {}
        self.last = 0  # the step of the newest row

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *error: object) -> None:
        if self.run is not None:
            self._trying(self.run.finish)
        if self.run is not None:
            self._remember(step=max(self.last, self.sent["step"]))

    def write(self, row: metrics.Row) -> None:
        """Sends a row, unless it has been sent before."""
        if self.run is None:
            self._trying(self._start)
        if self.run is not None and row["step"] > self.sent["step"]:
            self._trying(lambda: self.run.log(metrics.scalars(row), step=row["step"]))
            self.last = row["step"]

    def _start(self) -> None:
        assert self.name is not None
        path = self.workdir / FILE
        everything = workdirs.read_object(path) if path.exists() else {}
        self.sent = everything.get(self.name) or {"id": uuid.uuid4().hex[:8], "step": 0}
        self.run = STARTS[self.name](self.workdir, self.sent["id"], self.config)
        self._remember()

    def _remember(self, **fields: Any) -> None:
        path = self.workdir / FILE
        everything = workdirs.read_object(path) if path.exists() else {}
        self.sent = {**self.sent, **fields}
        workdirs.write_json(path, {**everything, self.name: self.sent})

    def _trying(self, action: Callable[[], None]) -> None:
        if self.given_up:
            return
        try:
            action()
        except Exception as error:  # anything: of the package, the network, the disk
            self.given_up, self.run = True, None
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(
                f"note: --track={self.name} has failed ({why}); training goes on, and "
                f"{self.workdir / metrics.FILE} has every row",
                file=sys.stderr,
            )


class _TensorBoard:
    """TensorBoard's event files behind the interface of the other trackers' runs."""

    def __init__(self, folder: pathlib.Path):
        package = importlib.import_module(PACKAGES["tensorboard"])
        self.writer = package.SummaryWriter(str(folder))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def finish(self) -> None:
        self.writer.close()


def _tensorboard(workdir: pathlib.Path, identity: str, config: ConfigDict) -> _TensorBoard:
    return _TensorBoard(workdir / "tensorboard")


def _wandb(workdir: pathlib.Path, identity: str, config: ConfigDict) -> Any:
    # By default wandb puts itself between the program and its standard streams.
    os.environ.setdefault("WANDB_CONSOLE", "off")
    return importlib.import_module("wandb").init(
        **_common(workdir, identity, config),
        id=identity,
        dir=str(workdir),
        allow_val_change=True,  # --extend changes the duration
    )


def _trackio(workdir: pathlib.Path, identity: str, config: ConfigDict) -> Any:
    return importlib.import_module("trackio").init(**_common(workdir, identity, config))


def _common(workdir: pathlib.Path, identity: str, config: ConfigDict) -> dict[str, Any]:
    # trackio knows a run by its name.
    return {
        "project": os.environ.get("WANDB_PROJECT") or PROJECT,
        "name": f"{workdir.absolute().name}-{identity}",
        "config": config.to_dict(),
        "resume": "allow",
    }


STARTS: dict[str, Callable[[pathlib.Path, str, ConfigDict], Any]] = {
    "wandb": _wandb,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
}
