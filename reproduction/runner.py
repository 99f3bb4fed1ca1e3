"""Runs what a study lacks: skips what is done, resumes what was cut off, names what failed.

Each run is a process of its own with its own share of cores. With what XLA compiled kept on disk a
process costs a few seconds of imports beside a run's steps. A run that this process leaves behind,
even where it is killed, notices at its standard input, saves and leaves.

Writes in a study's working folder alone.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jax
from tqdm import tqdm

from errors import UserError
from reproduction import records
from reproduction.records import Record
from reproduction.study import ROOT, Run, Study
from startup import environment, shell
from training import durations, metrics, workdirs
from training.progress import LINE_SECONDS, table

LOG = "log.txt"  # in a workdir: what the run said
POLL_SECONDS = 0.5
TRUST = 60.0  # seconds of work that weigh as much as the estimates


class Stopped(Exception):
    """SIGTERM or Ctrl-C: what ran is saved; the same command goes on."""


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


def plan(todo: Sequence[Job], jobs: Sequence[Job], at_once: int = 1) -> str:
    """What will run and how long that should take, `at_once` side by side, for the terminal.

    The estimates are scaled by what the finished runs took here.
    """
    pace = _pace([job for job in jobs if job.finished])
    rows = [("run", "seed", "state", "estimate")]
    for job in jobs:
        left = pace * job.run.seconds * job.share_left
        rows.append((job.run.label, str(job.seed), job.state, duration(left) if left else ""))
    each = [pace * job.run.seconds * job.share_left for job in todo]
    seconds = max([sum(each) / at_once, *each], default=0.0)
    by = "by the runs done here" if pace != 1 else "on the hardware of the estimates"
    total = f", about {duration(seconds)} {by}, {at_once} at once" if seconds else ""
    return f"{table(rows)}\n{len(todo)} of {len(jobs)} runs to do{total}"


def _pace(finished: Sequence[Job]) -> float:
    """How long runs took against their estimates; 1 where nobody knows."""
    known = [(job.rows[-1]["clock"]["seconds"], job.run.seconds) for job in finished if job.rows]
    known = [(took, said) for took, said in known if said]
    return sum(took for took, _ in known) / sum(said for _, said in known) if known else 1.0


def run_all(todo: Sequence[Job], data_dir: str | None, at_once: int = 0) -> dict[str, str]:
    """Trains all jobs, `at_once` side by side (0: as `default_jobs` has it).

    Returns what went wrong by job's name: one that failed ends no other. Raises Stopped on SIGTERM
    or Ctrl-C, the runs at hand saved.
    """
    failed: dict[str, str] = {}
    waiting, running = list(todo), list[_Process]()
    shares = _shares(at_once or default_jobs())
    stop = threading.Event()

    def answer() -> None:
        if stop.is_set():  # asked twice
            for process in running:
                process.kill()
        stop.set()

    with shell.answering(answer), Display(todo) as display:
        try:
            while running or (waiting and not stop.is_set()):
                while waiting and shares and not stop.is_set():
                    running.append(_Process(waiting.pop(0), data_dir, shares.pop()))
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
                        log = process.job.workdir / LOG
                        display.say(f"{process.job.name} failed: {why} ({log})")
        finally:
            for process in running:
                process.kill()
    if stop.is_set():
        raise Stopped(f"{len(waiting)} of {len(todo)} runs not begun")
    return failed


def default_jobs() -> int:
    """How many runs at once: as many as the machine has cores, one on an accelerator."""
    accelerated = bool(metadata.entry_points(group="jax_plugins"))
    return 1 if accelerated else max(environment.usable_cores() // records.CORES, 1)


def _shares(at_once: int) -> list[set[int]]:
    """Cores for each of the runs at once; empty sets where a run may use all.

    A run has `records.CORES` of them, however many run: sums on CPU depend on their number.
    """
    if not hasattr(os, "sched_setaffinity") or metadata.entry_points(group="jax_plugins"):
        return [set() for _ in range(at_once)]
    cores = sorted(os.sched_getaffinity(0))
    every = range(records.CORES)
    return [{cores[(i * records.CORES + k) % len(cores)] for k in every} for i in range(at_once)]


class _Process:
    """A run in a process of its own, which ends where this one does: it reads from our pipe."""

    def __init__(self, job: Job, data_dir: str | None, cores: set[int]):
        self.job, self.cores = job, cores
        self.began = time.monotonic()
        self.told = False
        if job.elsewhere is not None and not job.workdir.exists():
            take_over(job.elsewhere, job.workdir)
        job.workdir.mkdir(parents=True, exist_ok=True)
        made_of = records.stamp(_plain(job.config), jax.__version__, records.RESULTS_VERSION)
        workdirs.write_json(job.workdir / records.STAMP, made_of)
        mine = os.sched_getaffinity(0) if cores else set()
        with (job.workdir / LOG).open("a") as log:
            if cores:
                os.sched_setaffinity(0, cores)  # of this thread; the child inherits it
            try:
                self.process = subprocess.Popen(
                    [sys.executable, str(ROOT / "reproduce.py"), "--task"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    start_new_session=True,  # Ctrl-C is ours to pass on, once
                )
            finally:
                if cores:
                    os.sched_setaffinity(0, mine)
        workdir = job.workdir.absolute()
        folder = None if data_dir is None else os.path.abspath(data_dir)
        task = Task(job.config, workdir, folder, job.study.probe)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it failed already: its log says why
            pickle.dump(task, self.process.stdin)
            self.process.stdin.flush()

    @property
    def over(self) -> bool:
        """Whether it ended."""
        return self.process.poll() is not None

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.began

    def stop(self) -> None:
        """Asks it to save and leave, once: asked twice it would not save."""
        if not self.told:
            self.told = True
            self.process.terminate()

    def kill(self) -> None:
        """Ends it at once; what it saved stays."""
        self.process.kill()

    def close(self) -> str | None:
        """What went wrong in one line, None if nothing did."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        status = self.process.wait()
        if status == 0:
            return None
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        lines = (self.job.workdir / LOG).read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1].removeprefix("error: ") if said else f"left with status {status}"


@dataclasses.dataclass(frozen=True)
class Task:
    """What the process of a run is told, pickled, on its standard input."""

    config: Any
    workdir: pathlib.Path
    data_dir: str | None
    probe: Callable[[pathlib.Path, str | None], dict[str, Any]] | None


def received() -> Task:
    """The task of this process. When the process that gave it ends, this one is asked to stop."""
    task = pickle.load(sys.stdin.buffer)

    def watch() -> None:
        # Not sys.stdin: Python cannot end while a thread holds that.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # as by hand: saves and leaves

    threading.Thread(target=watch, name="parent", daemon=True).start()
    return task


def measure(task: Task) -> None:
    """Takes the study's measurements on the trained network."""
    if task.probe is not None:
        probed = task.probe(task.workdir, task.data_dir)
        workdirs.write_json(task.workdir / records.PROBE, probed)


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

    How far a run is stands in its log, so that the training loop needs to know nothing of studies.
    """

    def __init__(self, todo: Sequence[Job]):
        self.todo = list(todo)
        self.left_at_first = {job.name: job.share_left for job in todo}
        self.done = 0
        self.finished_seconds = 0.0  # of the estimates
        self.total = sum(job.seconds * self.left_at_first[job.name] for job in todo)
        self.began = self.said = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            form = "{l_bar}{bar}| {elapsed}, {postfix}"
            self.bar = tqdm(total=self.total, bar_format=form, dynamic_ncols=True)

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def ended(self, job: Job, seconds: float) -> None:
        """Says how a run ended."""
        self.done += 1
        self.finished_seconds += job.seconds * self.left_at_first[job.name]
        self.say(f"{job.name}: {_errors(job.rows)} in {duration(seconds)}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        tqdm.write(text)
        sys.stdout.flush()

    def show(self, running: Sequence[Job]) -> None:
        """Shows the runs at hand and the time left."""
        now = time.monotonic()
        if self.bar is None and now - self.said < LINE_SECONDS:
            return
        self.said = now
        done, texts = self.finished_seconds, []
        for job in running:
            left = job.share_left
            done += job.seconds * max(self.left_at_first[job.name] - left, 0.0)
            texts.append(f"{job.name} {100 * (1 - left):.0f}% {_errors(job.rows)}")
        # The estimates stand at first, and are scaled by how it goes the more is done.
        pace = (now - self.began + TRUST) / (done + TRUST)
        left_text = f"about {duration(pace * max(self.total - done, 0.0))} left"
        text = f"{left_text}, {self.done} of {len(self.todo)} runs done: {'; '.join(texts)}"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.n = min(done, self.total)
            self.bar.refresh()
        else:
            print(text, flush=True)


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
