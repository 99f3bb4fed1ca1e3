"""The notebook of the lecture: each cell compiles, what it imports is there, and all of it runs."""

import ast
import importlib
import os
import re
import subprocess
import sys

import pytest

from reproduction.study import ROOT

NOTEBOOK = ROOT / "notebooks" / "lecture.py"
CELLS = re.split(r"^# %%", NOTEBOOK.read_text(), flags=re.M)[1:]
CODE = [cell.partition("\n")[2] for cell in CELLS if not cell.startswith(" [markdown]")]


@pytest.mark.parametrize("cell", CODE, ids=lambda cell: cell.split("\n")[0])
def test_each_cell_compiles_by_itself(cell: str) -> None:
    compile(cell, str(NOTEBOOK), "exec")


def test_cells_of_text_hold_no_code() -> None:
    texts = [cell for cell in CELLS if cell.startswith(" [markdown]")]
    assert len(texts) >= 8
    for cell in texts:
        assert all(line.startswith("#") for line in cell.splitlines()[1:] if line)


def test_what_it_imports_is_there() -> None:
    for node in ast.walk(ast.parse(NOTEBOOK.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                found = hasattr(module, alias.name)
                assert found or importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.slow
def test_it_runs_from_top_to_bottom() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore:FigureCanvasAgg", str(NOTEBOOK)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "60,000 parameters" in done.stdout
    assert "equal at every position" in done.stdout
    assert "average of the three" in done.stdout
