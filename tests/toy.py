"""A small network with two side heads, batch norm and dropout: everything a step has to handle."""

import json
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from configs.base import base
from models.layers import Conv, Dense, GlobalAvgPool
from models.network import Network


class Toy(Network):
    """conv1 (batch norm over groups) -> side heads aux1, aux2 -> dropout -> fc2."""

    batch_norm_group: int = 0
    dropout: float = 0.5

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        norm = {"group": self.batch_norm_group}
        x = Conv(4, (3, 3), pad=1, bias=False, batch_norm=norm, name="conv1")(images, train)
        x = GlobalAvgPool(name="pool1")(nn.relu(x))
        side = {name: Dense(self.num_classes, name=name)(x) for name in self.heads}
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Dense(self.num_classes, name="fc2")(x), side


def toy(**fields: Any) -> Toy:
    return Toy(input=(6, 6, 1), num_classes=3, **fields)


def batch(count: int, seed: int = 0) -> dict[str, jax.Array]:
    """Random images and labels, none of them padding."""
    images, labels = jax.random.split(jax.random.key(seed))
    return {
        "image": jax.random.normal(images, (count, 6, 6, 1)),
        "label": jax.random.randint(labels, (count,), 0, 3),
        "mask": jnp.ones(count),
    }


def lenet_config(**overrides: Any) -> ConfigDict:
    """LeNet on 64 synthetic digits for eight steps of 16; overrides by dotted name."""
    config = base()
    config.model.name = "lenet5_modern"
    config.data.name = "synthetic:16x16x1:10:64:24"
    config.data.augment = ("pad_crop(pixels=1)",)
    config.batch_size = 16
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4}
    config.schedule = {"name": "cosine", "rate": 0.01, "warmup": ""}
    config.duration = "8 steps"
    config.log_every = "2 steps"
    config.eval.update(every="4 steps", batch_size=16)
    config.checkpoint.every = "4 steps"
    for name, value in overrides.items():
        config.update_from_flattened_dict({name: value})
    return config.lock()


def probe(workdir: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    """What a study measures, by a name that a run's own process can import."""
    return {"files": len(list(workdir.iterdir())) > 0}


def probe_beside(
    workdir: pathlib.Path, data_dir: str | None, *beside: pathlib.Path
) -> dict[str, Any]:
    """The seeds in the configs of the workdirs beside a run, and its own."""
    configs = [json.loads((each / "config.json").read_text()) for each in (*beside, workdir)]
    return {"seeds": [config["seed"] for config in configs]}
