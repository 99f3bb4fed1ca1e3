"""How fast this project is on this machine, beside the same networks written in other ways.

    python -m benchmarks.run [--only=train,start] [--networks=resnet20] [--against=torch,flax]

train       steps on a batch at hand; evaluate: the same of evaluation
bfloat16    training steps in mixed precision
depth       ResNets of 20 to 164 layers; batch: ResNet-20 at 32 to 512 images
start       seconds until a first ResNet-56 step is done, with an empty cache and with a full one
checkpoint  seconds that the loop is held by a save of ResNet-56 and ResNet-50, and a restore takes
job         `make train`'s run, whole

Contestants are processes of their own, and only one computes at a time: A B A B, `--rounds` times.
A table says the least and the median time of a step, and processor seconds a step (of all cores),
which other programs on the machine hardly move. The floor is the step's multiply-adds (backward
counted as two forward passes) over the rate that this machine multiplies large matrices at.
Writes results.md and results.json here (--out moves them) and judges nothing.

--against: torch (eager, channels-last), torch_compiled, flax (what one would write first).
--torch-python: a Python that has PyTorch, where this one has not. How fast images are decoded and
fed: benchmarks/pipeline_speed.py.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import models
import sharding
from benchmarks.cases import CASES, DEPTHS, TABLE
from benchmarks.worker import CONTESTANTS
from configs import files
from inspection import cost
from startup import environment, xla_settings
from training import checkpoints, experiment
from training.progress import table

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCHES = (32, 64, 128, 256, 512)  # ResNet-20's, of the row "batch"
STEPS_OF = {"train": TABLE, "evaluate": TABLE, "bfloat16": TABLE, "depth": DEPTHS}
OTHERS = ("start", "checkpoint", "job")
CHECKPOINTS = {  # with the momentum 6.8 and 205 MB
    "ResNet-56": "configs/resnet_cifar.py:depth=56,data=digits",
    "ResNet-50": "configs/resnet_imagenet.py:depth=50,data=imagenet2012,scale=paper",
}
Row = dict[str, Any]


class Contestant:
    """A process that takes steps when it is told to; see benchmarks/worker.py."""

    def __init__(self, python: str, name: str, words: Sequence[str], **variables: str):
        self.name, self.seconds, self.processor = name, list[float](), 0.0
        # A file: a pipe that nobody reads would fill up.
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name, *words],
            cwd=ROOT,
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.started = self.answer()

    def answer(self) -> dict[str, Any]:
        """What the process says next; {} where it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {}

    def complaint(self) -> str:
        """The last line that it wrote to standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no word")

    def step(self, count: int) -> None:
        assert self.process.stdin is not None
        print(count, file=self.process.stdin, flush=True)
        answer = self.answer()
        if not answer:
            raise SystemExit(f"{self.name} ended between two steps: {self.complaint()}")
        self.seconds += answer["seconds"]
        self.processor += answer["processor_seconds"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def multiply_adds(network: str) -> int:
    """Of one image, forward."""
    case = CASES[network]
    config = files.resolve(f"configs/{case.config}", {}, ROOT)
    shape = (case.size, case.size, case.channels)
    spec = {**config.model.to_dict(), "input": shape, "num_classes": case.classes}
    return cost.measure(models.create(spec)).multiply_adds


def matrix_rate() -> float:
    """Multiply-adds a second of a float32 matrix product of 2048, the best of ten."""
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
    """One network, every contestant: a row each. One that cannot run it is a line."""
    mode = "evaluate" if kind == "evaluate" else "train"
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    running = []
    for name in names:
        python = options.torch_python if name.startswith("torch") else sys.executable
        made = Contestant(python, name, (network, mode, dtype, str(batch)))
        if made.started:
            running.append(made)
        else:
            made.close()
            print(f"{network}, {name}: left out ({made.complaint()[:160]})")
    for _ in range(options.rounds):
        for contestant in running:
            contestant.step(1)  # into the caches again
            contestant.seconds.pop()
            count = 0
            began = time.perf_counter()
            while count < 2 or time.perf_counter() - began < options.seconds:
                contestant.step(1)
                count += 1
    rows = []
    passes = 3 if mode == "train" else 1
    floor = passes * multiply_adds(network) * batch / options.rate
    for contestant in running:
        contestant.close()
        least = min(contestant.seconds)
        taken = len(contestant.seconds) + options.rounds
        rows.append(
            {
                "row": kind,
                "network": network,
                "batch": batch,
                "contestant": contestant.name,
                "least_s": least,
                "median_s": statistics.median(contestant.seconds),
                "processor_s": contestant.processor / taken,
                "floor_s": floor,
                "steps": len(contestant.seconds),
            }
        )
    return rows


def shown(rows: Sequence[Row]) -> str:
    """The rows of steps as a table; the last column is their least time over ours."""
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


def start(options: argparse.Namespace) -> list[tuple[str, float]]:
    """From nothing to the end of the first step, compiled programs not kept yet, then kept."""
    del options
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for label in ("an empty cache", "a full cache", "a full cache, again"):
            began = time.perf_counter()
            made = Contestant(
                sys.executable,
                "ours",
                ("resnet56", "train", "float32", "128"),
                CONVNETS_CACHE=folder,
            )
            found.append(
                (f"start to the first ResNet-56 step, {label}", time.perf_counter() - began)
            )
            made.close()
    for command in ("train.py", "evaluate.py", "reproduce.py", "describe.py"):
        began = time.perf_counter()
        subprocess.run([sys.executable, command, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL)
        found.append((f"{command} --help", time.perf_counter() - began))
    return found


def checkpoint(options: argparse.Namespace) -> list[tuple[str, float]]:
    """How long a save holds the loop, lasts, and how long a restore takes."""
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
            (f"{name}: a save holds the loop, longest of {options.rounds}", max(held)),
            (f"{name}: it is on disk after", max(whole)),
            (f"{name}: a restore", restored),
        ]
    return found


def job(options: argparse.Namespace) -> list[tuple[str, float]]:
    """`make train` once it is set up: LeNet-5 on digits, from the command to its table."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(min(2, options.rounds)):
            began = time.perf_counter()
            words = [
                "--config=configs/lenet5.py:data=digits",
                f"--workdir={folder}/{number}",
                f"--data_dir={folder}/data",
            ]
            subprocess.run(
                [sys.executable, "train.py", *words], cwd=ROOT, check=True, capture_output=True
            )
            found.append((f"LeNet-5 on digits, run {number + 1}", time.perf_counter() - began))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = (*STEPS_OF, "batch", *OTHERS)
    parser.add_argument("--only", default=",".join(kinds))
    parser.add_argument("--networks", default="", help="of the step rows; all by default")
    parser.add_argument("--against", default="torch,torch_compiled,flax")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="a round of a contestant, least")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), metavar="PATH")
    options = parser.parse_args()
    only, against = options.only.split(","), [word for word in options.against.split(",") if word]
    networks = [word for word in options.networks.split(",") if word]
    for given, valid in ((only, kinds), (against, CONTESTANTS), (networks, CASES)):
        for word in given:
            if word not in valid:
                parser.error(f"{word!r} is none of {', '.join(valid)}")

    xla_settings.apply()  # as every command does
    options.rate = matrix_rate()
    rows: list[Row] = []
    for kind in (kind for kind in only if kind not in OTHERS):
        names = ["ours", *against] if kind in ("train", "evaluate", "bfloat16") else ["ours"]
        plan = (
            [("resnet20", batch) for batch in BATCHES]
            if kind == "batch"
            else [(network, CASES[network].batch) for network in STEPS_OF[kind]]
        )
        for network, batch in plan:
            if not networks or network in networks:
                found = steps(kind, network, batch, names, options)
                print(shown(found), flush=True)
                rows += found
    seconds: list[tuple[str, float]] = []
    measures: dict[str, Callable] = {"start": start, "checkpoint": checkpoint, "job": job}
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
    parts = [f"`python -m benchmarks.run {' '.join(sys.argv[1:])}`".replace(" `", "`"), heading]
    if rows:
        parts.append(f"```\n{shown(rows)}\n```")
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
