"""State dicts of PyTorch: `.safetensors`, read and written, and the zip form of `.pth`, read.

A `.pth` holds a pickle, which is a program. Here it is first read as a list of instructions: only
those that a state dict needs pass, and they may name only what `NAMES` holds, which are functions
of this file. What the pickle says about an array is compared with the bytes that are there before
there is an array; arrays are views of those bytes until a table takes them.
"""

import io
import pathlib
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from errors import UserError
from training.workdirs import write_whole

# The first bytes of a zip file, of a pickle, and (at 257) of a tar file.
ZIP, PICKLE, TAR = b"PK", b"\x80", b"ustar"
LARGEST_PICKLE = 64 * 2**20  # bytes; that of ResNet-152 has 100 kB
MOST_AXES, LARGEST_NUMBER = 32, 2**40

# What torch.save writes for a dict of arrays with numbers, texts and flags beside them.
INSTRUCTIONS = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *(
        "BINUNICODE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
    ),
}
STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
AS_SAFETENSORS = (
    "import torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in "
    "torch.load({path!r}, map_location='cpu', weights_only={safe}).items()}}, "
    "'weights.safetensors')"
)


# What zipfile and pickle raise for damaged bytes, while they call nothing of the file's choice.
DAMAGED = (
    *(zipfile.BadZipFile, pickle.UnpicklingError, struct.error, OSError, EOFError, RuntimeError),
    *(ValueError, TypeError, AttributeError, KeyError, IndexError),
)


class Malformed(ValueError):
    """A pickle that is no state dict."""


class Fixed:
    """What a pickle may hold, without attributes that it could set."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise Malformed("it changes what it may only use")


class Function(Fixed):
    """Stands for a function of torch."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]):
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        """What the function makes of the pickle's arguments."""
        return self.make(*arguments)


class Storage(Fixed):
    """The numbers of one part of the file, one after the other."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: np.ndarray):
        self.numbers = numbers


class Tensor(Fixed):
    """A view of a storage."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray):
        self.array = array


class StateDict(dict[Any, Any]):
    """Stands for OrderedDict; torch keeps the versions of its modules as an attribute of it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Versions say nothing about arrays."""


def _ordered_dict(*arguments: Any) -> StateDict:
    if arguments:
        raise Malformed("an OrderedDict is made with arguments")
    return StateDict()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage. Raises Malformed if it reaches beyond it, or is larger than it.

    The other arguments are of gradients.
    """
    if not isinstance(storage, Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise Malformed("a tensor has no storage or no sizes")
    numbers = storage.numbers
    if len(size) != len(stride) or any(
        type(number) is not int or not 0 <= number <= LARGEST_NUMBER
        for number in (offset, *size, *stride)
    ):
        raise Malformed("a tensor has sizes or strides that are no whole numbers")
    count, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        count *= length
        last += (length - 1) * step
    if len(size) > MOST_AXES or (count and (count > len(numbers) or last >= len(numbers))):
        raise Malformed(
            f"a tensor of sizes {size}, strides {stride} and offset {offset} does not fit its "
            f"storage of {len(numbers)} numbers"
        )
    if not count:
        return Tensor(np.zeros(size, numbers.dtype))
    steps = [step * numbers.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(numbers[offset:], size, steps, writeable=False)
    return Tensor(view)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


NAMES: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Function(_ordered_dict),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_parameter),
    **{("torch", name): name for name in STORAGES},
}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, whatever the file's suffix. Raises UserError, one line.

    Files of torch before 1.6 are refused, with the command that makes them safetensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(262)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    tar = start[257:] == TAR
    if tar or start.startswith(PICKLE):
        form = "a tar file" if tar else "a bare pickle"
        command = AS_SAFETENSORS.format(path=str(path), safe=not tar)
        trust = ", if you trust the file," if tar else ""
        raise UserError(
            f"{path}: is {form}, which old versions of torch wrote and torch alone reads; where "
            f'torch is,{trust} run: python -c "{command}"'
        )
    return _read_zip(path) if start.startswith(ZIP) else _read_safetensors(path)


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a `.safetensors`, whole or not at all. Raises UserError if it cannot be written."""
    if path.suffix != ".safetensors":
        raise UserError(f"--to={path}: must end in .safetensors")
    # The package writes an array's memory as it lies.
    laid = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(path, safetensors.numpy.save(laid, metadata={"format": "pt"}))


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged or no file of weights ({_first(error)})") from None


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).state_dict()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Malformed as error:
        raise UserError(f"{path}: holds no state dict that is read here: {error}") from None
    except DAMAGED as error:
        raise UserError(f"{path}: is damaged or no file of weights ({_first(error)})") from None


class _Archive:
    """The parts of a `.pth`: NAME/data.pkl, and NAME/data/KEY for each storage."""

    def __init__(self, archive: zipfile.ZipFile, size: int):
        self.archive = archive
        self.entries = {info.filename: info for info in archive.infolist()}
        if len(self.entries) < len(archive.infolist()):
            raise Malformed("two of its parts have one name")
        # torch compresses nothing, so what is read from a file is no larger than the file.
        if any(info.compress_type != zipfile.ZIP_STORED for info in self.entries.values()):
            raise Malformed("its parts are compressed")
        if sum(info.file_size for info in self.entries.values()) > size:
            raise Malformed("its parts are larger than the file")
        found = [
            name for name in self.entries if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if len(found) != 1:
            raise Malformed("it has no data.pkl")
        self.folder = found[0].removesuffix("/data.pkl")
        if f"{self.folder}/constants.pkl" in self.entries:
            raise Malformed("it is a program of TorchScript; save model.state_dict() alone")
        self.contents: dict[str, bytes] = {}

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays by name. Raises Malformed."""
        order = f"{self.folder}/byteorder"
        if order in self.entries and self.archive.read(order) != b"little":
            raise Malformed("its numbers are not little-endian")
        if self.entries[f"{self.folder}/data.pkl"].file_size > LARGEST_PICKLE:
            raise Malformed(f"its data.pkl has more than {LARGEST_PICKLE:,} bytes")
        content = self.archive.read(f"{self.folder}/data.pkl")
        _require_harmless(content)
        found = _Unpickler(io.BytesIO(content), self.storage).load()
        if not isinstance(found, dict):
            raise Malformed("it is no dict")
        arrays: dict[str, np.ndarray] = {}
        for name, value in found.items():
            if not isinstance(name, str) or not isinstance(value, Tensor):
                what = type(value).__name__
                raise Malformed(f"{name!r} is no array ({what}); save model.state_dict() alone")
            arrays[name] = value.array
        return arrays

    def storage(self, kind: Any, key: Any, count: Any) -> Storage:
        """The numbers of one storage. Raises Malformed if their bytes are not in the file."""
        if type(kind) is not str or kind not in STORAGES or type(key) is not str:
            raise Malformed("a storage has no type or no key")
        info = self.entries.get(f"{self.folder}/data/{key}")
        there = info.file_size if info else 0
        dtype = STORAGES[kind]
        if info is None or type(count) is not int or count * dtype.itemsize != there:
            raise Malformed(f"storage {key!r} of {count} {dtype} has {there} bytes in the file")
        if key not in self.contents:
            self.contents[key] = self.archive.read(info)
        return Storage(np.frombuffer(self.contents[key], dtype))


def _require_harmless(content: bytes) -> None:
    """Raises Malformed for an instruction or a name that no state dict needs.

    Python's unpickler allocates before it looks for the bytes, and one instruction can make its
    memo fill any memory.
    """
    for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        name = instruction.name
        if name not in INSTRUCTIONS:
            raise Malformed(f"its pickle has the instruction {name}")
        if name == "GLOBAL":
            _known(*str(argument).split(" ", 1))
        # torch numbers what it remembers in order, by one or more instructions each.
        if name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > number:
            raise Malformed(f"its pickle remembers {argument} things in {number} instructions")


def _known(module: str, name: str = "") -> Any:
    if (module, name) not in NAMES:
        raise Malformed(f"it names {module}.{name}, which is not run")
    return NAMES[module, name]


class _Unpickler(pickle.Unpickler):
    """Knows `NAMES` and the storages of one file, nothing else."""

    def __init__(self, file: io.BytesIO, storage: Callable[[Any, Any, Any], Storage]):
        super().__init__(file)
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the pickle."""
        return _known(module, name)

    def persistent_load(self, pid: Any) -> Storage:
        """The storage of ("storage", type, key, place, count)."""
        if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage":
            raise Malformed("it refers to something other than a storage")
        _, kind, key, _, count = pid
        return self.storage(kind, key, count)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
