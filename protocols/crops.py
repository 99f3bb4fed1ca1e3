"""The views of an image in the papers' test protocols, in whole pixels.

Pure functions of numbers; nothing is resampled here. Sources: Krizhevsky et al. 2012 (section 4.1),
Simonyan and Zisserman 2015 (section 3.2), Szegedy et al. 2015 (section 7) and He et al. 2016a
(section 3.4). Sizes of rescaled images come from `augmentations.boxes`, as in training.
"""

import dataclasses

import numpy as np

from augmentations import boxes

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class View:
    """A part of an image: rescale the whole image, cut, resize the cut, optionally mirror it.

    rescaled: (height, width) of the rescaled image. cut: (top, left, height, width) in its pixels.
    size: (height, width) of the network's input. mirrored: left and right are exchanged at the end.
    dense: for the fully convolutional form.
    """

    rescaled: Size
    cut: tuple[int, int, int, int]
    size: Size
    mirrored: bool = False
    dense: bool = False

    def box(self, stored: Size) -> boxes.Box:
        """The cut in pixels of the stored image, so that it is resampled only once."""
        down, across = stored[0] / self.rescaled[0], stored[1] / self.rescaled[1]
        top, left, height, width = self.cut
        return top * down, left * across, height * down, width * across


def mirrored(views: list[View], flip: bool = True) -> list[View]:
    """Every view, then its mirror images if `flip`."""
    return (
        views
        if not flip
        else [*views, *(dataclasses.replace(view, mirrored=True) for view in views)]
    )


def rescaled(stored: Size, side: int) -> Size:
    """(height, width) of the image after its short side is rescaled to `side` pixels."""
    height, width = boxes.rescaled(np, *stored, side)
    return int(height), int(width)


def spread(extent: int, crop: int, count: int) -> list[int]:
    """`count` evenly spaced offsets of a crop from edge to edge of the extent, halves rounded up.

    The middle offset is that of a central crop. Raises ValueError if the crop does not fit.
    """
    if crop > extent:
        raise ValueError(f"a crop of {crop} pixels does not fit an image of {extent}")
    if count == 1:
        return [(extent - crop + 1) // 2]
    gaps = count - 1
    return [(2 * (extent - crop) * index + gaps) // (2 * gaps) for index in range(count)]


def whole(stored: Size, size: Size) -> list[View]:
    """The whole image resized to `size`, for small images; the aspect ratio is not kept."""
    return [View(size, (0, 0, *size), size)]


def center(stored: Size, side: int, crop: int) -> list[View]:
    """The central crop × crop of the image at short side `side`."""
    tall, wide = rescaled(stored, side)
    (top,), (left,) = spread(tall, crop, 1), spread(wide, crop, 1)
    return [View((tall, wide), (top, left, crop, crop), (crop, crop))]


def five(whole: Size, square: tuple[int, int, int], crop: int) -> list[View]:
    """The four corner crops and the centre crop of the square (top, left, side), in this order."""
    top, left, side = square
    near, middle, far = spread(side, crop, 3)
    offsets = ((near, near), (near, far), (far, near), (far, far), (middle, middle))
    return [View(whole, (top + y, left + x, crop, crop), (crop, crop)) for y, x in offsets]


def ten_crop(stored: Size, side: int, crop: int, flip: bool = True) -> list[View]:
    """Corner and centre crops of the central side × side square, and their mirror images.

    Krizhevsky et al. 2012: images are rescaled to a short side of 256 and only their central
    256 × 256 is kept (section 2); five crops of 224 and their reflections (section 4.1).
    """
    tall, wide = rescaled(stored, side)
    (top,), (left,) = spread(tall, side, 1), spread(wide, side, 1)
    return mirrored(five((tall, wide), (top, left, side), crop), flip)


def grid_crop(stored: Size, side: int, crop: int, flip: bool = True) -> list[View]:
    """A regular 5 × 5 grid of crops over the image at short side `side`, and their mirror images.

    Simonyan and Zisserman 2015, section 3.2: 5×5 and two flips, 50 crops per scale.
    """
    tall, wide = rescaled(stored, side)
    tops, lefts = spread(tall, crop, 5), spread(wide, crop, 5)
    size = (crop, crop)
    return mirrored([View((tall, wide), (y, x, *size), size) for y in tops for x in lefts], flip)


def dense(stored: Size, side: int, flip: bool = True) -> list[View]:
    """The uncropped image at short side `side`, and its mirror image.

    Simonyan and Zisserman 2015, section 3.2.
    """
    size = rescaled(stored, side)
    return mirrored([View(size, (0, 0, *size), size, dense=True)], flip)


def squares(stored: Size, side: int, crop: int, flip: bool = True) -> list[View]:
    """GoogLeNet's 36 views per scale: three squares, six views of each, and their mirror images.

    Szegedy et al. 2015, section 7: the left, centre and right square (top, centre and bottom of a
    portrait); for each, the four corner crops, the centre crop and the square itself resized to the
    crop's size. In a square image the three squares are equal.
    """
    tall, wide = rescaled(stored, side)
    views = []
    for y, x in zip(spread(tall, side, 3), spread(wide, side, 3), strict=True):
        views += five((tall, wide), (y, x, side), crop)
        views.append(View((tall, wide), (y, x, side, side), (crop, crop)))
    return mirrored(views, flip)
