"""The docs site: the tutorial as it stands, the examples of its pages, the reference."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import data
import models
import studies
from configs import base
from data import builder
from data.prepared import PreparedSource
from reference import pages
from reproduction import planning
from reproduction.study import ROOT
from training import field_help, losses, optimizers, schedules, weight_averaging

DOCS = ROOT / "docs"


def blocks(page: str) -> list[str]:
    """The blocks of Python in a page."""
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)


def run(block: str) -> dict[str, Any]:
    """The names that a block defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(block, names)
    return names


def photograph(rng: np.random.RandomState, colour: tuple[int, int, int]) -> Image.Image:
    """A noisy picture of one colour, in a size of its own."""
    height, width = rng.randint(70, 120, 2)
    pixels = np.asarray(colour) + rng.normal(0, 25, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.learns
def test_the_tutorials_commands_train_a_network_on_a_folder_of_photos(
    tmp_path: pathlib.Path,
) -> None:
    rng = np.random.RandomState(0)
    colours = {"leaves": (60, 140, 50), "sand": (200, 170, 110), "sea": (40, 90, 170)}
    for name, colour in colours.items():
        for folder, count in ((f"photos/{name}", 16), ("new_photos", 1)):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                photograph(rng, colour).save(tmp_path / folder / f"{name}_{number}.jpg")
    for entry in (*ROOT.glob("*.py"), ROOT / "configs", ROOT / "data"):
        (tmp_path / entry.name).symlink_to(entry)

    commands = re.findall(r"^    python (.*)$", (DOCS / "tutorial.md").read_text(), re.M)
    assert len(commands) <= 5
    printed = ""
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", f'"{sys.executable}" {command}'],
            cwd=tmp_path,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout

    result = json.loads((tmp_path / "runs/photos/result.json").read_text())
    assert result["last"]["test_error"] < 1 / 3  # chance is two thirds
    assert (
        "<h3>Worst mistakes</h3>"
        in (
            tmp_path / "runs/photos/evaluations" / f"report_test_{result['last']['step']}.html"
        ).read_text()
    )
    answers = printed[printed.index("probability") :].splitlines()[1:]
    assert len([line for line in answers if "%" in line]) == 2 * len(colours)
    with np.load(tmp_path / "photos.npz") as exported:
        assert exported["class_names"].tolist() == list(colours)


def test_the_example_of_a_network_has_the_counts_of_arithmetic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = blocks("how_to_network.md")
    monkeypatch.setitem(models.NETWORKS, "small", run(block)["PRESETS"]["small"])
    network = models.create({"name": "small", "width": 0.5})
    shapes = models.variables_of(network)
    params = sum(shape.size for shape in jax.tree.leaves(shapes["params"]))
    # Half the width: 3×3 kernels to 8 and 16 maps, a scale and an offset each, ten classes.
    assert params == 9 * 3 * 8 + 2 * 8 + 9 * 8 * 16 + 2 * 16 + 16 * 10 + 10


def test_the_example_of_a_reader_is_prepared_and_read(tmp_path: pathlib.Path) -> None:
    (block,) = blocks("how_to_data.md")
    names = run(block)
    entry = names["BLACK_OR_WHITE"]
    builder.write(entry, names["splits"](entry, {}), "png", tmp_path)
    images, labels = PreparedSource(entry, "test", tmp_path).arrays()
    assert images.shape == (2, 8, 8, 1)
    assert images.reshape(2, -1).mean(axis=1).tolist() == [0, 255]
    assert labels.tolist() == [0, 1]


def test_the_examples_of_a_sweep_and_a_study_can_be_planned(tmp_path: pathlib.Path) -> None:
    sweep, block = blocks("how_to_study.md")
    assert len(list(run(sweep)["sweep"]())) == 6
    study = run(block)["STUDY"]
    jobs = planning.jobs(study, "digits", range(3), tmp_path)
    assert [job.config.schedule.rate for job in jobs] == [0.03, 0.003] * 3
    assert len(study.claims_on("digits")) == 1


@functools.cache
def reference() -> dict[str, str]:
    return pages.pages()


CONFIGS = [path for path in ROOT.glob("configs/*.py") if "\ndef get_config" in path.read_text()]
NAMES = {
    "commands": [
        f"## {path.name}\n" for path in ROOT.glob("*.py") if "__main__" in path.read_text()
    ],
    "configs": [f"## configs/{path.name}\n" for path in CONFIGS],
    "fields": [
        *(f"| {pages.code(name)} |" for name, _ in field_help.leaves(base.base().to_dict())),
        *(f"### optimizer: {name}\n" for name in optimizers.OPTIMIZERS),
        *(f"### schedule: {name}\n" for name in schedules.SCHEDULES),
        *(f"### averaging: {name}\n" for name in weight_averaging.AVERAGINGS),
        *(f"### loss: {name}\n" for name in losses.KINDS),
    ],
    "networks": [f"| {pages.code(name)} |" for name in models.NETWORKS],
    "data_sets": [f"| {pages.code(name)} |" for name in data.DATASETS],
    "studies": [f"## {name}\n" for name in studies.STUDIES],
}


@pytest.mark.parametrize("page", NAMES)
def test_the_reference_has_everything_by_name(page: str) -> None:
    content = reference()[f"reference/{page}.md"]
    assert NAMES[page]
    assert [name for name in NAMES[page] if name not in content] == []


def test_tables_of_the_reference_have_equal_rows() -> None:
    for page, content in reference().items():
        for table in re.findall(r"(?:^\|.*\n)+", content, re.M):
            lengths = {line.count("|") for line in table.splitlines()}
            assert len(lengths) == 1, (page, table)
