"""A trained network's posteriors under a protocol, a bounded number of views at a time.

Images of one size are cut on the device, images of varying size on the host. One dispatch holds
about as many pixels as `batch` images of the network's input size: fewer images if they are larger;
144 crops of a batch are 144 dispatches. Batch size and number of devices change results only by
rounding.
"""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Cuts:
    """The distinct views of an image of varying size under a protocol, cut when it is decoded.

    shape: that of the image. pixels: uint8 [*size, C] of each view.
    """

    shape: tuple[int, ...]
    pixels: tuple[np.ndarray, ...]


def smaller(image: np.ndarray, protocol: Protocol) -> np.ndarray | Cuts:
    """The image's views if they have fewer pixels than the image, else the image."""
    stored = image.shape[0], image.shape[1]
    views = [view for view, _ in protocol.distinct(stored)]
    if sum(view.size[0] * view.size[1] for view in views) >= stored[0] * stored[1]:
        return image
    return Cuts(
        image.shape, tuple(streaming.cut(image, view.box(stored), view.size) for view in views)
    )


class Predictor:
    """One trained network on the devices of `mesh`.

    batch: images of the network's input size in one dispatch. layer: whose output `answer` returns,
    "" for none. compile_seconds: the total so far. Methods raise UserError if the network does not
    support a protocol.
    """

    def __init__(self, trained: Trained, mesh: Mesh, batch: int, layer: str = "") -> None:
        self.trained, self.mesh, self.layer = trained, mesh, layer
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
        images: np.ndarray | Sequence[np.ndarray | Cuts],
        protocol: Protocol,
        progress: Callable[[], None] = lambda: None,
    ) -> np.ndarray:
        """Posteriors [N, classes] of stored uint8 images, averaged over the protocol's views.

        images: [N, H, W, C], cut on the device; or N arrays [H, W, C] of any sizes, cut on the
        host, or cut already. progress: called after each view.
        """
        return self.answer(images, protocol, progress)[0]

    def answer(
        self,
        images: np.ndarray | Sequence[np.ndarray | Cuts],
        protocol: Protocol,
        progress: Callable[[], None] = lambda: None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As `predict`, and the output of `layer` in the last view, float32 [N, ...]."""
        stacked = images if isinstance(images, np.ndarray) else None
        sizes: list[Size] = [(image.shape[0], image.shape[1]) for image in images]
        views_of = {size: protocol.distinct(size) for size in set(sizes)}
        total = np.zeros((len(images), self.network.num_classes))
        features: np.ndarray | None = None
        pending: deque[tuple[np.ndarray, np.ndarray, tuple[jax.Array, ...]]] = deque()

        def collect(left: int) -> None:
            nonlocal features
            while len(pending) > left:
                rows, weights, outputs = pending.popleft()
                values, *captured = sharding.to_host(outputs)
                total[rows] += weights[:, None] * values[: len(rows)].astype(np.float64)
                for output in captured:
                    if features is None:
                        features = np.empty((len(images), *output.shape[1:]), np.float32)
                    features[rows] = output[: len(rows)].astype(np.float32)

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
                        pixels = _cut([images[row] for row in rows], views, place)
                    values = self._run(
                        _padded(pixels, capacity), box, size, is_dense, views[0], protocol.average
                    )
                    pending.append((rows, np.array([weight for _, weight in here]), values))
                    collect(IN_FLIGHT)
            progress()
        collect(0)
        if protocol.average == "scores":
            total = score_average.of_scores(total)
        return total, features

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
    ) -> tuple[jax.Array, ...]:
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
            capture = (self.layer,) if self.layer else ()
            averaged = score_average.AVERAGED[average]
            answer = partial(_answer, form, self.recipe, averaged, size, capture)
            self._programs[key] = jax.jit(answer).lower(*arguments).compile()
            self.compile_seconds += time.monotonic() - began
        return self._programs[key](*arguments)


def _answer(
    network: Any,
    recipe: Any,
    averaged: Callable[[jax.Array], jax.Array],
    size: Size,
    capture: tuple[str, ...],
    variables: Any,
    statistics: Any,
    pixels: jax.Array,
    box: jax.Array | None,
    mirrored: jax.Array,
) -> tuple[jax.Array, ...]:
    """The scores or posteriors [N, classes] of stored images [N, h, w, c] and a box, or cut images.

    Then the outputs of the layers to capture. Pure, to be called inside a jit.
    """
    images = pixels.astype(jnp.float32)
    if box is not None:
        edges = (box[0], box[1], box[2], box[3])
        images = jax.vmap(lambda image: boxes.resample(image, edges, size))(images)
    images = jnp.where(mirrored, images[:, :, ::-1], images)
    images = recipe.finish(statistics, images)
    outputs = network.apply(variables, images, train=False, capture=capture)
    return averaged(outputs.logits), *(outputs.captured[layer] for layer in capture)


def _cut(images: Sequence[np.ndarray | Cuts], views: Sequence[View], place: int) -> np.ndarray:
    """A view of each image, uint8 [N, *size, C], cut in threads (Pillow releases the GIL).

    place: the view's among those of the protocol.
    """

    def one(image: np.ndarray | Cuts, view: View) -> np.ndarray:
        if isinstance(image, Cuts):
            return image.pixels[place]
        return streaming.cut(image, view.box((image.shape[0], image.shape[1])), view.size)

    with ThreadPoolExecutor(THREADS) as threads:
        return np.stack(list(threads.map(one, images, views)))


def _padded(pixels: np.ndarray, count: int) -> np.ndarray:
    """Pads with black images to `count`, so that every dispatch has one shape."""
    return np.pad(pixels, ((0, count - len(pixels)), (0, 0), (0, 0), (0, 0)))
