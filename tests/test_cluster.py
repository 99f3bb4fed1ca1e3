"""A job of two processes, each with half of every batch, beside the same run in one process.

The processes are real ones on this machine, started as srun starts them.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from startup import environment, jobs

ROOT = pathlib.Path(__file__).parent.parent


def start(
    workdir: pathlib.Path,
    data_dir: str,
    *words: str,
    count: int,
    devices: int = 1,
    of_last: tuple[str, ...] = (),
    job_files: bool = False,
    **variables: str,
) -> list[subprocess.Popen]:
    """`count` processes of one job that trains in `workdir`, of `devices` each.

    The last one also gets the arguments `of_last`. job_files: names them by the variables of the
    files in launch/, not by srun's.
    """
    port = 20_000 + os.getpid() % 10_000
    command = [sys.executable, "train.py", *words, f"--workdir={workdir}", f"--data_dir={data_dir}"]
    running = []
    for rank in range(count):
        job = {
            "SLURM_JOB_ID": str(os.getpid()),  # the coordinator's port follows from it
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NTASKS": str(count),
            "SLURM_STEP_NUM_TASKS": str(count),
        }
        if job_files:
            job = {jobs.COORDINATOR: f"localhost:{port}", jobs.COUNT: f"{count}"}
            job[jobs.NUMBER] = f"{rank}"
        clean = {name: value for name, value in os.environ.items() if "XLA_FLAGS" not in name}
        clean["JAX_NUM_CPU_DEVICES"] = str(devices)
        running.append(
            subprocess.Popen(
                [*command, *(of_last if rank == count - 1 else ())],
                cwd=ROOT,
                env=clean | variables | (job if count > 1 else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return running


def finish(running: list[subprocess.Popen], status: int = 0) -> list[str]:
    """The output of each process, without Gloo's lines; asserts that all exit with that status."""
    said = [process.communicate(timeout=600)[0] for process in running]
    assert [process.returncode for process in running] == [status] * len(running), said
    return [
        "".join(line for line in text.splitlines(keepends=True) if not line.startswith("[Gloo]"))
        for text in said
    ]


def rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "clock"} for line in lines]


def numbers(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array(
        [[row[group][name] for group in ("train", "test") for name in ("loss", "error")]
         for row in rows]
    )  # fmt: skip


def test_two_processes_train_as_one(tmp_path: pathlib.Path) -> None:
    """LeNet-5 on generated images: the union of two halves is the batch, the gradient its mean."""
    words = ("--config=configs/lenet5.py:scale=smoke", "--config.eval.batch_size=6")
    finish(start(tmp_path / "one", str(tmp_path), *words, count=1))
    finish(start(tmp_path / "devices", str(tmp_path), *words, count=1, devices=2))
    said = finish(start(tmp_path / "two", str(tmp_path), *words, count=2, job_files=True))
    assert "devices  2 × cpu, 2 process(es)" in said[0]
    assert "step 4/4" in said[0]
    assert "curves:" in said[0]
    assert said[1] == ""  # plan, progress and table are printed once
    together = numbers(rows(tmp_path / "two"))
    assert together.shape == (2, 4)
    # One device rounds its sums in another order; two devices of one process in the same, if they
    # have as many threads: XLA gives a process one per core, and at least one per device.
    np.testing.assert_allclose(together, numbers(rows(tmp_path / "one")), rtol=2e-5)
    np.testing.assert_allclose(together, numbers(rows(tmp_path / "devices")), rtol=2e-5)
    if environment.usable_cores() >= 2:
        assert rows(tmp_path / "two") == rows(tmp_path / "devices")


def test_an_error_in_one_process_ends_both_with_one_line(tmp_path: pathlib.Path) -> None:
    words = ("--config=configs/lenet5.py:scale=smoke",)
    wrong = ("--config.batch_size=7",)  # only in the second process
    said = finish(start(tmp_path / "run", str(tmp_path), *words, count=2, of_last=wrong), 2)
    assert "error:" not in said[0]  # the workdir it may print has the word
    assert said[1].startswith("process 1: error: config.batch_size=7: expected a positive")
    assert said[1].count("\n") == 1


def test_a_signal_during_compilation_ends_both_at_once(tmp_path: pathlib.Path) -> None:
    words = ("--config=configs/resnet_cifar.py:depth=20,scale=smoke",)
    running = start(tmp_path / "run", str(tmp_path), *words, count=2)
    while not (tmp_path / "run" / "environment.json").exists():  # the last file before the loop
        assert running[0].poll() is None, running[0].communicate()
        time.sleep(0.05)
    running[1].send_signal(signal.SIGTERM)
    said = finish(running, 75)
    assert f"process 1: stopped at once; saved steps in {tmp_path / 'run'}: none yet" in said[1]
    assert "stopped" not in said[0]


@pytest.mark.slow
def test_an_error_within_the_loop_ends_both_with_one_line(tmp_path: pathlib.Path) -> None:
    """The process that writes fails while the other waits for it in the first step."""
    (tmp_path / "run" / "metrics.jsonl.partial").mkdir(parents=True)
    (tmp_path / "run" / "metrics.jsonl").touch()
    words = ("--config=configs/lenet5.py:scale=smoke",)
    said = finish(start(tmp_path / "run", str(tmp_path), *words, count=2), 2)
    assert said[0].splitlines()[-1].startswith("process 0: error: ")
    assert "metrics.jsonl: cannot be written (Is a directory)" in said[0]
    assert said[1] == ""


@pytest.mark.slow
def test_two_processes_normalise_over_groups_that_lie_on_both(tmp_path: pathlib.Path) -> None:
    """ResNet-20: batches of 8 in groups of 8, four images of each on either process.

    The final statistics are taken anew, from batches that lie on both as well.
    """
    words = (
        "--config=configs/resnet_cifar.py:depth=20,scale=smoke",
        "--config.bn_recompute_batches=2",
    )
    finish(start(tmp_path / "one", str(tmp_path), *words, count=1))
    finish(
        start(tmp_path / "two", str(tmp_path), *words, "--config.data.engine=streaming", count=2)
    )
    # Rounding grows from step to step: batch norm divides by deviations over few pixels.
    np.testing.assert_allclose(
        numbers(rows(tmp_path / "two"))[:, 0], numbers(rows(tmp_path / "one"))[:, 0], rtol=2e-2
    )


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_to_the_same_bits(tmp_path: pathlib.Path) -> None:
    words = ("--config=configs/lenet5.py:data=digits", "--config.duration=1100 steps")
    finish(start(tmp_path / "straight", str(tmp_path), *words, count=2))
    running = start(tmp_path / "cut", str(tmp_path), *words, count=2)
    while not (tmp_path / "cut" / "metrics.jsonl").exists() or not rows(tmp_path / "cut"):
        assert running[0].poll() is None, running[0].communicate()
        time.sleep(0.05)
    running[0].send_signal(signal.SIGTERM)  # the other learns of it
    finish(running, 75)
    assert len(rows(tmp_path / "cut")) < 50
    finish(start(tmp_path / "cut", str(tmp_path), *words, count=2))
    assert rows(tmp_path / "cut") == rows(tmp_path / "straight")
    assert len(rows(tmp_path / "cut")) == 50


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda sent: sent.name)
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_dies_or_hangs_ends_the_other_and_the_run_resumes(
    number: signal.Signals, lost: int, tmp_path: pathlib.Path
) -> None:
    """In one line, unless process 0 is lost, which hosts what the processes know of each other."""
    words = (
        *("--config=configs/lenet5.py:data=digits", "--config.duration=1100 steps"),
        "--config.checkpoint.every=22 steps",
    )
    workdir = tmp_path / "run"
    running = start(workdir, str(tmp_path), *words, count=2, CONVNETS_PEER_SECONDS="5")
    while not (workdir / "checkpoints" / "44").exists():
        assert running[0].poll() is None, running[0].communicate()
        time.sleep(0.05)
    running[lost].send_signal(number)
    other = running[1 - lost]
    said = other.communicate(timeout=60)[0]
    running[lost].kill()
    running[lost].communicate()
    if lost == 1:
        assert other.returncode == 75, said
        why = "the connection to another process was lost"
        if number == signal.SIGSTOP:
            why = "nothing was heard of process 1 for 5 s"
        assert f"process 0: {why}: stopped; run the same command again to continue\n" in said
    else:
        assert other.returncode != 0, said  # jax ends it
    said = finish(start(workdir, str(tmp_path), *words, count=2))[0]
    assert "resumed after step" in said
    assert len(rows(workdir)) == 50


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["resident", "streaming"])
def test_a_run_goes_on_with_another_number_of_processes(
    engine: str, tmp_path: pathlib.Path
) -> None:
    """On two hosts, then one with two devices, then one with one; and the reverse.

    ResNet-20's first blocks, with batch norm in groups that lie on both hosts, and dropout.
    """
    words = (
        "--config=configs/resnet_cifar.py:depth=20,scale=smoke",
        *("--config.model.stages=(1,1,1)", "--config.model.features=(4,8,8)"),
        *("--config.model.shortcut_dropout=0.5", f"--config.data.engine={engine}"),
    )

    def go_on(workdir: pathlib.Path, steps: int, **machine: int) -> None:
        length = (f"--config.duration={steps} steps", "--extend")
        finish(start(workdir, str(tmp_path), *words, *length, **machine))  # type: ignore[arg-type]

    go_on(tmp_path / "straight", 6, count=1)
    for name, parts in {
        "fewer": ({"count": 2}, {"count": 1, "devices": 2}, {"count": 1}),
        "more": ({"count": 1}, {"count": 1, "devices": 2}, {"count": 2}),
    }.items():
        for part, machine in enumerate(parts, start=1):
            go_on(tmp_path / name, 2 * part, **machine)
        assert len(rows(tmp_path / name)) == 3
        np.testing.assert_allclose(
            numbers(rows(tmp_path / name))[:, 0],
            numbers(rows(tmp_path / "straight"))[:, 0],
            rtol=1e-3,
        )
