"""A study's runs as jobs of a queue: submitit's own two, on this machine. SLURM: test_slurm.py."""

import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from errors import UserError
from reproduction import launchers, planning, queued, sweep, tasks
from reproduction.planning import Job
from tests import toy

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = '''
from tests.toy import lenet_config


def get_config(argument):
    """LeNet on 64 synthetic images, as many steps as the argument says."""
    return lenet_config(duration=f"{argument or 2} steps", **{"checkpoint.every": "1 steps"})


def sweep():
    for seed in range(2):
        yield {"seed": seed}
'''


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    (tmp_path / "tiny.py").write_text(CONFIG)
    return str(tmp_path / "tiny.py")


def jobs(config: str, folder: pathlib.Path) -> list[Job]:
    study, data, _ = sweep.create(config, {})
    return planning.jobs(study, data, [0, 1], folder)


def until(true: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_task_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    config = toy.lenet_config(**{"parameters.rates": (("fc/*", 1.0), ("*", None))})
    task = tasks.Task(config, tmp_path, None, toy.probe, (tmp_path / "a'b",))
    text = task.text()
    assert text.count("\n") == 1
    read = tasks.read(text)
    assert read == task
    assert read.config.to_dict() == config.to_dict()
    assert read.config.parameters.rates == (("fc/*", 1.0), ("*", None))
    assert read.config.is_locked


@pytest.mark.parametrize("text", ["", "{'a': f()}\n", "cut off ("])
def test_standard_input_without_a_task_is_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_line", lambda: text)
    with pytest.raises(UserError, match=r"--task: reproduce\.py gives it to the processes"):
        tasks.received()


# submitit leaves the logs of its debug jobs open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_debug_queue_trains_here_and_now(
    config: str, tmp_path: pathlib.Path, data_dir: str
) -> None:
    [job, other] = jobs(config, tmp_path / "work")
    queue = launchers.Queue("debug", tmp_path / "work", (), 1)
    assert launchers.run_all([job], data_dir, 1, queue) == {}
    assert job.finished
    assert not other.finished
    noted = queued.noted(job.workdir)
    assert {**noted, "id": ""} == {"launcher": "debug", "rows": 0, "id": "", "status": 0}
    assert queue.alive([job]) == set()
    gc.collect()
    assert job.record().environment["processor_cores"] == 1


def started(config: str, folder: pathlib.Path, data_dir: str) -> subprocess.Popen[bytes]:
    """reproduce.py in a session of its own, so that a signal may go to its whole group.

    Its output goes to files: its jobs, which outlive it, would keep a pipe open.
    """
    words = ("--launcher=local", "--jobs=2", f"--out={folder}", f"--data_dir={data_dir}")
    with (
        (folder.parent / "said").open("wb") as out,
        (folder.parent / "complaint").open("wb") as err,
    ):
        return subprocess.Popen(
            [sys.executable, "reproduce.py", f"--config={config}", *words],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def ended(process: subprocess.Popen[bytes], folder: pathlib.Path, status: int = 0) -> list[str]:
    """What reproduce.py has printed, output and errors; asserts its status."""
    process.wait(timeout=300)
    said = [(folder / name).read_text() for name in ("said", "complaint")]
    assert process.returncode == status, said
    return said


@pytest.mark.slow
def test_a_preempted_job_is_queued_again(
    config: str, tmp_path: pathlib.Path, data_dir: str
) -> None:
    """SIGTERM to the run, as SLURM sends it, while it compiles: it saves nothing, and is run."""
    process = started(config, tmp_path / "work", data_dir)
    until(lambda: list((tmp_path / "work").glob("*/*/config.json")))
    workdir = next((tmp_path / "work").glob("*/*/config.json")).parent
    os.kill(int((workdir / ".lock").read_text().split()[1]), signal.SIGTERM)
    said, _ = ended(process, tmp_path)
    assert said.count("was preempted: queued again") == 1
    assert (tmp_path / "work" / "table.md").exists()


@pytest.mark.parametrize(
    ("noted", "rows", "again"),
    [
        ({"rows": 0, "status": 75}, 0, True),  # saved
        ({"rows": 0, "status": 130}, 0, True),  # asked to stop before its first step
        ({"rows": 0, "status": 2}, 1, False),  # bad input
        ({"rows": 0, "status": -9}, 1, True),  # killed amid its steps
        ({"rows": 1, "status": -9}, 1, False),  # killed before a step, as by a lack of memory
        ({"rows": 0}, 1, True),  # the job went away with the machine
        ({"rows": 0}, 0, False),
    ],
)
def test_what_is_queued_again(
    noted: dict, rows: int, again: bool, config: str, tmp_path: pathlib.Path
) -> None:
    [job, _] = jobs(config, tmp_path / "work")
    job.workdir.mkdir(parents=True)
    queued.note(job.workdir, **noted)
    lines = [json.dumps({"step": step}) + "\n" for step in range(1, rows + 1)]
    (job.workdir / "metrics.jsonl").write_text("".join(lines))
    assert launchers.was_preempted(job) == again


@pytest.mark.parametrize(
    ("launcher", "options", "message"),
    [
        ("local", ["partition=gpu"], "--queue=partition: local has no such option; it has: gpus_"),
        ("debug", ["time=1"], "--queue=time: debug has no such option; it has: none"),
        ("local", ["time"], "--queue=time: expected NAME=VALUE"),
        ("local", ["nodes="], "--queue=nodes=: expected NAME=VALUE"),
    ],
)
def test_a_mistaken_option_is_one_line(
    launcher: str, options: list[str], message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        launchers.Queue(launcher, tmp_path, options, 1)
    assert "\n" not in str(raised.value)


def test_what_is_not_installed_is_one_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--launcher=slurm: there is no sbatch and srun here"):
        launchers.Queue("slurm", tmp_path, (), 1)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"needs submitit: .* -r requirements-slurm.txt$"):
        launchers.Queue("local", tmp_path, (), 1)
