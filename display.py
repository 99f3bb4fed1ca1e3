"""How far a job is: a bar on a terminal or in a notebook, elsewhere a line now and then.

The lines have no control characters, so that a log of them can be read and searched. tqdm draws the
bar, prints lines above it and knows the width of the terminal; what is said is the same everywhere.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

BAR_SECONDS = 0.2  # between two drawings of a bar
LINE_SECONDS = 10.0  # between two lines


class Display:
    """Shows a share of the whole and a text about it.

    shown: whether this process shows anything. brief: nothing is left of the bar, and a job that
    takes less than LINE_SECONDS has no line. lines: where lines go, by default standard output.
    """

    def __init__(self, *, shown: bool = True, brief: bool = False, lines: TextIO | None = None):
        self.shown, self.brief, self.lines = shown, brief, lines
        self.drawn = shown and draws()
        self.bar: Any = None
        self.said = time.monotonic()

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar's line, or removes it if `brief`."""
        if self.bar is not None:
            self.bar.close()

    def due(self, share: float) -> bool:
        """Whether `show` would show this share now."""
        pause = BAR_SECONDS if self.drawn else LINE_SECONDS
        last = share >= 1 and not self.brief
        return self.shown and (last or time.monotonic() - self.said >= pause)

    def show(self, share: float, text: str) -> None:
        """Shows the text if it is time to, and always at the end."""
        if not self.due(share):
            return
        self.said = time.monotonic()
        if not self.drawn:
            print(text, file=self.lines or sys.stdout, flush=True)
            return
        if self.bar is None:
            self.bar = tqdm(
                total=1.0,
                bar_format="{percentage:3.0f}%|{bar}| {desc}",
                leave=not self.brief,
                dynamic_ncols=not in_notebook(),
                file=sys.stdout if in_notebook() else sys.stderr,
            )
        self.bar.n = min(share, 1.0)
        self.bar.set_description_str(text, refresh=False)
        self.bar.refresh()

    def line(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self.shown:
            tqdm.write(text)
            sys.stdout.flush()


class Progress:
    """Counts to a total and says the time left.

    label, unit: "label 120/330 unit". scale: what the counts are divided by to be shown. For the
    others see `Display`. The pace is that since the first call, so that what comes before it, e.g.
    compilation, does not count.
    """

    def __init__(
        self,
        *,
        total: float,
        start: float = 0,
        label: str = "",
        unit: str = "",
        scale: float = 1,
        shown: bool = True,
        brief: bool = False,
        lines: TextIO | None = None,
    ):
        self.total, self.done = total, start
        self.label, self.unit, self.scale = label, unit, scale
        self.display = Display(shown=shown, brief=brief, lines=lines)
        self.first: tuple[float, float] | None = None  # count and time of the first call

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """As `Display.close`."""
        self.display.close()

    def advance(self, count: float = 1) -> None:
        """Shows that `count` more are done."""
        self.step(self.done + count)

    def step(self, done: float, figures: Callable[[], str] = str) -> None:
        """Shows that `done` of the total are done. figures: called when they are shown."""
        self.done = done
        if self.first is None:
            self.first = done, time.monotonic()
        share = done / self.total if self.total else 1.0
        if self.display.due(share):
            counts = f"{done / self.scale:,.0f}/{self.total / self.scale:,.0f}"
            begun = " ".join(part for part in (self.label, counts, self.unit) if part)
            seconds = self.seconds_left()
            left = "" if seconds is None else f"{duration(seconds)} left"
            self.display.show(share, ", ".join(part for part in (begun, figures(), left) if part))

    def pace(self) -> float | None:
        """Counts a second since the first call; None before the second."""
        if self.first is None or self.done <= self.first[0]:
            return None
        return (self.done - self.first[0]) / max(time.monotonic() - self.first[1], 1e-9)

    def seconds_left(self) -> float | None:
        """The time to the end at this pace; None if it is not known, or at the end."""
        pace = self.pace()
        return None if pace is None or self.done >= self.total else (self.total - self.done) / pace


def draws() -> bool:
    """Whether a bar can be drawn: on a terminal that moves its cursor, and in a notebook."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return in_notebook() or (terminal and os.environ.get("TERM") != "dumb")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def duration(seconds: float) -> str:
    """ "40 s", "3 min", "2.5 h", "28 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"
