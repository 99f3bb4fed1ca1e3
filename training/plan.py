"""What a run will do, said before it does it, and kept in result.json."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from training import starting_weights
from training.experiment import Experiment


def describe(run: Experiment, start: starting_weights.Start | None = None) -> dict[str, Any]:
    """The keys of result.json that describe the run; "init" if it starts from other weights."""
    return {
        "network": run.config.model.name,
        "params": run.traced.cost.params,
        "multiply_adds": run.multiply_adds,
        "data": run.config.data.name,
        "seed": run.config.seed,
        **({"init": start.provenance} if start else {}),
    }


def show(run: Experiment, description: Mapping[str, Any], workdir: pathlib.Path | str) -> None:
    """Says what will run, before it does."""
    shape = "×".join(map(str, run.pipeline.image_shape))
    examples = ", ".join(f"{n:,} {split}" for split, n in run.pipeline.examples.items())
    device = jax.devices()[0]
    print(
        f"network  {description['network']}: {description['params']:,} parameters, "
        f"{description['multiply_adds']:,} multiply-adds an image of {shape}\n"
        f"data     {description['data']}: {examples}\n"
        f"devices  {jax.device_count()} × {device.device_kind}, {jax.process_count()} process(es)\n"
        f"steps    {run.steps:,} of {run.config.batch_size} images, "
        f"{run.steps / run.pipeline.steps_per_epoch:.4g} epochs\n"
        f"{starting_weights.line(description['init']) if 'init' in description else ''}"
        f"workdir  {workdir}",
        flush=True,
    )
