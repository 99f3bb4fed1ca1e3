"""The job file and reproduce.py on a real SLURM of one node, preempted by a more urgent job."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
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


SWEEP = '''
"""LeNet-5 on digits."""

from configs import lenet5


def get_config(argument):
    config = lenet5.get_config("data=digits").unlock()
    config.duration = "880 steps"
    return config.lock()


def sweep():
    for seed in range(3):
        yield {"seed": seed}
'''


def test_a_study_in_the_queue_survives_preemption_and_ctrl_c(
    cluster: None, tmp_path: pathlib.Path
) -> None:
    """Three runs, two at once. The first two are preempted; Ctrl-C comes; all are gathered."""
    (tmp_path / "sweep.py").write_text(SWEEP)
    command = [sys.executable, "reproduce.py", f"--config={tmp_path / 'sweep.py'}", "--jobs=2"]
    command += ["--launcher=slurm", "--queue=partition=main", "--queue=time=30"]
    command += [f"--out={tmp_path / 'work'}", f"--data_dir={tmp_path / 'data'}"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def logged() -> list[int]:
        return [len(steps(path)) for path in sorted((tmp_path / "work").glob("as_configured/*"))]

    first = start()
    until(lambda: sum(count >= 3 for count in logged()) == 2 or first.poll() is not None)
    listed = one_node_slurm.said("squeue", "--noheader", "--array", "--format=%T").split()
    assert sorted(listed) == ["PENDING", "RUNNING", "RUNNING"], listed
    preempt()
    # The array may go on while the watching process queues again what was preempted.
    until(lambda: "RUNNING" in one_node_slurm.said("squeue", "--format=%T"))
    os.killpg(first.pid, signal.SIGINT)
    said, complaint = first.communicate(timeout=120)
    assert first.returncode == 75, (said, complaint)
    assert "stay queued or running, squeue --jobs=" in complaint
    assert "to end them: scancel " in complaint
    assert "RUNNING" in one_node_slurm.said("squeue", "--format=%T")
    second = start()
    said, complaint = second.communicate(timeout=400)
    assert second.returncode == 0, (said, complaint)
    assert "queued or running already" in said
    assert logged() == [40, 40, 40]
    logs = "".join(path.read_text() for path in (tmp_path / "work").glob("as_configured/*/log.txt"))
    assert logs.count("resumed after step") >= 2
