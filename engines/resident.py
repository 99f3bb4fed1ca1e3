"""The resident engine, for small images: the whole training part is on the device as uint8.

The compiled step gathers its rows through the epoch's permutation; the host sends only that
permutation, once per epoch. `streaming.py` is the engine for all other data sets.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from data.catalog import Dataset
from data.loader import Loader
from engines.streaming import CHUNK, evenly_spaced
from errors import UserError
from randomness import Purpose, epoch_order, host_draws
from sharding import replicate, shard, sharded


@dataclasses.dataclass(frozen=True)
class Part:
    """Images uint8 [N, h, w, c], labels int32 [N], and which records are intact, bool [N]."""

    images: np.ndarray
    labels: np.ndarray
    intact: np.ndarray

    def __getitem__(self, rows: slice | np.ndarray) -> "Part":
        """The images of a slice, or of these indices."""
        return Part(self.images[rows], self.labels[rows], self.intact[rows])


def of_each_class(part: Part, count: int, dataset: Dataset, seed: int) -> Part:
    """`count` images of each class of a part, drawn by the seed, in the part's order.

    Of the same seed, fewer labels are a part of more. Raises UserError if a class has less.
    """
    chosen = []
    for label in range(dataset.classes):
        rows = np.flatnonzero(part.labels == label)
        if len(rows) < count:
            name = dataset.class_names or map(str, range(dataset.classes))
            raise UserError(
                f"config.data.labels_a_class={count}: {dataset.name} has {len(rows)} training "
                f"images of the class {tuple(name)[label]}"
            )
        order = host_draws(seed, Purpose.LABELS, label).permutation(len(rows))
        chosen.append(rows[order[:count]])
    return part[np.sort(np.concatenate(chosen))]


def load_part(loader: Loader, shape: tuple[int, int, int]) -> Part:
    """Reads a part record by record; damaged ones stay black if the loader may skip them."""
    images = np.zeros((loader.count, *shape), np.uint8)
    labels, intact = np.zeros(loader.count, np.int32), np.zeros(loader.count, bool)
    for index in range(loader.count):
        example = loader.read(index)
        if example is not None:
            images[index], labels[index] = example["image"], example["label"]
            intact[index] = True
    return Part(images, labels, intact)


def gather(
    inputs: Mapping[str, Any], step: Any, *, batch_size: int, mesh: Mesh
) -> tuple[jax.Array, jax.Array]:
    """The stored images [B, h, w, c] and labels [B] of a step, from what `Resident.fetch` gives."""
    start = (step % (len(inputs["order"]) // batch_size)) * batch_size
    rows = jax.lax.dynamic_slice_in_dim(inputs["order"], start, batch_size)
    rows = jax.lax.with_sharding_constraint(rows, sharded(mesh))
    return inputs["images"][rows], inputs["labels"][rows]


class Resident:
    """Parts as uint8 arrays: training on the device, the others sent batch by batch.

    damaged: for each part, the indices of its damaged records. In training the next intact record
    of the part replaces a damaged one, as in the streaming engine. on_damage: never called, because
    all damage is found at the start.
    """

    def __init__(self, parts: Mapping[str, Part], mesh: Mesh, seed: int, batch_size: int) -> None:
        self._parts, self._mesh, self._seed, self._batch = parts, mesh, seed, batch_size
        self.damaged = {
            name: set(np.flatnonzero(~part.intact).tolist()) for name, part in parts.items()
        }
        self.on_damage: Callable[[], None] = lambda: None
        train = parts["train"]
        self._count = len(train.images)
        self._steps = self._count // batch_size
        images, labels = train.images, train.labels
        if self.damaged["train"]:
            whole = np.flatnonzero(train.intact)
            replacement = whole[np.searchsorted(whole, np.arange(self._count)) % len(whole)]
            images, labels = images[replacement], labels[replacement]
        self._images, self._labels = replicate(mesh, images), replicate(mesh, labels)
        # Permuting in every step would take twenty times as long as gathering the batch.
        self._order = functools.lru_cache(maxsize=1)(self._order_of)

    def _order_of(self, epoch: int) -> jax.Array:
        return replicate(self._mesh, epoch_order(self._seed, epoch, self._count))

    def fetch(self, step: int) -> dict[str, Any]:
        """The training part and the permutation of the step's epoch."""
        order = self._order(step // self._steps)
        return {"images": self._images, "labels": self._labels, "order": order}

    def gather(self, inputs: dict[str, Any], step: Any) -> tuple[jax.Array, jax.Array]:
        """The stored images and labels of a step; each device gathers its own rows."""
        return gather(inputs, step, batch_size=self._batch, mesh=self._mesh)

    def passes(self, split: str, batch_size: int) -> Iterator[dict[str, jax.Array]]:
        """One pass over a part in stored order; the last batch is padded, with mask 0."""
        part, counted = self._parts[split], 0
        for start in range(0, len(part.images), batch_size):
            places = np.arange(start, start + batch_size)
            rows = np.minimum(places, len(part.images) - 1)
            mask = (places < len(part.images)) & part.intact[rows]
            counted += int(mask.sum())
            images, labels = part.images[rows], part.labels[rows]
            images[~mask], labels[~mask] = 0, 0
            batch = {"image": images, "label": labels, "mask": mask.astype(np.float32)}
            yield {name: shard(self._mesh, array) for name, array in batch.items()}
        if counted + len(self.damaged[split]) != len(part.images):
            raise AssertionError(f"{split}: {counted} of {len(part.images)} images counted")

    def chunks(self, samples: int) -> Iterator[np.ndarray]:
        """Intact training images, all (0) or `samples` evenly spaced ones, in chunks."""
        train = self._parts["train"]
        rows = evenly_spaced(self._count, samples)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            yield train.images[chunk[train.intact[chunk]]]

    def views(self, count: int, step: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The first stored training images and labels."""
        del step
        return self._parts["train"].images[:count], self._parts["train"].labels[:count]

    def digest(self, split: str) -> str:
        """sha256 of the pixels and labels of a part, and of which records are damaged."""
        part = self._parts[split]
        digest = hashlib.sha256(str(part.images.shape).encode())
        for array in (part.images, part.labels, part.intact):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def close(self) -> None:
        """Does nothing: there is no background work."""
