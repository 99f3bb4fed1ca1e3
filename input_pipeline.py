"""A named data set becomes batches, each a pure function of (config, seed, step).

`create` gives a `Pipeline`; `Pipeline.prepare` is the part that runs inside the jitted training
step. Two engines feed it. *Resident*, here: the whole split lives on the device as uint8, for
digits, MNIST and CIFAR. *Streaming*, in `streaming.py`: images are decoded by worker processes,
for ImageNet and folders; it has its own room because the workers import it without the rest.
Neither keeps state: the batch of any step can be asked for, in any order, and resuming a run
needs the step alone. Epochs are whole permutations of the training part, n // batch steps each;
what is left over of one (less than a batch) is seen in others.

This file may touch data, augmentations and devices, and knows no network.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import data
from augmentations import recipe as recipes
from augmentations.recipe import Recipe
from errors import UserError
from randomness import Purpose, host_draws, key

Batch = dict[str, jax.Array]
Inputs = dict[str, Any]

CHUNK = 512


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The permutation of the training part in one epoch, the same for both engines."""
    return host_draws(seed, Purpose.ORDER, epoch).permutation(count).astype(np.int32)


class Engine(Protocol):
    """What the two engines have in common; `Pipeline` needs no more of them."""

    def fetch(self, step: int) -> Inputs:
        """The device arrays from which `gather` makes the batch of a step."""

    def gather(self, inputs: Inputs, step: Any) -> tuple[jax.Array, jax.Array]:
        """The stored images [B, h, w, c] and labels [B] of a step; pure and jittable."""

    def passes(self, split: str, batch_size: int) -> Iterator[tuple[Batch, int]]:
        """One pass over a split in its own order, with the number of images in each batch.

        A batch has "image" as stored, "label" and "mask".
        """

    def chunks(self, samples: int) -> Iterable[np.ndarray]:
        """Stored training images, all (0) or evenly spaced ones, a chunk at a time."""


class Resident:
    """Whole splits as uint8 arrays: training on the device, the others sent batch by batch."""

    def __init__(
        self,
        splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
        mesh: Mesh,
        seed: int,
        batch_size: int,
    ) -> None:
        self._splits, self._mesh, self._seed, self._batch = splits, mesh, seed, batch_size
        images, labels = splits["train"]
        self._count = len(images)
        self._steps = self._count // batch_size
        self._images, self._labels = _replicate(mesh, images), _replicate(mesh, labels)
        # The order of the epoch at hand: permuting inside every step costs twenty times the batch.
        self._order = functools.lru_cache(maxsize=1)(self._order_of)

    def _order_of(self, epoch: int) -> jax.Array:
        return _replicate(self._mesh, epoch_order(self._seed, epoch, self._count))

    def fetch(self, step: int) -> Inputs:
        order = self._order(step // self._steps)
        return {"images": self._images, "labels": self._labels, "order": order}

    def gather(self, inputs: Inputs, step: Any) -> tuple[jax.Array, jax.Array]:
        start = (step % self._steps) * self._batch
        rows = jax.lax.dynamic_slice_in_dim(inputs["order"], start, self._batch)
        rows = jax.lax.with_sharding_constraint(rows, _sharded(self._mesh))
        return inputs["images"][rows], inputs["labels"][rows]

    def passes(self, split: str, batch_size: int) -> Iterator[tuple[Batch, int]]:
        images, labels = self._splits[split]
        for start in range(0, len(images), batch_size):
            places = np.arange(start, start + batch_size)
            rows = np.minimum(places, len(images) - 1)
            mask = (places < len(images)).astype(np.float32)
            batch = {"image": images[rows], "label": labels[rows], "mask": mask}
            yield {name: _shard(self._mesh, part) for name, part in batch.items()}, int(mask.sum())

    def chunks(self, samples: int) -> Iterator[np.ndarray]:
        images = self._splits["train"][0]
        rows = evenly_spaced(len(images), samples)
        for start in range(0, len(rows), CHUNK):
            yield images[rows[start : start + CHUNK]]


class Pipeline:
    """The face of the data: see `create`.

    image_shape: (H, W, C) of the float32 images that the network sees. num_classes: labels are
    0 .. num_classes - 1. examples: images in "train", "validation" (where there is one), "test".
    steps_per_epoch: examples["train"] // batch size. dataset: the entry of data.DATASETS.
    """

    def __init__(
        self,
        dataset: data.Dataset,
        recipe: Recipe,
        engine: Engine,
        examples: Mapping[str, int],
        mesh: Mesh,
        seed: int,
        batch_size: int,
        eval_batch_size: int,
    ) -> None:
        self.dataset, self.examples = dataset, dict(examples)
        self.image_shape, self.num_classes = recipe.image_shape, dataset.classes
        self.steps_per_epoch = self.examples["train"] // batch_size
        self._recipe, self._engine, self._mesh, self._seed = recipe, engine, mesh, seed
        self._batch_size, self._eval_batch_size = batch_size, eval_batch_size
        self._statistics = {
            name: tuple(_replicate(mesh, part) for part in parts)
            for name, parts in recipe.fit(engine.chunks).items()
        }
        self._prepare = jax.jit(self.prepare)
        self._test = jax.jit(recipe.test)

    def fetch(self, step: int) -> Inputs:
        """The inputs of a step (device arrays); cheap, and valid for `prepare` of that step."""
        if step < 0:
            raise ValueError(f"step {step}: steps count from 0")
        return {**self._engine.fetch(step), "statistics": self._statistics}

    def prepare(self, inputs: Inputs, step: Any) -> Batch:
        """Gathers, augments and normalises a step's batch; pure, to be called inside a jit.

        Returns "image" float32 [B, H, W, C], "label" int32 [B], "mask" float32 [B], sharded.
        """
        images, labels = self._engine.gather(inputs, step)
        images = self._recipe.train(
            inputs["statistics"],
            images,
            key(self._seed, Purpose.AUGMENT, step),
            jnp.arange(self._batch_size),
        )
        mask = jnp.ones(self._batch_size, jnp.float32)
        batch = {"image": images, "label": labels, "mask": mask}
        return jax.lax.with_sharding_constraint(batch, _sharded(self._mesh))

    def batch(self, step: int) -> Batch:
        """The training batch of a step, counted from 0."""
        return self._prepare(self.fetch(step), np.int32(step))

    def evaluation(self, split: str) -> Iterator[Batch]:
        """One pass over a split without augmentation: every image once, the last batch padded.

        Padding has mask 0. Raises UserError for a split that is not in `examples`.
        """
        if split not in self.examples:
            raise UserError(f"there is no split {split!r}; valid: {', '.join(self.examples)}")
        return self._evaluation(split)

    def _evaluation(self, split: str) -> Iterator[Batch]:
        counted = 0
        for stored, present in self._engine.passes(split, self._eval_batch_size):
            counted += present
            yield {**stored, "image": self._test(self._statistics, stored["image"])}
        if counted != self.examples[split]:
            raise AssertionError(f"{split}: {counted} of {self.examples[split]} images counted")

    def preprocess(self, images: np.ndarray | jax.Array) -> jax.Array:
        """Test-time preprocessing alone: uint8 [N, h, w, c] to the network's float32 input."""
        return self._test(self._statistics, jnp.asarray(images))


def evenly_spaced(count: int, samples: int) -> np.ndarray:
    """The indices of `samples` evenly spaced images out of `count`; all of them for 0."""
    return np.arange(count) if not samples else np.unique(np.arange(samples) * count // samples)


def _sharded(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec("batch"))


def _shard(mesh: Mesh, array: np.ndarray) -> jax.Array:
    """A global batch, of which each process puts its own rows on its own devices."""
    return jax.make_array_from_callback(array.shape, _sharded(mesh), lambda index: array[index])


def _replicate(mesh: Mesh, array: np.ndarray) -> jax.Array:
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def create(config: Any, mesh: Mesh, data_dir: str | None = None) -> Pipeline:
    """The pipeline of a configuration on a mesh with the one axis "batch".

    Raises UserError that names the field: a data set, operation, engine or size that does not
    exist, a batch that the devices cannot share evenly, or more images in a batch than there are.
    """
    fields = config.data
    dataset = data.dataset(fields.name)
    recipe = recipes.read(fields, dataset.shape)
    for name, size in (("", config.batch_size), ("eval.", config.eval.batch_size)):
        if size < 1 or size % mesh.size:
            raise UserError(
                f"config.{name}batch_size={size} cannot be shared evenly by {mesh.size} devices"
            )
    stored = dataset.splits["train"]
    if not 0 <= fields.validation < stored:
        raise UserError(
            f"config.data.validation={fields.validation}: expected 0 to {stored - 1}, "
            f"{fields.name} has {stored} training images"
        )
    examples = {"train": stored - fields.validation, "test": dataset.splits["test"]}
    if fields.validation:
        examples["validation"] = fields.validation
    if config.batch_size > examples["train"]:
        raise UserError(
            f"config.batch_size={config.batch_size} is more than the {examples['train']} images "
            "of the training part"
        )
    engine = _engine(config, dataset, examples["train"], mesh, data_dir)
    return Pipeline(
        dataset,
        recipe,
        engine,
        examples,
        mesh,
        config.seed,
        config.batch_size,
        config.eval.batch_size,
    )


def _engine(
    config: Any, dataset: data.Dataset, trained: int, mesh: Mesh, data_dir: str | None
) -> Engine:
    name = config.data.name
    images, labels = data.load_arrays(name, "train", data_dir)
    splits = {
        "train": (images[:trained], labels[:trained]),
        "validation": (images[trained:], labels[trained:]),
        "test": data.load_arrays(name, "test", data_dir),
    }
    return Resident(splits, mesh, config.seed, config.batch_size)
