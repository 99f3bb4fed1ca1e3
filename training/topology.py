"""Compiles a run's training step for devices that are not here, and reads off what it takes.

`train.py --dry_run --on=v5e:16x16`. The compiler of TPUs is in the package libtpu, which needs no
TPU; for GPUs jax has no such compiler without the GPU itself. Puts nothing on any device.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

import input_pipeline
import sharding
from engines import resident, streaming
from errors import UserError
from training.experiment import Experiment
from training.losses import Batch
from training.step import train_step

# Memory of a device by its kind, in GiB: Google Cloud, "TPU versions".
MEMORY = {
    "TPU v2": 8,
    "TPU v3": 16,
    "TPU v4": 32,
    "TPU v5 lite": 16,
    "TPU v5": 95,
    "TPU v6 lite": 32,
}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "collective-broadcast",
)
# The result's type and the name of a collective in HLO text. With asynchronous collectives the
# result of the -start holds operand and result; that of the -done is counted.
_INSTRUCTION = re.compile(rf" = (.+?) ({'|'.join(COLLECTIVES)})(-start|-done)?\(")
_ARRAY = re.compile(r"(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
GIB, MIB = 2**30, 2**20


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a compiled step takes, in bytes of one device.

    collectives: of each kind, the bytes of the result of each instruction.
    """

    arguments: int
    temporaries: int
    results: int
    program: int
    moved: float  # read from and written to the device's memory in a step
    collectives: dict[str, list[int]]

    @property
    def memory(self) -> int:
        """All that is held at once."""
        return self.arguments + self.temporaries + self.results + self.program


def devices(name: str) -> list[jax.Device]:
    """The devices of a TPU slice, e.g. "v5e:16x16". Raises UserError if there is no such slice."""
    try:
        metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        raise UserError(
            f"--on={name}: needs the package libtpu (137 MB): "
            f"pip install 'jax[tpu]=={jax.__version__}'"
        ) from None
    try:
        return list(topologies.get_topology_desc(name, platform="tpu").devices)
    except jax.errors.JaxRuntimeError as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"--on={name}: {why}; valid are slices that libtpu knows, e.g. v4:2x2x2, v5e:4x4, "
            "v5e:16x16, v5p:2x2x2, v6e:4x4"
        ) from None


def compiled(run: Experiment) -> Any:
    """The training step of `run` compiled for the devices of its mesh: (state, inputs) -> both.

    Raises UserError if they do not have enough memory.
    """
    if run.config.parallel != "jit":
        raise UserError(f"config.parallel: --on compiles for jit, not {run.config.parallel}")
    prepare, inputs = _inputs(run)
    whole = sharding.replicated(run.mesh)
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
        jax.eval_shape(run.first_state),
    )

    def update(state: Any, inputs: Any) -> tuple[Any, jax.Array]:
        state, measured = train_step(state, prepare(inputs, state.step), **run.step_parts)
        return state, measured["loss"]

    # The cache of compiled programs cannot be read without the device.
    cached = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return jax.jit(update, out_shardings=whole).lower(state, inputs).compile()
    except jax.errors.JaxRuntimeError as error:
        if line := shortage(str(error)):
            raise UserError(line) from None
        raise
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def _inputs(run: Experiment) -> tuple[Callable[[Any, Any], Batch], dict[str, Any]]:
    """`Pipeline.prepare` of a run, and the shapes and places of its inputs; reads no image."""
    config, mesh, recipe = run.config, run.mesh, run.pipeline.recipe
    height, width, channels = recipe.stored
    stored = (height or recipe.size, width or recipe.size, channels)
    gather: Callable[[Any, Any], tuple[jax.Array, jax.Array]]
    if input_pipeline.engine_of(config.data, run.pipeline.dataset) == "streaming":
        gather, images, places = streaming.gather, config.batch_size, sharding.sharded(mesh)
    else:
        gather = functools.partial(resident.gather, batch_size=config.batch_size, mesh=mesh)
        images, places = run.pipeline.examples["train"], sharding.replicated(mesh)
    shaped = functools.partial(jax.ShapeDtypeStruct, sharding=places)
    inputs: dict[str, Any] = {
        "images": shaped((images, *stored), np.uint8),
        "labels": shaped((images,), np.int32),
    }
    if gather is not streaming.gather:
        inputs["order"] = shaped((images,), np.int32)
    # Any two images give statistics of the right shapes.
    two = np.random.default_rng(0).integers(0, 256, (2, *stored), np.uint8)
    inputs["statistics"] = jax.tree.map(
        lambda part: jax.ShapeDtypeStruct(
            part.shape, part.dtype, sharding=sharding.replicated(mesh)
        ),
        recipe.fit(lambda samples: [two]),
    )
    prepare = functools.partial(
        input_pipeline.prepare,
        recipe=recipe,
        gather=gather,
        mesh=mesh,
        seed=config.seed,
        batch_size=config.batch_size,
    )
    return prepare, inputs


def shortage(error: str) -> str | None:
    """A line for the error that a device's memory is too small; None for other errors."""
    if "RESOURCE_EXHAUSTED" not in error:
        return None
    sizes = re.search(r"\(([\d.]+)G\) exceeds available HBM \(([\d.]+)G\)", error)
    needed = f": {sizes[1]} GiB needed, {sizes[2]} there" if sizes else ""
    return (
        f"a device has too little memory{needed}; use a smaller config.batch_size, a larger "
        "config.gradient_accumulation or, in networks that have it, config.model.remat=True"
    )


def needs(compiled: Any) -> Needs:
    """Reads a compiled step."""
    memory = compiled.memory_analysis()
    return Needs(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        results=memory.output_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        moved=compiled.cost_analysis()["bytes accessed"],
        collectives=collectives(compiled.as_text()),
    )


def collectives(hlo: str) -> dict[str, list[int]]:
    """The collectives in HLO text by kind, with the bytes of the result of each."""
    found: dict[str, list[int]] = {}
    for match in _INSTRUCTION.finditer(hlo):
        result, kind, part = match.groups()
        if part != "-start":
            found.setdefault(kind, []).append(sum(_sizes(result)))
    return found


def _sizes(result: str) -> Iterator[int]:
    """Bytes of each array in an HLO type, e.g. "(f32[64]{0}, bf16[3,3,64,64]{3,2,1,0})"."""
    for bits, shape in _ARRAY.findall(re.sub(r"\{[^}]*\}|/\*.*?\*/", "", result)):
        yield math.prod(int(n) for n in shape.split(",") if n) * int(bits or 8) // 8


def report(name: str, run: Experiment, needs: Needs) -> str:
    """The lines of `--on`."""
    mesh = list(run.mesh.devices.flat)
    kind, batch = mesh[0].device_kind, run.config.batch_size
    hosts = len({device.process_index for device in mesh})
    group = getattr(run.network, "batch_norm_group", None)
    norm = "no batch norm"
    if run.traced.variables.get("batch_stats"):
        part = batch // len(mesh)
        norm = "batch norm over the whole batch: its sums cross devices"
        if group:
            inside = part % group == 0
            where = "inside a device" if inside else f"which do not divide its {part} images"
            norm = f"batch norm over groups of {group}, {where}"
    left = ""
    if capacity := MEMORY.get(kind):
        left = f"; {capacity - needs.memory / GIB:.2f} of {capacity} GiB left"
    moved = [
        f"{len(sizes)} × {what}, {sum(sizes) / MIB:,.1f} MiB"
        for what, sizes in needs.collectives.items()
    ]
    each = 3 * run.traced.cost.multiply_adds * batch / len(mesh)
    return (
        f"on       {name}: {len(mesh)} × {kind}, {hosts} host(s)\n"
        f"batch    {batch:,} images, {batch // len(mesh):,} a device; {norm}\n"
        f"memory   of a device: {needs.arguments / MIB:,.0f} MiB arguments, "
        f"{needs.temporaries / MIB:,.0f} temporaries, {needs.results / MIB:,.0f} results, "
        f"{needs.program / MIB:,.0f} program{left}\n"
        f"step     of a device: {each:.3g} multiply-adds, {needs.moved / 1e9:.3g} GB of memory "
        "read and written\n"
        f"between  devices: {'; '.join(moved) or 'nothing'}\n"
        f"versions jax {jax.__version__}, libtpu {metadata.version('libtpu')}"
    )
