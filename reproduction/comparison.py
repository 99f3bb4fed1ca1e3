"""A page of any runs beside each other: `reproduce.py --compare runs/a runs/b --html=page.html`.

The runs may be of any configs and data sets, and need not be finished.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from configs import fields
from errors import UserError
from reproduction import drawing, overlay, traces
from reproduction.records import slug
from training import metrics
from training.workdirs import CONFIG, ENVIRONMENT, RESULT, read_object, write_whole
from webpages import curves, document
from webpages.document import text

UNSET = "—"  # a field that a config does not have
HEADING = (
    *("seed", "network", "data", "parameters", "step", "training error (%)", "test error (%)"),
    *("best test error of any step (%)", "finished"),
)


@dataclasses.dataclass(frozen=True)
class Compared:
    """A run's workdir, read. result: {} if the run is not finished."""

    name: str
    workdir: pathlib.Path
    config: dict[str, Any]
    environment: dict[str, Any]
    result: dict[str, Any]
    rows: list[metrics.Row]

    @property
    def label(self) -> str:
        """The name without the seed that a study's run has in it: runs that share a colour."""
        return self.name.removesuffix(f", seed {self.config['seed']}")


def write(workdirs: Sequence[pathlib.Path], path: pathlib.Path) -> pathlib.Path:
    """Writes the page of these workdirs.

    Raises UserError if a workdir has no run, the run has no test result yet, or a file is damaged.
    """
    picture = drawing.png(overlay.figure(workdirs))
    runs = [
        Compared(
            name,
            workdir,
            _config(workdir / CONFIG),
            read_object(workdir / ENVIRONMENT),
            read_object(workdir / RESULT) if (workdir / RESULT).exists() else {},
            metrics.read(workdir),
        )
        for workdir, name in zip(workdirs, overlay.names(workdirs), strict=True)
    ]
    write_whole(path, page(runs, picture, path.parent))
    return path


def page(runs: Sequence[Compared], picture: bytes, folder: pathlib.Path) -> str:
    """The page, which will lie in `folder`; `picture` is the PNG that needs no script."""
    ids = [f"run{place}-{slug(run.name)}" for place, run in enumerate(runs)]
    shown = [
        curves.Run(run.label, run.config["seed"], run.rows, name)
        for run, name in zip(runs, ids, strict=True)
    ]
    rows = [
        (
            f' data-trace="{name}"',
            [f'<a href="#{name}">{text(run.name)}</a>', *map(text, _numbers(run))],
        )
        for run, name in zip(runs, ids, strict=True)
    ]
    sources = "\n".join(
        traces.of_label(name, run.name, (HEADING, _numbers(run)), [_source(run, folder)])
        for run, name in zip(runs, ids, strict=True)
    )
    return document.page(
        "Runs compared",
        f"""<section>
{document.figure(picture, "Error and loss of the runs")}
{curves.panel(shown, "Curves of the runs")}
{document.lined("numbers", ("run", *HEADING), rows, "Last step of the runs")}
</section>
<section><h2>Fields that differ</h2>
{_differing(runs)}</section>
<section><h2>Where the numbers come from</h2>
{sources}</section>""",
    )


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By dotted field that is not the same in all configs, its value in each; UNSET for none."""
    flat = [flatten_dict(config, sep=".") for config in configs]
    names = sorted({name for one in flat for name in one})
    values = {name: [one.get(name, UNSET) for one in flat] for name in names}
    return {name: of for name, of in values.items() if any(value != of[0] for value in of)}


def _config(path: pathlib.Path) -> dict[str, Any]:
    stored = read_object(path)
    try:
        _ = stored["seed"], stored["model"]["name"], stored["data"]["name"]
        return fields.completed(stored)
    except (KeyError, TypeError):
        raise UserError(f"{path}: is damaged, it is no config of a run") from None


def _differing(runs: Sequence[Compared]) -> str:
    found = differing([run.config for run in runs])
    if not found:
        return "<p>None: the configs are the same.</p>"
    rows = [
        [f"<code>{text(name)}</code>", *(text(_value(value)) for value in values)]
        for name, values in found.items()
    ]
    return document.table("fields", ("field", *(run.name for run in runs)), rows, "Fields")


def _value(value: Any) -> str:
    return value if value == UNSET else repr(value)


def _numbers(run: Compared) -> list[str]:
    last = next(row for row in reversed(run.rows) if "test" in row)
    trained = [row["train"]["error"] for row in run.rows if "train" in row]
    params = run.result.get("params")
    best = min(row["test"]["error"] for row in run.rows if "test" in row)
    return [
        str(run.config["seed"]),
        run.config["model"]["name"],
        run.config["data"]["name"],
        "" if params is None else f"{params:,}",
        f"{last['step']:,}",
        f"{100 * trained[-1]:.2f}" if trained else "",
        f"{100 * last['test']['error']:.2f}",
        f"{100 * best:.2f}",
        "yes" if run.result else "no",
    ]


def _source(run: Compared, folder: pathlib.Path) -> traces.Source:
    log = os.path.relpath(run.workdir / metrics.FILE, folder or ".")
    return traces.Source(run.environment.get("command", ""), run.config, run.environment, log)
