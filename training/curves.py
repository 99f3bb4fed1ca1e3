"""Draws curves.png: a run's training and test error against the step, in the papers' style."""

import pathlib
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Bold lines for test, thin ones for training, as in He et al. 2016a, Fig. 6.
STYLES = {
    "train": {"color": "#7a9cc6", "linewidth": 1.2},
    "validation": {"color": "#d08c3f", "linewidth": 1.6},
    "test": {"color": "#1f4e8c", "linewidth": 2.0},
}


def draw(rows: Sequence[dict[str, Any]], path: pathlib.Path, *, title: str) -> None:
    """Draws error in percent (left) and loss (right) of all groups in `rows` against the step."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    errors, losses = figure.subplots(1, 2)
    for group, style in STYLES.items():
        logged = [row for row in rows if group in row]
        if not logged:
            continue
        steps = [row["step"] for row in logged]
        final = logged[-1][group]
        errors.plot(
            steps,
            [100 * row[group]["error"] for row in logged],
            label=f"{group} {100 * final['error']:.2f}%",
            **style,
        )
        for name, dashes in side_heads(logged, group).items():
            errors.plot(
                steps,
                [100 * row[group][f"error_{name}"] for row in logged],
                label=f"{group}, {name} {100 * final[f'error_{name}']:.2f}%",
                **{**style, "linewidth": 1.2, "linestyle": dashes},
            )
        losses.plot(
            steps,
            [row[group]["loss"] for row in logged],
            label=f"{group} {final['loss']:.3g}",
            **style,
        )
    for axes, quantity in ((errors, "error (%)"), (losses, "loss")):
        axes.set_xlabel("step")
        axes.set_ylabel(quantity)
        axes.set_yscale("log" if quantity == "loss" else "linear")
        axes.grid(alpha=0.25, which="major")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, title="at the end")
    highest = max((100 * row["test"]["error"] for row in rows if "test" in row), default=100.0)
    settled = sorted(100 * row["test"]["error"] for row in rows if "test" in row)
    # The first evaluations can be near chance; limit the axis to where most of the curve is.
    if settled:
        errors.set_ylim(0, min(highest * 1.05, max(5.0, 4 * settled[len(settled) // 2])))
    figure.suptitle(title, fontsize=11)
    canvas.print_png(str(path))


def side_heads(rows: Sequence[dict[str, Any]], group: str) -> dict[str, str]:
    """A line style for each side head with errors in `group`; {} for "train".

    Training errors of side heads are measured with dropout, so they do not compare.
    """
    found = [name.removeprefix("error_") for name in rows[-1][group] if name.startswith("error_")]
    return dict(zip(found, ("--", ":"), strict=False)) if group != "train" else {}
