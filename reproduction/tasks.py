"""What a run's own process is told, as text on its standard input, and how such a process starts.

If the process that started it ends, even by a kill, a run sees the end of its standard input, saves
and exits. The text is Python literals: reading it runs no code. Imports nothing slow.
"""

import ast
import contextlib
import dataclasses
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
LOG = "log.txt"  # in a workdir: the run's output

Probe = Callable[..., dict[str, Any]]  # see `study.Study`


@dataclasses.dataclass(frozen=True)
class Task:
    """The arguments of a run's process. beside: workdirs that the probe reads besides."""

    config: ConfigDict
    workdir: pathlib.Path
    data_dir: str | None
    probe: Probe | None
    beside: tuple[pathlib.Path, ...] = ()

    def text(self) -> str:
        """One line, from which `read` makes the same task; tuples of the config stay tuples."""
        named = self.probe and f"{self.probe.__module__}:{self.probe.__qualname__}"
        beside = tuple(map(str, self.beside))
        told = (self.config.to_dict(), str(self.workdir), self.data_dir, named, beside)
        return f"{told!r}\n"


def read(text: str) -> Task:
    """The task that `Task.text` has written."""
    config, workdir, data_dir, named, beside = ast.literal_eval(text)
    probe = None
    if named is not None:
        module, _, name = named.partition(":")
        probe = getattr(importlib.import_module(module), name)
    return Task(
        ConfigDict(config).lock(),
        pathlib.Path(workdir),
        data_dir,
        probe,
        tuple(map(pathlib.Path, beside)),
    )


def start(
    task: str, workdir: pathlib.Path, cores: set[int], variables: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Starts a process that trains the run of `task`, with its output in the workdir's log.

    cores: those it may use; empty: all of this process. variables: its environment. Keep the
    process's standard input open: its end stops the run.
    """
    mine = os.sched_getaffinity(0) if cores else set()
    with (workdir / LOG).open("a") as log:
        if cores:
            os.sched_setaffinity(0, cores)  # of this thread, for the child to inherit
        try:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "reproduce.py"), "--task"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=variables,
                text=True,
                start_new_session=True,  # Ctrl-C reaches only this process, which passes it on
            )
        finally:
            if cores:
                os.sched_setaffinity(0, mine)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has failed already; see its log
        process.stdin.write(task)
        process.stdin.flush()
    return process


def received() -> Task:
    """Reads the task of this process. If the parent process ends, this one gets SIGTERM.

    Raises UserError if standard input holds none.
    """
    try:
        task = read(_line())
    except (ValueError, SyntaxError):
        raise UserError("--task: reproduce.py gives it to the processes that it starts") from None

    def watch() -> None:
        # Not sys.stdin: Python cannot exit while a thread holds its lock.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # saves and exits

    threading.Thread(target=watch, name="parent", daemon=True).start()
    return task


def _line() -> str:
    """The first line of standard input; its end if the parent has ended already."""
    got = b""
    while not got.endswith(b"\n") and (more := os.read(0, 2**16)):
        got += more
    return got.decode()
