"""Trains a study's runs through a queue of jobs, by submitit: SLURM's, or one on this machine.

A job is one run; its id stands in the run's workdir, so that the same command, started again, finds
what is queued and what runs, and submits only the rest. The queue goes on without this process.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from errors import UserError
from reproduction import processes, queued, records
from reproduction.planning import Job, pinned_cores
from reproduction.runner import StudyDisplay, next_ready
from reproduction.study import ROOT
from startup import environment, shell

FOLDER = "queue"  # in a study's working folder: submitit's files, which hold pickles
INSTALL = ".venv/bin/pip install -r requirements-slurm.txt"
POLL_SECONDS = {"slurm": 5.0, "local": 0.5, "debug": 0.0}
# Names of SLURM's own options, with what a study's runs get if --queue does not say otherwise.
# Minutes: a run that reaches the limit is saved and queued again.
SLURM_DEFAULTS: dict[str, Any] = {"time": 240, "cpus_per_task": records.CORES}
LOCAL_DEFAULTS: dict[str, Any] = {"timeout_min": 365 * 24 * 60}
ATTEMPTS = 10_000  # times that a job may be queued again at its limit


class Left(Exception):
    """Ctrl-C or SIGTERM: this process ends, its jobs stay queued."""


class Queue:
    """Submits runs, and says which of them are still queued or running.

    options: NAME=VALUE, as the queue has them. Raises UserError if submitit or the queue is not
    there, or if it does not know an option.
    """

    def __init__(self, launcher: str, folder: pathlib.Path, options: Sequence[str], at_once: int):
        try:
            import submitit
        except ModuleNotFoundError:
            raise UserError(f"--launcher={launcher}: needs submitit: {INSTALL}") from None
        self.launcher, self.folder = launcher, (folder / FOLDER).absolute()
        self.made: dict[str, Any] = {}  # the jobs of this process, by id
        given = dict(option(text) for text in options)
        if launcher == "slurm":
            if shutil.which("sbatch") is None or shutil.which("srun") is None:
                raise UserError("--launcher=slurm: there is no sbatch and srun here")
            known = set(submitit.SlurmExecutor._valid_parameters())
            defaults = {**SLURM_DEFAULTS, "array_parallelism": at_once}
            if environment.accelerated():
                defaults["gpus_per_node"] = 1
        else:
            known = {"gpus_per_node", "timeout_min"} if launcher == "local" else set()
            defaults = LOCAL_DEFAULTS if launcher == "local" else {}
        if unknown := sorted(given.keys() - known):
            raise UserError(
                f"--queue={unknown[0]}: {launcher} has no such option; it has: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
        if launcher == "slurm":
            self.executor: Any = submitit.SlurmExecutor(self.folder, max_num_timeout=ATTEMPTS)
        elif launcher == "local":
            self.executor = submitit.LocalExecutor(self.folder, max_num_timeout=ATTEMPTS)
        else:
            self.executor = submitit.DebugExecutor(self.folder)
        try:
            self.executor.update_parameters(**{**defaults, **given})
        except (ValueError, TypeError) as error:
            raise UserError(f"--queue: {str(error).splitlines()[0]}") from None

    def submit(self, jobs: Sequence[Job], data_dir: str | None) -> None:
        """Queues runs; their ids are written into their workdirs."""
        trainings = []
        for slot, job in enumerate(jobs):
            processes.prepare(job)
            text, workdir = processes.task(job, data_dir), str(job.workdir.absolute())
            trainings.append(queued.Training(text, workdir, pinned_cores() or 0, slot))
        for job in jobs:
            (job.workdir / queued.NOTE).unlink(missing_ok=True)
            queued.note(job.workdir, launcher=self.launcher, rows=len(job.rows))
        with _importable(), _deaf_children():
            try:
                made = self.executor.submit_array(trainings)
            except (subprocess.SubprocessError, RuntimeError, OSError) as error:
                raise UserError(f"--launcher={self.launcher}: {_reason(error)}") from None
            self.made |= {each.job_id: each for each in made}
        for job, each in zip(jobs, made, strict=True):
            queued.note(job.workdir, id=each.job_id)
            if self.launcher == "debug":
                each.result()  # runs here and now

    def alive(self, jobs: Sequence[Job]) -> set[str]:
        """The names of those jobs that are queued or running.

        Raises UserError if the queue does not answer.
        """
        ids = {job.name: str(known["id"]) for job in jobs if "id" in (known := self._noted(job))}
        if not ids:
            return set()
        there = _in_slurm() if self.launcher == "slurm" else self._here(ids.values())
        return {name for name, number in ids.items() if number in there}

    def _here(self, ids: Iterable[str]) -> set[str]:
        """Those ids whose job runs on this machine, also if an earlier process started it."""
        mine = {number for number in ids if number in self.made}
        running = {number for number in mine if not self.made[number].done()}
        return running | {number for number in set(ids) - mine if _runs(number, self.folder)}

    def _noted(self, job: Job) -> Mapping[str, Any]:
        known = queued.noted(job.workdir)
        return known if known.get("launcher") == self.launcher and "status" not in known else {}

    def how_to_look(self, jobs: Sequence[Job]) -> str:
        """What to say about jobs that are left in the queue."""
        ids = sorted({str(queued.noted(job.workdir).get("id", "")).split("_")[0] for job in jobs})
        stop = {"slurm": "scancel ", "local": "kill "}.get(self.launcher, "")
        ends = f"; to end them: {stop}{' '.join(ids)}" if stop else ""
        look = f", squeue --jobs={','.join(ids)}" if self.launcher == "slurm" else ""
        return (
            f"{len(jobs)} runs stay queued or running{look}; run the same command again to look "
            f"and to gather what is done{ends}"
        )


def run_all(
    todo: Sequence[Job], data_dir: str | None, at_once: int, queue: Queue
) -> dict[str, str]:
    """Trains all jobs through the queue, at most `at_once` at a time.

    Returns the error of each failed job by its name. Runs that were preempted are queued again,
    from where they were saved. Raises Left on SIGTERM or Ctrl-C; the jobs stay queued.
    """
    failed: dict[str, str] = {}
    waiting = list(todo)
    alive = queue.alive(waiting)
    under_way = [job for job in waiting if job.name in alive]
    waiting = [job for job in waiting if job.name not in alive]
    began = time.monotonic()
    stop = threading.Event()
    with shell.answering(stop.set), StudyDisplay(todo) as display:
        if under_way:
            display.say(f"{len(under_way)} runs are queued or running already")
        while (waiting or under_way) and not stop.is_set():
            ready = _ready(waiting, under_way, at_once, array=queue.launcher == "slurm")
            if ready:
                waiting = [job for job in waiting if job not in ready]
                queue.submit(ready, data_dir)
                under_way += ready
            elif waiting and not under_way:
                failed |= display.held_up(waiting)
                break
            display.show(under_way)
            stop.wait(POLL_SECONDS[queue.launcher])
            alive = queue.alive(under_way)
            for job in [job for job in under_way if job.name not in alive]:
                under_way.remove(job)
                if job.finished:
                    display.ended(job, time.monotonic() - began)
                elif was_preempted(job):
                    display.say(f"{job.name} was preempted: queued again")
                    waiting.append(job)
                else:
                    failed[job.name] = ending(job)
                    display.failed(job, failed[job.name])
    queue.made.clear()  # submitit's jobs cannot be deleted while Python ends
    if stop.is_set() and under_way:
        raise Left(queue.how_to_look(under_way))
    if stop.is_set() and waiting:
        raise Left(f"{len(waiting)} runs are not queued; run the same command again to continue")
    return failed


def was_preempted(job: Job) -> bool:
    """Whether a job that is over is to be queued again: it saved, or was killed amid its steps."""
    known = queued.noted(job.workdir)
    status = known.get("status")
    killed = status is None or status < 0
    asked = status in (shell.TRY_AGAIN, shell.STOPPED)  # the latter before its first step
    return asked or (killed and len(job.rows) > known.get("rows", 0))


def ending(job: Job) -> str:
    """How a run ended that did not finish."""
    status = queued.noted(job.workdir).get("status")
    if status is None:
        return "its job ended without a word, before a step"
    return processes.last_words(job, f"exit status {status}")


def option(text: str) -> tuple[str, Any]:
    """An option of a queue: NAME=VALUE, whose value is a number or text. Raises UserError."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals or not value:
        raise UserError(f"--queue={text}: expected NAME=VALUE, e.g. partition=gpu or time=60")
    return name, int(value) if value.isdecimal() else value


def _ready(
    waiting: Sequence[Job], under_way: Sequence[Job], at_once: int, *, array: bool
) -> list[Job]:
    """The jobs to submit now. An array of SLURM holds back by itself what is too many at once."""
    left, chosen = list(waiting), list[Job]()
    while (array or len(under_way) + len(chosen) < at_once) and (job := next_ready(left)):
        left.remove(job)
        chosen.append(job)
    return chosen


def _in_slurm() -> set[str]:
    """The jobs of this user that SLURM lists: pending, running, or about to be requeued."""
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i", "--user", str(os.getuid())],
        capture_output=True,
        text=True,
    )
    if asked.returncode:
        raise UserError(f"--launcher=slurm: squeue: {asked.stderr.strip().splitlines()[-1]}")
    return set(asked.stdout.split())


def _runs(number: str, folder: pathlib.Path) -> bool:
    """Whether a process is a job of that folder: numbers of processes are used again."""
    shown = subprocess.run(["ps", "-o", "args=", "-p", number], capture_output=True, text=True)
    return "submitit" in shown.stdout and str(folder) in shown.stdout


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Lets jobs, which inherit this environment, import this project from any folder."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C and a closed terminal: the queue goes on."""
    numbers = (signal.SIGINT, signal.SIGHUP)
    before: dict[int, Callable | int | None] = {
        number: signal.signal(number, signal.SIG_IGN) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
