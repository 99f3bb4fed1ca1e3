"""What a run prints on the terminal: its progress, and the table after it."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

LINE_SECONDS = 10.0  # between lines where the output is a file or a pipe


class Progress:
    """How far a loop is, its figures and the time left: a bar on a terminal, else some lines.

    label: of the bar. unit: what is counted. shown: whether this process prints; of a job one does.
    """

    def __init__(
        self,
        *,
        total: int,
        start: int = 0,
        label: str = "",
        unit: str = "step",
        shown: bool = True,
    ):
        self.total, self.start, self.done, self.shown = total, start, start, shown
        self.label = label or unit
        self.began = self.said = time.monotonic()
        self.text = ""
        self.bar = None
        if shown and sys.stderr.isatty():
            self.bar = tqdm(
                total=total, initial=start, desc=label or None, unit=unit, dynamic_ncols=True
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Takes the figures to show from a row of metrics.jsonl."""
        parts = []
        if "train" in row:
            parts.append(f"loss {row['train']['loss']:.4f}")
        parts += [
            f"{group} error {100 * row[group]['error']:.2f}%"
            for group in ("train", "validation", "test")
            if group in row
        ]
        if "images_per_s" in row["clock"]:
            parts.append(f"{row['clock']['images_per_s']:,.0f} images/s")
        self.text = ", ".join(parts)

    def advance(self) -> None:
        """Shows that one more is done."""
        self.step(self.done + 1)

    def step(self, done: int) -> None:
        """Shows that `done` of the total are done."""
        self.done = done
        if self.bar is not None:
            self.bar.set_postfix_str(self.text, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        now = time.monotonic()
        if self.shown and (done == self.total or now - self.said >= LINE_SECONDS):
            self.said = now
            left = (now - self.began) / max(done - self.start, 1) * (self.total - done)
            told = f", {self.text}" if self.text else ""
            print(f"{self.label} {done}/{self.total}{told}, {left:.0f} s left", flush=True)

    def line(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if self.shown:
            tqdm.write(text)


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
