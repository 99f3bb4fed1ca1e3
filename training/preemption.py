"""SIGTERM (a scheduler wants the machine), Ctrl-C and SIGHUP (the terminal has closed): finish the
step, save, leave with status 75.

The same command resumes from the saved step. If there is no step to finish, and for the second
signal, it leaves at once and names what is on the disk: a run that is cut off anywhere resumes. A
job of several processes ends as a whole. Imports nothing slow, see `shell`.
"""

import contextlib
import pathlib
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial

from startup import shell
from training.layout import CONFIG, FOLDER

EXIT_STATUS = shell.TRY_AGAIN
SECONDS_TO_END = 10.0  # the other processes of a job, before this one leaves them


class Preempted(Exception):
    """The run stopped on request, after it saved `step`."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}, saved; {shell.AGAIN}")
        self.step = step


class Preemption:
    """Notices a request to stop. Use as a context manager around the training loop.

    In a job of several processes jax.distributed lets all of them agree on the step to stop after.
    """

    def __init__(self, workdir: pathlib.Path):
        self.workdir = workdir

    def __enter__(self) -> "Preemption":
        import jax  # slow

        self._asked, self._calls = False, 0
        self._job = jax.process_count() > 1
        self._answering = contextlib.ExitStack()
        if not self._job or shell.attached():
            self._answering.enter_context(shell.answering(self._notice))
        return self

    def __exit__(self, *error: object) -> None:
        self._answering.close()

    def _notice(self) -> None:
        if not shell.attached():  # in a notebook, whose process must not end
            if self._asked:
                raise KeyboardInterrupt
        elif self._asked or not self._calls:
            leave(self.workdir)
        elif self._job:
            from startup import jobs  # slow

            jobs.tell_to_stop()
        self._asked = True

    def requested(self) -> bool:
        """Whether to stop now; the same answer on every process of a job.

        Call it after every dispatch of steps.
        """
        self._calls += 1
        if self._job:
            from jax.experimental import multihost_utils  # slow

            # The processes agree on the next number to stop at, so none may be left out.
            return multihost_utils.reached_preemption_sync_point(self._calls)
        return self._asked


def leave(workdir: pathlib.Path | None) -> None:
    """Ends the process at once and names the saved steps on the disk."""
    if workdir is None or not (workdir / CONFIG).exists():
        line, status = "stopped; nothing was written", shell.STOPPED
    else:
        saved = sorted(
            int(path.name) for path in (workdir / FOLDER).glob("*") if path.name.isdecimal()
        )
        steps = ", ".join(map(str, saved)) or "none yet"
        line = f"stopped at once; saved steps in {workdir}: {steps}; {shell.AGAIN}"
        status = EXIT_STATUS
    jobs = sys.modules.get("startup.jobs")  # slow to import, so never imported here
    if jobs is not None and not jobs.alone():
        timer = threading.Timer(SECONDS_TO_END, shell.leave, (line, status))
        timer.daemon = True
        timer.start()
        jobs.end(line, status)
    shell.leave(line, status)


def leaving(arguments: Sequence[str]) -> Callable[[], None]:
    """`leave` for the workdir that a command's arguments name."""
    found = None
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in ("--workdir", "-workdir"):
            found = value if equals else "".join(arguments[index + 1 : index + 2])
    return partial(leave, pathlib.Path(found) if found else None)
