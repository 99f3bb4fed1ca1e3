"""Turns a named data set into batches, each a pure function of (config, seed, step).

`create` returns a `Pipeline`; `Pipeline.prepare` is the part that runs inside the jitted training
step. There are two engines. *Resident*, in `engines/resident.py`: the whole split is on the device
as uint8, for digits, MNIST and CIFAR. *Streaming*, in `engines/streaming.py`: worker processes
decode images, for ImageNet and folders.
Neither keeps state: any step's batch can be computed, in any order, and resuming a run needs only
the step. An epoch is a permutation of the training part and has n // batch steps; the remainder
(less than a batch) is skipped in that epoch.

Independent of the network. `python describe.py --config=... --show augment.png` draws the images of
the first batches.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import data
from augmentations import recipe as recipes
from augmentations.recipe import Recipe
from data.loader import Loader
from engines.resident import Part, Resident, load_part, of_each_class
from engines.streaming import Streaming
from errors import UserError
from randomness import Purpose, key
from sharding import Batch, replicate, sharded, to_host

Inputs = dict[str, Any]

DAMAGED = "damaged.{}.json"  # one per process: part -> indices of its damaged records


class Engine(Protocol):
    """The interface of an engine."""

    damaged: dict[str, set[int]]
    on_damage: Callable[[], None]  # called when `damaged` has grown

    def fetch(self, step: int) -> Inputs:
        """The device arrays that `gather` needs for a step."""

    def gather(self, inputs: Inputs, step: Any) -> tuple[jax.Array, jax.Array]:
        """The stored images [B, h, w, c] and labels [B] of a step; pure and jittable."""

    def passes(self, split: str, batch_size: int) -> Iterator[Batch]:
        """One pass over a part in stored order: "image" as stored, "label" and "mask"."""

    def chunks(self, samples: int) -> Iterable[np.ndarray]:
        """Stored training images, all (0) or `samples` evenly spaced ones, in chunks."""

    def views(self, count: int, step: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The first stored training images as for a step or a test (None), and labels."""

    def digest(self, split: str) -> str:
        """sha256 that identifies the images and labels of a part, computed without decoding."""

    def close(self) -> None:
        """Ends background work."""


def prepare(
    inputs: Inputs,
    step: Any,
    *,
    recipe: Recipe,
    gather: Callable[[Inputs, Any], tuple[jax.Array, jax.Array]],
    mesh: Mesh,
    seed: int,
    batch_size: int,
) -> Batch:
    """The batch of a step: see `Pipeline.prepare`. gather: that of the engine."""
    images, labels = gather(inputs, step)
    draws = key(seed, Purpose.AUGMENT, step)
    images = recipe.train(inputs["statistics"], images, draws, jnp.arange(batch_size))
    batch = {"image": images, "label": labels, "mask": jnp.ones(batch_size, jnp.float32)}
    return jax.lax.with_sharding_constraint(batch, sharded(mesh))


class Pipeline:
    """Batches of a data set for training and evaluation: see `create`.

    image_shape: (H, W, C) of the network's float32 input. num_classes: labels are
    0 .. num_classes - 1. examples: images in "train", "validation" (if there is one), "test".
    steps_per_epoch: examples["train"] // batch size. dataset: the entry of data.DATASETS.
    recipe, statistics: the preprocessing and its statistics of the training part.
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
        self.recipe, self._engine, self._mesh, self._seed = recipe, engine, mesh, seed
        self._batch_size, self._eval_batch_size = batch_size, eval_batch_size
        self._kept: pathlib.Path | None = None
        self.use(recipe.fit(engine.chunks))
        self._prepared = jax.jit(self.prepare)
        self._train, self._test = jax.jit(recipe.train), jax.jit(recipe.test)

    def use(self, statistics: Mapping[str, tuple[np.ndarray, ...]]) -> None:
        """Replaces the preprocessing statistics, by those that a network was trained with."""
        self.statistics = {
            name: tuple(replicate(self._mesh, part) for part in parts)
            for name, parts in statistics.items()
        }

    def digests(self) -> dict[str, str]:
        """sha256 of each part, to detect a changed data set.

        Resident: of all pixels and labels. Streaming: of the names, sizes in bytes and labels of
        the files; an edit that does not change a file's size is not detected.
        """
        return {split: self._engine.digest(split) for split in self.examples}

    def fetch(self, step: int) -> Inputs:
        """The arguments of `prepare` for a step (device arrays)."""
        if step < 0:
            raise ValueError(f"step {step}: steps count from 0")
        return {**self._engine.fetch(step), "statistics": self.statistics}

    def prepare(self, inputs: Inputs, step: Any) -> Batch:
        """Gathers, augments and normalises the batch of a step; pure, to be called inside a jit.

        Returns "image" float32 [B, H, W, C], "label" int32 [B], "mask" float32 [B], sharded.
        """
        return prepare(
            inputs,
            step,
            recipe=self.recipe,
            gather=self._engine.gather,
            mesh=self._mesh,
            seed=self._seed,
            batch_size=self._batch_size,
        )

    def batch(self, step: int) -> Batch:
        """The training batch of a step, counted from 0."""
        return self._prepared(self.fetch(step), np.int32(step))

    def evaluation(self, split: str) -> Iterator[Batch]:
        """One pass over a split without augmentation: every image once, the last batch padded.

        Padding has mask 0. Raises UserError for a split that is not in `examples`.
        """
        if split not in self.examples:
            raise UserError(f"there is no split {split!r}; valid: {', '.join(self.examples)}")
        return self._evaluation(split)

    def _evaluation(self, split: str) -> Iterator[Batch]:
        for stored in self._engine.passes(split, self._eval_batch_size):
            yield {**stored, "image": self._test(self.statistics, stored["image"])}

    def preprocess(self, images: np.ndarray | jax.Array) -> jax.Array:
        """Test-time preprocessing of uint8 [N, h, w, c] to the network's float32 input."""
        return self._test(self.statistics, jnp.asarray(images))

    def views(self, count: int, step: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Labels of the first training images, and the images preprocessed for a step.

        As if they were at places 0, 1, 2 ... of that step's batch; step None: as in a test.
        """
        images, labels = self._engine.views(count, step)
        if step is None:
            return labels, to_host(self.preprocess(images))
        draws = key(self._seed, Purpose.AUGMENT, step)
        seen = self.recipe.train(self.statistics, jnp.asarray(images), draws, jnp.arange(count))
        return labels, to_host(seen)

    @property
    def operations(self) -> str:
        """The operations on an image, in order, as call strings."""
        calls = (*self.recipe.augment, *self.recipe.normalize)
        return ", ".join(str(call) for call in calls)

    @property
    def damaged(self) -> dict[str, int]:
        """How many damaged records have been found and skipped, by split.

        After `keep_damage` this includes those found by other processes and before a resume.
        """
        met = {name: set(self._engine.damaged[name]) for name in self.examples}
        for path in self._kept.glob(DAMAGED.format("*")) if self._kept else ():
            for name, indices in json.loads(path.read_text()).items():
                met[name].update(indices)
        return {name: len(indices) for name, indices in met.items()}

    def keep_damage(self, folder: pathlib.Path) -> None:
        """Keeps a file in `folder`, one per process, of the damaged records that were found."""
        self._kept = folder
        folder.mkdir(parents=True, exist_ok=True)  # process 0 may not have created it yet
        path = folder / DAMAGED.format(jax.process_index())
        if path.exists():  # resumed
            for name, indices in json.loads(path.read_text()).items():
                self._engine.damaged[name].update(indices)

        def write() -> None:
            met = {name: sorted(indices) for name, indices in self._engine.damaged.items()}
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(met) + "\n")
            partial.replace(path)

        write()
        self._engine.on_damage = write

    def close(self) -> None:
        """Ends the worker processes, if any; they also end at exit."""
        self._engine.close()


@dataclasses.dataclass(frozen=True)
class Declaration:
    """The properties of a configuration's data, known without reading it; as in `Pipeline`."""

    dataset: data.Dataset
    recipe: Recipe
    examples: Mapping[str, int]
    batch_size: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the network's input."""
        return self.recipe.image_shape

    @property
    def num_classes(self) -> int:
        """Labels are 0 .. num_classes - 1."""
        return self.dataset.classes

    @property
    def steps_per_epoch(self) -> int:
        """examples["train"] // batch size."""
        return self.examples["train"] // self.batch_size


def declare(config: Any, mesh: Mesh) -> Declaration:
    """Checks a configuration's data fields without reading any image.

    Raises UserError that names the field: an unknown data set or operation, an invalid size, a
    batch size not divisible by the number of devices or larger than the training part.
    """
    fields = config.data
    dataset = data.dataset(fields.name)
    recipe = recipes.read(fields, dataset.shape)
    for name, size in (("", config.batch_size), ("eval.", config.eval.batch_size)):
        if size < 1 or size % mesh.size:
            raise UserError(
                f"config.{name}batch_size={size}: expected a positive multiple of the "
                f"{mesh.size} devices"
            )
    stored = dataset.splits["train"]
    if not 0 <= fields.validation < stored:
        raise UserError(
            f"config.data.validation={fields.validation}: expected 0 to {stored - 1}; "
            f"{fields.name} has {stored} training images"
        )
    left = stored - fields.validation
    if not 0 <= fields.train_images <= left:
        raise UserError(
            f"config.data.train_images={fields.train_images}: expected 0 (all) to {left}, the "
            f"training images left by config.data.validation={fields.validation}"
        )
    examples = {"train": fields.train_images or left}
    if fields.labels_a_class:
        whole, examples["train"] = examples["train"], fields.labels_a_class * dataset.classes
        if examples["train"] > whole:
            raise UserError(
                f"config.data.labels_a_class={fields.labels_a_class}: {fields.name} has "
                f"{dataset.classes} classes and {whole} training images are there to draw from"
            )
    if fields.validation:
        examples["validation"] = fields.validation
    examples["test"] = dataset.splits["test"]
    if config.batch_size > examples["train"]:
        raise UserError(
            f"config.batch_size={config.batch_size}: expected at most {examples['train']}, the "
            "number of training images"
        )
    return Declaration(dataset, recipe, examples, config.batch_size)


def labelled(config: Any, dataset: data.Dataset, whole: Part) -> Part:
    """The training images of a run with config.data.labels_a_class, from the whole split."""
    fields = config.data
    # From the images that training would have without the field.
    there = fields.train_images or len(whole.labels) - fields.validation
    return of_each_class(whole[:there], fields.labels_a_class, dataset, config.seed)


def engine_of(fields: Any, dataset: data.Dataset) -> str:
    """The engine of `config.data`: "resident" or "streaming"."""
    return dataset.engine if fields.engine == "auto" else fields.engine


def create(config: Any, mesh: Mesh, data_dir: str | None = None) -> Pipeline:
    """The pipeline of a configuration on a mesh with the one axis "batch".

    Raises UserError as `declare` does, and if the data are missing or damaged.
    """
    declared = declare(config, mesh)
    dataset, recipe, examples = declared.dataset, declared.recipe, declared.examples
    engine = _engine(config, dataset, recipe, examples, mesh, data_dir)
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
    config: Any,
    dataset: data.Dataset,
    recipe: Recipe,
    examples: Mapping[str, int],
    mesh: Mesh,
    data_dir: str | None,
) -> Engine:
    fields = config.data
    for name, valid in (
        ("engine", ("auto", "resident", "streaming")),
        ("on_damage", ("stop", "skip")),
    ):
        if fields[name] not in valid:
            raise UserError(f"config.data.{name}={fields[name]!r}: valid are {', '.join(valid)}")
    if fields.workers < 0:
        raise UserError(f"config.data.workers={fields.workers}: expected 0 or more processes")
    kind = engine_of(fields, dataset)
    if kind == "resident" and dataset.shape is None:
        raise UserError(
            f"config.data.engine='resident': the images of {fields.name} vary in size; "
            "valid are auto, streaming"
        )
    skip = fields.on_damage == "skip"
    if fields.labels_a_class and (kind == "streaming" or skip):
        raise UserError(
            f"config.data.labels_a_class={fields.labels_a_class}: needs the resident engine and "
            'config.data.on_damage="stop"'
        )
    parts = {}
    if kind == "streaming" or skip:
        for name, count in examples.items():
            split = "test" if name == "test" else "train"
            # The validation part is the end of the stored images, also if train_images is smaller.
            start = dataset.splits["train"] - count if name == "validation" else 0
            source = data.open_split(fields.name, split, data_dir)
            parts[name] = Loader(source, start, count, skip)
    if kind == "streaming":
        return Streaming(parts, recipe, mesh, config.seed, config.batch_size, fields.workers)
    assert dataset.shape is not None
    if skip:
        arrays = {name: load_part(loader, dataset.shape) for name, loader in parts.items()}
        for name, part in arrays.items():
            if not part.intact.any():
                raise UserError(f"{fields.name}: every record of the {name} part is damaged")
    else:
        arrays = {}
        for split in ("train", "test"):
            images, labels = data.load_arrays(fields.name, split, data_dir)
            whole = Part(images, labels, np.ones(len(images), bool))
            if split == "train" and fields.labels_a_class:
                arrays[split] = labelled(config, dataset, whole)
            else:
                arrays[split] = whole[: examples[split]]
            if split == "train" and "validation" in examples:
                arrays["validation"] = whole[len(images) - examples["validation"] :]
    return Resident(arrays, mesh, config.seed, config.batch_size)
