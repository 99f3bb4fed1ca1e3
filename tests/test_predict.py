"""predict.py: the numbers of evaluate.py, files and folders, what it prints, and damaged files."""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

import data
import evaluate
import predict
import sharding
from data import image_files
from data.damage import Damaged
from errors import UserError
from protocols.predictions import Cuts, Predictor, smaller
from training.trained import Trained, load

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def loaded(run) -> Trained:
    return load(run)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, data_dir, loaded) -> pathlib.Path:
    """The test images of the run's data set as the files they are."""
    folder = tmp_path_factory.mktemp("stored")
    source = data.open_split(loaded.config.data.name, "test", data_dir)
    for index in range(len(source)):
        (folder / f"{index:02}.png").write_bytes(source.encoded(index)[0])
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> pathlib.Path:
    """Colour images of many sizes, one in each class folder, one of which is turned by EXIF."""
    folder = tmp_path_factory.mktemp("photos")
    draws = np.random.RandomState(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "val"):
        for label in range(10):
            (folder / split / f"class{label}").mkdir(parents=True)
            height, width = draws.randint(17, 60, 2)
            image = Image.fromarray(draws.randint(0, 256, (height, width, 3)).astype(np.uint8))
            path = folder / split / f"class{label}" / "0.jpg"
            image.save(path, exif=exif if label == 3 else Image.Exif())
    return folder


def answered(loaded: Trained, *words: Any, **options: Any) -> list[predict.Answer]:
    found = list(
        predict.answers(loaded, image_files.listed(map(str, words)), **{"batch": 16} | options)
    )
    assert all(isinstance(answer, predict.Answer) for answer in found)
    return [answer for answer in found if isinstance(answer, predict.Answer)]


def of_evaluate(loaded: Trained, run: Any, protocol: str, data_dir: str, name: str | None) -> Any:
    """The posteriors from which evaluate.py counts errors, in the order of the test split."""
    images = evaluate.open_images([loaded], [run], name, "test", data_dir)
    predictor = Predictor(loaded, sharding.create_mesh(), 16)
    (made,) = evaluate.plan([predictor], protocol, images)
    return np.concatenate([predictor.predict(batch, made) for batch, _ in images.batches(16)])


@pytest.mark.parametrize("protocol", ["plain", "ten_crop:side=320"])
def test_images_of_the_runs_own_set_get_the_numbers_of_evaluate(
    run, loaded, stored, data_dir, protocol
):
    found = answered(loaded, stored, text=protocol)
    assert [pathlib.Path(answer.file).name for answer in found] == sorted(os.listdir(stored))
    posteriors = np.stack([answer.posteriors for answer in found])
    assert posteriors.std() > 1e-3
    np.testing.assert_array_equal(
        posteriors, of_evaluate(loaded, run, protocol, data_dir, name=None)
    )


@pytest.mark.parametrize("protocol", ["plain", "grid_crop:sides=256"])
def test_other_images_get_the_numbers_of_evaluate_on_their_folder(
    run, loaded, photos, data_dir, protocol
):
    name = f"folder:{photos}"
    source = data.open_split(name, "test")
    files = [source.place(index)[0] for index in range(len(source))]
    found = answered(loaded, *files, text=protocol)
    expected = of_evaluate(loaded, run, protocol, data_dir, name)
    np.testing.assert_array_equal(np.stack([answer.posteriors for answer in found]), expected)


def test_the_plain_answer_is_that_of_the_runs_own_preprocessing(loaded, stored):
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(stored.iterdir())])
    logits = loaded.apply(loaded.preprocess(pixels[..., None])).logits
    np.testing.assert_allclose(
        np.stack([answer.posteriors for answer in answered(loaded, stored)]),
        jax.nn.softmax(logits),
        atol=1e-6,
    )


def test_batch_and_mixed_sizes_change_no_answer(loaded, stored, photos):
    files = [
        *(str(file) for file in sorted(stored.iterdir())[:3]),
        str(photos / "val/class1/0.jpg"),
        str(photos / "val/class3/0.jpg"),
    ]
    together = answered(loaded, *files)
    for size in (1, 2):
        for one, other in zip(together, answered(loaded, *files, batch=size), strict=True):
            assert one.file == other.file
            np.testing.assert_allclose(one.posteriors, other.posteriors, atol=1e-6)


def test_views_are_kept_instead_of_the_image_if_they_are_smaller(loaded):
    predictor = Predictor(loaded, sharding.create_mesh(), 8)
    image = np.random.RandomState(0).randint(0, 256, (40, 30, 3)).astype(np.uint8)
    plain, crops = predictor.protocol("plain"), predictor.protocol("ten_crop")
    held = smaller(image, plain)
    assert isinstance(held, Cuts)
    assert [view.shape for view in held.pixels] == [(16, 16, 3)]
    # Ten crops of 16² are more than 40 × 30 pixels.
    assert smaller(image, crops) is image
    np.testing.assert_array_equal(
        predictor.predict([held], plain), predictor.predict([image], plain)
    )


def test_features_are_the_layers_output(loaded, stored):
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(stored.iterdir())])
    outputs = loaded.apply(loaded.preprocess(pixels[..., None]), capture=("fc4",))
    found = answered(loaded, stored, layer="fc4")
    np.testing.assert_allclose(
        np.stack([np.asarray(answer.features) for answer in found]),
        outputs.captured["fc4"],
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layer": "fc44"}, "--features: no layer 'fc44'; layers: conv1"),
        ({"layer": "fc4", "text": "flip"}, "needs a protocol of one view, as plain; flip has 2"),
        ({"text": "ten_corp"}, "did you mean ten_crop"),
        ({"text": "ten_crop:side=100"}, "a crop of 16×16 pixels does not fit"),
    ],
)
def test_what_the_network_cannot_do_is_one_line(loaded, options, says):
    with pytest.raises(UserError) as caught:  # before any image is read: there is none
        list(predict.answers(loaded, iter(["nowhere.png"]), batch=4, **options))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_image_at_all_is_an_error(loaded, tmp_path):
    with pytest.raises(UserError, match="no images: give image files"):
        list(predict.answers(loaded, iter([]), batch=4))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"has no image \(valid endings: .jpg"):
        list(image_files.listed([str(tmp_path)]))


def test_files_folders_and_lists_are_named_in_order(tmp_path, monkeypatch):
    for name in ("b/2.png", "b/1.JPG", "a/3.jpeg", "0.png", ".hidden.png", "note.txt", "é.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    every = ["0.png", "é.png", "a/3.jpeg", "b/1.JPG", "b/2.png"]
    assert [os.path.relpath(file) for file in image_files.listed(["."])] == every
    lines = "note.txt\r\na\n\né.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert list(image_files.listed(["0.png", "-"])) == ["0.png", "note.txt", "a/3.jpeg", "é.png"]


def test_a_list_is_read_as_it_is_needed(loaded, stored):
    asked = []

    def names() -> Iterator[str]:
        for file in sorted(stored.iterdir()) * 9:
            asked.append(file)
            yield str(file)

    next(iter(predict.answers(loaded, names(), batch=2)))
    assert len(asked) <= 2 * 2 + predict.THREADS + 2


def test_damaged_files_are_lines_and_the_rest_goes_on(loaded, stored, tmp_path):
    good = sorted(stored.iterdir())[:2]
    shutil.copy(good[0], tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(good[0].read_bytes()[:-30])
    (tmp_path / "2.jpg").write_text("text")
    shutil.copy(good[1], tmp_path / "3.png")
    files = [*sorted(map(str, tmp_path.iterdir())), str(tmp_path / "nowhere.png"), "a\0b"]
    found = list(predict.answers(loaded, iter(files), batch=4))
    damaged = {answer.file: str(answer) for answer in found if isinstance(answer, Damaged)}
    assert list(damaged) == [files[1], files[2], files[4], files[5]]
    assert "not a complete image" in damaged[files[1]]
    assert "neither a PNG nor a JPEG image" in damaged[files[2]]
    assert "cannot be read: No such file" in damaged[files[4]]
    assert all("\n" not in line for line in damaged.values())
    alone = answered(loaded, *good)
    for place, answer in ((0, alone[0]), (3, alone[1])):
        one = found[place]
        assert isinstance(one, predict.Answer)
        np.testing.assert_allclose(one.posteriors, answer.posteriors, atol=1e-6)


def command(run: pathlib.Path, *words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "predict.py", *words, "--workdir", str(run)],
        cwd=ROOT,
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def test_the_command_prints_json_and_says_what_is_damaged(run, loaded, stored, tmp_path):
    good, bad = sorted(stored.iterdir())[0], tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:50])
    out = tmp_path / "features.npz"
    words = ("-", "--json", "--top", "3", "--features=conv2", f"--out={out}")
    done = command(run, *words, lines=f"{bad}\n{good}\n")
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {bad}: ")
    (shown,) = map(json.loads, done.stdout.splitlines())
    assert shown["image"] == str(good)
    (answer,) = answered(loaded, good)
    best = np.argsort(-answer.posteriors)[:3]
    assert [entry["index"] for entry in shown["classes"]] == best.tolist()
    assert [entry["class"] for entry in shown["classes"]] == [str(index) for index in best]
    probabilities = [entry["probability"] for entry in shown["classes"]]
    np.testing.assert_allclose(probabilities, answer.posteriors[best], atol=1e-6)
    with np.load(out) as kept:
        assert kept["images"].tolist() == [str(good)]
        assert kept["features"].shape == (1, 2, 2, 16)  # 16 − 4 = 12, pooled 6, 6 − 4 = 2
        assert str(kept["layer"]) == "conv2"


def test_the_command_exports_what_load_gives(run, loaded, tmp_path):
    path = tmp_path / "network.npz"
    done = command(run, f"--export={path}")
    assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 1)).astype(np.uint8)
    with np.load(path) as file:
        weights = {name: file[name] for name in file.files if name.startswith("weights/")}
        found = jax.export.deserialize(bytearray(file["program"])).call(weights, images)
        assert file["class_names"].tolist() == [str(label) for label in range(10)]
    logits = loaded.apply(loaded.preprocess(images)).logits
    np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-5)


def test_the_table_has_a_row_a_class(loaded, stored, capsys):
    (answer,) = answered(loaded, sorted(stored.iterdir())[0])
    predict._Table(loaded, 2)(answer)
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["probability", "class", "image"]
    order = np.argsort(-answer.posteriors)
    percents = [f"{100 * answer.posteriors[place]:.1f}%" for place in order]
    assert first.split() == [percents[0], str(order[0]), answer.file]
    assert second.split() == [percents[1], str(order[1])]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no images"),
        (["a.png", "--export=b.npz"], "--export: writes the network only"),
        (["a.png", "--features=fc4"], "--features and --out: give both or neither"),
        (["a.png", "--features=fc4", "--out=b.txt"], "--out: b.txt must end in .npz"),
        (["--export=nowhere/b.npz"], "--export: there is no folder nowhere"),
        (["a.png", "--step=lst"], "--step='lst': expected last, best or the number of a step"),
        (["a.png", "--top=0"], "flags"),
    ],
)
def test_mistakes_are_one_line(words, says, tmp_path):
    done = command(tmp_path, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert says in line


def test_grey_images_of_the_stored_size_are_decoded_as_the_sets_are(tmp_path):
    colour = np.random.RandomState(0).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    grey = np.asarray(Image.fromarray(colour).convert("L"))[..., None]
    read = partial(image_files.read, str(tmp_path / "colour.png"))
    np.testing.assert_array_equal(read((4, 4, 1)), grey)
    np.testing.assert_array_equal(read((8, 8, 1)), colour)
    np.testing.assert_array_equal(read((None, None, 3)), colour)
