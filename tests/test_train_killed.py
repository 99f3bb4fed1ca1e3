"""Whole processes of train.py, with the compiler and the optimisations that users have."""

import json
import os
import pathlib
import select
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from training import trained

ROOT = pathlib.Path(__file__).parent.parent

# train.py, but killed when the rows of step 4 are on disk and its checkpoint is not.
KILLED = """
import os, runpy, signal, sys
from startup import xla_settings
xla_settings.apply()
from training.checkpoints import Checkpoints

save = Checkpoints.save

def killed(self, step, *args, **kwargs):
    if step == 4:
        self.wait()
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, step, *args, **kwargs)

Checkpoints.save = killed
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def start(
    config: str, workdir: pathlib.Path, data_dir: str, *program: str
) -> subprocess.Popen[str]:
    """Trains `config`; `program` stands for train.py."""
    words = (f"--config={config}", f"--workdir={workdir}", f"--data_dir={data_dir}")
    return subprocess.Popen(
        [sys.executable, *(program or ("train.py",)), *words],
        cwd=ROOT,
        env=os.environ | {"CONVNETS_CACHE": "off", "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    said = process.communicate(timeout=600)[0]
    assert process.returncode == status, said
    return said


def rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "clock"} for line in lines]


# train.py as the leader of a terminal's session.
ON_A_TERMINAL = """
import fcntl, os, runpy, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_closed_terminal_saves_and_the_run_resumes(tmp_path: pathlib.Path, data_dir: str) -> None:
    config, run = "configs/lenet5.py:data=digits", tmp_path / "run"
    words = (f"--config={config}", f"--workdir={run}", f"--data_dir={data_dir}")
    longer = "--config.duration=1100 steps"
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *words, longer],
        cwd=ROOT,
        env=os.environ | {"CONVNETS_CACHE": "off", "JAX_PLATFORMS": "cpu"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    while not (run / "metrics.jsonl").exists() or len(rows(run)) < 2:
        if select.select([ours], [], [], 0.1)[0]:
            os.read(ours, 1000)  # an error if the process has ended
    os.close(ours)
    assert process.wait(timeout=120) == 75
    names = [path.name for path in (run / "checkpoints").iterdir()]
    saved = max(int(name) for name in names if name.isdecimal())
    done = subprocess.run(
        [sys.executable, "train.py", *words, longer],
        cwd=ROOT,
        env=os.environ | {"CONVNETS_CACHE": "off", "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    assert f"resumed after step {saved}" in done.stdout
    assert len(rows(run)) == 50


def mounted(folder: pathlib.Path, *options: str) -> bool:
    """Mounts a file system in memory, or mounts it again with other options."""
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_fills_up_and_turns_read_only_loses_nothing(
    tmp_path: pathlib.Path, data_dir: str
) -> None:
    """A checkpoint is half a megabyte: the first fits, the second does not."""
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    disk.mkdir()
    if not mounted(disk, "size=1m"):
        pytest.skip("no file system can be mounted here")
    config = "configs/lenet5.py:scale=smoke"
    try:
        said = finish(start(config, disk / "run", data_dir), 2)
        last = said.strip().splitlines()[-1]
        assert last.startswith("error: "), said
        assert "disk is full; whole checkpoints of steps: 2" in last or "No space left" in last
        assert mounted(disk, "remount", "size=1m", "ro")
        last = finish(start(config, disk / "run", data_dir), 2).strip().splitlines()[-1]
        assert last.startswith("error: ")
        assert "Read-only file system" in last
        assert mounted(disk, "remount", "size=50m", "rw")
        assert "resumed after step 2" in finish(start(config, disk / "run", data_dir))
        finish(start(config, whole, data_dir))
        assert rows(disk / "run") == rows(whole)
        ours, theirs = (trained.load(path).variables for path in (disk / "run", whole))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    "config",
    [
        "configs/lenet5.py:scale=smoke",
        pytest.param("configs/resnet_cifar.py:depth=20,scale=smoke", marks=pytest.mark.slow),
    ],
)
def test_killed_between_rows_and_their_checkpoint_it_ends_with_the_same_bits(
    config: str, tmp_path: pathlib.Path, data_dir: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = start(config, whole, data_dir)
    finish(start(config, cut, data_dir, "-c", KILLED), -9)
    assert [row["step"] for row in rows(cut)] == [2, 4]
    assert "resumed after step 2" in finish(start(config, cut, data_dir))
    finish(undisturbed)
    assert rows(cut) == rows(whole)
    assert len(rows(cut)) == 2
    ours, theirs = (trained.load(workdir).variables for workdir in (cut, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
