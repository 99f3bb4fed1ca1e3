"""Preparing: downloads that are cut off, processes that race or are killed, disks that are full."""

import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import archives
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import data
from data import builder, imagenet, prepare
from data.archives import Archive, download
from errors import UserError

ROOT = Path(__file__).parent.parent
BODY = np.random.RandomState(0).bytes(50_000)
SUM = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
    """Serves BODY at any path, but closes the connection after `patience` bytes, if set."""

    daemon_threads = True
    patience: int | None = None
    knows_ranges = True
    body = BODY

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        start = 0
        if asked and self.server.knows_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.server.body):
            self.send_error(416)
            return
        rest = self.server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest if self.server.patience is None else rest[: self.server.patience])

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(prepare.archives, "CHUNK", 1000)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def archive_at(server: Server, checksum: str = SUM) -> Archive:
    return Archive("body.bin", checksum, f"http://127.0.0.1:{server.server_port}/x/body.bin")


def test_a_download_resumes_where_it_was_cut_off(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare.archives, "ATTEMPTS", 1)
    server.patience = 20_000
    with pytest.raises(UserError, match=r"^http://.*body\.bin: cannot be downloaded .*--archives"):
        download([archive_at(server)], tmp_path)
    assert (tmp_path / "body.bin.part").read_bytes() == BODY[:20_000]
    server.patience = None
    assert download([archive_at(server)], tmp_path)["body.bin"].read_bytes() == BODY
    assert server.asked == [None, "bytes=20000-"]
    assert not (tmp_path / "body.bin.part").exists()
    download([archive_at(server)], tmp_path)  # It is there and whole: nobody is asked.
    assert len(server.asked) == 2


def test_a_call_retries_by_itself(server: Server, tmp_path: Path) -> None:
    server.patience = 15_000
    assert download([archive_at(server)], tmp_path)["body.bin"].read_bytes() == BODY
    assert server.asked == [None, "bytes=15000-", "bytes=30000-", "bytes=45000-"]


def test_a_server_without_ranges_sends_the_whole_file_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "body.bin.part").write_bytes(b"something else")
    assert download([archive_at(server)], tmp_path)["body.bin"].read_bytes() == BODY


def test_a_complete_partial_download_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "body.bin.part").write_bytes(BODY)
    assert download([archive_at(server)], tmp_path)["body.bin"].read_bytes() == BODY
    assert server.asked == ["bytes=50000-"]


def test_a_download_with_another_sum_is_thrown_away(server: Server, tmp_path: Path) -> None:
    wrong = archive_at(server, "sha256:" + "0" * 64)
    with pytest.raises(UserError, match=r"body\.bin: is not the file with sha256:000") as caught:
        download([wrong], tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "body.bin").exists()
    assert not (tmp_path / "body.bin.part").exists()


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    archive = Archive("body.bin", SUM, "http://127.0.0.1:9/body.bin")
    with pytest.raises(UserError, match="cannot be downloaded") as caught:
        download([archive], tmp_path)
    assert "\n" not in str(caught.value)
    assert "refused" in str(caught.value)


def test_prepare_downloads_what_no_folder_has(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    images = np.random.RandomState(0).randint(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    home = "cifar-10-batches-bin"
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    members = {
        f"{home}/{name}.bin": archives.cifar(images[n : n + 1], np.array([n]))
        for n, name in enumerate(names)
    }
    server.body = archives.tar(members, "gz")
    files = {"cifar-10-binary.tar.gz": server.body}
    archives.publish(monkeypatch, "cifar10", files, tmp_path / "unused", 5, 1)
    recipe = prepare.PREPARATIONS["cifar10"]
    url = f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz"
    here = [dataclasses.replace(archive, url=url) for archive in recipe.archives]
    monkeypatch.setitem(prepare.PREPARATIONS, "cifar10", dataclasses.replace(recipe, archives=here))
    prepare.prepare("cifar10", tmp_path)
    np.testing.assert_array_equal(data.load_arrays("cifar10", "train", tmp_path)[0], images[:5])
    assert (tmp_path / "downloads" / "cifar10" / "cifar-10-binary.tar.gz").exists()
    prepare.prepare("cifar10", tmp_path)  # Already prepared: nobody is asked.
    assert len(server.asked) == 1


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


LOAD = """
import sys, zlib, data
images, labels = data.load_arrays(sys.argv[1], "train", sys.argv[2])
print(images.shape, zlib.crc32(images.tobytes() + labels.tobytes()))
"""
NAME = "synthetic:32x32x3:10:600:10"


def test_runs_may_race_for_a_set_that_prepares_itself(tmp_path: Path) -> None:
    runs = [python(LOAD, NAME, str(tmp_path)) for _ in range(3)]
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert outputs[0][0].startswith("(600, 32, 32, 3)")
    assert outputs[0][1] == ""  # Silent: no log, no bar, no warning.
    home = tmp_path / "convnet_synthetic_32x32x3_10_600_10"
    assert sorted(path.name for path in home.iterdir()) == [".lock", "1.0.0"]


def test_a_killed_preparation_leaves_nothing_that_can_be_read(tmp_path: Path) -> None:
    killed = python(
        """
import os, signal, sys, data
from data import synthetic
encode, count = synthetic.encode_png, []
def encode_and_die(pixels):
    count.append(0)
    if len(count) == 500:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(pixels)
synthetic.encode_png = encode_and_die
data.load_arrays(sys.argv[1], "train", sys.argv[2])
""",
        NAME,
        str(tmp_path),
    )
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    home = tmp_path / "convnet_synthetic_32x32x3_10_600_10"
    left = [path for path in home.iterdir() if path.name != ".lock"]
    assert left
    assert all(path.name.startswith("incomplete.") for path in left)
    images, _ = data.load_arrays(NAME, "train", tmp_path)
    assert images.shape == (600, 32, 32, 3)
    assert sorted(path.name for path in home.iterdir()) == [".lock", "1.0.0"]


@pytest.fixture
def in_four_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The records of Imagenette with 100 training and 20 test images, in shards of 40."""
    members = {
        f"imagenette2/{folder}/{wordnet_id}/{wordnet_id}_{number}.JPEG": archives.photograph(number)
        for folder, count in (("train", 50), ("val", 10))
        for wordnet_id in imagenet.IMAGENETTE_IDS[:2]
        for number in range(count)
    }
    files = {"imagenette2.tgz": archives.tar(members, "gz")}
    archives.publish(monkeypatch, "imagenette", files, tmp_path / "a", 100, 20)
    monkeypatch.setattr(imagenet, "IMAGES_PER_SHARD", 40)
    return records(prepare.prepare("imagenette", tmp_path / "straight", tmp_path / "a"))


def records(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in target.iterdir() if "-of-" in path.name}


def goes_on(
    home: Path, done: int, straight: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepares again; asserts that `done` shards were reused and the records are the same."""
    written, write = list[Path](), tfds.core.ExampleWriter.write

    def count(writer: Any, path: Path, examples: Any) -> None:
        written.append(path)
        write(writer, path, examples)

    monkeypatch.setattr(tfds.core.ExampleWriter, "write", count)
    target = prepare.prepare("imagenette", home.parent, home.parent.parent / "a")
    assert len(written) == len(straight) - done
    assert records(target) == straight
    assert sorted(path.name for path in home.iterdir()) == [".lock", "1.0.0"]
    assert len(data.open_split("imagenette", "train", home.parent)) == 100


@pytest.mark.parametrize(("images", "done"), [(30, 0), (90, 2), (110, 3)])
def test_an_interrupted_preparation_continues_with_its_shards(
    images: int,
    done: int,
    in_four_shards: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*arguments: Any) -> bytes:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return photograph(*arguments)

    left, photograph = [None] * images, imagenet._photograph
    with monkeypatch.context() as patch:
        patch.setattr(imagenet, "_photograph", read)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare("imagenette", tmp_path / "cut", tmp_path / "a")
    goes_on(tmp_path / "cut" / "convnet_imagenette", done, in_four_shards, monkeypatch)


def test_a_killed_preparation_continues_with_its_shards(
    in_four_shards: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state after a kill: TFDS's folder with complete shards and an incomplete one."""
    home = tmp_path / "cut" / "convnet_imagenette"
    left = home / "incomplete.XXXXXX_1.0.0"
    left.mkdir(parents=True)
    first, second, *_ = sorted(name for name in in_four_shards if "train" in name)
    (left / first).write_bytes(in_four_shards[first])
    (left / (second + builder.WRITING)).write_bytes(in_four_shards[second][:1000])
    goes_on(home, 1, in_four_shards, monkeypatch)


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on file size simulates a full disk: the same system call fails."""
    run = python(
        """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import data
from errors import UserError
try:
    data.load_arrays(sys.argv[1], "train", sys.argv[2])
except UserError as error:
    print(error)
""",
        NAME,
        str(tmp_path),
    )
    stdout, stderr = run.communicate()
    assert (run.returncode, stderr) == (0, "")
    assert re.fullmatch(r"\S+: cannot prepare synthetic:\S+ here: File too large\n", stdout)
    assert not list(tmp_path.rglob("*array_record*"))
    assert data.load_arrays(NAME, "test", tmp_path)[0].shape == (10, 32, 32, 3)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/\S+: cannot prepare digits here: Not a directory$"):
        data.load_arrays("digits", "train", tmp_path / "file")


def test_command_line_prepares_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    parts = {"train": images, "t10k": images}
    files = archives.mnist(parts, {"train": np.arange(3), "t10k": np.arange(3)})
    archives.publish(monkeypatch, "mnist", files, tmp_path / "a", 3, 3)
    arguments = ["mnist", "--archives", str(tmp_path / "a"), "--data_dir", str(tmp_path / "d")]
    assert prepare.main(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"mnist: 3 train and 3 test images in {tmp_path / 'd'}/convnet_mnist/")
    (tmp_path / "a" / "t10k-labels-idx1-ubyte.gz").unlink()
    arguments[-1] = str(tmp_path / "e")
    assert prepare.main(arguments) == 2
    told = capsys.readouterr().err
    assert told == f"error: {tmp_path / 'a'}: missing t10k-labels-idx1-ubyte.gz\n"


def test_command_line_refuses_a_name_that_is_none(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "data.prepare", "cifar11"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"TFDS_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("error: there is no data set 'cifar11'; valid names: digits")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "--data_dir="], "--data_dir: is empty"),
        (["mnist", "--archives="], "--archives: is empty"),
        (["mnist", "--archives=README.md"], "--archives: there is no folder README.md"),
        (["mnist", "--archives"], "argument --archives: expected one argument; see python -m"),
        ([], "the following arguments are required: NAME; see python -m data.prepare --help"),
        (["synthetic:9999999x9x1:10"], "a side must be from 1 to 4096"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status: object
    try:
        status = prepare.main(arguments)
    except SystemExit as left:
        status = left.code
    told = capsys.readouterr().err
    assert (status, told.count("\n")) == (2, 1)
    assert words in told


def test_command_line_checks_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        for kind in ("cat", "dog"):
            (tmp_path / split / kind).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / kind / "a.png")
    assert prepare.main([f"folder:{tmp_path}"]) == 0
    assert "2 train and 2 test images are intact" in capsys.readouterr().out
    (tmp_path / "train" / "cat" / "a.png").write_bytes(b"no image")
    assert prepare.main([f"folder:{tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert told == f"error: {tmp_path}/train/cat/a.png: neither a PNG nor a JPEG image\n"


def test_version_needs_no_name_of_a_data_set(capsys):
    with pytest.raises(SystemExit) as stopped:
        prepare.main(["--version"])
    assert stopped.value.code == 0
    assert re.search(r"^versions +Python .*jax", capsys.readouterr().out, re.MULTILINE)
