"""The weights that a run starts from, where `config.init.from` names the workdir of another run.

All parameters and running statistics are taken from it, except those that `config.init.skip`
matches, which start anew from the run's own seed. What was taken is kept in init.json and, as a
digest, in each checkpoint: a run is a function of (config, seed, step, starting weights).
"""

import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

import sharding
from errors import UserError
from training import trained
from training.experiment import Experiment
from training.step import TrainState
from training.workdirs import INIT, read_object, write_json


@dataclasses.dataclass(frozen=True)
class Start:
    """The start of a run that takes the weights of another.

    provenance: of result.json and init.json: "from", "step", "sha256" of all weights of that step,
    and "anew", the names that were not taken. source: the trained network; None if the workdir is
    gone, which a run that has a checkpoint of its own does not need.
    """

    provenance: dict[str, Any]
    source: trained.Trained | None

    @property
    def sha256(self) -> str:
        """The digest of the weights."""
        return self.provenance["sha256"]


def adopt(run: Experiment, workdir: pathlib.Path | None = None) -> Start | None:
    """The start of `run`; None if it starts from its seed alone. Writes nothing.

    workdir: of the run; None for a dry run. Gives the source's preprocessing statistics to the
    run's pipeline, if the config says so. Raises UserError that names the field or parameter if
    there is no such run or step, if a name or shape does not fit, or if the weights are not those
    that the run in `workdir` has started from.
    """
    source = run.config.init["from"]
    if not source:
        return None
    kept = None
    if workdir is not None:
        if workdir.exists() and pathlib.Path(source).resolve() == workdir.resolve():
            raise UserError(f"config.init.from: {source} is the run's own workdir")
        if (workdir / INIT).exists():
            kept = read_object(workdir / INIT)
            if not pathlib.Path(source).exists():
                print(
                    f"note: config.init.from: {source} is gone; that its weights are those the "
                    "run started from is not checked",
                    file=sys.stderr,
                )
                return Start(kept, None)
    loaded = load(run.config.init, run)
    anew = _anew(run, loaded)
    provenance = {
        "from": source,
        "step": loaded.step,
        "sha256": sha256(loaded.variables),
        "anew": anew,
    }
    if kept is not None and kept != provenance:
        raise UserError(
            f"config.init.from: {workdir} started from weights {kept['sha256'][:12]} of step "
            f"{kept['step']}; {source} has {provenance['sha256'][:12]} of step {loaded.step} now: "
            "put them back, or train in another folder"
        )
    if run.config.init.statistics:
        _require_same_operations(run, loaded)
        if workdir is not None:
            _use_statistics(run, loaded)
    return Start(provenance, loaded)


def load(init: ConfigDict, run: Experiment | None = None) -> trained.Trained:
    """The network that `init` names. Raises UserError, with the field, if there is none."""
    given = init.step
    if given not in ("last", "best") and not given.isdecimal():
        raise UserError(f'config.init.step: {given!r} is none of "last", "best" or a number')
    step = int(given) if given.isdecimal() else given
    try:
        return trained.load(init["from"], step=step, mesh=run.mesh if run else None)
    except UserError as error:
        raise UserError(f"config.init: {error}") from None


def sha256(variables: Mapping[str, Any]) -> str:
    """A digest of parameters and running statistics: their names, types, shapes and bytes."""
    whole = hashlib.sha256()
    for name, array in sorted(sharding.to_host(_flat(variables)).items()):
        whole.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        # As bytes: NumPy has no buffers of bfloat16.
        whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def keep(workdir: pathlib.Path, start: Start) -> None:
    """Writes init.json of a run, once. Raises UserError if it cannot be written."""
    if not (workdir / INIT).exists():
        write_json(workdir / INIT, start.provenance)


def line(provenance: Mapping[str, Any]) -> str:
    """A line of the plan: where the weights come from, and what starts anew."""
    anew = provenance["anew"]
    shown = ", ".join(anew[:4]) + (f" and {len(anew) - 4} more" if len(anew) > 4 else "")
    return (
        f"init     {provenance['from']}, step {provenance['step']}, sha256 "
        f"{provenance['sha256'][:12]}{f'; anew: {shown}' if anew else ''}\n"
    )


def applied(run: Experiment, state: TrainState, start: Start) -> TrainState:
    """The state before the first step with the weights of `start`; the skipped ones stay.

    Raises UserError if the weights are gone.
    """
    if start.source is None:
        raise UserError(
            f"config.init.from: {start.provenance['from']} is gone, and the run has no checkpoint"
        )
    taken = _flat(start.source.variables)
    anew = set(start.provenance["anew"])

    def chosen(own: Any) -> Any:
        arrays = flatten_dict(own, sep="/")
        return unflatten_dict(
            {name: array if name in anew else taken[name] for name, array in arrays.items()},
            sep="/",
        )

    params, batch_stats = chosen(state.params), chosen(state.batch_stats)
    return state.replace(
        params=params,
        batch_stats=batch_stats,
        averages=run.averaging.init({"params": params, "batch_stats": batch_stats}),
    )


def _flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and running statistics by name; no two have the same name."""
    flat = flatten_dict(variables["params"], sep="/")
    return flat | flatten_dict(variables.get("batch_stats", {}), sep="/")


def _anew(run: Experiment, source: trained.Trained) -> list[str]:
    """The names of the run's network that start anew.

    Raises UserError for a name that only one of the networks has and that is not skipped, another
    shape or type, or a pattern that matches nothing.
    """
    own, theirs = _flat(run.traced.variables), _flat(source.variables)
    skip, where = tuple(run.config.init.skip), run.config.init["from"]
    for pattern in skip:
        if not isinstance(pattern, str):
            raise UserError(f"config.init.skip: must hold text, not {pattern!r}")
        if not any(fnmatchcase(name, pattern) for name in own.keys() | theirs.keys()):
            raise UserError(
                f"config.init.skip: {pattern!r} matches no parameter; the parameters are "
                f"{', '.join(list(own)[:4])} ..."
            )
    for name in _but(own.keys() | theirs.keys(), skip):
        there, here = (_described(arrays.get(name)) for arrays in (theirs, own))
        if there != here:
            raise UserError(
                f"config.init: {name} is {there} in {where}, {here} in "
                f"{run.config.model.name} here; config.init.skip leaves a parameter out"
            )
    taken = _but(own, skip)
    if not taken:
        raise UserError("config.init.skip: skips every parameter; nothing is left to start from")
    return [name for name in own if name not in taken]


def _but(names: Iterable[str], skip: tuple[str, ...]) -> list[str]:
    """The sorted names that no pattern matches."""
    return sorted(n for n in names if not any(fnmatchcase(n, pattern) for pattern in skip))


def _described(array: Any) -> str:
    if array is None:
        return "missing"
    return f"{np.dtype(array.dtype)} {'×'.join(map(str, array.shape))}"


def _require_same_operations(run: Experiment, source: trained.Trained) -> None:
    """Raises UserError if the source's statistics are not for this run's preprocessing."""
    here = tuple(map(str, run.pipeline.recipe.normalize))
    there = tuple(map(str, source.recipe.normalize))
    if here != there:
        raise UserError(
            f"config.init.statistics: {run.config.init['from']} normalises by {', '.join(there)}, "
            f"this run by {', '.join(here)}; set config.data.normalize to the same"
        )
    if run.pipeline.image_shape != source.recipe.image_shape:
        raise UserError(
            f"config.init.statistics: {run.config.init['from']} has images of "
            f"{source.recipe.image_shape}, this run of {run.pipeline.image_shape}"
        )


def _use_statistics(run: Experiment, source: trained.Trained) -> None:
    """Gives the source's statistics of the normalisations to the pipeline of `run`."""
    normalize = {call.name for call in run.pipeline.recipe.normalize}
    own = sharding.to_host(run.pipeline.statistics)
    theirs = source.record.statistics
    run.pipeline.use({name: (theirs if name in normalize else own)[name] for name in own})
