"""Times this project on this machine, next to the same networks in other frameworks.

    python -m benchmarks.run [--only=train,start] [--networks=resnet20] [--against=torch,flax]

train       training steps on one batch; evaluate: evaluation steps
bfloat16    training steps in mixed precision
depth       ResNets of 20 to 164 layers; batch: ResNet-20 at 32 to 512 images
start       seconds to the end of the first ResNet-56 step, with an empty and a full cache
checkpoint  seconds that a save blocks the training loop, and that a restore takes, for ResNet-56
            and ResNet-50
job         the whole run of `make train`, and the same job as a PyTorch program (--against=torch)
epoch       train.py on 50,000 images of CIFAR-10's shape; study: a seed of degradation on digits

Each contestant is a process; they take turns, A B A B, `--rounds` times. The table has the smallest
and the median time of a step, and processor seconds per step (of all cores), which depend little on
other programs. The floor is the step's multiply-adds (backward counted as two forward passes) over
the machine's rate in large matrix products. Writes results.md and results.json here, or at --out.

--against: torch (eager, channels-last), torch_compiled, flax (plain Flax), and this project with
other choices: ours_together (ten steps a dispatch), ours_formulated and ours_xla (convolutions).
--torch-python: a Python with PyTorch, if this one has none. For the speed of the input pipeline see
benchmarks/pipeline_speed.py.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import models
import sharding
from benchmarks import whole
from benchmarks.cases import CASES, DEPTHS, TABLE
from benchmarks.contestant import ROOT, Contestant
from benchmarks.worker import CONTESTANTS
from configs import files
from inspection import cost
from models import convolution
from startup import environment, xla_settings
from training import checkpoints, experiment
from training.progress import table

BATCHES = (32, 64, 128, 256, 512)  # of ResNet-20 in the rows "batch"
STEPS_OF = {"train": TABLE, "evaluate": TABLE, "bfloat16": TABLE, "depth": DEPTHS}
OTHERS = ("checkpoint", *whole.MEASURES)
CHECKPOINTS = {  # 6.8 and 205 MB, with momentum
    "ResNet-56": "configs/resnet_cifar.py:depth=56,data=digits",
    "ResNet-50": "configs/resnet_imagenet.py:depth=50,data=imagenet2012,scale=paper",
}
Row = dict[str, Any]


def multiply_adds(network: str) -> int:
    """Multiply-adds of the forward pass of one image."""
    case = CASES[network]
    config = files.resolve(f"configs/{case.config}", {}, ROOT)
    shape = (case.size, case.size, case.channels)
    spec = {**config.model.to_dict(), "input": shape, "num_classes": case.classes}
    return cost.measure(models.create(spec)).multiply_adds


def matrix_rate() -> float:
    """Multiply-adds per second in float32 matrix products of size 2048, the best of ten."""
    size = 2048
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    best = 0.0
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(product(a, a))
        best = max(best, size**3 / (time.perf_counter() - began))
    return best


def steps(
    kind: str, network: str, batch: int, names: Sequence[str], options: argparse.Namespace
) -> list[Row]:
    """A row per contestant for one network; prints a line for contestants that cannot run it."""
    mode = "evaluate" if kind == "evaluate" else "train"
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    made = []
    for name in names:
        python = options.torch_python if name.startswith("torch") else sys.executable
        form = name.removeprefix("ours_")
        chosen = {convolution.VARIABLE: form} if form in convolution.FORMS else {}
        made.append(Contestant(python, name, (network, mode, dtype, str(batch)), **chosen))
    running, versions = [], {}
    for contestant in made:  # which compile side by side
        started = contestant.start()
        if started:
            running.append(contestant)
            versions[contestant.name] = started["versions"]
        else:
            contestant.close()
            print(f"{network}, {contestant.name}: left out ({contestant.complaint()[:160]})")
    for _ in range(options.rounds):
        for contestant in running:
            contestant.step(counted=False)  # warms up the caches
            began = time.perf_counter()
            while time.perf_counter() - began < options.seconds:
                contestant.step()
    rows = []
    passes = 3 if mode == "train" else 1
    floor = passes * multiply_adds(network) * batch / options.rate
    for contestant in running:
        contestant.close()
        least = min(contestant.seconds)
        rows.append(
            {
                "row": kind,
                "network": network,
                "batch": batch,
                "contestant": contestant.name,
                "least_s": least,
                "median_s": statistics.median(contestant.seconds),
                "processor_s": statistics.median(contestant.processor),
                "floor_s": floor,
                "steps": contestant.burst * len(contestant.seconds),
                "versions": versions[contestant.name],
                "load": os.getloadavg()[0],
            }
        )
    return rows


def shown(rows: Sequence[Row]) -> str:
    """The rows of steps as a table; the last column is the ratio of their smallest time to ours."""
    heading = "row, network, batch, contestant, least ms, median ms, processor ms, least / floor"
    cells = [(*heading.split(", "), "of ours")]
    for row in rows:
        alike = ("row", "network", "batch")
        ours = [r for r in rows if r["contestant"] == "ours" and all(r[k] == row[k] for k in alike)]
        times = f"{row['least_s'] / ours[0]['least_s']:.2f}" if ours else ""
        cells.append(
            (
                *(str(row[key]) for key in (*alike, "contestant")),
                *(f"{1e3 * row[key]:.1f}" for key in ("least_s", "median_s", "processor_s")),
                f"{row['least_s'] / row['floor_s']:.1f}",
                "" if row["contestant"] == "ours" else times,
            )
        )
    return table(cells)


def checkpoint(options: argparse.Namespace) -> list[tuple[str, float]]:
    """Seconds that a save blocks the loop, until it is on disk, and that a restore takes."""
    found = []
    for name, text in CHECKPOINTS.items():
        config = files.resolve(text, {}, ROOT)
        with tempfile.TemporaryDirectory() as folder:
            mesh = sharding.create_mesh(jax.devices()[:1])
            state = experiment.create(config, mesh, data=False).create_state()
            held, whole = [], []
            with checkpoints.Checkpoints(pathlib.Path(folder, "run"), keep=2) as kept:
                for step in range(options.rounds):
                    state = state.replace(step=jax.device_put(jnp.int32(step), state.step.sharding))
                    jax.block_until_ready(state)
                    began = time.perf_counter()
                    kept.save(step, state, validation_error=None)
                    held.append(time.perf_counter() - began)
                    kept.wait()
                    whole.append(time.perf_counter() - began)
                began = time.perf_counter()
                jax.block_until_ready(kept.restore_newest(state))
                restored = time.perf_counter() - began
        found += [
            (f"{name}: a save blocks the loop, longest of {options.rounds}", max(held)),
            (f"{name}: the save is on disk after", max(whole)),
            (f"{name}: a restore", restored),
        ]
    return found


def contestants(rows: Sequence[Row]) -> str:
    """The versions of what ran each contestant's steps, and the machine's load meanwhile."""
    told = {row["contestant"]: row["versions"] for row in rows}
    each = [
        f"{name}: {', '.join(f'{what} {value}' for what, value in versions.items())}"
        for name, versions in told.items()
    ]
    loads = [row["load"] for row in rows]
    return f"{'; '.join(each)}; load {min(loads):.1f} to {max(loads):.1f} during the steps"


def command(options: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """The command for a report, without paths, which are of this machine only."""
    words = ["python -m benchmarks.run"]
    for name in ("only", "networks", "batch", "against", "rounds", "seconds"):
        value = getattr(options, name)
        if value != parser.get_default(name):
            words.append(f"--{name}={value}")
    if options.torch_python != sys.executable:
        words.append("--torch-python=PATH")
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = (*STEPS_OF, "batch", *OTHERS)
    parser.add_argument("--only", default=",".join(kinds))
    parser.add_argument("--networks", default="", help="of the step rows; all by default")
    parser.add_argument("--batch", type=int, default=0, help="of all networks; 0: the table's")
    parser.add_argument("--against", default="torch,torch_compiled,flax")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="least, per round")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), metavar="PATH")
    options = parser.parse_args()
    only, against = options.only.split(","), [word for word in options.against.split(",") if word]
    networks = [word for word in options.networks.split(",") if word]
    for given, valid in ((only, kinds), (against, CONTESTANTS), (networks, CASES)):
        for word in given:
            if word not in valid:
                parser.error(f"{word!r} is none of {', '.join(valid)}")

    xla_settings.apply()  # as in every command
    options.rate = matrix_rate()
    rows: list[Row] = []
    for kind in (kind for kind in only if kind not in OTHERS):
        names = ["ours", *against] if kind in ("train", "evaluate", "bfloat16") else ["ours"]
        plan = (
            [("resnet20", batch) for batch in BATCHES]
            if kind == "batch"
            else [(network, options.batch or CASES[network].batch) for network in STEPS_OF[kind]]
        )
        for network, batch in plan:
            if not networks or network in networks:
                found = steps(kind, network, batch, names, options)
                print(shown(found), flush=True)
                rows += found
    seconds: list[tuple[str, float]] = []
    measures: dict[str, Callable] = {"checkpoint": checkpoint, **whole.MEASURES}
    for kind in (kind for kind in only if kind in OTHERS):
        seconds += measures[kind](options)

    made_on = environment.describe()
    versions = ", ".join(f"{name} {number}" for name, number in made_on["packages"].items())
    heading = (
        f"{made_on['platform']}, {made_on['processor_cores']} cores, {made_on['device_kind']}; "
        f"Python {made_on['python']}, {versions}; commit {made_on['commit']}; "
        f"{options.rate / 1e9:.0f} G multiply-adds/s in matrix products; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    parts = [f"`{command(options, parser)}`", heading]
    if rows:
        parts += [contestants(rows), f"```\n{shown(rows)}\n```"]
    if seconds:
        cells = [("what", "seconds"), *((what, f"{value:.3f}") for what, value in seconds)]
        parts.append(f"```\n{table(cells)}\n```")
    text = "\n\n".join(parts) + "\n"
    print(text)
    out = pathlib.Path(options.out)
    out.with_suffix(".md").write_text(text)
    content = {"environment": made_on, "matrix_rate": options.rate, "steps": rows}
    out.with_suffix(".json").write_text(
        json.dumps({**content, "seconds": seconds}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
