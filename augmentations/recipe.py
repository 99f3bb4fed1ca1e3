"""Applies a configuration's preprocessing to whole batches.

`Recipe` holds the checked fields of `config.data` that concern pixels: the network's input size and
channels, the augmentations, the normalisations. Its methods are pure and jittable. Statistics of
the training part are arguments, so that compiled code holds no copy of them.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from augmentations import boxes, colour
from augmentations.calls import AUGMENTATIONS, NORMALIZATIONS, Call, parse
from errors import UserError

Statistics = dict[str, tuple[Any, ...]]

# The papers' ratio of short side to crop for test images.
SHORT_SIDE_RATIO = 256 / 224


@dataclasses.dataclass(frozen=True)
class Recipe:
    """From stored images to the network's input.

    stored: (H, W, C) of the stored images; H and W are None if they vary. The streaming engine
    crops such images to the network's size when it decodes them.
    size: the network's input side in pixels; 0: as stored. channels: the network's input channels.
    short_side: test images (and training images if no augmentation crops) are rescaled to this
    short side and their centre is cropped; 0: the whole image is resized to size × size.
    """

    stored: tuple[int | None, int | None, int]
    size: int
    channels: int
    short_side: int
    augment: tuple[Call, ...]
    normalize: tuple[Call, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the network's input."""
        height, width, _ = self.stored
        return (self.size or height or 0, self.size or width or 0, self.channels)

    @property
    def crop(self) -> Call | None:
        """The augmentation that crops the image; None if there is none."""
        return next((call for call in self.augment if call.operation.kind == "box"), None)

    @property
    def cut_when_decoded(self) -> bool:
        """Whether images vary in size and are therefore cut before they are batched."""
        return self.stored[0] is None

    def train(
        self, statistics: Statistics, images: jax.Array, key: jax.Array, positions: jax.Array
    ) -> jax.Array:
        """Augments and normalises the stored images [B, h, w, c] of a training batch.

        `key` is the step's. Each operation folds its stream number into it and then the image's
        position in the batch, so an image's draws depend only on (seed, step, position).
        """
        crop = None if self.cut_when_decoded else self.crop
        if crop is None:
            images = self._place(images)
        else:
            draw, operation = boxes.UNIFORMS[crop.name], crop.operation
            height, width = images.shape[1:3]

            def cut(key: jax.Array, image: jax.Array) -> jax.Array:
                draws = jax.random.uniform(key, (draw,))
                box = operation.apply(
                    jnp, draws, height, width, self.image_shape[0], **crop.applying
                )
                return boxes.resample(image, box, self.image_shape[0])

            keys = _image_keys(key, operation.stream, positions)
            images = jax.vmap(cut)(keys, self._to_channels(images))
        for call in self.augment:
            if call.operation.kind == "image":
                images = _augment(
                    call, statistics, images, _image_keys(key, call.operation.stream, positions)
                )
        return self._normalize(statistics, images, self.normalize)

    def test(self, statistics: Statistics, images: jax.Array) -> jax.Array:
        """Test-time preprocessing of stored images [B, h, w, c]."""
        return self._normalize(statistics, self._place(images), self.normalize)

    def finish(self, statistics: Statistics, images: jax.Array) -> jax.Array:
        """Channels and normalisation only, for images [B, h, w, c] that are already cut to size.

        Test protocols crop the images themselves.
        """
        return self._normalize(statistics, self._to_channels(images), self.normalize)

    def fit(self, chunks: Callable[[int], Iterable[np.ndarray]]) -> Statistics:
        """Computes the statistics of every operation that has some, from the training part.

        `chunks(samples)` yields stored training images, `samples` of them or all (0), in chunks and
        in a fixed order. They are preprocessed as test images; the statistics of a normalisation
        are those of the output of the normalisations before it.
        """
        statistics: Statistics = {}
        for call, before in [
            *((call, ()) for call in self.augment),
            *((call, self.normalize[:place]) for place, call in enumerate(self.normalize)),
        ]:
            if call.operation.fit is None:
                continue
            if call.arguments.get("constants") == "imagenet":
                statistics[call.name] = colour.IMAGENET_PCA
                continue

            @jax.jit
            def view(
                statistics: Statistics, images: jax.Array, before: tuple[Call, ...] = before
            ) -> jax.Array:
                return self._normalize(statistics, self._place(images), before)

            # Waits first: see sharding.to_host.
            seen = (
                np.asarray(jax.block_until_ready(view(statistics, chunk)))
                for chunk in chunks(call.samples)
            )
            statistics[call.name] = call.operation.fit(seen, **call.fitting)
        return statistics

    def _place(self, images: jax.Array) -> jax.Array:
        """Test-time channels, size and crop; float32, still in 0..255."""
        images = self._to_channels(images)
        height, width, channels = self.image_shape
        if self.short_side and not self.cut_when_decoded:
            box = boxes.centre(np, images.shape[1], images.shape[2], self.size, self.short_side)
            return jax.vmap(lambda image: boxes.resample(image, box, self.size))(images)
        if images.shape[1:3] != (height, width):
            images = jax.image.resize(images, (len(images), height, width, channels), "linear")
        return images

    def _to_channels(self, images: jax.Array) -> jax.Array:
        images = jnp.asarray(images, jnp.float32)
        if images.shape[-1] == self.channels:
            return images
        if self.channels == 1:
            return jnp.mean(images, axis=-1, keepdims=True)
        return jnp.repeat(images, self.channels, axis=-1)

    def _normalize(
        self, statistics: Statistics, images: jax.Array, calls: tuple[Call, ...]
    ) -> jax.Array:
        for call in calls:
            images = call.operation.apply(images, *statistics.get(call.name, ()), **call.applying)
        return images


def _image_keys(key: jax.Array, stream: int, positions: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, stream), positions)


def _augment(call: Call, statistics: Statistics, images: jax.Array, keys: jax.Array) -> jax.Array:
    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        return call.operation.apply(key, image, *statistics.get(call.name, ()), **call.applying)

    return jax.vmap(one)(keys, images)


def read(data: Mapping[str, Any], shape: tuple[int, int, int] | None) -> Recipe:
    """The recipe of `config.data` for stored images of `shape` (None: RGB of varying size).

    Raises UserError that names the field.
    """
    augment = parse("config.data.augment", data["augment"], AUGMENTATIONS)
    normalize = parse("config.data.normalize", data["normalize"], NORMALIZATIONS)
    crops = [call.name for call in augment if call.operation.kind == "box"]
    size, short_side = data["size"], data["short_side"]
    stored = shape or (None, None, 3)
    channels = data["channels"] or stored[2]

    if data["channels"] not in (0, 1, 3):
        raise UserError(f"config.data.channels={data['channels']}: valid are 0 (as stored), 1, 3")
    if not isinstance(size, int) or size < 0:
        raise UserError(f"config.data.size={size}: expected pixels, or 0 for the stored size")
    if not isinstance(short_side, int) or short_side < 0:
        raise UserError(f"config.data.short_side={short_side}: expected pixels, or 0")
    if len(crops) > 1:
        raise UserError(f"config.data.augment: only one of {', '.join(crops)} can choose the crop")
    if size == 0 and shape is None:
        raise UserError(
            "config.data.size=0: the images vary in size; give the network's input side in pixels"
        )
    if size == 0 and (crops or short_side) and shape is not None:
        if shape[0] != shape[1]:
            raise UserError(
                "config.data.size=0: the images are not square; give the crop's side in pixels"
            )
        size = shape[0]
    if short_side == 0 and shape is None:
        short_side = round(size * SHORT_SIDE_RATIO)
    if short_side and short_side < size:
        raise UserError(f"config.data.short_side={short_side} is less than config.data.size={size}")
    for call in augment:
        side = call.arguments.get("side", call.arguments.get("low"))
        if call.name in ("random_crop", "scale_jitter") and side < size:
            raise UserError(
                f"config.data.augment: {call.name} cuts {size} pixels from a short side of {side}"
            )
        if call.name in ("photometric", "pca_colour") and channels != 3:
            raise UserError(
                f"config.data.augment: {call.name} needs 3 channels, the images have {channels} "
                "(config.data.channels=3 repeats grey)"
            )
    for place, call in enumerate(normalize):
        if call.name in ("scale", "lenet") and place > 0:
            raise UserError(f"config.data.normalize: {call.name} must be the first entry")
    return Recipe(stored, size, channels, short_side, augment, normalize)
