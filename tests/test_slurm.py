"""The job file on a real SLURM of one node, preempted by a more urgent job."""

import json
import os
import pathlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests import one_node_slurm

ROOT = pathlib.Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(one_node_slurm.missing()), reason=one_node_slurm.missing()),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with one_node_slurm.started(tmp_path_factory.mktemp("slurm")):
        yield


def until(true: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, one_node_slurm.said("squeue", "--long")
        time.sleep(0.1)


def steps(workdir: pathlib.Path) -> list[int]:
    log = workdir / "metrics.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [json.loads(line)["step"] for line in lines]


def preempt() -> None:
    """A job of a partition that may preempt the others, on both cores for a second."""
    subprocess.run(
        ["srun", "--partition=urgent", "--ntasks=2", "sleep", "1"], check=True, timeout=240
    )


def shown(job: str, field: str) -> str:
    found = re.search(rf"\b{field}=(\S+)", one_node_slurm.said("scontrol", "show", "job", job))
    return found[1] if found else ""


def eligible_now(job: str) -> None:
    """SLURM lets a requeued job wait for two minutes; the test does not."""
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)


def test_a_preempted_job_of_two_processes_is_requeued_and_resumes(
    cluster: None, tmp_path: pathlib.Path
) -> None:
    workdir, log = tmp_path / "run", tmp_path / "log"
    words = ("--config=configs/lenet5.py:data=digits", "--config.duration=1100 steps")
    where = (f"--workdir={workdir}", f"--data_dir={tmp_path / 'data'}")
    two = ("--ntasks=2", "--ntasks-per-node=2", f"--output={log}")
    submitted = subprocess.run(
        ["sbatch", "--parsable", *two, "launch/slurm.sh", *words, *where],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    job = submitted.stdout.strip()
    until(lambda: len(steps(workdir)) >= 3)
    preempt()
    until(lambda: shown(job, "Restarts") == "1")
    assert "saved; run the same command again" in log.read_text()
    eligible_now(job)
    until(lambda: shown(job, "JobState") in ("COMPLETED", "FAILED"))
    said = log.read_text()
    assert shown(job, "ExitCode") == "0:0", said
    assert "devices  2 × cpu, 2 process(es)" in said
    assert re.search(r"resumed after step \d+", said)
    assert steps(workdir) == [22 * row for row in range(1, 51)]  # each once
