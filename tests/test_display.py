"""Progress on a terminal, in a notebook and in a log: the same words, at the right times."""

import io
import sys
import types
from typing import Any

import jax.numpy as jnp
import pytest

import display
from training.progress import TrainingProgress


class Clock:
    """A time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(display, "time", made)
    return made


def stepped(clock: Clock, seconds: float, **fields: Any) -> None:
    """Ten steps, each of so many seconds."""
    with display.Progress(total=10, label="step", **fields) as progress:
        for _ in range(10):
            clock.now += seconds
            progress.advance()


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stepped(clock, 4.0)
    out, error = capsys.readouterr()
    # Lines are ten seconds apart; the pace is that since the first step: four seconds each.
    assert out.splitlines() == [
        "step 3/10, 28 s left",
        "step 6/10, 16 s left",
        "step 9/10, 4 s left",
        "step 10/10",
    ]
    assert error == ""


def test_a_brief_job_says_nothing_unless_it_takes_long(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = io.StringIO()
    stepped(clock, 0.9, brief=True, lines=lines)
    assert lines.getvalue() == ""
    stepped(clock, 2.0, brief=True, lines=lines, scale=5, unit="MB")
    assert lines.getvalue().splitlines() == ["step 1/2 MB, 10 s left", "step 2/2 MB"]
    assert capsys.readouterr() == ("", "")


def test_a_process_that_is_not_to_show_shows_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stepped(clock, 40.0, shown=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["terminal", "notebook", "dumb"])
def test_a_bar_where_one_can_be_drawn(
    place: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, error = io.StringIO(), io.StringIO() if place == "notebook" else Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setenv("TERM", "dumb" if place == "dumb" else "xterm")
    if place == "notebook":
        monkeypatch.setitem(sys.modules, "ipykernel", object())
    stepped(clock, 4.0)
    drawn, other = (error, out) if place == "terminal" else (out, error)
    assert other.getvalue() == ""
    assert ("\r" in drawn.getvalue()) == (place != "dumb")
    assert "step 5/10, 20 s left" in drawn.getvalue() or place == "dumb"
    assert "step 10/10" in drawn.getvalue()


def test_training_shows_loss_errors_and_images_a_second(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Any = types.SimpleNamespace(steps=100, config=types.SimpleNamespace(batch_size=32))
    with TrainingProgress(run, 20, shown=True) as shown:
        for step in (21, 22):
            shown.loss(jnp.asarray(0.5))
            clock.now += 20
            shown.step(step)
        row = {"train": {"loss": 0.25, "error": 0.125}, "clock": {"images_per_s": 1234.5}}
        shown.metrics({"step": 23, **row})
        clock.now += 20
        shown.step(23)
        shown.metrics({"step": 24, "test": {"loss": 1.0, "error": 0.5}, "clock": {}})
        shown.loss(jnp.asarray(0.75))
        clock.now += 20
        shown.step(24)
    assert capsys.readouterr().out.splitlines() == [
        "step 21/100, loss 0.5000",
        "step 22/100, loss 0.5000, 2 images/s, 26 min left",
        "step 23/100, loss 0.2500, train error 12.50%, 1,234 images/s, 26 min left",
        "step 24/100, loss 0.7500, train error 12.50%, test error 50.00%, 2 images/s, 25 min left",
    ]
