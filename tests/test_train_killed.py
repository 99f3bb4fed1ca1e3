"""Whole processes of train.py, with the compiler and the optimisations that users have."""

import json
import os
import pathlib
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
