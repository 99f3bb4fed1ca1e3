"""metrics.jsonl: one object a logged step, one row a step, also after a resume.

Everything outside a row's "clock" is the same on every run of the same code, config, seed and
device kind.
"""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from errors import UserError

Row = dict[str, Any]
FILE = "metrics.jsonl"


def read(workdir: pathlib.Path) -> list[Row]:
    """The rows of a run so far, in order of their step. Raises UserError for a damaged line."""
    path = workdir / FILE
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            raise UserError(f"{path}: line {number} is not a JSON object") from None
    return rows


class MetricsLog:
    """Appends rows to a workdir's metrics.jsonl, and to TensorBoard if tensorboardX is installed.

    step: the step the run starts from. Rows beyond it were logged by a run that was cut off before
    it saved that far; they are cut away, since the same steps will be logged again.
    """

    def __init__(self, workdir: pathlib.Path, *, step: int):
        path = workdir / FILE
        if path.exists():
            # The last line may be half written: the process can die within a write.
            text = path.read_text()
            whole = text[: text.rfind("\n") + 1].splitlines(keepends=True)
            kept = [line for line in whole if json.loads(line)["step"] <= step]
            partial = path.with_name(path.name + ".partial")
            partial.write_text("".join(kept))
            partial.replace(path)
        self.file = path.open("a")
        self.board = _tensorboard(workdir, step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

    def write(self, row: Row) -> None:
        """Appends one row and has it on disk when it returns."""
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.board is not None:
            for name, value in scalars(row).items():
                self.board.add_scalar(name, value, row["step"])


class Clock:
    """A row's "clock": seconds since the start, and images/s of training without evaluations."""

    def __init__(self, *, batch_size: int):
        self.batch_size = batch_size
        self.began = self.since = time.monotonic()
        self.logged_steps = 0
        self.rate: float | None = None

    def training_logged(self, steps: int) -> None:
        """Notes that `steps` steps are done since the start, for the rate since the last note."""
        now = time.monotonic()
        self.rate = (steps - self.logged_steps) * self.batch_size / (now - self.since)
        self.since, self.logged_steps = now, steps

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of the block out of the rate."""
        began = time.monotonic()
        yield
        self.since += time.monotonic() - began

    def read(self) -> dict[str, float]:
        """The clock of a row."""
        clock = {"seconds": time.monotonic() - self.began}
        return clock if self.rate is None else {**clock, "images_per_s": self.rate}


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers as "train/loss": value."""
    flat: dict[str, float] = {}
    for group, values in row.items():
        if isinstance(values, Mapping):
            flat |= {f"{group}/{name}": value for name, value in values.items()}
        elif group not in ("step", "alarms"):
            flat[group] = values
    return flat


def _tensorboard(workdir: pathlib.Path, step: int) -> Any | None:
    """A writer of TensorBoard's event files, None where tensorboardX is not installed."""
    try:
        import tensorboardX  # an extra: everything is in metrics.jsonl without it
    except ImportError:
        return None
    return tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)


def result(rows: list[Row], description: Mapping[str, Any]) -> dict[str, Any]:
    """result.json of a finished run: what ran, its last row, and its best rows.

    validation_best: the row of least validation error (the first, where several tie), null without
    a validation part. test_best: the least test error, chosen on the test set itself; a number to
    compare with papers that report it so, never to select by.
    """
    tested = [row for row in rows if "test" in row]
    validated = [row for row in rows if "validation" in row]
    last = tested[-1]
    best = min(tested, key=lambda row: row["test"]["error"])
    chosen = min(validated, key=lambda row: row["validation"]["error"]) if validated else None
    return {
        **description,
        "finished": True,
        "last": _summary(last),
        "validation_best": _summary(chosen) if chosen else None,
        "test_best": {"step": best["step"], "test_error": best["test"]["error"]},
    }


def _summary(row: Row) -> dict[str, Any]:
    summary = {"step": row["step"], "epoch": row["epoch"]}
    for group in ("train", "validation", "test"):
        for name, value in row.get(group, {}).items():
            summary[f"{group}_{name}"] = value
    return summary
