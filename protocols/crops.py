"""The views of an image that the papers' test protocols show to a network, in whole pixels.

Pure functions of numbers, nothing is resampled here. Speaks for Krizhevsky et al. 2012 (section
4.1), Simonyan and Zisserman 2015 (section 3.2), Szegedy et al. 2015 (section 7) and He et al. 2016a
(section 3.4). How large an image is once its short side has so many pixels, `augmentations.boxes`
says, for training and tests alike.
"""

import dataclasses

import numpy as np

from augmentations import boxes

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class View:
    """A part of an image: rescale the whole, cut, bring the cut to `size`, perhaps mirror it.

    rescaled: (height, width) of the whole image. cut: (top, left, height, width) in its pixels.
    size: (height, width) as the network sees it. mirrored: left and right exchanged, last of all.
    dense: shown to the fully convolutional form.
    """

    rescaled: Size
    cut: tuple[int, int, int, int]
    size: Size
    mirrored: bool = False
    dense: bool = False

    def box(self, stored: Size) -> boxes.Box:
        """The cut in pixels of the stored image, which is resampled only once."""
        down, across = stored[0] / self.rescaled[0], stored[1] / self.rescaled[1]
        top, left, height, width = self.cut
        return top * down, left * across, height * down, width * across


def mirrored(views: list[View], flip: bool = True) -> list[View]:
    """Every view, then the mirror image of every view (unless the images have no mirror images)."""
    return (
        views
        if not flip
        else [*views, *(dataclasses.replace(view, mirrored=True) for view in views)]
    )


def rescaled(stored: Size, side: int) -> Size:
    """(height, width) of the image once its short side has `side` pixels."""
    height, width = boxes.rescaled(np, *stored, side)
    return int(height), int(width)


def spread(extent: int, crop: int, count: int) -> list[int]:
    """`count` offsets of a crop from one edge of the extent to the other, evenly, halves upward.

    The middle one is that of a central crop. Raises ValueError if the crop is larger.
    """
    if crop > extent:
        raise ValueError(f"a crop of {crop} pixels does not fit an image of {extent}")
    if count == 1:
        return [(extent - crop + 1) // 2]
    gaps = count - 1
    return [(2 * (extent - crop) * index + gaps) // (2 * gaps) for index in range(count)]


def whole(stored: Size, size: Size) -> list[View]:
    """The whole image, its aspect ratio not kept: small images, which are square."""
    return [View(size, (0, 0, *size), size)]


def center(stored: Size, side: int, crop: int) -> list[View]:
    """The central crop × crop of the image at short side `side`."""
    tall, wide = rescaled(stored, side)
    (top,), (left,) = spread(tall, crop, 1), spread(wide, crop, 1)
    return [View((tall, wide), (top, left, crop, crop), (crop, crop))]


def five(whole: Size, square: tuple[int, int, int], crop: int) -> list[View]:
    """Four corners, then the centre, of the square (top, left, side) of the rescaled image."""
    top, left, side = square
    near, middle, far = spread(side, crop, 3)
    offsets = ((near, near), (near, far), (far, near), (far, far), (middle, middle))
    return [View(whole, (top + y, left + x, crop, crop), (crop, crop)) for y, x in offsets]


def ten_crop(stored: Size, side: int, crop: int, flip: bool = True) -> list[View]:
    """Corners and centre of the central side × side square, and their mirrors.

    Krizhevsky et al. 2012: images are rescaled to a short side of 256 and their central 256 × 256
    is all that is kept of them (section 2); five crops of 224 and their reflections (section 4.1).
    """
    tall, wide = rescaled(stored, side)
    (top,), (left,) = spread(tall, side, 1), spread(wide, side, 1)
    return mirrored(five((tall, wide), (top, left, side), crop), flip)


def grid_crop(stored: Size, side: int, crop: int, flip: bool = True) -> list[View]:
    """A regular 5 × 5 grid of crops over the image at short side `side`, and their mirrors.

    Simonyan and Zisserman 2015, section 3.2: 5×5 and two flips, 50 crops a scale.
    """
    tall, wide = rescaled(stored, side)
    tops, lefts = spread(tall, crop, 5), spread(wide, crop, 5)
    size = (crop, crop)
    return mirrored([View((tall, wide), (y, x, *size), size) for y in tops for x in lefts], flip)


def dense(stored: Size, side: int, flip: bool = True) -> list[View]:
    """The uncropped image at short side `side`, and its mirror. Simonyan and Zisserman, 3.2."""
    size = rescaled(stored, side)
    return mirrored([View(size, (0, 0, *size), size, dense=True)], flip)


def squares(stored: Size, side: int, crop: int, flip: bool = True) -> list[View]:
    """GoogLeNet's 36 views of one scale: three squares, six views of each, and their mirrors.

    Szegedy et al. 2015, section 7: the left, centre and right square (top, centre and bottom of a
    portrait); of each the four corner and the centre crop, and the square itself brought to the
    size of a crop. On a square image the three squares are one and the same.
    """
    tall, wide = rescaled(stored, side)
    views = []
    for y, x in zip(spread(tall, side, 3), spread(wide, side, 3), strict=True):
        views += five((tall, wide), (y, x, side), crop)
        views.append(View((tall, wide), (y, x, side, side), (crop, crop)))
    return mirrored(views, flip)
