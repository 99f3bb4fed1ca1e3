"""A run in a process of its own: what starts it, and what it does there.

If the process that started it ends, even by a kill, a run sees the end of its standard input, saves
and exits. Writes only to the run's workdir.
"""

import contextlib
import dataclasses
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from reproduction import records
from reproduction.planning import Job, pinned_cores
from reproduction.study import ROOT
from training import workdirs

LOG = "log.txt"  # in a workdir: the run's output


class Process:
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
        (job.workdir / records.FAILED).unlink(missing_ok=True)
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
        beside = tuple(other.workdir.absolute() for other in job.beside)
        task = Task(job.config, workdir, folder, job.study.probe, beside)
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
    probe: Callable[..., dict[str, Any]] | None
    beside: tuple[pathlib.Path, ...] = ()


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
        probed = task.probe(task.workdir, task.data_dir, *task.beside)
        workdirs.write_json(task.workdir / records.PROBE, probed)


def take_over(finished: pathlib.Path, workdir: pathlib.Path) -> None:
    """Copies the finished run of another study; atomic."""
    partial = workdir.with_name(workdir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(finished, partial, ignore=shutil.ignore_patterns(records.PROBE))
    partial.rename(workdir)
