"""The training images nearest to test images in a trained network's last hidden layer.

Krizhevsky et al. 2012, section 6.1 and Fig. 4.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

import data
import input_pipeline
from data.loader import Loader
from engines import streaming
from engines.resident import Part
from errors import UserError
from inspection import weights
from inspection.weights_picture import Neighbours
from training import data_record
from training.trained import Trained

ROWS, COLUMNS = 8, 6
# Images that are read: test images to choose the rows from, training images to search.
TESTED, SEARCHED, SEARCHED_IF_DECODED = 200, 10_000, 2_000
BATCH, THREADS = 100, 4


def find(trained: Trained, data_dir: str | None = None) -> Neighbours:
    """Up to `ROWS` test images of different classes, with the nearest training images of each.

    Searches evenly spaced training images; test images are evenly spaced, too. Raises UserError if
    the data set is not there or has other classes now.
    """
    name = trained.config.data.name
    if changed := data_record.class_changes(trained.record.dataset, data.dataset(name)):
        raise UserError(f"data set {name}: has changed since the run: {'; '.join(changed)}")
    most = SEARCHED_IF_DECODED if trained.recipe.cut_when_decoded else SEARCHED
    tests, test_labels = _read(trained, "test", TESTED, data_dir)
    images, labels = _read(trained, "train", most, data_dir)
    rows = _rows(test_labels)
    _, hidden = weights.last_hidden(trained.network)
    features = jax.jit(partial(_features, hidden, trained.recipe))
    kept = (trained.variables, trained.record.statistics)
    batches = np.split(images, range(BATCH, len(images), BATCH))
    searched = np.concatenate([np.asarray(features(*kept, batch)) for batch in batches])
    found = weights.nearest(np.asarray(features(*kept, tests[rows])), searched, COLUMNS)
    names = trained.class_names
    total = trained.record.examples["train"]
    part = "" if len(images) == total else f" of {total:,}, evenly spaced"
    return Neighbours(
        np.stack([[tests[row], *images[near]] for row, near in zip(rows, found, strict=True)]),
        [
            [names[test_labels[row]], *(names[label] for label in labels[near])]
            for row, near in zip(rows, found, strict=True)
        ],
        f"{len(images):,} training images{part}",
    )


def _features(hidden: Any, recipe: Any, variables: Any, statistics: Any, images: Any) -> jax.Array:
    return hidden(variables, recipe.test(statistics, images))


def _read(
    trained: Trained, part: str, most: int, data_dir: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced images of a part, uint8 [N, H, W, C], as stored or cut as in a test; labels."""
    fields = trained.config.data
    if part == "train" and fields.labels_a_class:
        images, labels = data.load_arrays(fields.name, part, data_dir)
        whole = Part(images, labels, np.ones(len(images), bool))
        chosen = input_pipeline.labelled(trained.config, trained.record.dataset, whole)
        spaced = streaming.evenly_spaced(len(chosen.labels), min(len(chosen.labels), most))
        return chosen.images[spaced], chosen.labels[spaced]
    source = data.open_split(fields.name, part, data_dir)
    count = min(trained.record.examples[part], len(source))
    loader = Loader(source, 0, count, fields.on_damage == "skip")
    indices = streaming.evenly_spaced(count, min(count, most))
    records = streaming.Records(
        loader, trained.recipe, indices, len(indices), np.arange(len(indices))
    )
    with ThreadPoolExecutor(THREADS) as threads:
        read = [record for record in threads.map(records, range(len(indices))) if record["mask"]]
    if not read:
        raise UserError(f"{fields.name}: every {part} image is damaged")
    return np.stack([record["image"] for record in read]), np.array(
        [record["label"] for record in read]
    )


def _rows(labels: np.ndarray) -> list[int]:
    """The first image of each class, of evenly spaced classes; further ones of few classes."""
    seen: dict[int, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        seen.setdefault(label, []).append(row)
    classes = [seen[label] for label in sorted(seen)]
    chosen = [classes[place] for place in streaming.evenly_spaced(len(classes), ROWS)]
    # The first of each class, then the second of each ...
    order = sorted((place, rows[place]) for rows in chosen for place in range(len(rows)))
    return sorted((row for _, row in order[:ROWS]), key=lambda row: (labels[row], row))
