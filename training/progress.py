"""What a run prints: its progress, and the table after it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from tabulate import tabulate

import sharding
from display import Progress
from training.experiment import Experiment


class TrainingProgress:
    """Step, loss, errors, images a second and time left of training, as `display` shows them.

    start: the step that training starts from. shown: whether this process shows anything; of a job
    one does.
    """

    def __init__(self, run: Experiment, start: int, *, shown: bool):
        self.batch_size = run.config.batch_size
        self.steps = Progress(total=run.steps, start=start, label="step", shown=shown)
        self.row: Mapping[str, Any] = {}
        self.finished: jax.Array | None = None

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self.steps.close()

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Takes the figures to show from a row of metrics.jsonl."""
        self.row = {**self.row, **row}
        if "train" in row:
            self.finished = None  # its mean is newer than the step

    def loss(self, finished: jax.Array) -> None:
        """Takes the loss of a step that the device has finished; read only when it is shown."""
        self.finished = finished

    def step(self, done: int) -> None:
        """Shows that `done` steps are done, or under way."""
        self.steps.step(done, self.figures)

    def figures(self) -> str:
        """Loss of the newest row or finished step, errors of the newest row, images a second."""
        parts = []
        if self.finished is not None:
            parts.append(f"loss {float(sharding.to_host(self.finished)):.4f}")
        elif "train" in self.row:
            parts.append(f"loss {self.row['train']['loss']:.4f}")
        parts += [
            f"{group} error {100 * self.row[group]['error']:.2f}%"
            for group in ("train", "validation", "test")
            if group in self.row
        ]
        pace = self.steps.pace()
        by_pace = None if pace is None else pace * self.batch_size
        rate = self.row.get("clock", {}).get("images_per_s", by_pace)
        if rate is not None:
            parts.append(f"{rate:,.0f} images/s")
        return ", ".join(parts)

    def line(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        self.steps.display.line(text)


def say_changes(changes: Sequence[str]) -> None:
    """Says what differs from the machine and versions of the steps before and moves bits."""
    if changes:
        print(
            f"note: since the steps before, {', '.join(changes)}: the curve will not be the one "
            "of an undisturbed run to the bit",
            file=sys.stderr,
        )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns; the first row is the heading."""
    return tabulate(rows, headers="firstrow", tablefmt="simple", disable_numparse=True)


def result_table(result: Mapping[str, Any]) -> str:
    """The final table of a run, errors and accuracy in percent, and what damage was skipped."""

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.2f}%"

    heading = ("result", "step", "train error", "validation error", "test error", "test accuracy")
    rows = [heading]
    for name, label in (
        ("last", "last step"),
        ("validation_best", "best by validation"),
        ("test_best", "best by test (not for choosing)"),
    ):
        entry = result[name]
        if entry is None:
            continue
        test = entry["test_error"]
        rows.append(
            (
                label,
                str(entry["step"]),
                percent(entry.get("train_error")),
                percent(entry.get("validation_error")),
                percent(test),
                percent(1 - test),
            )
        )
    lines = [table(rows)]
    if "damaged" in result:
        counts = ", ".join(f"{count:,} {split}" for split, count in result["damaged"].items())
        lines.append(f"damaged images skipped: {counts}")
    return "\n".join(lines)
