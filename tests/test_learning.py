"""Networks still learn: runs on digits, seed 0, against the five committed seeds.

Trained by train.py itself, with the compiler that users have. The band reaches from the least to
the greatest of the committed errors, and three times their spread and two images further.
"""

import json
import os
import pathlib
import shlex
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import studies
from reproduction.study import ROOT

IMAGE = 1 / 360  # of the test images


def last_row(log: pathlib.Path) -> dict[str, Any]:
    return json.loads(log.read_text().splitlines()[-1])


@pytest.mark.parametrize(
    ("study", "label"),
    [
        # The main job, seconds: part of `make check`.
        pytest.param("lenet5_modern", "LeNet-5, modern", marks=pytest.mark.learns),
        pytest.param("degradation", "ResNet-20", marks=pytest.mark.slow),
        pytest.param("degradation", "plain-56", marks=pytest.mark.slow),
    ],
)
def test_a_run_ends_as_the_committed_ones(
    study: str, label: str, tmp_path: pathlib.Path, data_dir: str
) -> None:
    name = label.replace(",", "").replace(" ", "_")
    logs = sorted((ROOT / "results" / study / "digits" / "logs").glob(f"{name}_seed*.jsonl"))
    committed = [last_row(log) for log in logs]
    assert len(committed) == 5
    (run,) = (r for r in studies.study(study).scales["digits"].runs if r.label == label)
    words = shlex.split(run.command(0, str(tmp_path)))[1:]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, *words, f"--data_dir={data_dir}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = last_row(tmp_path / "metrics.jsonl")
    assert found["step"] == committed[0]["step"]
    for part in ("train", "test"):
        errors = [row[part]["error"] for row in committed]
        room = 3 * np.std(errors) + 2 * IMAGE
        assert min(errors) - room <= found[part]["error"] <= max(errors) + room, part
