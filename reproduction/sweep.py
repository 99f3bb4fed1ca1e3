"""Makes a study without claims from the sweep() of a config file.

A config file may have `sweep()`, which yields overrides by dotted field, including the seed:

    def sweep():
        for seed in range(3):
            for rate in (0.01, 0.1):
                yield {"schedule.rate": rate, "seed": seed}

Runs that differ only in their seed are one row of the table.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.figure import Figure

from configs import files
from errors import UserError
from reproduction import drawing
from reproduction.study import ROOT, Records, Run, Scale, Study, as_flags

AS_CONFIGURED = "as configured"


def create(config: str, given: Mapping[str, Any]) -> tuple[Study, str, set[tuple[str, int]]]:
    """The study of a config's sweep, its data set, and the (label, seed) of each run.

    config: as for --config. given: overrides from the command line; the sweep's replace them.
    Raises UserError if the config has no sweep() or it yields something else.
    """
    path, _, _ = config.partition(":")
    module = files.module(ROOT / path)
    if not hasattr(module, "sweep"):
        raise UserError(f"--config: {path} has no sweep(); add one, or name a study: see --list")
    runs, wanted = dict[str, Run](), set[tuple[str, int]]()
    with files.running(ROOT / path):
        proposed = module.sweep()
        if not isinstance(proposed, Iterable):
            raise UserError(f"{path}: sweep() returns {proposed!r}; it must yield fields")
        yielded = list(proposed)
    for overrides in yielded:
        if not isinstance(overrides, Mapping) or not isinstance(overrides.get("seed"), int):
            raise UserError(
                f"{path}: sweep() yields {overrides!r}; it must yield fields, with an integer seed"
            )
        fields = {name: value for name, value in overrides.items() if name != "seed"}
        label = ", ".join(f"{name}={value}" for name, value in fields.items()) or AS_CONFIGURED
        if (label, overrides["seed"]) in wanted:
            raise UserError(f"{path}: sweep() yields {label}, seed {overrides['seed']} twice")
        wanted.add((label, overrides["seed"]))
        runs[label] = Run(label, config, 0.0, {**given, **fields})
    if not runs:
        raise UserError(f"{path}: sweep() yields nothing")

    first = next(iter(runs.values()))
    data = first.resolve(0).data.name
    study = Study(
        name=config.removeprefix("configs/").replace(".py", "", 1),
        title=f"Sweep of {config}",
        paper=(module.__doc__ or path).partition("\n")[0].rstrip("."),
        figure="sweep()",
        question="",
        scales={data: Scale(tuple(runs.values()), len({seed for _, seed in wanted}), note="")},
        claims=(),
        draw=draw,
        command=f"python reproduce.py --config={config}{as_flags(given)}",
    )
    return study, data, wanted


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws test error against the step, and the final test error of every seed."""
    figure, axes = drawing.new(1, 2, title=study.title, subtitle=drawing.LEGEND, size=(13, 5))
    drawing.curves(axes[0][0], records, room=0.6)
    drawing.heading(axes[0][0], "Test error", "step", "error")
    drawing.bars(axes[0][1], drawing.finals(records, "test_error"), digits=2)
    drawing.heading(axes[0][1], "Final test error", "error (%)")
    return figure
