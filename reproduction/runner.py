"""Runs what a study lacks: skips what is done, resumes what was cut off, names what failed.

All runs of a study share one process. Measured with ResNet-20 on CPU: beside its steps a run takes
16 s of processor time, a second seed 8 s in the same process and 3 s with what an earlier start
compiled; memory grows by 22 MB a run, 60 MB with 56 layers. And a killed process leaves nobody
behind who still holds a run's workdir, so starting again always works.

May touch training and train.py; writes in a study's working folder alone.
"""

import contextlib
import dataclasses
import gc
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import jax
from tqdm import tqdm

import train
from errors import UserError
from reproduction import records
from reproduction.records import Record
from reproduction.study import Run, Study
from training import durations, metrics, preemption, workdirs
from training.progress import LINE_SECONDS, table

LOG = "log.txt"  # in a workdir: what the run said
TRUST = 60.0  # seconds of work that weigh as much as the estimates


class Stopped(BaseException):
    """SIGTERM or Ctrl-C: what ran is saved; the same command goes on.

    Like KeyboardInterrupt no Exception, so that no library takes it for an error of its own.
    """


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of one seed and its place: a folder named after its fingerprint.

    So results of another config, jax or RESULTS_VERSION lie beside it and are never mixed in.
    """

    run: Run
    seed: int
    config: Any
    study: Study
    workdir: pathlib.Path

    @property
    def name(self) -> str:
        """For people: "plain-56, seed 0"."""
        return f"{self.run.label}, seed {self.seed}"

    @property
    def seconds(self) -> float:
        """The estimate, or where there is none what it weighs beside the others."""
        return self.run.seconds or TRUST

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return records.is_finished(self.workdir, probed=self.study.probe is not None)

    @property
    def state(self) -> str:
        """ "done", "cut off" or "to run", and how many results of other settings lie beside."""
        state = "done" if self.finished else "cut off" if self.rows else "to run"
        if state == "to run" and self.elsewhere is not None:
            state = f"done in {self.elsewhere.parents[2].name}"
        others = [
            folder
            for folder in self.workdir.parent.glob(f"seed{self.seed}-*")
            if folder != self.workdir and (folder / "result.json").exists()
        ]
        if others and not self.finished:
            reasons = sorted({_difference(folder, self.config.to_dict()) for folder in others})
            state += f" (left aside: {len(others)} of {', '.join(reasons)})"
        return state

    @property
    def elsewhere(self) -> pathlib.Path | None:
        """The finished workdir of the same run in another study beside this one, if there is one.

        Folders are <study>/<data>/<label>/seed<n>-<fingerprint>.
        """
        studies, label = self.workdir.parents[3], self.workdir.parent
        if self.study.name != self.workdir.parents[2].name:
            return None  # --out lies elsewhere: nothing is known about the folders around it
        found = sorted(studies.glob(f"*/{label.parent.name}/*/{self.workdir.name}/result.json"))
        return next((path.parent for path in found if path.parent != self.workdir), None)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is logged so far."""
        try:
            return metrics.read(self.workdir)
        except UserError:
            return []  # a last line half written: the run mends it when it resumes

    @property
    def share_left(self) -> float:
        """The share of the run's time that is still to come; a tenth where it can be taken over."""
        if self.finished:
            return 0.0
        if rows := self.rows:
            return 1 - rows[-1]["step"] / self.steps(rows[-1])
        return 0.1 if self.elsewhere is not None else 1.0

    def steps(self, row: dict[str, Any]) -> int:
        """The run's length in steps, from one of its rows."""
        return durations.in_steps(
            "config.duration",
            self.config.duration,
            steps_per_epoch=round(row["step"] / row["epoch"]),
            batch_size=self.config.batch_size,
        )

    def record(self) -> Record:
        """The record of the finished run."""
        command = self.run.command(self.seed, f"runs/{records.slug(self.run.label)}_{self.seed}")
        return records.from_workdir(
            self.workdir, label=self.run.label, seed=self.seed, command=command
        )


def jobs(study: Study, data: str, seeds: Sequence[int], folder: pathlib.Path) -> list[Job]:
    """All runs of a study on a data set, one seed after the other."""
    made = []
    for seed in seeds:
        for run in study.scale(data).runs:
            config = run.resolve(seed)
            mark = records.fingerprint(_plain(config))
            workdir = folder / records.slug(run.label) / f"seed{seed}-{mark}"
            made.append(Job(run, seed, config, study, workdir))
    return made


def plan(todo: Sequence[Job], jobs: Sequence[Job]) -> str:
    """What will run and how long that should take, for the terminal."""
    rows = [("run", "seed", "state", "estimate")]
    for job in jobs:
        left = job.run.seconds * job.share_left
        rows.append((job.run.label, str(job.seed), job.state, duration(left) if left else ""))
    seconds = sum(job.run.seconds * job.share_left for job in todo)
    total = f", about {duration(seconds)} on the hardware of the estimates" if seconds else ""
    return f"{table(rows)}\n{len(todo)} of {len(jobs)} runs to do{total}"


def run_all(todo: Sequence[Job], data_dir: str | None) -> dict[str, str]:
    """Trains all jobs. Returns what went wrong by job's name: one that failed ends no other.

    Raises Stopped on SIGTERM or Ctrl-C, the run at hand saved.
    """
    failed: dict[str, str] = {}
    with StopSignals() as stop, Display(todo, each_second=stop.insist) as display:
        for job in todo:
            try:
                with display.of(job):
                    run_one(job, data_dir)
            except preemption.Preempted:
                raise Stopped(job.name) from None
            except UserError as error:
                failed[job.name] = str(error)
            except Exception as error:  # whatever it is, the other runs shall still be had
                with (job.workdir / LOG).open("a") as log:
                    traceback.print_exc(file=log)
                failed[job.name] = f"{type(error).__name__}: {error}"
            if job.name in failed:
                display.say(f"{job.name} failed: {failed[job.name]} ({job.workdir / LOG})")
            gc.collect()  # arrays of the run before
    return failed


def run_one(job: Job, data_dir: str | None) -> None:
    """Trains one job and takes the study's measurements; what it says goes to its own log."""
    if job.elsewhere is not None and not job.workdir.exists():
        take_over(job.elsewhere, job.workdir)
    job.workdir.mkdir(parents=True, exist_ok=True)
    made_of = records.stamp(_plain(job.config), jax.__version__, records.RESULTS_VERSION)
    workdirs.write_json(job.workdir / records.STAMP, made_of)
    with (
        (job.workdir / LOG).open("a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        train.train_and_evaluate(job.config, job.workdir, data_dir=data_dir)
        if job.study.probe is not None:
            probed = job.study.probe(job.workdir, data_dir)
            workdirs.write_json(job.workdir / records.PROBE, probed)


def take_over(finished: pathlib.Path, workdir: pathlib.Path) -> None:
    """Copies the finished run of another study, whole or not at all."""
    partial = workdir.with_name(workdir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(finished, partial, ignore=shutil.ignore_patterns(records.PROBE))
    partial.rename(workdir)


def duration(seconds: float) -> str:
    """ "40 s", "3 min", "2.5 h", "28 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


class Display:
    """One display for all runs: a bar over their estimated time, or a line now and then.

    A thread reads how far the run at hand is from its log, so that the training loop needs to know
    nothing of studies.
    """

    def __init__(self, todo: Sequence[Job], each_second: Callable[[], None]):
        self.todo, self.each_second = list(todo), each_second
        self.done = 0
        self.finished_seconds = 0.0  # of the estimates
        self.total = sum(job.seconds * job.share_left for job in todo)
        self.began = self.said = time.monotonic()
        self.job: Job | None = None
        self.over = threading.Event()
        # The streams of now: during a run they lead to its log.
        self.out, self.err = sys.stdout, sys.stderr
        self.bar = None
        if self.err.isatty():
            form = "{l_bar}{bar}| {elapsed}, {postfix}"
            self.bar = tqdm(total=self.total, file=self.err, bar_format=form, dynamic_ncols=True)
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Display":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()
        if self.bar is not None:
            self.bar.close()

    @contextlib.contextmanager
    def of(self, job: Job) -> Iterator[None]:
        """Shows this job while the block runs, and says how it ended."""
        self.before = job.share_left
        self.job = job
        began = time.monotonic()
        try:
            yield
        finally:
            self.job = None
        self.done += 1
        self.finished_seconds += job.seconds * self.before
        self.say(f"{job.name}: {_errors(job.rows)} in {duration(time.monotonic() - began)}")
        self._show()

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.bar is not None:
            self.bar.write(text, file=self.out)
        else:
            print(text, file=self.out, flush=True)

    def _watch(self) -> None:
        while not self.over.wait(1.0):
            self._show()
            self.each_second()

    def _show(self) -> None:
        job, done = self.job, self.finished_seconds
        text = ""
        if job is not None:
            left = job.share_left
            done += job.seconds * max(self.before - left, 0.0)
            text = f"{job.name} {100 * (1 - left):.0f}% {_errors(job.rows)}"
        elapsed = time.monotonic() - self.began
        # The estimates stand at first, and are scaled by how it goes the more is done.
        pace = (elapsed + TRUST) / (done + TRUST)
        left_text = f"about {duration(pace * max(self.total - done, 0.0))} left"
        where = f"run {min(self.done + 1, len(self.todo))} of {len(self.todo)}"
        if self.bar is not None:
            self.bar.set_postfix_str(f"{left_text}, {where}: {text}", refresh=False)
            self.bar.n = min(done, self.total)
            self.bar.refresh()
        elif job is not None and time.monotonic() - self.said >= LINE_SECONDS:
            self.said = time.monotonic()
            print(f"{where}, {left_text}: {text}", file=self.out, flush=True)


def _errors(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "compiling"
    parts = [
        f"{group} error {100 * row[group]['error']:.1f}%"
        for group in ("train", "test")
        if (row := next((row for row in reversed(rows) if group in row), None))
    ]
    return ", ".join(parts)


def _plain(config: Any) -> dict[str, Any]:
    # As it is read back from config.json: tuples are lists there.
    return json.loads(json.dumps(config.to_dict()))


def _difference(folder: pathlib.Path, config: dict[str, Any]) -> str:
    """Why a finished run in another folder does not count."""
    try:
        made_of = json.loads((folder / records.STAMP).read_text())
    except (OSError, json.JSONDecodeError):
        return "unknown settings"
    if made_of["results_version"] != records.RESULTS_VERSION:
        return f"results version {made_of['results_version']}"
    now = records.stamp(config, jax.__version__, records.RESULTS_VERSION)
    return f"jax {made_of['jax']}" if made_of["jax"] != now["jax"] else "another config"


class StopSignals:
    """SIGTERM and Ctrl-C while no loop trains. Use as a context manager in the main thread.

    While a loop trains, training.preemption holds these signals and saves; this is for the rest,
    compiling, measuring, between runs, where everything that matters is on disk already.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []  # handlers that were told to stop; empty: nobody asked

    def __enter__(self) -> "StopSignals":
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.told.append(self._stop)
        raise Stopped("between two steps")

    def insist(self) -> None:
        """Asks again where the exception was lost, as in a callback out of compiled code."""
        holder = signal.getsignal(signal.SIGTERM)
        # A training loop is told once: told twice it would not save.
        if self.told and (holder == self._stop or holder not in self.told):
            self.told.append(holder)
            os.kill(os.getpid(), signal.SIGTERM)
