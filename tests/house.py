"""The rooms of the house and what they import: `python -m tests.house` prints the arrows.

A room is a folder or a file at the root. What a folder may import is the last sentence of its
`__init__`: "May import models, papers." or "May import nothing of the project." Commands and tests
may import everything.
"""

import ast
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parent.parent


def rooms() -> dict[str, list[pathlib.Path]]:
    """The source files of each room, tests left out."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[pathlib.Path]] = {}
    for name in listed.stdout.split():
        path = pathlib.Path(name)
        if path.parts[0] != "tests" and (ROOT / path).exists():
            found.setdefault(path.parts[0].removesuffix(".py"), []).append(ROOT / path)
    return found


def arrows() -> dict[str, set[str]]:
    """What each room imports of the others."""
    files = rooms()
    return {room: _imported(paths) & files.keys() - {room} for room, paths in files.items()}


def _imported(paths: list[pathlib.Path]) -> set[str]:
    names: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names


def allowed(folder: str) -> set[str] | None:
    """What a folder's `__init__` says it may import; None if it does not say."""
    docstring = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or ""
    said = re.search(r"May import (nothing of the project|[a-z_, \n]+)\.\s*$", docstring)
    if said is None:
        return None
    return set() if said[1].startswith("nothing") else set(re.findall(r"[a-z_]+", said[1]))


def floors() -> list[list[str]]:
    """Rooms from the ground up: each imports rooms of lower floors alone. Raises on a circle."""
    waiting, built = arrows(), list[list[str]]()
    while waiting:
        floor = sorted(room for room, imports in waiting.items() if not imports & waiting.keys())
        if not floor:
            raise ValueError(f"rooms import each other in a circle: {', '.join(sorted(waiting))}")
        built.append(floor)
        waiting = {room: imports for room, imports in waiting.items() if room not in floor}
    return built


if __name__ == "__main__":
    drawn = arrows()
    for height, floor in reversed(list(enumerate(floors()))):
        for room in floor:
            print(f"{height}  {room:16} -> {', '.join(sorted(drawn[room])) or 'nothing'}")
