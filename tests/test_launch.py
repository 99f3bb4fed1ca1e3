"""The job files in launch/: they parse, their flags exist, and they requeue what was preempted."""

import ast
import os
import pathlib
import re
import shlex
import stat
import subprocess

import pytest
import yaml

from configs import files
from errors import UserError
from startup import jobs, shell

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))
COMMAND = re.compile(r"launch/\w+\.sh ([^\"\n]+)")


def jobset() -> dict:
    [document] = yaml.safe_load_all((ROOT / "launch" / "jobset.yaml").read_text())
    return document


def pod() -> dict:
    [workers] = jobset()["spec"]["replicatedJobs"]
    return workers["template"]["spec"]["template"]["spec"]


def commands() -> dict[str, list[str]]:
    """The words that each job file gives to train.py."""
    found = {path.name: shlex.split(COMMAND.findall(path.read_text())[0]) for path in SCRIPTS}
    return {**found, "jobset.yaml": pod()["containers"][0]["args"]}


def defined() -> set[str]:
    """The flags that train.py defines itself."""
    names = set[str]()
    for node in ast.walk(ast.parse((ROOT / "train.py").read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("flags.DEFINE_"):
            names.add(ast.literal_eval(node.args[0]))
    return names | {"config"}  # command_line.define_config


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: pathlib.Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert '.venv/bin/python train.py "$@"' in script.read_text()


@pytest.mark.parametrize(("name", "words"), commands().items(), ids=commands())
def test_flags_and_configs_in_job_files_exist(name: str, words: list[str]) -> None:
    given = dict(word.removeprefix("--").partition("=")[::2] for word in words)
    fields = {key.removeprefix("config."): given.pop(key) for key in [*given] if "." in key}
    assert {"config", "workdir"} <= given.keys() <= defined()
    literal = {field: files.literal(value) for field, value in fields.items()}
    assert files.resolve(given["config"], literal, ROOT).is_locked


def test_the_pods_of_the_jobset_are_one_job() -> None:
    """As many pods as processes, a coordinator by the name of the first pod, memory to decode."""
    [workers] = jobset()["spec"]["replicatedJobs"]
    job, [train] = workers["template"]["spec"], pod()["containers"]
    variables = {entry["name"]: entry for entry in train["env"]}
    assert variables.keys() == {jobs.COORDINATOR, jobs.COUNT, jobs.NUMBER}
    assert int(variables[jobs.COUNT]["value"]) == job["parallelism"] == job["completions"]
    name = jobset()["metadata"]["name"]
    first = f"{name}-{workers['name']}-0-0.{name}"
    assert variables[jobs.COORDINATOR]["value"].rpartition(":")[0] == first
    assert {mount["name"] for mount in train["volumeMounts"]} == {
        volume["name"] for volume in pod()["volumes"]
    }
    # Bad input is final; a pod that was preempted is not.
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == train["name"]
    assert 2 in rule["onExitCodes"]["values"]
    assert shell.TRY_AGAIN not in rule["onExitCodes"]["values"]


def in_path(folder: pathlib.Path, **programs: str) -> dict[str, str]:
    """An environment in which `programs`, bash by name, come first."""
    for name, body in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("status", "requeued"), [(0, ""), (2, ""), (75, "requeue 7\n")])
def test_only_a_preempted_run_is_requeued(
    status: int, requeued: str, tmp_path: pathlib.Path
) -> None:
    """Also if SLURM sends SIGTERM to the script itself: it waits for the processes."""
    out = shlex.quote(str(tmp_path / "said"))
    environment = in_path(
        tmp_path, srun=f"kill -TERM $PPID; sleep 0.1; exit {status}", scontrol=f'echo "$@" > {out}'
    )
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / "slurm.sh"), "--workdir=x"],
        env={**environment, "SLURM_JOB_ID": "7"},
    )
    assert done.returncode == status
    said = tmp_path / "said"
    assert (said.read_text() if said.exists() else "") == requeued


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("unknown:unknown:10.0.0.2", "  "),
        ("a:1:10.0.0.2,b:2:10.0.0.3", "10.0.0.2:8476 2 1"),
        ("t1v-0,t1v-1,t1v-2", "t1v-0:8476 3 1"),
    ],
)
def test_hosts_of_a_slice_find_each_other_by_its_metadata(
    hosts: str, expected: str, tmp_path: pathlib.Path
) -> None:
    script = (ROOT / "launch" / "tpu_slice.sh").read_text()
    shown = script.replace(
        'exec .venv/bin/python train.py "$@"',
        f'echo "${{{jobs.COORDINATOR}-}} ${{{jobs.COUNT}-}} ${{{jobs.NUMBER}-}}"',
    )
    assert shown != script
    answers = f'case "$*" in *endpoints) echo "{hosts}";; *worker-number) echo 1;; esac'
    done = subprocess.run(
        ["bash", "-c", shown],
        env=in_path(tmp_path, curl=answers),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == f"{expected}\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "SLURM_STEP_NODELIST": "a"}, {}),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"},
            {"num_processes": 4, "process_id": 3, "cluster_detection_method": "deactivate"},
        ),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "needs JAX_NUM_PROCESSES and JAX_PROCESS_ID"),
        ({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}, "and JAX_COORDINATOR_ADDRESS"),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "4"},
            "JAX_NUM_PROCESSES=4, JAX_PROCESS_ID=4: expected",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "x", "JAX_PROCESS_ID": "0"},
            "JAX_NUM_PROCESSES=x, JAX_PROCESS_ID=0: expected",
        ),
    ],
)
def test_a_job_described_by_the_environment(
    given: dict[str, str], expected: dict[str, object] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (jobs.COORDINATOR, jobs.COUNT, jobs.NUMBER, *jobs.CLUSTER_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            jobs._given()
    else:
        assert jobs._given() == expected


def test_a_process_counts_as_lost_when_its_sign_of_life_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers = jobs.Peers(10)
    assert peers.lost([("0", "1"), ("1", "1")], now=100) == []
    assert peers.lost([("0", "2"), ("1", "1")], now=109) == []
    assert peers.lost([("0", "3"), ("1", "1")], now=110) == ["1"]
    assert peers.lost([("0", "3"), ("1", "2")], now=111) == []
    for wrong in ("1", "x", "-5"):
        monkeypatch.setenv(jobs.PEER_SECONDS, wrong)
        with pytest.raises(UserError, match=f"{jobs.PEER_SECONDS}={wrong}: expected"):
            jobs.peer_seconds()
