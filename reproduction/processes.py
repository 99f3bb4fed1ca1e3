"""A run in a process of its own on this machine, and the workdir that it needs.

Writes only to the run's workdir.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import jax

from reproduction import records, tasks
from reproduction.planning import Job, pinned_cores
from reproduction.tasks import LOG, Task
from training import workdirs


class Process:
    """A run in its own process, which stops if this one ends."""

    def __init__(
        self, job: Job, data_dir: str | None, cores: set[int], variables: Mapping[str, str]
    ):
        self.job, self.cores = job, cores
        self.began = time.monotonic()
        self.asked = False
        prepare(job)
        self.process = tasks.start(task(job, data_dir), job.workdir, cores, variables)

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
        return last_words(self.job, f"exit status {status}")


def prepare(job: Job) -> None:
    """Makes the workdir of a run: its fingerprint, and the finished run of another study."""
    if job.elsewhere is not None and not job.workdir.exists():
        take_over(job.elsewhere, job.workdir)
    job.workdir.mkdir(parents=True, exist_ok=True)
    made_of = records.stamp(job.identity, jax.__version__, records.RESULTS_VERSION, pinned_cores())
    workdirs.write_json(job.workdir / records.STAMP, made_of)
    (job.workdir / records.FAILED).unlink(missing_ok=True)


def task(job: Job, data_dir: str | None) -> str:
    """What the process of a run is told."""
    folder = None if data_dir is None else os.path.abspath(data_dir)
    beside = tuple(other.workdir.absolute() for other in job.beside)
    return Task(job.config, job.workdir.absolute(), folder, job.study.probe, beside).text()


def last_words(job: Job, otherwise: str) -> str:
    """The last line that a run has printed, without "error: "."""
    log = job.workdir / LOG
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1].removeprefix("error: ") if printed else otherwise


def measure(task: Task) -> None:
    """Runs the study's probe on the trained network and writes its numbers."""
    if task.probe is not None:
        probed = task.probe(task.workdir, task.data_dir, *task.beside)
        workdirs.write_json(task.workdir / records.PROBE, probed)


def take_over(finished: Path, workdir: Path) -> None:
    """Copies the finished run of another study; atomic."""
    partial = workdir.with_name(workdir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(finished, partial, ignore=shutil.ignore_patterns(records.PROBE))
    partial.rename(workdir)
