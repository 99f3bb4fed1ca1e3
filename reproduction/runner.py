"""Trains a study's runs: skips finished ones, resumes interrupted ones, reports failed ones.

Each run is a separate process on its own cores. With the compilation cache, a process adds only a
few seconds of imports to a run. If this process ends, even by a kill, its runs see the end of their
standard input, save and exit.

Writes only to the study's working folder.
"""

import contextlib
import dataclasses
import functools
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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from errors import UserError
from reproduction import records
from reproduction.records import Record
from reproduction.study import ROOT, Run, Study
from startup import environment, shell
from training import durations, metrics, starting_weights, workdirs
from training.progress import LINE_SECONDS, table

LOG = "log.txt"  # in a workdir: the run's output
POLL_SECONDS = 0.5
TRUST = 60.0  # seconds of work at which measured pace and estimates have equal weight


class Stopped(Exception):
    """SIGTERM or Ctrl-C arrived; the runs are saved, and the same command resumes them."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run with one seed, and its workdir, which is named after its fingerprint.

    Results of another config, jax or RESULTS_VERSION therefore have another workdir. identity: the
    config that the fingerprint is of: plain, and with starting weights by name, not by path.
    source: the job whose weights it starts from.
    """

    run: Run
    seed: int
    config: Any
    study: Study
    workdir: pathlib.Path
    identity: dict[str, Any]
    source: "Job | None" = None

    @property
    def name(self) -> str:
        """For printing: "plain-56, seed 0"."""
        return f"{self.run.label}, seed {self.seed}"

    @property
    def seconds(self) -> float:
        """The estimated time; TRUST if there is no estimate."""
        return self.run.seconds or TRUST

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return records.is_finished(self.workdir, probed=self.study.probe is not None)

    @property
    def state(self) -> str:
        """ "done", "cut off" or "to run", and the number of results with other settings."""
        state = "done" if self.finished else "cut off" if self.rows else "to run"
        if state == "to run" and self.elsewhere is not None:
            state = f"done in {self.elsewhere.parents[2].name}"
        others = [
            folder
            for folder in self.workdir.parent.glob(f"seed{self.seed}-*")
            if folder != self.workdir and (folder / "result.json").exists()
        ]
        if others and not self.finished:
            reasons = sorted({_difference(folder, self.identity) for folder in others})
            state += f" (left aside: {len(others)} of {', '.join(reasons)})"
        return state

    @property
    def elsewhere(self) -> pathlib.Path | None:
        """The finished workdir of the same run in another study, if there is one.

        Folders are <study>/<data>/<label>/seed<n>-<fingerprint>. None for a run that starts from
        another: its config has that one's path.
        """
        if self.source is not None:
            return None
        studies = self.workdir.parents[3]
        if self.study.name != self.workdir.parents[2].name:
            return None  # --out is another folder, with an unknown layout around it
        found = sorted(studies.glob(f"*/*/*/{self.workdir.name}/result.json"))
        return next((path.parent for path in found if path.parent != self.workdir), None)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows logged so far."""
        try:
            return metrics.read(self.workdir)
        except UserError:
            return []  # the last line is incomplete; the run repairs it when it resumes

    @property
    def share_left(self) -> float:
        """The fraction of the run's time that is left; 0.1 if a finished run can be copied."""
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
        command = self.run.command(self.seed, self.run.place(self.run.label, self.seed))
        return records.from_workdir(
            self.workdir, label=self.run.label, seed=self.seed, command=command
        )


def jobs(study: Study, data: str, seeds: Sequence[int], folder: pathlib.Path) -> list[Job]:
    """All runs of a study on a data set, seed by seed; a run after the one it starts from."""
    made: list[Job] = []
    for seed in seeds:
        of_seed: dict[str, Job] = {}
        for run in study.scale(data).runs:
            if run.seeds is not None and seed >= run.seeds:
                continue
            config = run.resolve(seed)
            identity = _plain(config)
            source = of_seed[run.starts_from] if run.starts_from else None
            if source is not None:
                with config.unlocked():
                    config.init["from"] = str(source.workdir.absolute())
                label = records.slug(source.run.label)
                identity["init"]["from"] = f"{label}/{source.workdir.name}"
            elif config.init["from"]:
                digest = digest_of(config.init["from"], config.init.step)
                identity["init"]["from"] = f"{config.init['from']} (sha256 {digest})"
            mark = records.fingerprint(identity, cores=pinned_cores())
            workdir = folder / records.slug(run.label) / f"seed{seed}-{mark}"
            of_seed[run.label] = Job(run, seed, config, study, workdir, identity, source)
        made += of_seed.values()
    return made


@functools.cache
def digest_of(workdir: str, step: str) -> str:
    """The sha256 of the weights at a step of a workdir, read once a process."""
    init = ConfigDict({"from": workdir, "step": step})
    return starting_weights.sha256(starting_weights.load(init).variables)


def with_sources(chosen: Sequence[Job]) -> list[Job]:
    """The chosen jobs and those that they start from, each after its source."""
    needed: dict[pathlib.Path, Job] = {}

    def add(job: Job) -> None:
        if job.source is not None:
            add(job.source)
        needed.setdefault(job.workdir, job)

    for job in chosen:
        add(job)
    return list(needed.values())


def plan(todo: Sequence[Job], jobs: Sequence[Job], at_once: int = 1) -> str:
    """A table of the runs and an estimate of the time left with `at_once` runs at a time.

    The estimates are scaled by the time the finished runs took on this machine.
    """
    pace = _pace([job for job in jobs if job.finished])
    rows = [("run", "seed", "state", "estimate")]
    for job in jobs:
        left = pace * job.run.seconds * job.share_left
        rows.append((job.run.label, str(job.seed), job.state, duration(left) if left else ""))
    each = [pace * job.run.seconds * job.share_left for job in todo]
    seconds = max([sum(each) / at_once, *each], default=0.0)
    by = "at the pace of the runs done here" if pace != 1 else "on the hardware of the estimates"
    total = f", about {duration(seconds)} {by}, {at_once} at once" if seconds else ""
    return f"{table(rows)}\n{len(todo)} of {len(jobs)} runs to do{total}"


def _pace(finished: Sequence[Job]) -> float:
    """The ratio of the runs' times to their estimates; 1 if there are none."""
    known = [(job.rows[-1]["clock"]["seconds"], job.run.seconds) for job in finished if job.rows]
    known = [(took, estimate) for took, estimate in known if estimate]
    return sum(took for took, _ in known) / sum(one for _, one in known) if known else 1.0


def run_all(todo: Sequence[Job], data_dir: str | None, at_once: int = 0) -> dict[str, str]:
    """Trains all jobs, `at_once` at a time (0: `default_jobs()`).

    Returns the error of each failed job by its name; a failure does not stop the others. Raises
    Stopped on SIGTERM or Ctrl-C, after the current runs are saved.
    """
    failed: dict[str, str] = {}
    waiting, running = list(todo), list[_Process]()
    at_once = at_once or default_jobs()
    shares, variables = _shares(at_once), _variables(at_once)
    stop = threading.Event()

    def answer() -> None:
        if stop.is_set():  # second signal
            for process in running:
                process.kill()
        stop.set()

    with shell.answering(answer), Display(todo) as display:
        try:
            while running or (waiting and not stop.is_set()):
                while shares and not stop.is_set() and (job := _next(waiting)):
                    waiting.remove(job)
                    running.append(_Process(job, data_dir, shares.pop(), variables))
                if waiting and not running and not stop.is_set():
                    for job in waiting:
                        source = job.source.name if job.source else ""
                        failed[job.name] = f"{source}, which it starts from, has failed"
                        display.say(f"{job.name} failed: {failed[job.name]}")
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
                        log = process.job.workdir / LOG
                        display.say(f"{process.job.name} failed: {why} ({log})")
        finally:
            for process in running:
                process.kill()
    if stop.is_set():
        raise Stopped(f"{len(waiting)} of {len(todo)} runs not started")
    return failed


def _next(waiting: Sequence[Job]) -> Job | None:
    """The first job that does not start from an unfinished one; None if there is none."""
    ready = (job for job in waiting if job.source is None or job.source.finished)
    return next(ready, None)


def default_jobs() -> int:
    """The default number of runs at once: one per CPU core; 1 on an accelerator."""
    if environment.accelerated():
        return 1
    return max(environment.usable_cores() // records.CORES, 1)


def pinned_cores() -> int | None:
    """The number of cores a run is pinned to; None on an accelerator."""
    return None if environment.accelerated() else records.CORES


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


class _Process:
    """A run in its own process, which stops if this one ends: see `received`."""

    def __init__(
        self, job: Job, data_dir: str | None, cores: set[int], variables: Mapping[str, str]
    ):
        self.job, self.cores = job, cores
        self.began = time.monotonic()
        self.asked = False
        if job.elsewhere is not None and not job.workdir.exists():
            take_over(job.elsewhere, job.workdir)
        job.workdir.mkdir(parents=True, exist_ok=True)
        made_of = records.stamp(
            job.identity, jax.__version__, records.RESULTS_VERSION, pinned_cores()
        )
        workdirs.write_json(job.workdir / records.STAMP, made_of)
        mine = os.sched_getaffinity(0) if cores else set()
        with (job.workdir / LOG).open("a") as log:
            if cores:
                os.sched_setaffinity(0, cores)  # of this thread, for the child to inherit
            try:
                self.process = subprocess.Popen(
                    [sys.executable, str(ROOT / "reproduce.py"), "--task"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    env=variables,
                    start_new_session=True,  # Ctrl-C reaches only this process, which passes it on
                )
            finally:
                if cores:
                    os.sched_setaffinity(0, mine)
        workdir = job.workdir.absolute()
        folder = None if data_dir is None else os.path.abspath(data_dir)
        task = Task(job.config, workdir, folder, job.study.probe)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has failed already; see its log
            pickle.dump(task, self.process.stdin)
            self.process.stdin.flush()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.began

    def stop(self) -> None:
        """Asks it to save and exit, only once: a second signal would end it without saving."""
        if not self.asked:
            self.asked = True
            self.process.terminate()

    def kill(self) -> None:
        """Ends it at once; its saved state stays."""
        self.process.kill()

    def close(self) -> str | None:
        """Waits for its end. Returns the error in one line, or None if it succeeded."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        status = self.process.wait()
        if status == 0:
            return None
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        lines = (self.job.workdir / LOG).read_text(errors="replace").split("\n")
        printed = [line.strip() for line in lines if line.strip()]
        return printed[-1].removeprefix("error: ") if printed else f"exit status {status}"


@dataclasses.dataclass(frozen=True)
class Task:
    """The arguments of a run's process, passed pickled on its standard input."""

    config: Any
    workdir: pathlib.Path
    data_dir: str | None
    probe: Callable[[pathlib.Path, str | None], dict[str, Any]] | None


def received() -> Task:
    """Reads the task of this process. If the parent process ends, this one gets SIGTERM."""
    task = pickle.load(sys.stdin.buffer)

    def watch() -> None:
        # Not sys.stdin: Python cannot exit while a thread holds its lock.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # saves and exits

    threading.Thread(target=watch, name="parent", daemon=True).start()
    return task


def measure(task: Task) -> None:
    """Runs the study's probe on the trained network and writes its numbers."""
    if task.probe is not None:
        probed = task.probe(task.workdir, task.data_dir)
        workdirs.write_json(task.workdir / records.PROBE, probed)


def take_over(finished: pathlib.Path, workdir: pathlib.Path) -> None:
    """Copies the finished run of another study; atomic."""
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
    """Progress of all runs: a bar over their estimated time, or a line now and then.

    Reads the progress of a run from its log, so that the training loop does not depend on studies.
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
        """Prints the errors and the time of a run that has ended."""
        self.done += 1
        self.finished_seconds += job.seconds * self.left_at_first[job.name]
        self.say(f"{job.name}: {_errors(job.rows)} in {duration(seconds)}")

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        tqdm.write(text)
        sys.stdout.flush()

    def show(self, running: Sequence[Job]) -> None:
        """Shows the current runs and the time left."""
        now = time.monotonic()
        if self.bar is None and now - self.said < LINE_SECONDS:
            return
        self.said = now
        done, texts = self.finished_seconds, []
        for job in running:
            left = job.share_left
            done += job.seconds * max(self.left_at_first[job.name] - left, 0.0)
            texts.append(f"{job.name} {100 * (1 - left):.0f}% {_errors(job.rows)}")
        # At first the estimates count; the more is done, the more the measured pace does.
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
    # As read back from config.json, where tuples are lists.
    return json.loads(json.dumps(config.to_dict()))


def _difference(folder: pathlib.Path, config: dict[str, Any]) -> str:
    """Why a finished run in another folder does not count."""
    try:
        made_of = json.loads((folder / records.STAMP).read_text())
    except (OSError, json.JSONDecodeError):
        return "unknown settings"
    if made_of["results_version"] != records.RESULTS_VERSION:
        return f"results version {made_of['results_version']}"
    now = records.stamp(config, jax.__version__, records.RESULTS_VERSION, pinned_cores())
    if made_of["jax"] != now["jax"]:
        return f"jax {made_of['jax']}"
    return "another device" if made_of.get("cores") != now.get("cores") else "another config"
