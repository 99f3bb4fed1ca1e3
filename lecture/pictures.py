"""The pictures of docs/pictures: what the claims' commands draw. `python -m lecture.pictures`."""

import pathlib
import re
import shlex

from inspection import cost, network_picture
from lecture import counts
from lecture.claim import Counted
from lecture.claims import CLAIMS
from reproduction.study import ROOT

FOLDER = ROOT / "docs" / "pictures"


def networks(command: str) -> tuple[str, ...]:
    """The network or the two networks of a command of describe.py; none of another command."""
    _, program, *words = shlex.split(command)
    if program != "describe.py":
        return ()
    return tuple(word for word in words if not word.startswith("-"))


def name(of: tuple[str, ...]) -> str:
    """The file of the picture of one network, or of two beside each other."""
    return "_and_".join(re.sub(r"\W", "_", text) for text in of) + ".png"


def wanted() -> dict[str, tuple[str, ...]]:
    """The networks of each picture, by file."""
    commands = [claim.seen_by.command for claim in CLAIMS if isinstance(claim.seen_by, Counted)]
    return {name(of): of for of in map(networks, commands) if of}


def draw(of: tuple[str, ...], path: pathlib.Path) -> None:
    """Draws one network layer by layer, or the totals of two."""
    costs = {text: measured(text) for text in of}
    if len(of) == 1:
        network_picture.draw(of[0], costs[of[0]], str(path))
    else:
        network_picture.compare(costs, str(path))


def measured(text: str) -> cost.Cost:
    """The cost of "NAME" or of "NAME:num_classes=10"."""
    network, _, classes = text.partition(":num_classes=")
    return counts.measured(network, **({"num_classes": int(classes)} if classes else {}))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, drawn in wanted().items():
        draw(drawn, FOLDER / file)
        print(FOLDER / file)
