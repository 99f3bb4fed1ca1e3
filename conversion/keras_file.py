"""Weights files of Keras, HDF5: `.h5` of Keras 1 and 2, `.weights.h5` of Keras 2.13 and 3.

h5py reads them and is needed for nothing else, so it is imported here, on use. Only arrays that lie
in the file itself and are stored as they are get read: HDF5 can also refer to other files and
unpack a small file into a huge array, which Keras never does.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from errors import UserError

WHOLE_MODEL = "model_weights"  # the group of the weights where the file has a whole model
NAMES, WEIGHTS = "layer_names", "weight_names"  # attributes of the older layout
LAYERS = ("layers", "_layer_checkpoint_dependencies")  # groups of the newer, in 3 and 2.13
VARIABLES = "vars"

Layers = Mapping[str, Sequence[np.ndarray]]


def h5py() -> Any:
    """The library. Raises UserError, with the command that installs it, if it is missing."""
    try:
        import h5py as library
    except ImportError:
        raise UserError("reading Keras's files needs h5py: pip install h5py") from None
    return library


def read(path: pathlib.Path) -> Layers:
    """The weights of each layer that has some, in Keras's order, by the layer's name in the file.

    The name is the layer's own (block1_conv1); files of 2.13 have none, and number the layers of
    each class (conv2d_3). Raises UserError, one line.
    """
    library = h5py()
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with library.File(path, "r") as file:
            root = file.get(WHOLE_MODEL, file)
            if NAMES in root.attrs or f"{NAMES}0" in root.attrs:
                found = {
                    name: [_array(root, f"{name}/{weight}") for weight in weights]
                    for name in _texts(root, NAMES)
                    if (weights := _texts(_group(root, name), WEIGHTS))
                }
            else:
                found = _newer(root)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        first = (str(error).strip("'\"").splitlines() or [""])[0]
        raise UserError(f"{path}: is damaged or no weights file of Keras ({first})") from None
    if not found:
        raise UserError(f"{path}: holds no weights; is it a weights file of Keras?")
    return found


def write(path: pathlib.Path, layers: Layers) -> None:
    """Writes a `.h5` of the older layout, which every version of Keras loads by name.

    Whole or not at all. Raises UserError if it cannot be written.
    """
    library = h5py()
    partial = path.with_name(f"{path.name}.partial")
    try:
        with library.File(partial, "w") as file:
            file.attrs[NAMES] = [name.encode() for name in layers]
            for name, arrays in layers.items():
                weights = [f"{name}/{number}".encode() for number in range(len(arrays))]
                group = file.create_group(name)
                group.attrs[WEIGHTS] = weights
                for weight, array in zip(weights, arrays, strict=True):
                    group.create_dataset(weight, data=array)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _newer(root: Any) -> dict[str, list[np.ndarray]]:
    """Layers of the newer layout: the arrays vars/0, vars/1 ... of each."""
    found: dict[str, list[np.ndarray]] = {}
    place = next((place for place in LAYERS if place in root), None)
    for key in _group(root, place) if place else ():
        layer = _group(root, f"{place}/{key}")
        if VARIABLES not in layer or not len(variables := _group(layer, VARIABLES)):
            continue
        name = str(variables.attrs.get("name", key))
        if name in found:
            raise UserError(f"two layers are called {name!r}")
        found[name] = [_array(variables, str(number)) for number in range(len(variables))]
    return found


def _texts(group: Any, name: str) -> list[str]:
    """An attribute with a list of names; a long one is stored in parts, name0, name1 ..."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts, number = [], 0
        while (part := f"{name}{number}") in group.attrs:
            parts.append(group.attrs[part])
            number += 1
    texts = [text for part in parts for text in part]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _group(parent: Any, path: str) -> Any:
    found = _inside(parent, path)
    if not isinstance(found, h5py().Group):
        raise UserError(f"{path} is no group of arrays")
    return found


def _array(parent: Any, path: str) -> np.ndarray:
    """An array stored as it is. Raises UserError for any other."""
    found = _inside(parent, path)
    if not isinstance(found, h5py().Dataset):
        raise UserError(f"{path} is no array")
    if found.external or found.is_virtual:
        raise UserError(f"{path} is stored in another file")
    if found.id.get_storage_size() != found.size * found.dtype.itemsize:
        raise UserError(
            f"{path} has {found.id.get_storage_size()} bytes in the file, its shape {found.shape} "
            f"needs {found.size * found.dtype.itemsize}"
        )
    return found[()]


def _inside(parent: Any, path: str) -> Any:
    """What `path` leads to without leaving the file. Raises UserError for a link."""
    for name in path.split("/"):
        if not isinstance(parent.get(name, getlink=True), h5py().HardLink | None):
            raise UserError(f"{path} is a link")
        parent = parent[name]
    return parent
