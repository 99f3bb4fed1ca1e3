"""The streaming engine: worker processes decode images when they are needed.

For sets that do not fit on a device or whose images vary in size. Apart from `input_pipeline.py`,
because the workers import this file and should import little else.

The position is the only state. A training position (step · batch + place) determines the record,
through the epoch's permutation, and its random draws. `Examples` and `Records` are functions of
positions, so a batch does not depend on the number of workers or hosts or on where a run started,
and there is nothing to checkpoint. `grain.MapDataset` runs them: positions, load, batch, prefetch.
"""

import atexit
import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from PIL import Image

from augmentations import boxes
from augmentations.recipe import Recipe
from data.loader import Example, Loader
from randomness import Purpose, epoch_order, host_draws
from sharding import sharded

# Batches ready on the device; more would only use memory (38 MB each for 256 images of 224²).
AHEAD = 2
# Batches decoded at the same time without worker processes.
THREADS = 2
# Declared length of a stream in batches: longer than any run. It costs nothing.
HORIZON = 1 << 31
# Images at a time when statistics are taken.
CHUNK = 256

_order = functools.lru_cache(maxsize=2)(epoch_order)


def cut(pixels: np.ndarray, box: boxes.Box, size: int | tuple[int, int]) -> np.ndarray:
    """The box of uint8 pixels [H, W, C] as uint8 [size, size, C], antialiased bilinear.

    size: one side, or (height, width) if they differ. Pillow computes the same filter as the
    resident engine's `boxes.resample` and rounds to integers.
    """
    top, left, tall, wide = (float(edge) for edge in box)
    height, width = pixels.shape[:2]
    edges = (left, top, min(left + wide, width), min(top + tall, height))
    rows, columns = (size, size) if isinstance(size, int) else size
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR, box=edges))


@dataclasses.dataclass(frozen=True)
class Examples:
    """The training example at a position, cut to size if images vary in size."""

    loader: Loader
    recipe: Recipe
    seed: int
    batch_size: int
    rows: np.ndarray

    def __call__(self, position: int) -> Example:
        """`position` counts this host's examples; `rows` are the host's rows of every batch."""
        step, place = divmod(position, len(self.rows))
        row = int(self.rows[place])
        epoch, step_in_epoch = divmod(step, self.loader.count // self.batch_size)
        order = _order(self.seed, epoch, self.loader.count)
        index = int(order[step_in_epoch * self.batch_size + row])
        example, passed = self.loader.read_intact(index)
        return {
            "image": self.cut(example["image"], step, row),
            "label": np.int32(example["label"]),
            "index": index,
            "passed": passed,
        }

    def cut(self, pixels: np.ndarray, step: int, row: int) -> np.ndarray:
        """The image as it is sent to the device; draws depend on seed, step and row."""
        if not self.recipe.cut_when_decoded:
            return pixels
        crop = self.recipe.crop
        if crop is None:
            return _test_cut(self.recipe, pixels)
        stream = crop.operation.stream
        draws = host_draws(self.seed, Purpose.AUGMENT, stream, step, row).random_sample(
            boxes.UNIFORMS[crop.name]
        )
        height, width, size = *pixels.shape[:2], self.recipe.size
        return cut(
            pixels, crop.operation.apply(np, draws, height, width, size, **crop.applying), size
        )


@dataclasses.dataclass(frozen=True)
class Records:
    """The records at `indices`, in that order, cut as in a test.

    A pass is a whole number of batches; this host loads `rows` of each. The mask is 0 for damaged
    records and beyond the end.
    """

    loader: Loader
    recipe: Recipe
    indices: np.ndarray
    batch_size: int
    rows: np.ndarray

    @property
    def starts(self) -> range:
        """The position in `indices` of the start of each batch."""
        return range(0, len(self.indices), self.batch_size)

    def __call__(self, position: int) -> Example:
        batch, place = divmod(position, len(self.rows))
        ordinal = batch * self.batch_size + int(self.rows[place])
        beyond = ordinal >= len(self.indices)
        index = 0 if beyond else int(self.indices[ordinal])
        example = None if beyond else self.loader.read(index)
        if example is None:
            height, width, channels = self.recipe.stored
            shape = (height or self.recipe.size, width or self.recipe.size, channels)
            pixels, label = np.zeros(shape, np.uint8), 0
        else:
            pixels, label = example["image"], example["label"]
            if self.recipe.cut_when_decoded:
                pixels = _test_cut(self.recipe, pixels)
        return {
            "image": pixels,
            "label": np.int32(label),
            "mask": np.float32(example is not None),
            "index": index,
            "passed": int(example is None and not beyond),
        }


def _test_cut(recipe: Recipe, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    box = boxes.centre(np, height, width, recipe.size, recipe.short_side)
    return cut(pixels, box, recipe.size)


def evenly_spaced(count: int, samples: int) -> np.ndarray:
    """The indices of `samples` evenly spaced images out of `count`; all of them for 0."""
    return np.arange(count) if not samples else np.unique(np.arange(samples) * count // samples)


def batches(load: Examples | Records) -> grain.MapDataset:
    """Local batches of NumPy arrays, by index: `load` at positions 0, 1, 2 ...

    The stream is practically endless; a pass over a part stops iterating at its end. If grain's
    workers reach the end of a data set, what they have read ahead leaks in shared memory.
    """
    return grain.MapDataset.range(HORIZON * len(load.rows)).map(load).batch(len(load.rows))


def _own(loaded: Example) -> Example:
    """Copies a batch out of the memory shared with the worker processes.

    A CPU device may keep using the array it is given, and shared memory still in use at exit is
    reported as leaked.
    """
    return {name: np.array(part) for name, part in loaded.items()}


def _end_with_the_program(worker: int, workers: int) -> None:
    """Makes a worker process exit also if its parent process is killed.

    Ctrl-C, which a terminal sends to workers too, is left to the parent process.
    """
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = multiprocessing.parent_process()
    assert program is not None

    def wait() -> None:
        program.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Prefetched:
    """Iterates over the batches of a MapDataset, decoded ahead and passed through `put`.

    Worker processes and threads end at `close`, at exit or when the object is garbage-collected.
    """

    def __init__(
        self, ahead: grain.MapDataset, workers: int, put: Callable[[Example], Example]
    ) -> None:
        if workers:
            if not flags.FLAGS.is_parsed():
                # grain's workers read its absl flags, which are not parsed without absl.app.
                flags.FLAGS.mark_as_parsed()
            stream = ahead.to_iter_dataset(grain.ReadOptions(1, 1)).mp_prefetch(
                grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1),
                worker_init_fn=_end_with_the_program,
            )
        else:
            stream = ahead.to_iter_dataset(grain.ReadOptions(THREADS, THREADS))
        stream = grain.experimental.ThreadPrefetchIterDataset(
            stream.map(lambda loaded: put(_own(loaded))), prefetch_buffer_size=AHEAD
        )
        # Workers import for seconds before `_end_with_the_program` runs in them. They inherit which
        # signals the thread that starts them blocks, and that thread inherits it from this one.
        resource_tracker.ensure_running()  # at its start it unblocks Ctrl-C in the calling thread
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._iterator: grain.DatasetIterator | None = iter(stream)
            self._iterator.start_prefetch()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _OPEN.add(self)

    def __iter__(self) -> Iterator[Example]:
        return self

    def __next__(self) -> Example:
        if self._iterator is None:
            raise StopIteration
        try:
            return next(self._iterator)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the worker processes and threads and the iteration."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()

    def __del__(self) -> None:
        if hasattr(self, "_iterator"):
            self.close()


# Streams to close at exit. grain's own shutdown can wait forever for a thread that waits for a
# worker that has ended. multiprocessing ends the workers at exit too; it registered earlier, so
# this runs first.
_OPEN: weakref.WeakSet[Prefetched] = weakref.WeakSet()


@atexit.register
def _close_open() -> None:
    for stream in list(_OPEN):
        stream.close()


def gather(inputs: Mapping[str, Any], step: Any) -> tuple[jax.Array, jax.Array]:
    """The images [B, h, w, c] and labels [B] of a step, from what `Streaming.fetch` gives."""
    del step
    return inputs["images"], inputs["labels"]


class Streaming:
    """Parts whose images are decoded when they are needed; an `input_pipeline.Engine`.

    damaged: for each part, the indices of the damaged records that were found and skipped.
    on_damage: called when `damaged` has grown.
    """

    def __init__(
        self,
        parts: Mapping[str, Loader],
        recipe: Recipe,
        mesh: Mesh,
        seed: int,
        batch_size: int,
        workers: int,
    ) -> None:
        self._parts, self._recipe, self._workers = parts, recipe, workers
        self._sharding = sharded(mesh)
        self._batch_size = batch_size
        rows = self._local_rows(batch_size)
        examples = Examples(parts["train"], recipe, seed, batch_size, rows)
        self._examples, self._train = examples, batches(examples)
        self._stream: Prefetched | None = None
        self._next = -1
        self.damaged: dict[str, set[int]] = {name: set() for name in parts}
        self.on_damage: Callable[[], None] = lambda: None

    def fetch(self, step: int) -> dict[str, Any]:
        """The decoded batch of a step on the devices: "images" and "labels".

        Consecutive steps are decoded and sent to the devices ahead of time. Any other step is
        decoded on request; the bits are the same.
        """
        if step != self._next:
            self.close()
            loaded = self._put(self._train[step], self._batch_size)
        else:
            if self._stream is None:
                put = functools.partial(self._put, batch_size=self._batch_size)
                self._stream = Prefetched(self._train[step:], self._workers, put)
            loaded = next(self._stream)
        self._next = step + 1
        self._note("train", loaded)
        return {"images": loaded["image"], "labels": loaded["label"]}

    def gather(self, inputs: dict[str, Any], step: Any) -> tuple[jax.Array, jax.Array]:
        """The images and labels of a step, which `fetch` has already gathered."""
        return gather(inputs, step)

    def passes(self, split: str, batch_size: int) -> Iterator[dict[str, jax.Array]]:
        """One pass over a part in stored order: "image" as stored (or cut), "label", "mask"."""
        loader, rows = self._parts[split], self._local_rows(batch_size)
        records = Records(loader, self._recipe, np.arange(loader.count), batch_size, rows)
        put = functools.partial(self._put, batch_size=batch_size)
        counted = 0
        stream = Prefetched(batches(records), self._workers, put)
        try:
            for loaded in itertools.islice(stream, len(records.starts)):
                self._note(split, loaded)
                counted += loaded["present"] + int(loaded["passed"].sum())
                yield {name: loaded[name] for name in ("image", "label", "mask")}
        finally:
            stream.close()
        mine = sum(np.sum(start + rows < loader.count) for start in records.starts)
        if counted != mine:
            raise AssertionError(f"{split}: {counted} of {mine} images counted")

    def chunks(self, samples: int) -> Iterator[np.ndarray]:
        """Training images cut as in a test, all (0) or `samples` evenly spaced ones, in chunks."""
        loader, rows = self._parts["train"], np.arange(CHUNK)
        indices = evenly_spaced(loader.count, samples)
        records = Records(loader, self._recipe, indices, CHUNK, rows)
        stream = Prefetched(batches(records), self._workers, lambda loaded: loaded)
        try:
            for loaded in itertools.islice(stream, len(records.starts)):
                self._note("train", loaded)
                yield loaded["image"][loaded["mask"] > 0]
        finally:
            stream.close()

    def views(self, count: int, step: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The first training images as they are sent to the device, and labels."""
        loader = self._parts["train"]
        found = [loader.read_intact(index)[0] for index in range(count)]
        images = [example["image"] for example in found]
        if step is not None:
            images = [self._examples.cut(image, step, row) for row, image in enumerate(images)]
        elif self._recipe.cut_when_decoded:
            images = [_test_cut(self._recipe, image) for image in images]
        return np.stack(images), np.array([example["label"] for example in found])

    def digest(self, split: str) -> str:
        """sha256 of the names and sizes of a part's files and of its range of records."""
        loader = self._parts[split]
        place = f"{loader.start} {loader.count} "
        return hashlib.sha256(place.encode() + loader.source.digest().encode()).hexdigest()

    def close(self) -> None:
        """Ends the worker processes; the next `fetch` starts them again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _local_rows(self, batch_size: int) -> np.ndarray:
        """The rows of a batch that are on this process's devices."""
        held = self._sharding.addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))

    def _put(self, loaded: Example, batch_size: int) -> Example:
        """Sends a local batch to the devices as this process's part of the global batch."""
        sent: dict[str, Any] = {
            name: jax.make_array_from_process_local_data(
                self._sharding, loaded[name], (batch_size, *loaded[name].shape[1:])
            )
            for name in ("image", "label", "mask")
            if name in loaded
        }
        present = int(loaded["mask"].sum()) if "mask" in loaded else len(loaded["label"])
        return loaded | sent | {"present": present}

    def _note(self, part: str, loaded: Example) -> None:
        """Adds the records that a batch skipped to `damaged`: `passed` records from `index` on."""
        count = self._parts[part].count
        met = {
            (int(first) + further) % count
            for first, passed in zip(loaded["index"], loaded["passed"], strict=True)
            for further in range(int(passed))
        }
        if not met <= self.damaged[part]:
            self.damaged[part] |= met
            self.on_damage()
