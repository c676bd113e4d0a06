"""What the two sides agree on: how rows meet their schemas, and what a store can do.

The two stores: a bucket of S3, or a directory, which is here.
"""

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.storage.keys import outside_store_error, require_key_inside
from pipeline.storage.versioned import takes_more

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*([^\n]*)")


@dataclass(frozen=True)
class ReadLimits:
    """How much is read of one object; each is the setting of its name in capitals."""

    csv_max_bytes: int = 2**28
    csv_max_lines: int = 5_000_000
    csv_max_columns: int = 1_000
    csv_max_record_chars: int = 2**20
    json_max_bytes: int = 2**24
    catalogue_max_bytes: int = 2**30
    overrides_max_bytes: int = 2**24
    parquet_max_bytes: int = 2**30

    def check_size(self, key: str, size: float) -> None:
        """Refuse an object before it is read: by `checkpoint_invalid`, by `configuration` if it is all users'."""
        name = "csv_max_bytes"
        if key.endswith(".json"):
            name = "json_max_bytes"
        elif key.startswith("catalogue/"):
            name = "catalogue_max_bytes"
        elif key == "overrides.csv":
            name = "overrides_max_bytes"
        self._check(key, size, "bytes", name)

    def check_csv(self, key: str, size: float) -> None:
        """Refuse a CSV before it is read, whatever its name, by `checkpoint_invalid`."""
        self._check(key, size, "bytes", "csv_max_bytes")

    def checked(self, key: str, body: bytes) -> bytes:
        """The bytes, if they do not come to too much when they are parsed; raises as `check_size`."""
        if key.endswith(".parquet"):
            if takes_more(body, self.parquet_max_bytes):
                raise self._refusal(key, "more bytes when it is unpacked", "parquet_max_bytes")
        elif not key.endswith(".json"):
            self.check_lines(key, body)
        return body

    def check_lines(self, key: str, body: bytes) -> None:
        """Refuse a CSV of too many lines, as `check_size` does."""
        self._check(key, body.count(b"\n"), "lines", "csv_max_lines")

    def check_header(self, key: str, body: bytes) -> None:
        """Refuse a CSV with too many columns, with more lines of header than one, or with one that is no UTF-8.

        Polars would read them, for a header's faults are no errors to it.
        """
        header = _HEADER.match(body)[1]  # type: ignore[index]  # it matches anything
        try:
            header.decode()
        except UnicodeDecodeError as error:
            raise Failed("checkpoint_invalid", f"{key}: its header is not in UTF-8: {error.reason}.") from None
        if header.count(b'"') % 2:
            raise Failed("checkpoint_invalid", f"{key}: a quote in its header is not closed on the same line.")
        self._check(key, header.count(b",") + 1, "columns", "csv_max_columns")

    def _check(self, key: str, size: float, unit: str, name: str) -> None:
        if size > getattr(self, name):
            raise self._refusal(key, f"{size:,} {unit}", name)

    def _refusal(self, key: str, size: str, name: str) -> PipelineError:
        says = (
            f"{key}: it has {size}, and no more than {getattr(self, name):,} are read. "
            f"Look whether it is what it should be; if so, set {name.upper()} higher."
        )
        is_of_all = name == "parquet_max_bytes" or key == "overrides.csv" or key.startswith("catalogue/")
        return Refused("configuration", says) if is_of_all else Failed("checkpoint_invalid", says)


DEFAULT_LIMITS = ReadLimits()


class Store(Protocol):
    """Where the checkpoints are: a directory or a bucket. Raises `store_unavailable` or `configuration`."""

    @property
    def limits(self) -> ReadLimits:
        """How much is read of an object."""
        ...

    def read(self, key: str) -> bytes | None:
        """The object's bytes, None where there is no such object; one beyond the limits is refused unread."""
        ...

    def write(self, key: str, body: bytes) -> None:
        """Put the whole object in its place at once: no reader ever sees half of it."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Write, if the object is still the one of that ETag (None: if there still is none); whether it was."""
        ...

    def list(self, prefix: str) -> dict[str, str]:
        """The ETags of all objects whose keys begin so, by key: another one means other bytes."""
        ...

    def locate(self, key: str) -> str:
        """The location of a key: `s3://bucket/key` or an absolute path."""
        ...

    def key_of(self, location: str) -> str:
        """The key of a location in this store, found without asking it; raises `location_refused`."""
        ...


DRAFT = re.compile(r"\..+\.[0-9a-f]{16}\.draft")

ABANDONED_SECONDS = 3_600
"""Nobody writes so long on one draft."""


class AwsLimits(NamedTuple):
    """How long each call to AWS may take, and how often it is made."""

    timeout_seconds: float = 20.0
    attempts: int = 5


DEFAULT_AWS_LIMITS = AwsLimits()


def open_store_at_url(
    url: str,
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    aws_limits: AwsLimits = DEFAULT_AWS_LIMITS,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> Store:
    """The store of a STORE_URL: `s3://bucket[/prefix]` or a directory, made when first written to."""
    url = url.strip()
    if "://" not in url:
        return DirectoryStore(Path(url), limits)
    from pipeline.storage.s3 import open_bucket  # noqa: PLC0415 - botocore takes long to import, and a directory needs none

    return open_bucket(url, region, endpoint_url, aws_limits, limits)


class DirectoryStore:
    """A directory of the machine; a location is an absolute path.

    Raises:
        Failed: `location_refused`, where a link below it is in the way, wherever it leads.
        Refused: `configuration`, when the directory is not ours to use.
        Retryable: `store_unavailable`, for anything else the file system says.
    """

    def __init__(self, root: Path, limits: ReadLimits = DEFAULT_LIMITS) -> None:
        # As it is spelled, without `..`: a location is compared by its spelling.
        self._root = Path(os.path.normpath(root.expanduser().absolute()))
        self.limits = limits
        self._swept = set[tuple[int, int]]()

    def read(self, key: str) -> bytes | None:
        """The file's bytes, None where there is none."""
        with _os_errors(self.locate(key)):
            try:
                with self._folder_of(key) as (folder, name):
                    file = os.fdopen(_open(name, os.O_RDONLY, folder), "rb")
            except FileNotFoundError:
                return None
            with file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise FileExistsError(errno.EEXIST, "it is not a file")
                self.limits.check_size(key, status.st_size)
                return self.limits.checked(key, file.read(status.st_size))

    def write(self, key: str, body: bytes) -> None:
        """Write beside the file, flush to the disk, then rename over it: at once, and for good."""
        with _os_errors(self.locate(key)), self._folder_of(key, makes=True) as (folder, name):
            _unlinked(name, folder)
            self._sweep(folder)
            draft = f".{name}.{token_hex(8)}.draft"
            try:
                with os.fdopen(_open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder), "wb") as file:
                    os.fchmod(file.fileno(), 0o644)
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=folder)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Compare and write under a lock that every process of the machine respects."""
        with _os_errors(self.locate(key)), self._folder_of(key, makes=True) as (folder, name):
            lock = _open(f".{name}.lock", os.O_RDWR | os.O_CREAT, folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                is_same = _etag(_unlinked(name, folder)) == etag
                if is_same:
                    self.write(key, body)
                return is_same
            finally:
                os.close(lock)

    def list(self, prefix: str) -> dict[str, str]:
        """The files whose keys begin so; the ETag is made of inode, size and time, since a rename makes a new inode."""
        above, _, begun = require_key_inside(prefix).rpartition("/")
        found: dict[str, str | None] = {}
        with _os_errors(self.locate(prefix)), suppress(FileNotFoundError), self._folder(PurePosixPath(above)) as top:
            for path, folders, names, folder in os.fwalk(dir_fd=top, onerror=_unless_gone):
                start = begun if path == "." else ""
                folders[:] = [name for name in folders if name.startswith(start)]
                for name in names:
                    if name.startswith(start) and not name.startswith("."):
                        found[str(PurePosixPath(above, path, name))] = _etag(_status(name, folder))
        return {key: etag for key, etag in sorted(found.items()) if etag}

    def delete(self, key: str) -> None:
        """Remove the file if it is there."""
        with _os_errors(self.locate(key)), suppress(FileNotFoundError), self._folder_of(key) as (folder, name):
            _unlinked(name, folder)
            os.unlink(name, dir_fd=folder)

    def locate(self, key: str) -> str:
        """The absolute path of a key."""
        return str(self._root / key)

    def key_of(self, location: str) -> str:
        """The key of an absolute path below the root, by its spelling alone."""
        path = PurePosixPath(location)
        if not path.is_relative_to(self._root) or ".." in path.parts:
            raise outside_store_error(location, str(self._root))
        return str(path.relative_to(self._root))

    def _sweep(self, folder: int) -> None:
        """Remove the drafts of writers that were killed; of each folder once, for it may hold very many files."""
        status = os.fstat(folder)
        if (status.st_dev, status.st_ino) in self._swept:
            return
        self._swept.add((status.st_dev, status.st_ino))
        with suppress(OSError):  # one is gone, or another's: nobody depends on this
            for draft in filter(DRAFT.fullmatch, os.listdir(folder)):
                found = _status(draft, folder)
                if found and stat.S_ISREG(found.st_mode) and found.st_mtime < time.time() - ABANDONED_SECONDS:
                    os.unlink(draft, dir_fd=folder)

    @contextmanager
    def _folder_of(self, key: str, *, makes: bool = False) -> "Iterator[tuple[int, str]]":
        """The open folder that a key's file is in, and the file's name there."""
        path = PurePosixPath(require_key_inside(key))
        with self._folder(path.parent, makes=makes) as folder:
            yield folder, path.name or "."

    @contextmanager
    def _folder(self, path: PurePosixPath, *, makes: bool = False) -> "Iterator[int]":
        """A folder below the root, opened a step at a time, so that nobody can put a link in the way meanwhile."""
        if makes:
            Path(os.path.realpath(self._root)).mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            folder = os.open(self._root, os.O_RDONLY)  # which may be a link: whoever set STORE_URL chose it
            opened.callback(os.close, folder)
            for name in path.parts:
                if makes:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=folder)
                folder = _open(name, os.O_RDONLY, folder)
                opened.callback(os.close, folder)
            yield folder


def _open(name: str, flags: int, folder: int) -> int:
    """Open what is in a folder, unless it is a link; without waiting, for nobody may ever write into a pipe."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=folder)


def _unlinked(name: str, folder: int) -> os.stat_result | None:
    """What is in a folder under a name, unless it is a link."""
    status = _status(name, folder)
    if status and stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a link")
    return status


def _status(name: str, folder: int) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    return None


def _etag(status: os.stat_result | None) -> str | None:
    """Of a file; None of anything else."""
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


_NOT_OURS = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


@contextmanager
def _os_errors(where: str) -> "Iterator[None]":
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            says = (
                f"{where} leads over a link, and links in a store are not followed. Put what it leads to in its place."
            )
            raise Failed("location_refused", says) from error
        if isinstance(error, _NOT_OURS) or error.errno == errno.EROFS:
            raise Refused("configuration", f"{where} cannot be used: {error.strerror}. Check STORE_URL.") from error
        raise Retryable(
            "store_unavailable", f"{where} cannot be read or written: {error.strerror}. Mend that, and try again."
        ) from error
