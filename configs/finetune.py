"""Fine-tuning: the weights of a trained run as the start for another data set.

command   python train.py --config=configs/finetune.py:from=runs/a,data=digits:0-4,train=head \\
              --workdir=runs/head
hardware  two CPU cores: seconds for LeNet-5
paper     none; the three recipes of lectures. Few labels: the head alone (train=head). Some: the
          last stage too (train=last_stage). Many: all layers, the old ones at a tenth of the rate
          (train=all)
here      studies/transfer.py compares the recipes with training from scratch: on digits, LeNet-5's
          eight classes of Fashion-MNIST are no help (results/transfer)
deviates  the network, its loss, the size of images and their normalisation are the source's, with
          the source's own statistics. The classifiers start anew. Batch norms keep the source's
          statistics but for train=all
"""

import json
import pathlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

import models
from configs.arguments import parse
from configs.base import base
from errors import UserError

TRAIN = ("head", "last_stage", "all")
BATCH = 32


def get_config(argument: str | None = None) -> ConfigDict:
    """from=WORKDIR, data=NAME (any data set), train=head|last_stage|all."""
    valid: dict[str, Any] = {"from": "", "data": "", "train": TRAIN}
    chosen = parse(argument, **valid)
    for key in ("from", "data"):
        if not chosen[key]:
            raise UserError(
                f"config argument {key!r}: is missing; for example "
                "from=runs/lenet5_digits,data=digits:0-4,train=head"
            )
    source, shape = _source(pathlib.Path(chosen["from"]))
    try:
        network = models.create({**source["model"], "input": shape, "num_classes": 2})
        head = models.classifiers(network)
    except ValueError as error:
        raise UserError(f"config argument 'from={chosen['from']}': {error}") from None

    config = base()
    config.model = source["model"]
    config.loss = source["loss"]
    config.data.name = chosen["data"]
    config.data.size, config.data.channels = shape[0], shape[2]
    config.data.short_side = source["data"]["short_side"]
    config.data.normalize = tuple(source["data"]["normalize"])
    config.init.update({"from": chosen["from"], "skip": head, "statistics": True})
    config.parameters.rates = rates(chosen["train"], head, _last_stage(network))
    config.batch_size = BATCH
    if "batch_stats" in models.variables_of(network):
        if BATCH % (getattr(network, "batch_norm_group", 0) or 1):
            config.model.batch_norm_group = BATCH
        if chosen["train"] != "all":
            config.model.batch_norm_frozen = ("*",)
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4}
    config.schedule = {"name": "cosine", "rate": 0.01, "warmup": ""}
    config.duration = config.checkpoint.every = "500 steps"
    config.log_every = config.eval.every = "100 steps"
    config.lock()
    return config


def rates(
    train: str, head: Sequence[str], last_stage: Sequence[str]
) -> tuple[tuple[str, float | None], ...]:
    """`config.parameters.rates` of a recipe; None freezes. head, last_stage: patterns."""
    if train == "all":
        return (*((pattern, 1.0) for pattern in head), ("*", 0.1))
    trained = head if train == "head" else dict.fromkeys((*head, *last_stage))
    return (*((pattern, 1.0) for pattern in trained), ("*", None))


def _last_stage(network: models.Network) -> list[str]:
    """The patterns of network.last_stage that match a parameter."""
    names = flatten_dict(models.variables_of(network)["params"], sep="/")
    return [
        pattern
        for pattern in network.last_stage
        if any(fnmatchcase(name, pattern) for name in names)
    ]


def _source(workdir: pathlib.Path) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """The config of a run, and the (height, width, channels) of its network's input."""
    try:
        config = json.loads((workdir / "config.json").read_text())
        with np.load(workdir / "data.npz", allow_pickle=False) as record:
            stored = json.loads(str(record["about"]))["dataset"]["shape"] or (0, 0, 3)
        data = config["data"]
        side = data["size"]
        shape = (side or stored[0], side or stored[1], data["channels"] or stored[2])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"config argument 'from={workdir}': is no trained run's workdir "
            f"({type(error).__name__}: {error})"
        ) from None
    if shape[0] != shape[1]:
        raise UserError(
            f"config argument 'from={workdir}': its images are {shape[0]}×{shape[1]}, not square"
        )
    return config, shape
