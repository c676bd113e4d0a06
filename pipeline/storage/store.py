"""The interface of a store, the store in a directory, and the function that opens a store by its URL."""

import errno
import fcntl
import os
import re
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline.errors import Failed, Refused, Retryable
from pipeline.settings import FILE_MAX_BYTES, absolute_path
from pipeline.storage.keys import outside_store_error, require_key_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REWRITE_ATTEMPTS = 10
"""How many times a file that others write meanwhile is read again, before the error says so."""


class Store(Protocol):
    """A place for files, each with a key: a directory or a bucket, with writes that depend on a file's ETag.

    Every method that reads or writes may raise `store_unavailable` or `configuration`.
    """

    @property
    def file_max_bytes(self) -> int:
        """The largest size in bytes of a file that people bring: the setting FILE_MAX_BYTES."""
        ...

    def read(self, key: str, *, max_bytes: int | None = None) -> bytes | None:
        """Return the bytes of the file with a key, None if there is no such file.

        A file with more than `max_bytes` is refused by `checkpoint_invalid` before it is read.
        """
        ...

    def write(self, key: str, body: bytes) -> None:
        """Write the file with a key as a whole: no reader ever sees half of it."""
        ...

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        ...

    def delete_folder(self, prefix: str) -> None:
        """Delete every file whose key begins with a prefix that ends in a slash, and drafts of killed processes."""
        ...

    def delete_drafts(self, folder: str) -> None:
        """Delete what killed processes left half written in a folder; a process that writes there now has to retry."""
        ...

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Write a file if its ETag is still `etag` (None: if there is still no file); return True if it was written."""
        ...

    def list(self, prefix: str) -> dict[str, str]:
        """Return a mapping of key to ETag for the files with a prefix in their keys; other bytes have another ETag."""
        ...

    def locate(self, key: str) -> str:
        """Return the location of a key: `s3://bucket/key` or an absolute path."""
        ...

    def key_of(self, location: str) -> str:
        """Return the key of a location, even if no file is there; raises `location_refused` outside this store."""
        ...


class AwsLimits(NamedTuple):
    """The seconds that each request to AWS may take, and the number of times that it is tried."""

    timeout_seconds: float = 20.0
    attempts: int = 5


DEFAULT_AWS_LIMITS = AwsLimits()


def open_store_at_url(
    url: str,
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    aws_limits: AwsLimits = DEFAULT_AWS_LIMITS,
    file_max_bytes: int = FILE_MAX_BYTES,
) -> Store:
    """Return the store at `s3://bucket[/prefix]` or in a directory, which is created by the first write.

    Raises:
        Refused: `configuration`, if the URL, or a setting of AWS, cannot be used.
    """
    url = url.strip()
    if re.match(r"(s3://)?arn:", url):
        raise Refused(
            "configuration",
            f"{url} is an ARN: give s3://bucket/prefix. Of an access point use its alias in place of a bucket's name, "
            "as `aws s3control get-access-point` prints it (Alias: …-s3alias).",
        )
    if not looks_like_a_url(url):
        return DirectoryStore(Path(url), file_max_bytes)
    from pipeline.storage.s3 import S3Store, open_aws  # botocore takes long to import

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise Refused("configuration", f"STORE_URL is {url!r}: give a directory, or s3://bucket/prefix.")
    client = open_aws("s3", url, aws_limits, region=region, endpoint_url=endpoint_url)
    return S3Store(client, bucket, prefix.strip("/"), file_max_bytes)


def rewrite(
    store: Store, key: str, change: "Callable[[bytes | None], bytes | None]", max_bytes: int | None = None
) -> bytes | None:
    """Replace a file by what `change` makes of its bytes, and return that; None stands for no file, in and out.

    `change` is called again for a file that others have replaced meanwhile.

    Raises:
        Retryable: `store_unavailable`, where others replace the file all the time.
    """
    for _ in range(REWRITE_ATTEMPTS):
        etag, body = store.list(key).get(key), store.read(key, max_bytes=max_bytes)
        changed = change(body)
        if changed is None or changed == body or store.replace(key, changed, etag):
            return changed
    raise Retryable("store_unavailable", f"{key} is being rewritten by others all the time. Try again later.")


def looks_like_a_url(text: str) -> bool:
    """Return True for a URL, an ARN, and `s3:/typo` and `s3//typo`, which are no names of directories."""
    return "://" in text or bool(re.match(r"(?i)s3(:|//)|arn:", text))


def require_size(name: str, size: int, max_bytes: int | None) -> None:
    """Raise `checkpoint_invalid` if the size of a file called `name` exceeds `max_bytes` (None: no limit)."""
    if max_bytes is not None and size > max_bytes:
        raise Failed(
            "checkpoint_invalid",
            f"{name} has more than {max_bytes:,} bytes. Check that it is the right file; if it is, set FILE_MAX_BYTES "
            "higher.",
        )


DRAFT = re.compile(r"\..+\.([0-9a-f]{16}\.draft|lock)")
"""The name of a draft: a file that is being written, and that gets its final name when it is complete.

The lock files that earlier versions left beside each file match too: they are deleted like drafts.
"""

ABANDONED_SECONDS = 3_600
"""The age in seconds from which a draft is that of a killed process: no write takes so long."""


class DirectoryStore:
    """The store in a directory of this machine; a location is an absolute path.

    Raises:
        Failed: `location_refused`, if a link in the directory leads out of it.
        Refused: `configuration`, if the directory may not be used, or a file and a directory are in each other's way.
        Retryable: `store_unavailable`, for any other error of the file system.
    """

    def __init__(self, root: Path, file_max_bytes: int = FILE_MAX_BYTES) -> None:
        # Normalized without following links, because `key_of` compares spellings.
        self._root = Path(os.path.normpath(absolute_path(root)))
        self._real_root = os.path.realpath(self._root)
        self._swept = set[Path]()
        self.file_max_bytes = file_max_bytes

    def read(self, key: str, *, max_bytes: int | None = None) -> bytes | None:
        """Return the bytes of a file, None if there is no such file."""
        path = self._path(key)
        with _os_errors(path):
            try:
                with path.open("rb", buffering=0) as file:
                    require_size(key, os.fstat(file.fileno()).st_size, max_bytes)
                    return file.readall()
            except FileNotFoundError:
                return None

    def write(self, key: str, body: bytes) -> None:
        """Write the file with a key: a draft beside it, flushed to the disk, is renamed over it."""
        path = self._path(key)
        with _os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(path.parent)
            draft = path.with_name(f".{path.name}.{token_hex(8)}.draft")
            try:
                with draft.open("xb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Write a file if its ETag is still `etag` (None: if there is still no file); return True if it was written.

        A lock of the folder holds off other calls of `replace`, on this machine only, and no `write` or `delete`.
        """
        path = self._path(key)
        with _os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_name(".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                is_same = _etag(path) == etag
                if is_same:
                    self.write(key, body)
                return is_same

    def list(self, prefix: str) -> dict[str, str]:
        """Return a mapping of key to ETag for the files whose keys begin with the prefix, without links and drafts."""
        above, _, begin = require_key_inside(prefix).rpartition("/")
        top = self._path(above)
        found: dict[str, str] = {}
        with _os_errors(top):
            for folder, folders, names in os.walk(top, onerror=_raise_unless_missing):
                start = begin if folder == str(top) else ""
                folders[:] = [name for name in folders if name.startswith(start)]
                inside = folder.removeprefix(str(self._root)).strip("/")
                for name in names:  # thousands, for which a `Path` each takes several times as long
                    if name.startswith(start) and not name.startswith(".") and (etag := _etag(f"{folder}/{name}")):
                        found[f"{inside}/{name}".lstrip("/")] = etag
        return dict(sorted(found.items()))

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        path = self._path(key)
        with _os_errors(path):
            path.unlink(missing_ok=True)

    def delete_folder(self, prefix: str) -> None:
        """Delete a folder with everything in it; a link in it is deleted, and not what it leads to."""
        path = self._path(prefix)
        with _os_errors(path), suppress(FileNotFoundError):
            shutil.rmtree(path)

    def delete_drafts(self, folder: str) -> None:
        """Delete all drafts in a folder, but not in folders below it."""
        path = self._path(folder)
        with _os_errors(path), suppress(FileNotFoundError):
            for draft in path.iterdir():
                if DRAFT.fullmatch(draft.name):
                    draft.unlink(missing_ok=True)

    def locate(self, key: str) -> str:
        """Return the absolute path of a key."""
        return str(self._root / key)

    def key_of(self, location: str) -> str:
        """Return the key of an absolute path below the store's root, without reading."""
        path = PurePosixPath(location)
        if not path.is_relative_to(self._root) or ".." in path.parts:
            raise outside_store_error(location, str(self._root))
        return str(path.relative_to(self._root))

    def _path(self, key: str) -> Path:
        path = self._root / require_key_inside(key)
        if os.path.commonpath([os.path.realpath(path), self._real_root]) != self._real_root:
            says = f"{path} leads out of the store over a link. Put the files themselves there instead of the link."
            raise Failed("location_refused", says)
        return path

    def _sweep(self, folder: Path) -> None:
        """Delete the drafts of killed processes; once per folder, because it may hold very many files."""
        if folder in self._swept:
            return
        self._swept.add(folder)
        with suppress(OSError):  # another process may have deleted one, and the next writer tries again
            for path in folder.iterdir():
                if DRAFT.fullmatch(path.name) and path.lstat().st_mtime < time.time() - ABANDONED_SECONDS:
                    path.unlink()


def _etag(path: str | Path) -> str | None:
    """Return the ETag of a file: its inode, size and time; None if it is not a file.

    Each write makes a new inode.
    """
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    return None


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


_NOT_USABLE = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


@contextmanager
def _os_errors(path: Path) -> "Iterator[None]":
    try:
        yield
    except OSError as error:
        if isinstance(error, _NOT_USABLE) or error.errno == errno.EROFS:
            raise Refused("configuration", f"{path} cannot be used: {error.strerror}. Check STORE_URL.") from error
        raise Retryable(
            "store_unavailable",
            f"{path} cannot be read or written: {error.strerror}. Fix that, and run the same again.",
        ) from error
