"""Imports run one way, and every folder imports what its `__init__` says and no more."""

import house
import pytest

COMMANDS = {
    "train",
    "convert",
    "evaluate",
    "reproduce",
    "describe",
    "predict",
    "benchmarks",
    "notebooks",
}
FOLDERS = sorted(room for room in house.rooms() if (house.ROOT / room).is_dir())


def test_no_circle():
    grounds = house.floors()
    assert {"errors", "models", "papers"} <= set(grounds[0])


@pytest.mark.parametrize("folder", sorted(set(FOLDERS) - COMMANDS))
def test_folders_import_what_they_say(folder: str):
    said = house.allowed(folder)
    assert said is not None, f"{folder}/__init__.py does not say what it may import"
    assert house.arrows()[folder] <= said


def test_nothing_imports_a_command() -> None:
    for room, imports in house.arrows().items():
        if room not in COMMANDS:
            assert not imports & COMMANDS, room
