"""Times predict.py on JPEGs beside the streaming engine's own pass over the same files.

command   python benchmarks/predict_speed.py [--images=N] [--workers=N]
measures  JPEGs of 500 × 375 (quality 90) from files, cut to 227 pixels, images per second of
          the streaming engine: a test pass without a network, after the first batch, with
          `workers` processes and with threads
          predict.py: all its answers, start included, by an untrained AlexNet of an eighth of the
          width
          that network alone: on images that are decoded and cut already
          Each is run once to compile, then three times in turn: medians and ranges.
Prints a table. Output from several machines is in benchmarks/logs/.
"""

import math
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from absl import app, logging
from ml_collections import ConfigDict
from pipeline_speed import IMAGES, WORKERS, write_jpegs

import data
import input_pipeline
import predict
import sharding
from configs.base import base
from data import image_files
from protocols.predictions import Predictor, smaller
from startup import compilation_cache, environment
from training import experiment
from training.data_record import DataRecord
from training.trained import Trained

BATCH, ROUNDS = 64, 3


def config_of(root: pathlib.Path, workers: int) -> ConfigDict:
    config = base()
    config.model = {"name": "alexnet_2012", "width": 0.125}
    config.data.update(name=f"folder:{root}", size=227, workers=workers)
    config.batch_size = config.eval.batch_size = BATCH
    return config


def untrained(config: ConfigDict, pipeline: input_pipeline.Pipeline) -> Trained:
    traced = experiment.create_network(config.model, pipeline.image_shape, pipeline.num_classes)
    record = DataRecord(data.dataset(config.data.name), pipeline.examples, {}, {})
    variables = traced.init(jax.random.key(0))
    return Trained(traced.network, variables, pipeline.recipe, record, config, 0)


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    compilation_cache.use()
    print(f"{'machine':44s}{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0]}")
    print(f"{'versions':44s}Python {platform.python_version()}, jax {jax.__version__}")
    print(f"{'commit':44s}{environment.describe()['commit'] or 'unknown'}")
    print(f"{'load when started':44s}{os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_jpegs(root, math.ceil(IMAGES.value * 4 / 3))  # three of four are for training
        for name, rates in measured(root).items():
            shown = f"{statistics.median(rates):,.0f}  ({min(rates):,.0f} to {max(rates):,.0f})"
            print(f"{name:44s}{shown}")


def measured(root: pathlib.Path) -> dict[str, list[float]]:
    """Images per second by contestant, one number per round."""
    mesh = sharding.create_mesh(jax.devices()[:1])
    pipelines = {
        workers: input_pipeline.create(config_of(root, workers), mesh)
        for workers in (WORKERS.value or 1, 0)
    }
    net = untrained(config_of(root, 0), pipelines[0])
    files = list(image_files.listed([str(root / "train")]))
    predictor = Predictor(net, mesh, BATCH)
    plain = predictor.protocol("plain")
    cuts = [smaller(image_files.read(file, net.recipe.stored), plain) for file in files[:BATCH]]

    def passed(workers: int) -> float:
        count = began = 0.0
        for batch in pipelines[workers].evaluation("train"):
            count += float(np.asarray(batch["mask"]).sum()) if began else 0.0
            began = began or time.perf_counter()
        return count / (time.perf_counter() - began)

    def answered() -> float:
        began = time.perf_counter()
        return len(list(predict.answers(net, files, batch=BATCH))) / (time.perf_counter() - began)

    def alone() -> float:
        began = time.perf_counter()
        count = sum(len(predictor.predict(cuts, plain)) for _ in range(len(files) // BATCH))
        return count / (time.perf_counter() - began)

    contestants: dict[str, Callable[[], float]] = {
        **{
            f"streaming engine, {f'{workers} processes' if workers else 'threads'}": partial(
                passed, workers
            )
            for workers in pipelines
        },
        "predict.py": answered,
        "the network of predict.py alone": alone,
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(1 + ROUNDS):
        for name, run in contestants.items():
            rate = run()
            if turn:
                rates[name].append(rate)
    return rates


if __name__ == "__main__":
    app.run(main)
