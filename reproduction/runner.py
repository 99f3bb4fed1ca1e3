"""Trains a study's runs: skips finished ones, resumes interrupted ones, reports failed ones.

Each run is a separate process on its own cores. With the compilation cache, a process adds only a
few seconds of imports to a run.
"""

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from display import Display, duration
from reproduction import records
from reproduction.planning import TRUST, Job
from reproduction.processes import Process
from reproduction.tasks import LOG
from startup import environment, shell
from training import workdirs

POLL_SECONDS = 0.5


class Stopped(Exception):
    """SIGTERM or Ctrl-C arrived; the runs are saved, and the same command resumes them."""


def run_all(todo: Sequence[Job], data_dir: str | None, at_once: int = 0) -> dict[str, str]:
    """Trains all jobs, `at_once` at a time (0: `default_jobs()`).

    Returns the error of each failed job by its name; a failure does not stop the others. Raises
    Stopped on SIGTERM or Ctrl-C, after the current runs are saved.
    """
    failed: dict[str, str] = {}
    waiting, running = list(todo), list[Process]()
    at_once = at_once or default_jobs()
    shares, variables = _shares(at_once), _variables(at_once)
    stop = threading.Event()

    def answer() -> None:
        if stop.is_set():  # second signal
            for process in running:
                process.kill()
        stop.set()

    with shell.answering(answer), StudyDisplay(todo) as display:
        try:
            while running or (waiting and not stop.is_set()):
                while shares and not stop.is_set() and (job := next_ready(waiting)):
                    waiting.remove(job)
                    running.append(Process(job, data_dir, shares.pop(), variables))
                if waiting and not running and not stop.is_set():
                    failed |= display.held_up(waiting)
                    waiting.clear()
                display.show([process.job for process in running])
                stop.wait(POLL_SECONDS)
                if stop.is_set():
                    for process in running:
                        process.stop()
                    time.sleep(POLL_SECONDS)
                for process in [one for one in running if one.over]:
                    running.remove(process)
                    shares.append(process.cores)
                    why = process.close()
                    if why is None:
                        display.ended(process.job, process.seconds)
                    elif not stop.is_set():
                        failed[process.job.name] = why
                        display.failed(process.job, why)
        finally:
            for process in running:
                process.kill()
    if stop.is_set():
        raise Stopped(f"{len(waiting)} of {len(todo)} runs not started")
    return failed


def next_ready(waiting: Sequence[Job]) -> Job | None:
    """The first job that needs no unfinished one; None if there is none."""
    ready = (job for job in waiting if all(other.finished for other in job.needs))
    return next(ready, None)


def default_jobs() -> int:
    """The default number of runs at once: one per CPU core; 1 on an accelerator."""
    if environment.accelerated():
        return 1
    return max(environment.usable_cores() // records.CORES, 1)


def _shares(at_once: int) -> list[set[int]]:
    """The cores for each of the runs at once; empty sets if runs may use all cores.

    On CPU a run always gets `records.CORES` cores, since sums depend on their number.
    """
    if not hasattr(os, "sched_setaffinity") or environment.accelerated():
        return [set() for _ in range(at_once)]
    cores = sorted(os.sched_getaffinity(0))
    every = range(records.CORES)
    return [{cores[(i * records.CORES + k) % len(cores)] for k in every} for i in range(at_once)]


def _variables(at_once: int) -> dict[str, str]:
    """The environment variables of a run's process.

    By default jax reserves three quarters of an accelerator's memory when it starts, and a second
    process would get none.
    """
    if at_once > 1 and environment.accelerated():
        return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    return dict(os.environ)


class StudyDisplay:
    """Progress of all runs: the share of their estimated time, and what each is at.

    Reads the progress of a run from its log, so that the training loop does not depend on studies.
    """

    def __init__(self, todo: Sequence[Job]):
        self.todo = list(todo)
        self.left_at_first = {job.name: job.share_left for job in todo}
        self.done = 0
        self.finished_seconds = 0.0  # of the estimates
        self.total = sum(job.seconds * self.left_at_first[job.name] for job in todo)
        self.began = time.monotonic()
        self.display = Display()

    def __enter__(self) -> "StudyDisplay":
        return self

    def __exit__(self, *error: object) -> None:
        self.display.close()

    def ended(self, job: Job, seconds: float) -> None:
        """Prints the errors and the time of a run that has ended."""
        self.done += 1
        self.finished_seconds += job.seconds * self.left_at_first[job.name]
        self.say(f"{job.name}: {_errors(job.rows)} in {duration(seconds)}")

    def failed(self, job: Job, why: str) -> None:
        """Prints the error of a run, and keeps it in the workdir for --status."""
        workdirs.write_whole(job.workdir / records.FAILED, f"{why}\n")
        self.say(f"{job.name} failed: {why} ({job.workdir / LOG})")

    def held_up(self, waiting: Sequence[Job]) -> dict[str, str]:
        """Prints, and returns by name, why runs cannot start: one that each needs has failed."""
        errors = {}
        for job in waiting:
            missing = next(other for other in job.needs if not other.finished)
            errors[job.name] = f"{missing.name}, which it needs, has failed"
            self.say(f"{job.name} failed: {errors[job.name]}")
        return errors

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.display.line(text)

    def show(self, running: Sequence[Job]) -> None:
        """Shows the current runs and the time left."""
        if not self.display.due(0):  # reading the logs takes time
            return
        done, texts = self.finished_seconds, []
        for job in running:
            left = job.share_left
            done += job.seconds * max(self.left_at_first[job.name] - left, 0.0)
            texts.append(f"{job.name} {100 * (1 - left):.0f}% {_errors(job.rows)}")
        # At first the estimates count; the more is done, the more the measured pace does.
        pace = (time.monotonic() - self.began + TRUST) / (done + TRUST)
        left_text = f"about {duration(pace * max(self.total - done, 0.0))} left"
        text = f"{left_text}, {self.done} of {len(self.todo)} runs done: {'; '.join(texts)}"
        self.display.show(min(done / self.total, 0.99) if self.total else 0.0, text)


def _errors(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "compiling"
    parts = [
        f"{group} error {100 * row[group]['error']:.1f}%"
        for group in ("train", "test")
        if (row := next((row for row in reversed(rows) if group in row), None))
    ]
    return ", ".join(parts)
