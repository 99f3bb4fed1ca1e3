"""Measures the speed and memory of the input pipeline on this machine.

command   python benchmarks/pipeline_speed.py [--workers=N] [--images=N] [--width=X]
measures  resident engine: batches of 128 CIFAR-shaped images, pad-4 crop and flip
          decoding: JPEGs of 500 × 375 (quality 90) on one core, decoded, cut and resized to 224
          streaming engine: the same JPEGs from a folder to batches on the device
          each engine with a train step: ResNet-20 on the CIFAR-shaped images, ResNet-18 at `width`
          on the JPEGs at 224 pixels; images per second of the step without and with fetching
          batches, and the fraction of time spent waiting for data
Prints a table. The images are generated, smooth with noise, about 60 kB each. Output from several
machines is in benchmarks/logs/.
"""

import os
import pathlib
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict
from PIL import Image

import data
import input_pipeline
import sharding
import train
from augmentations import boxes
from configs import resnet_cifar, resnet_imagenet
from configs.base import base
from engines.streaming import cut
from startup import environment
from training import experiment

WORKERS = flags.DEFINE_integer("workers", os.cpu_count(), "Decoding processes.", lower_bound=0)
WIDTH = flags.DEFINE_float("width", 0.25, "ResNet-18's width: 1 for an accelerator.", 0.01)
IMAGES = flags.DEFINE_integer("images", 256, "JPEGs to write and decode.", lower_bound=64)
BATCH = 128
WARM = 10  # steps before the timed ones
CIFAR = "synthetic:32x32x3:10:10000:100"


def write_jpegs(root: pathlib.Path, count: int) -> None:
    """Writes one folder per class, of images with structure at four sizes."""
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = np.zeros((375, 500, 3))
        for cell, weight in ((64, 0.5), (16, 0.25), (4, 0.12), (1, 0.13)):
            coarse = rng.integers(0, 256, (375 // cell + 2, 500 // cell + 2, 3)).astype(np.uint8)
            resized = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            pixels += weight * np.asarray(resized)
        file = root / ("train" if index % 4 else "test") / str(index % 2) / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(file, quality=90)


def per_second(
    count: int, run: Callable[[], None], clock: Callable[[], float] = time.perf_counter
) -> float:
    """`count` over the seconds of `run`, the best of three.

    With `time.process_time` these are seconds of one core, independent of other programs.
    """
    best = 0.0
    for _ in range(3):
        start = clock()
        run()
        best = max(best, count / (clock() - start))
    return best


def megabytes() -> float:
    """Peak memory of this process (resource counts kilobytes, on macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def pipeline(data_dir: str | None, **fields: object) -> input_pipeline.Pipeline:
    config = base()
    config.batch_size = BATCH
    config.data.update(fields)
    return input_pipeline.create(config, sharding.create_mesh(jax.devices()[:1]), data_dir)


def resident(data_dir: str) -> list[tuple[str, str]]:
    before = megabytes()
    made = pipeline(data_dir, name=CIFAR, augment=("pad_crop(pixels=4)", "flip()"))
    jax.block_until_ready(made.batch(0))
    held = megabytes() - before

    def run() -> None:
        for step in range(200):
            batch = made.batch(step)
        jax.block_until_ready(batch)

    rate = per_second(200, run)
    stored = made.examples["train"] * 32 * 32 * 3 / 1e6
    return [
        ("resident: batches of 128 a second", f"{rate:,.0f}  ({rate * BATCH:,.0f} images/s)"),
        ("resident: memory over the start", f"{held:,.0f} MB for {stored:,.0f} MB of images"),
    ]


def decoding(root: pathlib.Path) -> list[tuple[str, str]]:
    source = data.open_split(f"folder:{root}", "train")
    count = min(len(source), 64)
    size = np.mean([len(source.encoded(index)[0]) for index in range(count)]) / 1024
    draws = np.random.default_rng(0).random((count, boxes.UNIFORMS["area_crop"]))

    def decode() -> None:
        for index in range(count):
            source[index]

    def prepare() -> None:
        for index in range(count):
            pixels = source[index]["image"]
            keywords = {"low": 0.08, "high": 1.0, "aspect": 4 / 3}
            cut(pixels, boxes.area_crop(np, draws[index], 375, 500, 224, **keywords), 224)

    return [
        ("JPEGs of 500 × 375, mean size", f"{size:.0f} kB"),
        ("one core: decode, images/s", f"{per_second(count, decode, time.process_time):,.0f}"),
        (
            "one core: decode, cut, resize, images/s",
            f"{per_second(count, prepare, time.process_time):,.0f}",
        ),
    ]


def streaming(root: pathlib.Path, workers: int) -> list[tuple[str, str]]:
    made = pipeline(
        None,
        name=f"folder:{root}",
        size=224,
        augment=("area_crop()", "flip()"),
        workers=workers,
    )
    before = megabytes()
    for step in range(3):  # the first is decoded in this process, the second starts the workers
        jax.block_until_ready(made.batch(step))
    prepare = jax.jit(made.prepare)
    jax.block_until_ready(prepare(made.fetch(3), np.int32(3)))
    steps, waited = 8, 0.0
    start = time.perf_counter()
    for step in range(4, 4 + steps):
        asked = time.perf_counter()
        inputs = made.fetch(step)
        waited += time.perf_counter() - asked
        jax.block_until_ready(prepare(inputs, np.int32(step)))
    seconds = time.perf_counter() - start
    made.close()
    return [
        (f"streaming, {workers} workers: images/s", f"{steps * BATCH / seconds:,.0f}"),
        ("streaming: share of it waiting for data", f"{waited / seconds:.0%}"),
        ("streaming: memory of this process", f"{megabytes() - before:,.0f} MB over the start"),
    ]


def against_step(engine: str, config: ConfigDict, data_dir: str | None) -> list[tuple[str, str]]:
    """Images per second of train.py's step, without and with fetching batches."""
    run = experiment.create(config, sharding.create_mesh(), data_dir)
    update, _, _ = train.compiled(run)
    state = run.create_state()
    waited = start = 0.0
    for step in range(WARM + run.steps):
        if step == WARM:  # compiled, and batches decoded ahead are used up
            waited, start = 0.0, time.perf_counter()
        asked = time.perf_counter()
        inputs = run.pipeline.fetch(step)
        waited += time.perf_counter() - asked
        state, loss = update(state, inputs)
        # One step at a time, so that all waiting for data is measured; the workers run meanwhile.
        jax.block_until_ready(loss)
    seconds = time.perf_counter() - start
    run.pipeline.close()  # its workers would slow down the step timed next

    start = time.perf_counter()
    for _ in range(run.steps):
        state, loss = update(state, inputs)
        jax.block_until_ready(loss)
    alone = run.steps * config.batch_size / (time.perf_counter() - start)
    name = f"{engine}, {config.model.name}"
    return [
        (f"{name}: step alone, images/s", f"{alone:,.0f}"),
        (f"{name}: with its data", f"{run.steps * config.batch_size / seconds:,.0f}"),
        (f"{name}: waiting for data", f"{waited / seconds:.1%}"),
    ]


def resident_config() -> ConfigDict:
    config = resnet_cifar.get_config("depth=20,data=cifar10").unlock()
    config.data.name, config.duration = CIFAR, "10 steps"
    config.schedule.update(warmup="", drops=())
    return config


def streaming_config(root: pathlib.Path, workers: int) -> ConfigDict:
    config = resnet_imagenet.get_config("depth=18,data=imagenette").unlock()
    config.data.name, config.data.workers = f"folder:{root}", workers
    config.model.width, config.model.batch_norm_group = WIDTH.value, 32
    config.data.size, config.batch_size, config.duration = 224, 32, "16 steps"
    config.schedule = {"name": "constant", "rate": 0.01}
    return config


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    device = jax.devices()[0]
    rows = [
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores, {device.device_kind}"),
        ("versions", f"Python {platform.python_version()}, jax {jax.__version__}"),
        ("commit", environment.describe()["commit"] or "unknown"),
        ("load when started", f"{os.getloadavg()[0]:.1f}"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_jpegs(root / "jpeg", IMAGES.value)
        rows += decoding(root / "jpeg")
        rows += resident(str(root / "prepared"))
        rows += streaming(root / "jpeg", WORKERS.value or 0)
        rows += against_step("resident", resident_config(), str(root / "prepared"))
        rows += against_step("streaming", streaming_config(root / "jpeg", WORKERS.value or 0), None)
    for name, value in rows:
        print(f"{name:52s}{value}")


if __name__ == "__main__":
    app.run(main)
