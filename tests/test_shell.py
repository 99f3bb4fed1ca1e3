"""How commands handle signals and closed streams: real processes, without the slow imports."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import jax
import pytest
from jax.experimental import multihost_utils

from startup import jobs, shell
from training import preemption

ROOT = pathlib.Path(__file__).parent.parent


@contextlib.contextmanager
def started(
    code: str, *arguments: str, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `code`."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


WAITING = """
import sys
from startup import shell
from training import preemption
shell.attach(preemption.leaving(sys.argv))
print("ready")
# As a compilation does: the main thread runs no bytecode for a minute. A signal ends C's sleep.
import ctypes
while True:
    ctypes.CDLL(None).sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("begun", [False, True])
def test_a_signal_is_one_line_whatever_the_main_thread_does(
    number: signal.Signals, begun: bool, tmp_path: pathlib.Path
) -> None:
    if begun:
        (tmp_path / "config.json").touch()
        for name in ("4", "12", "16.orbax-checkpoint-tmp"):
            (tmp_path / "checkpoints" / name).mkdir(parents=True)
    with started(WAITING, f"--workdir={tmp_path}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == (75 if begun else 130)
        expected = (
            f"stopped at once; saved steps in {tmp_path}: 4, 12; run the same command again to "
            "continue\n"
        )
        assert said == (expected if begun else "stopped; nothing was written\n")


COUNTING = """
import os, signal, time
from startup import shell
asked = []
shell.attach(lambda: asked.append(len(asked)))
for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
    os.kill(os.getpid(), number)
    time.sleep(0.2)
print(asked)
"""


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_is_never_a_second_request(nohup: bool) -> None:
    """Shell and kernel may both send SIGHUP; under nohup it is ignored and SIGTERM comes first."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        with started(COUNTING) as process:
            said, _ = process.communicate(timeout=30)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said == ("[0]\n" if nohup else "[0, 1]\n")


def test_a_terminal_that_closes_is_answered_like_a_signal(tmp_path: pathlib.Path) -> None:
    """The kernel hangs up on the process that leads the terminal's session, as on train.py."""
    (tmp_path / "config.json").touch()
    ours, theirs = os.openpty()
    code = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{WAITING}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"--workdir={tmp_path}"],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        said = b""
        while b"ready" not in said:
            said += os.read(ours, 100)
    finally:
        os.close(ours)
    assert process.wait(timeout=30) == 75


@pytest.mark.parametrize("command", ["train.py", "evaluate.py", "reproduce.py", "describe.py"])
def test_a_signal_during_the_imports_is_one_line(command: str, tmp_path: pathlib.Path) -> None:
    # A module of jax's name that imports for a minute stands for the slow ones.
    (tmp_path / "jax.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)")
    for name in ("absl", "ml_collections", "numpy"):
        (tmp_path / f"{name}.py").symlink_to("jax.py")
    process = subprocess.Popen(
        [sys.executable, command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("stopped")
    assert said.count("\n") == 1


SAYING = """
import sys, time
from startup import shell
shell.attach()
for _ in range(3):
    print("a line")
    time.sleep(0.01)
print("still here", file=sys.stderr)
"""


def test_a_closed_pipe_does_not_end_a_run() -> None:
    read, write = os.pipe()
    os.close(read)
    with started(SAYING, stdout=write) as process:
        os.close(write)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said == "standard output: Broken pipe; continuing without it\nstill here\n"


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="not on this system")
def test_a_full_disk_for_the_output_does_not_end_a_run() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with started(SAYING, stdout=full) as process:
        os.close(full)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said == "standard output: No space left on device; continuing without it\nstill here\n"


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: pathlib.Path) -> None:
    (tmp_path / "opens.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from startup import shell; shell.attach(); print(open(__file__).fileno() > 2)"
    )
    for closed in ("2>&-", "0<&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} {tmp_path / 'opens.py'} {closed}"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stdout == "True\n"


class Left(Exception):
    """Raised instead of ending the process."""


def test_in_the_loop_the_first_request_waits_for_the_step_and_the_second_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def leave(line: str, status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(shell, "attached", lambda: True)
    monkeypatch.setattr(shell, "leave", leave)
    (tmp_path / "config.json").touch()
    with preemption.Preemption(tmp_path) as stop:
        with pytest.raises(Left, match="75"):
            shell._answer()  # compiling: there is no step to finish
        assert not stop.requested()
        shell._answer()
        assert stop.requested()
        with pytest.raises(Left, match="75"):
            shell._answer()


def test_in_a_job_the_first_request_tells_all_processes_and_the_second_ends_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    told: list[str] = []

    def end(line: str, status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(shell, "attached", lambda: True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: bool(told))
    monkeypatch.setattr(jobs, "alone", lambda: False)
    monkeypatch.setattr(jobs, "tell_to_stop", lambda: told.append("once"))
    monkeypatch.setattr(jobs, "end", end)
    monkeypatch.setattr(preemption, "SECONDS_TO_END", 1e6)
    (tmp_path / "config.json").touch()
    with preemption.Preemption(tmp_path) as stop:
        with pytest.raises(Left, match="75"):
            shell._answer()  # compiling: there is no step to finish
        assert not stop.requested()
        shell._answer()
        assert told == ["once"]
        assert stop.requested()
        with pytest.raises(Left, match="75"):
            shell._answer()


def test_outside_of_commands_the_second_ctrl_c_interrupts(tmp_path: pathlib.Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with preemption.Preemption(tmp_path) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
