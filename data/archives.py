"""Finds or downloads official archives and verifies their checksums.

The checksums of MNIST, Fashion-MNIST, CIFAR, Imagenette and ImageNet's two tars are the sha256 that
TFDS 4.9 pins; that of ImageNet's development kit is the md5 that image-net.org publishes. An
interrupted download continues from where it stopped, also in a later call.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import lzma
import os
import struct
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.damage import Damaged
from data.locking import locked
from display import Progress
from errors import UserError

CHUNK = 1 << 20
ATTEMPTS = 5


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file as its authors publish it.

    file: its name. checksum: "sha256:..." or "md5:...".
    url: None if only registered users may download it.
    gzip_mtime: the time in the published file's gzip header. If given, a copy whose header was
    rewritten (Debian strips name and time) is checked with the published header restored.
    """

    file: str
    checksum: str
    url: str | None
    gzip_mtime: int | None = None


def find(archives: Sequence[Archive], folder: Path) -> dict[str, Path]:
    """Returns the verified path of every archive in `folder`, by file name.

    Raises UserError that lists the missing archives, Damaged if a checksum differs.
    """
    missing = [archive.file for archive in archives if not (folder / archive.file).is_file()]
    if missing:
        raise UserError(f"{folder}: missing {', '.join(missing)}")
    for archive in archives:
        _verify(archive, folder / archive.file)
    return {archive.file: folder / archive.file for archive in archives}


def download(archives: Sequence[Archive], folder: Path) -> dict[str, Path]:
    """Downloads every archive that is not yet in `folder`; returns the paths by file name.

    Raises UserError, with the URL and an alternative, if that fails.
    """
    # Imported here: pooch and requests are needed only to download.
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    paths = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            for archive in archives:
                assert archive.url is not None
                fetched = pooch.retrieve(
                    archive.url,
                    known_hash=archive.checksum,
                    fname=archive.file,
                    path=folder,
                    downloader=_continue_download,
                )
                paths[archive.file] = Path(fetched)
    except requests.RequestException as error:  # An OSError too, so it comes first.
        reason = f"cannot be downloaded ({_root_cause(error)})"
    except ValueError as error:  # Raised by pooch if the checksum differs.
        reason = f"is not the file with {archive.checksum} ({_root_cause(error)})"
    except OSError as error:
        raise UserError(f"{folder}: cannot write downloads: {error.strerror}") from error
    else:
        return paths
    raise UserError(
        f"{archive.url}: {reason}; run again to continue, or download it yourself into a folder "
        "DIR and add --archives=DIR"
    )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Converts errors of gzip and tarfile on damaged files to Damaged, which names the file."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError) as error:
        raise Damaged(path, None, f"truncated or damaged archive ({error})") from error


def member(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> bytes:
    """Returns the bytes of a tar's member; raises Damaged if they are fewer than in its header."""
    stream = tar.extractfile(info)
    if stream is None:
        raise Damaged(path, info.name, "not a regular file")
    body = stream.read()
    if len(body) != info.size:
        raise Damaged(path, info.name, f"{len(body)} bytes, its header says {info.size}")
    return body


def _verify(archive: Archive, path: Path) -> None:
    found = _digest(archive, path, header=None)
    if found != archive.checksum and archive.gzip_mtime is not None:
        found = _digest(archive, path, header=archive.gzip_mtime)
    if found != archive.checksum:
        what = f"damaged, or not the published file: {found}, expected {archive.checksum}"
        raise Damaged(path, None, what)


def _digest(archive: Archive, path: Path, header: int | None) -> str:
    algorithm = archive.checksum.partition(":")[0]
    digest = hashlib.new(algorithm)
    with path.open("rb") as file, _bar(path.stat().st_size, f"checking {path.name}") as bar:
        if header is not None:
            digest.update(_published_header(file.read(10), archive.file, header))
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.advance(len(chunk))
    return f"{algorithm}:{digest.hexdigest()}"


def _published_header(bare: bytes, file: str, mtime: int) -> bytes:
    """Returns the header that `gzip FILE` writes, given the ten-byte header of `gzip -n`."""
    if bare[:4] != b"\x1f\x8b\x08\x00":  # RFC 1952: magic, deflate, no flags and so no name.
        return bare
    extra_flags, unix = bare[8], 3
    return (
        bare[:3]
        + struct.pack("<BIBB", 0x08, mtime, extra_flags, unix)
        + file.removesuffix(".gz").encode()
        + b"\0"
    )


def _continue_download(url: str, output_file: str, pooch_caller: object) -> None:
    """A downloader for pooch that keeps partial downloads in `FILE.part` and continues them.

    `output_file` is a temporary name in the target folder; pooch verifies and renames it.
    """
    import requests

    part = Path(output_file).with_name(url.rpartition("/")[2] + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        have = part.stat().st_size if part.exists() else 0
        try:
            # Without it a server may compress the file, or unpack a .gz.
            headers = {"Accept-Encoding": "identity"}
            if have:
                headers["Range"] = f"bytes={have}-"
            with requests.get(url, stream=True, timeout=30, headers=headers) as response:
                if response.status_code == requests.codes.requested_range_not_satisfiable:
                    break  # The partial file is complete; pooch verifies its checksum.
                response.raise_for_status()
                if response.status_code != requests.codes.partial_content:
                    have = 0  # This server does not support ranges.
                total = have + int(response.headers.get("Content-Length", 0))
                with part.open("ab" if have else "wb") as file, _bar(total, part.stem, have) as bar:
                    for chunk in response.iter_content(CHUNK):
                        file.write(chunk)
                        bar.advance(len(chunk))
                    got = file.tell()
            if got >= total:
                break
            raise requests.ConnectionError(f"{got} of {total} bytes, then the connection ended")
        except requests.HTTPError:
            raise
        except requests.RequestException:
            if attempt == ATTEMPTS or not part.exists():
                raise
            time.sleep(attempt)
    os.replace(part, output_file)


def _root_cause(error: BaseException) -> str:
    """Returns the innermost error as one line: requests wraps urllib3, which wraps the socket."""
    reason: object = error
    while isinstance(reason, BaseException):
        inner = getattr(reason, "reason", None) or next(iter(reason.args), None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return " ".join(str(reason).split())


def _bar(total: int, label: str, have: int = 0) -> Progress:
    # On standard error: what a command answers may be read from standard output.
    return Progress(
        total=total, start=have, label=label, unit="MB", scale=1e6, brief=True, lines=sys.stderr
    )
