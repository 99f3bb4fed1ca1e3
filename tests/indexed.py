"""A source whose images say which record they are, some of it damaged, for tests of the pipeline.

It is a module of its own because worker processes import it.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs.base import base
from data import Damaged
from sharding import create_mesh


@dataclasses.dataclass(frozen=True)
class Indexed:
    """`count` images of 2 × 2: the first pixel row is the index (high and low byte)."""

    count: int
    damaged: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self.damaged:
            raise Damaged("indexed", index, "damaged on purpose")
        image = np.array([[index // 256, index % 256], [7, 7]], np.uint8)
        return {"image": image[:, :, None], "label": index % 10}

    def encoded(self, index: int) -> tuple[bytes, int]:
        return b"", index % 10

    def place(self, index: int) -> tuple[str, int]:
        return "indexed", index

    def digest(self) -> str:
        return f"indexed {self.count}"


def indices(images: Any) -> np.ndarray:
    """Which records a batch of images [B, 2, 2, 1] holds."""
    images = np.asarray(images).astype(int)
    return images[:, 0, 0, 0] * 256 + images[:, 0, 1, 0]


def mesh(devices: int) -> Mesh:
    return create_mesh(jax.devices()[:devices])


def config(batch_size: int = 16, **fields: Any) -> ConfigDict:
    """A locked configuration with the given fields of `config.data`."""
    made = base()
    made.batch_size, made.eval.batch_size = batch_size, fields.pop("eval_batch_size", 16)
    made.data.update({"normalize": (), **fields})
    return made.lock()
