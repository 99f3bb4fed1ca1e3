"""Draws the curves of several runs in one picture: `reproduce.py --curves runs/a runs/b`."""

import pathlib
import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from errors import UserError
from reproduction import drawing
from training import metrics


def draw(workdirs: Sequence[pathlib.Path], path: pathlib.Path) -> pathlib.Path:
    """Saves `figure` at `path`. Raises UserError as it does."""
    drawing.save(figure(workdirs), path, digest="")
    return path


def figure(workdirs: Sequence[pathlib.Path]) -> Figure:
    """Test (bold) and training (dashed) error and loss of all workdirs.

    Raises UserError if a workdir has no run or the run has no test result yet.
    """
    drawn, axes = drawing.new(
        1, 2, title="Error and loss", subtitle="Bold: test; dashed: training.", size=(12, 5)
    )
    panels = list(zip(axes[0], ("error", "loss"), (100.0, 1.0), strict=True))
    labels: dict[str, list[tuple[float, float, str, str]]] = {"error": [], "loss": []}
    for index, (workdir, name) in enumerate(zip(workdirs, names(workdirs), strict=True)):
        if not (workdir / "config.json").exists():
            raise UserError(f"{workdir} is not a run's workdir: it has no config.json")
        rows = metrics.read(workdir)
        if not any("test" in row for row in rows):
            raise UserError(f"{workdir} has no test results yet; let it train longer")
        colour = drawing.SERIES[index % len(drawing.SERIES)]
        for panel, metric, factor in panels:
            for group, style in (("train", {"ls": "--", "lw": 1}), ("test", {"lw": 2})):
                logged = [row for row in rows if group in row]
                steps = [row["step"] for row in logged]
                values = [factor * row[group][metric] for row in logged]
                panel.plot(steps, values, color=colour, **style)
            end = f"{values[-1]:.2f}%" if metric == "error" else f"{values[-1]:.3g}"
            labels[metric].append((steps[-1], values[-1], f"{name} {end}", colour))
    axes[0][1].set_yscale("log")
    for panel, metric, _ in panels:
        drawing.heading(panel, metric.capitalize(), "step", metric)
        if metric == "error":
            panel.set_ylim(bottom=0)
            drawing.percent(panel)
        drawing.room_right(panel, 0.45)
        drawing.ends(panel, labels[metric])
    return drawn


def names(workdirs: Sequence[pathlib.Path]) -> list[str]:
    """Label and seed of a study's run, else the folder's name; full paths if not unique."""
    short = []
    for workdir in workdirs:
        of_study = re.fullmatch(r"seed(\d+)-[0-9a-f]+", workdir.name)
        short.append(f"{workdir.parent.name}, seed {of_study[1]}" if of_study else workdir.name)
    return short if len(set(short)) == len(short) else [str(workdir) for workdir in workdirs]
