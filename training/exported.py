"""A trained network as one file that runs with jax alone, on CPU, GPU and TPU.

The file is NumPy's .npz: "program" holds the network and its preprocessing, by jax.export. It takes
the weights as an argument; they are entries of their own. docs/predictions.md has a loader.
"""

import json
import pathlib
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from models import convolution
from training.trained import Trained
from training.workdirs import writing

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, CLASS_NAMES, ABOUT = "program", "class_names", "about"
WEIGHTS = "weights/"  # before the name of each weight


def save(trained: Trained, path: str | pathlib.Path) -> None:
    """Writes the file, whole or not at all. Raises UserError if it cannot be written."""
    path = pathlib.Path(path)
    weights = _weights(trained)
    content = {
        PROGRAM: np.frombuffer(program(trained).serialize(), np.uint8),
        CLASS_NAMES: np.array(trained.class_names),
        ABOUT: np.array(json.dumps(about(trained))),
        **weights,
    }
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        try:
            with partial.open("wb") as file:
                np.savez(file, **content)  # type: ignore[arg-type]
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def program(trained: Trained) -> jax.export.Exported:
    """(weights by name, uint8 images [N, H, W, C]) -> probabilities [N, classes]; N is symbolic.

    H × W × C is the network's input.
    """
    leaves, structure = jax.tree.flatten(_variables(trained))
    types = [leaf.dtype for leaf in leaves]
    names = list(_weights(trained))
    network = trained.network.clone(heads=())

    def probabilities(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        leaves = [weights[name].astype(kind) for name, kind in zip(names, types, strict=True)]
        variables, statistics = jax.tree.unflatten(structure, leaves)
        ready = trained.recipe.finish(statistics, images.astype(jnp.float32))
        return jax.nn.softmax(network.apply(variables, ready, train=False).logits, axis=-1)

    (count,) = jax.export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((count, *network.input), jnp.uint8)
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype)
        for name, array in _weights(trained).items()
    }
    # The native convolutions are not in jax.
    with convolution.formed("xla"):
        return jax.export.export(jax.jit(probabilities), platforms=PLATFORMS)(shapes, images)


def _variables(trained: Trained) -> tuple[Any, Any]:
    return trained.variables, trained.record.statistics


def _weights(trained: Trained) -> dict[str, np.ndarray]:
    """The variables and statistics by name, in the types that a .npz file can hold."""
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(_variables(trained)):
        array = np.asarray(leaf)
        if array.dtype.kind == "V":  # bfloat16: NumPy would store bytes without a type
            array = array.astype(np.float32)
        name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
        named[f"{WEIGHTS}{name}"] = array
    return named


def about(trained: Trained) -> dict[str, Any]:
    """What the network is, what it was trained on, and how its images are cut."""
    recipe = trained.recipe
    return {
        "network": trained.config.model.name,
        "data": trained.config.data.name,
        "step": trained.step,
        "input": list(trained.network.input),
        # 0: the whole image is resized to the input's size, else the centre is cut at this side.
        "short_side": recipe.short_side,
    }
