"""Reads and writes metrics.jsonl: one JSON object per logged step, without repeats after a resume.

Everything except a row's "clock" is the same in every run of the same code, config, seed and device
kind.
"""

import base64
import contextlib
import hashlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

import sharding
from errors import UserError
from training import workdirs

Row = dict[str, Any]
FILE = "metrics.jsonl"


def read(workdir: pathlib.Path) -> list[Row]:
    """The rows of a run so far, in order of their step; [] if none is logged yet.

    Ignores an incomplete last line, which a kill during a write leaves. Raises UserError if another
    line is not a row.
    """
    return [json.loads(line) for line in _lines(workdir / FILE)]


def _lines(path: pathlib.Path) -> list[str]:
    """The lines of metrics.jsonl, each a JSON object with a larger step than the one before."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    before = 0
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        step = row.get("step") if isinstance(row, dict) else None
        if type(step) is not int or step <= before:
            raise UserError(
                f"{path}: line {number} is not a row of a step after {before}; restore it, or "
                "train in another workdir"
            )
        before = step
    return lines


def check_whole(workdir: pathlib.Path, due: Mapping[int, Iterable[str]]) -> None:
    """Raises UserError if metrics.jsonl lacks a row of `due`, or a group of one.

    due: by step, the groups of its row ("train", "validation", "test").
    """
    there = {row["step"]: row for row in read(workdir)}
    lost = [step for step, groups in due.items() if not set(groups) <= there.get(step, {}).keys()]
    if lost:
        raise UserError(
            f"{workdir / FILE}: {len(lost)} of {len(due)} rows are missing or incomplete, first "
            f"at step {lost[0]}; restore the file, or train in another workdir"
        )


def digests(workdir: pathlib.Path, step: int) -> dict[str, str]:
    """sha256 of the lines up to the row of `step` ("rows") and without it ("rows_before")."""
    whole, before = hashlib.sha256(), hashlib.sha256()
    for line in _lines(workdir / FILE):
        at = json.loads(line)["step"]
        if at <= step:
            whole.update(line.encode())
        if at < step:
            before.update(line.encode())
    return {"rows": whole.hexdigest(), "rows_before": before.hexdigest()}


def check_unchanged(workdir: pathlib.Path, step: int, saved: Mapping[str, str]) -> None:
    """Raises UserError if the rows up to `step` are not those it was saved with.

    saved: `digests` when it was saved; a missing one is not checked. If `step` itself has no row,
    only those before it are compared: --extend moves an end, and its row is removed.
    """
    now = digests(workdir, step)
    name = "rows_before" if now["rows"] == now["rows_before"] else "rows"
    if saved.get(name) not in (None, now[name]):
        raise UserError(
            f"{workdir / FILE}: its rows up to step {step} are not those that the run wrote; put "
            "the file back, or train in another workdir"
        )


def check_finite(row: Row) -> None:
    """Raises UserError if a number of the row is not finite: JSON has no such numbers."""
    for name, value in scalars(row).items():
        if not math.isfinite(value):
            raise UserError(
                f"{name} is {value} at step {row['step']}; stopped without saving that state; "
                "a lower config.schedule.rate may help"
            )


class MetricsLog:
    """Appends rows to a workdir's metrics.jsonl.

    due: the steps up to the one that the run starts from that have a row. Rows beyond were logged
    by a run that was cut off before it saved that step; they are removed, since the same steps will
    be logged again; so is the row of an end that --extend has moved. also: called with every row,
    those that are there first.
    """

    def __init__(self, workdir: pathlib.Path, due: Container[int], also: Callable[[Row], None]):
        self.path, self.also = workdir / FILE, also
        with workdirs.writing(self.path):
            if self.path.exists():
                kept = [line for line in _lines(self.path) if json.loads(line)["step"] in due]
                workdirs.write_whole(self.path, "".join(kept))
            self.file = self.path.open("ab", buffering=0)
        for row in read(workdir):
            also(row)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, row: Row) -> None:
        """Appends one row; it is on disk when this returns."""
        with workdirs.writing(self.path):
            self.file.write((json.dumps(row, allow_nan=False) + "\n").encode())
            os.fsync(self.file.fileno())
        self.also(row)


class Clock:
    """A row's "clock": seconds since the start, and images/s of training without evaluations."""

    def __init__(self, *, batch_size: int):
        self.batch_size = batch_size
        self.began = self.since = time.monotonic()
        self.logged_steps = 0
        self.rate: float | None = None

    def training_logged(self, steps: int) -> None:
        """Sets the rate to that since the last call; `steps` are all steps since the start."""
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


def means(metric_sums: Mapping[str, jax.Array]) -> dict[str, float]:
    """Means over the steps that the sums hold."""
    sums = {name: float(value) for name, value in sharding.to_host(metric_sums).items()}
    names = [name for name in sums if name not in ("steps", "learning_rate", "not_finite")]
    return {name: sums[name] / sums["steps"] for name in names}


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers as "train/loss": value."""
    flat: dict[str, float] = {}
    for group, values in row.items():
        if isinstance(values, Mapping):
            flat |= {f"{group}/{name}": value for name, value in values.items()}
        elif group not in ("step", "alarms"):
            flat[group] = values
    return flat


def result(rows: list[Row], description: Mapping[str, Any]) -> dict[str, Any]:
    """result.json of a finished run: `description`, the last row, and the best rows.

    validation_best: the first row with the smallest validation error; null without a validation
    part. test_best: the smallest test error, chosen on the test set itself; only for comparison
    with papers that report it, not for selection.
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


def kept_wrong(workdir: pathlib.Path, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """ "test_wrong" of a result.json that is `result` otherwise; None if there is none."""
    try:
        kept = workdirs.read_object(workdir / workdirs.RESULT)
    except UserError:  # the run was cut off before it was written, or it is damaged
        return None
    wrong = kept.pop("test_wrong", None)
    return wrong if kept == result else None


def _summary(row: Row) -> dict[str, Any]:
    summary = {"step": row["step"], "epoch": row["epoch"]}
    for group in ("train", "validation", "test"):
        for name, value in row.get(group, {}).items():
            summary[f"{group}_{name}"] = value
    return summary


def packed(wrong: np.ndarray) -> dict[str, Any]:
    """Which images were wrong, bool [images], from the form in result.json."""
    bits = base64.b64encode(np.packbits(wrong).tobytes()).decode()
    return {"images": len(wrong), "bits": bits}


def unpacked(entry: Mapping[str, Any]) -> np.ndarray:
    """Misclassified images, bool [images], from the result of `packed`."""
    bits = np.frombuffer(base64.b64decode(entry["bits"]), np.uint8)
    return np.unpackbits(bits, count=entry["images"]).astype(bool)
