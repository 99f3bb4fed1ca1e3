"""Checks that the fields of a config fit together.

The values of single fields are checked by configs/fields.py, and those of a named part by
training/parts.py. Raises UserError before anything compiles or is written.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import jax
from ml_collections import ConfigDict

import models
from errors import UserError
from training import losses, optimizers
from training.schedules import Schedule


def check(
    config: ConfigDict,
    network: models.Network,
    schedule: Schedule,
    examples: Mapping[str, int],
    *,
    engine: str,
    batch_norms: Sequence[str],
) -> None:
    """All checks except `check_precision`.

    examples: the number of images in each split. engine: what supplies them, a name as in
    config.data.engine. batch_norms: the names of the network's batch norms ("conv1/bn").
    """
    if schedule.validates and "validation" not in examples:
        raise UserError(
            f"config.schedule: {config.schedule.name} needs the validation error, but there is no "
            "validation part; set config.data.validation above 0"
        )
    for head in config.eval.heads:
        if head not in network.heads:
            valid = ", ".join(network.heads) or "none"
            raise UserError(f"config.eval.heads: no side head {head!r}; side heads: {valid}")
    if config.steps_per_dispatch > 1 and (engine != "resident" or config.parallel == "pmap"):
        raise UserError(
            f"config.steps_per_dispatch: {config.steps_per_dispatch} needs config.parallel='jit' "
            f"and the resident engine, not {config.parallel!r} and {engine}; set it to 1"
        )
    _batches(config, network, has_batch_norm=bool(batch_norms))
    for pattern in network.batch_norm_frozen:
        if not any(fnmatchcase(name, pattern) for name in batch_norms):
            raise UserError(
                f"config.model.batch_norm_frozen: {pattern!r} matches no batch norm; the network "
                f"has {', '.join(batch_norms[:4]) or 'none'}{' ...' * (len(batch_norms) > 4)}"
            )
    _criterion(config, network)


def check_precision(network: models.Network) -> None:
    """Checks the dtypes of computation and weights; call before tracing, which would warn."""
    for field in ("dtype", "param_dtype"):
        dtype = getattr(network, field)
        if dtype == "float16":
            raise UserError(
                f"config.model.{field}: float16 is not supported, since its gradients underflow "
                "without loss scaling; use bfloat16"
            )
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise UserError(
                f"config.model.{field}: JAX computes {dtype} as float32 unless JAX_ENABLE_X64=1 is "
                "set; valid: float32, bfloat16"
            )


def _batches(config: ConfigDict, network: models.Network, *, has_batch_norm: bool) -> None:
    """Checks that gradient accumulation, batch-norm groups and devices divide the batch."""
    parts, batch = config.gradient_accumulation, config.batch_size
    if batch % parts:
        raise UserError(f"config.gradient_accumulation: {parts} does not divide {batch} images")
    group = getattr(network, "batch_norm_group", 0)
    if has_batch_norm and group and batch % group:
        raise UserError(
            f"config.model.batch_norm_group: {group} does not divide the batch of {batch}"
        )
    if has_batch_norm and parts > 1:
        if not group:
            raise UserError(
                f"config.gradient_accumulation: {parts} parts of a batch have no statistics of the "
                "whole batch; set config.model.batch_norm_group"
            )
        if batch // parts % group:
            raise UserError(
                f"config.gradient_accumulation: parts of {batch // parts} images are no multiple "
                f"of config.model.batch_norm_group={group}"
            )
    if config.parallel not in ("jit", "pmap"):
        raise UserError(f"config.parallel: {config.parallel!r} is none of jit, pmap")
    if config.parallel == "pmap":
        part = batch // jax.device_count() // parts
        if jax.process_count() > 1:
            raise UserError(
                f"config.parallel: pmap needs one process, not {jax.process_count()}; use jit"
            )
        if has_batch_norm and (not group or part % group):
            raise UserError(
                f"config.parallel: under pmap each device normalises its own {part} images: "
                f"config.model.batch_norm_group must divide them, not be {group}; or use jit"
            )
    if config.bn_recompute_batches and not has_batch_norm:
        raise UserError("config.bn_recompute_batches: the network has no batch norm; set it to 0")


def _criterion(config: ConfigDict, network: models.Network) -> None:
    """Checks that radial-basis losses and curvatures have a network made for them."""
    of_distances = config.loss.kind in losses.OF_DISTANCES
    if of_distances and not network.gives_distances:
        raise UserError(
            f"config.loss.kind: {config.loss.kind} needs outputs that are distances: "
            f"{', '.join(_names_with('gives_distances'))}"
        )
    if config.optimizer.name in optimizers.OF_CURVATURE and not (
        network.curvature_layers
        and of_distances == network.gives_distances
        and network.dtype == "float32"
    ):
        raise UserError(
            f"config.optimizer: {config.optimizer.name} estimates curvatures: it needs "
            f"{' or '.join(_names_with('curvature_layers'))} in float32, and config.loss.kind "
            f"{' or '.join(losses.OF_DISTANCES)} for radial-basis outputs, else cross_entropy"
        )


def _names_with(declared: str) -> list[str]:
    """The names of networks with this property."""
    return [name for name in models.NETWORKS if getattr(models.create({"name": name}), declared)]
