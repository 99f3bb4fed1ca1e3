"""A trained network's posteriors under a protocol, a bounded number of views at a time.

Images of one size are cut on the device, images of varying size on the host. One dispatch holds
about as many pixels as `batch` images of the network's input size: fewer images if they are larger;
144 crops of a batch are 144 dispatches. Batch size and number of devices change results only by
rounding.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import sharding
from augmentations import boxes
from engines import streaming
from errors import UserError
from inspection import cost
from protocols import dense, registry, score_average
from protocols.crops import Size, View
from protocols.registry import Protocol
from training.trained import Trained

# Dispatches in flight: enough to keep a device busy while their views fit in memory.
IN_FLIGHT = 4
# Threads that cut views of images of varying size.
THREADS = 4

# Normalisations that are valid only for images of the training size.
OF_ONE_SIZE = ("zca", "gcn")


class Predictor:
    """One trained network on the devices of `mesh`.

    batch: images of the network's input size in one dispatch. compile_seconds: the total so far.
    Methods raise UserError if the network does not support a protocol.
    """

    def __init__(self, trained: Trained, mesh: Mesh, batch: int) -> None:
        self.trained, self.mesh = trained, mesh
        self.batch = -(-batch // mesh.size) * mesh.size
        self.recipe = trained.recipe
        self.network = trained.network.clone(heads=())
        self._held = jax.device_put(
            (trained.variables, trained.record.statistics), sharding.replicated(mesh)
        )
        self._programs: dict[Any, Callable] = {}
        self._costs: dict[tuple[Size, bool], int] = {}
        self.compile_seconds = 0.0

    @property
    def name(self) -> str:
        """The network's name."""
        return self.trained.config.model.name

    def protocol(self, text: str) -> Protocol:
        """The protocol that `text` names, for this network's input size."""
        height, width = self.network.input[:2]
        return registry.create(text, registry.InputSize(height, width, self.recipe.short_side))

    def multiply_adds(self, protocol: Protocol, stored: Size) -> int:
        """Multiply-adds for one image of this (height, width), summed over its distinct views.

        Traces the network at every size. Raises UserError if it does not accept one.
        """
        total = 0
        for view, _ in protocol.distinct(stored):
            key = (view.size, view.dense)
            if key not in self._costs:
                self._costs[key] = self._trace(protocol, view)
            total += self._costs[key]
        return total

    def _trace(self, protocol: Protocol, view: View) -> int:
        size = f"{view.size[0]}×{view.size[1]}"
        for name in (call.name for call in self.recipe.normalize):
            if view.size != self.network.input[:2] and name in OF_ONE_SIZE:
                raise UserError(
                    f"--protocol={protocol.label}: {self.name}: its normalisation {name} needs "
                    f"images of {self.network.input[0]}×{self.network.input[1]}, not {size}"
                )
        try:
            form = dense.fully_convolutional(self.network) if view.dense else self.network
            return cost.measure(form, (*view.size, self.network.input[2])).multiply_adds
        except ValueError as error:
            raise UserError(
                f"--protocol={protocol.label}: {self.name} at {size}: {error}"
            ) from None

    def predict(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        protocol: Protocol,
        progress: Callable[[], None] = lambda: None,
    ) -> np.ndarray:
        """Posteriors [N, classes] of stored uint8 images, averaged over the protocol's views.

        images: [N, H, W, C], cut on the device; or N arrays [H, W, C] of any sizes, cut on the
        host. progress: called after each view.
        """
        stacked = images if isinstance(images, np.ndarray) else None
        sizes: list[Size] = [(image.shape[0], image.shape[1]) for image in images]
        views_of = {size: protocol.distinct(size) for size in set(sizes)}
        total = np.zeros((len(images), self.network.num_classes))
        pending: deque[tuple[np.ndarray, np.ndarray, jax.Array]] = deque()

        def collect(left: int) -> None:
            while len(pending) > left:
                rows, weights, values = pending.popleft()
                total[rows] += weights[:, None] * np.asarray(values, np.float64)[: len(rows)]

        # Square images may have fewer distinct views than others.
        for place in range(max(map(len, views_of.values()))):
            groups: dict[tuple[Size, bool, bool], list[int]] = defaultdict(list)
            for row, size in enumerate(sizes):
                if place < len(views_of[size]):
                    view = views_of[size][place][0]
                    groups[view.size, view.dense, view.mirrored].append(row)
            for (size, is_dense, _), members in groups.items():
                capacity = self._capacity(size)
                for start in range(0, len(members), capacity):
                    rows = np.asarray(members[start : start + capacity])
                    here = [views_of[sizes[row]][place] for row in rows]
                    views = [view for view, _ in here]
                    box: boxes.Box | None = None
                    if stacked is not None:
                        pixels, box = stacked[rows], views[0].box(sizes[rows[0]])
                    else:
                        pixels = _cut([images[row] for row in rows], views)
                    values = self._run(
                        _padded(pixels, capacity), box, size, is_dense, views[0], protocol.average
                    )
                    pending.append((rows, np.array([weight for _, weight in here]), values))
                    collect(IN_FLIGHT)
            progress()
        collect(0)
        return score_average.of_scores(total) if protocol.average == "scores" else total

    def _capacity(self, size: Size) -> int:
        """Images of this size in one dispatch: a positive multiple of the number of devices."""
        height, width = self.network.input[:2]
        share = self.batch * height * width // (size[0] * size[1])
        return max(1, min(share, self.batch) // self.mesh.size) * self.mesh.size

    def _run(
        self,
        pixels: np.ndarray,
        box: boxes.Box | None,
        size: Size,
        is_dense: bool,
        view: View,
        average: str,
    ) -> jax.Array:
        """Dispatches one view of a full batch of stored images, or of cut images (box None)."""
        arguments = (
            *self._held,
            jax.device_put(pixels, sharding.sharded(self.mesh)),
            None if box is None else np.asarray(box, np.float32),
            np.asarray(view.mirrored),
        )
        key = (pixels.shape, box is None, size, is_dense, average)
        if key not in self._programs:
            began = time.monotonic()
            form = dense.fully_convolutional(self.network) if is_dense else self.network
            answer = partial(_answer, form, self.recipe, score_average.AVERAGED[average], size)
            self._programs[key] = jax.jit(answer).lower(*arguments).compile()
            self.compile_seconds += time.monotonic() - began
        return self._programs[key](*arguments)


def _answer(
    network: Any,
    recipe: Any,
    averaged: Callable[[jax.Array], jax.Array],
    size: Size,
    variables: Any,
    statistics: Any,
    pixels: jax.Array,
    box: jax.Array | None,
    mirrored: jax.Array,
) -> jax.Array:
    """The scores or posteriors [N, classes] of stored images [N, h, w, c] and a box, or cut images.

    Pure, to be called inside a jit.
    """
    images = pixels.astype(jnp.float32)
    if box is not None:
        edges = (box[0], box[1], box[2], box[3])
        images = jax.vmap(lambda image: boxes.resample(image, edges, size))(images)
    images = jnp.where(mirrored, images[:, :, ::-1], images)
    outputs = network.apply(variables, recipe.finish(statistics, images), train=False)
    return averaged(outputs.logits)


def _cut(images: Sequence[np.ndarray], views: Sequence[View]) -> np.ndarray:
    """A view of each image, uint8 [N, *size, C], cut in threads (Pillow releases the GIL)."""

    def one(image: np.ndarray, view: View) -> np.ndarray:
        return streaming.cut(image, view.box((image.shape[0], image.shape[1])), view.size)

    with ThreadPoolExecutor(THREADS) as threads:
        return np.stack(list(threads.map(one, images, views)))


def _padded(pixels: np.ndarray, count: int) -> np.ndarray:
    """Pads with black images to `count`, so that every dispatch has one shape."""
    return np.pad(pixels, ((0, count - len(pixels)), (0, 0), (0, 0), (0, 0)))
