"""What docs/safety.md says runs no code, over all sources; and archives that try to escape."""

import ast
import io
import pathlib
import tarfile
from collections.abc import Iterator

import house
import numpy as np
import pytest

from data import prepare
from errors import UserError
from tests import archives

PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BY_NAME = {"import_module", "exec_module", "run_path", "run_module", "__import__"}
EXTRACTS = {"extractall", "extract", "unpack_archive"}

# Where each stands, and why it may.
ALLOWED = {
    ("conversion/torch_file.py", "pickle"),  # a subclass of Unpickler that finds listed names alone
    ("conversion/torch_file.py", "pickletools"),  # only lists instructions
    ("configs/files.py", "exec_module"),  # config files, which are Python
    ("benchmarks/worker.py", "import_module"),  # a contestant of this folder
    ("reproduction/tasks.py", "import_module"),  # a study's probe, by its own process
    ("training/tracking.py", "import_module"),  # trackers, of a fixed list
}


def sources() -> dict[str, ast.Module]:
    paths = [path for room in house.rooms().values() for path in room]
    return {str(path.relative_to(house.ROOT)): ast.parse(path.read_text()) for path in paths}


def findings(tree: ast.Module) -> Iterator[str]:
    """Names of what could run code that a file holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module] if module else [alias.name for alias in node.names]
            for name in names:
                if name and name.split(".")[0] in PICKLES | {"pickletools"}:
                    yield name
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        options = {word.arg: word.value for word in node.keywords}
        if called in ("eval", "exec", "compile", "os.system", "os.popen"):
            yield called
        if last in BY_NAME | EXTRACTS:
            yield last
        if called in ("np.load", "numpy.load"):
            pickled = options.get("allow_pickle")
            if not (isinstance(pickled, ast.Constant) and pickled.value is False):
                yield f"{called} without allow_pickle=False"
        if "shell" in options:
            yield f"{called}(shell=...)"
        if last in ("load", "loads") and called.partition(".")[0] in PICKLES:
            yield called


def test_no_source_runs_code_of_a_file_except_where_the_page_says() -> None:
    found = {(name, what) for name, tree in sources().items() for what in findings(tree)}
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import pickle", ["pickle"]),
        ("from cloudpickle import dumps", ["cloudpickle"]),
        ("np.load('x')", ["np.load without allow_pickle=False"]),
        ("np.load('x', allow_pickle=True)", ["np.load without allow_pickle=False"]),
        ("np.load('x', allow_pickle=False)", []),
        ("tar.extractall('x')", ["extractall"]),
        ("subprocess.run('ls', shell=True)", ["subprocess.run(shell=...)"]),
        ("eval(text)", ["eval"]),
        ("ast.literal_eval(text)", []),
    ],
)
def test_what_could_run_code_is_found(code: str, expected: list[str]) -> None:
    assert list(findings(ast.parse(code))) == expected


def hostile(members: dict[str, bytes], outside: pathlib.Path, linked: str) -> bytes:
    """A tar.gz whose further members lie outside its folder; `linked` is a link out of it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, body in {
            **members,
            "../escaped": b"x",
            "cifar-10-batches-bin/../../../escaped": b"x",
            str(outside / "escaped"): b"x",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        info = tarfile.TarInfo(linked)
        info.type, info.linkname = tarfile.SYMTYPE, str(outside / "secret")
        tar.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize("needed", [False, True])
def test_no_member_of_an_archive_leaves_its_folder(
    needed: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members with .. or a root in their names are not read; a needed one may not be a link."""
    images = np.zeros((2, 32, 32, 3), np.uint8)
    batch = archives.cifar(images[:1], np.array([1]))
    home = "cifar-10-batches-bin"
    members = {f"{home}/data_batch_{n}.bin": batch for n in range(1, 6)}
    members[f"{home}/test_batch.bin"] = batch
    linked = f"{home}/link"
    if needed:
        linked = f"{home}/test_batch.bin"
        del members[linked]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(batch)
    files = {"cifar-10-binary.tar.gz": hostile(members, outside, linked)}
    archives.publish(monkeypatch, "cifar10", files, tmp_path / "a" / "b", 5, 1)
    if needed:
        with pytest.raises(UserError, match=r"test_batch\.bin"):
            prepare.prepare("cifar10", tmp_path / "data", tmp_path / "a" / "b")
    else:
        prepare.prepare("cifar10", tmp_path / "data", tmp_path / "a" / "b")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not list(tmp_path.rglob("escaped"))
