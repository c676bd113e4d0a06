"""The two stores: a bucket of S3, or a directory, which is here."""

import contextlib
import errno
import fcntl
import glob
import os
import stat
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.contract import DEFAULT_LIMITS, ReadLimits, Store
from pipeline.edges.patience import Patience
from pipeline.edges.s3_store import open_bucket
from pipeline.errors import Refused, Retryable
from pipeline.layout import outside, own_key

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_store(
    url: str,
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    patience: Patience,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> Store:
    """The store of a STORE_URL: `s3://bucket[/prefix]` or a directory, made when first written to."""
    url = url.strip()
    if "://" not in url:
        return DirectoryStore(Path(url), limits)
    return open_bucket(url, region, endpoint_url, patience, limits)


class DirectoryStore:
    """A directory of the machine; a location is an absolute path.

    Raises:
        Refused: `configuration`, when the directory is not ours to use.
        Retryable: `store_unavailable`, for anything else the file system says.
    """

    def __init__(self, root: Path, limits: ReadLimits = DEFAULT_LIMITS) -> None:
        # As it is spelled, without `..`: a location is compared by its spelling.
        self._root = Path(os.path.normpath(root.expanduser().absolute()))
        self.limits = limits

    def read(self, key: str) -> bytes | None:
        """The file's bytes, None where there is none."""
        with _os_errors(self.locate(key)):
            try:
                # Without waiting: nobody may ever write into a pipe.
                file = os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NONBLOCK), "rb")
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
        path = self._path(key)
        with _os_errors(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                Path(draft).chmod(0o644)
                Path(draft).replace(path)
            finally:
                Path(draft).unlink(missing_ok=True)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Compare and write under a lock that every process of the machine respects."""
        path = self._path(key)
        with _os_errors(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with (path.parent / f".{path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                is_same = self._etag(path) == etag
                if is_same:
                    self.write(key, body)
                return is_same

    def list(self, prefix: str) -> dict[str, str]:
        """The files whose keys begin so; the ETag is made of inode, size and time, since a rename makes a new inode."""
        with _os_errors(self.locate(prefix)):
            folder, _, name = own_key(prefix).rpartition("/")
            begun = self._path(folder).glob(f"{glob.escape(name)}*")
            found = [path for one in begun for path in (one, *one.rglob("*"))]
            files = [path for path in found if not path.name.startswith(".")]
            etags = {str(path.relative_to(self._root.resolve())): self._etag(path) for path in files if path.is_file()}
            return {key: etag for key, etag in sorted(etags.items()) if etag}

    def delete(self, key: str) -> None:
        """Remove the file if it is there."""
        with _os_errors(self.locate(key)):
            self._path(key).unlink(missing_ok=True)

    def locate(self, key: str) -> str:
        """The absolute path of a key."""
        return str(self._root / key)

    def key_of(self, location: str) -> str:
        """The key of an absolute path below the root, by its spelling alone."""
        path = PurePosixPath(location)
        if not path.is_relative_to(self._root) or ".." in path.parts:
            raise outside(location, str(self._root))
        return str(path.relative_to(self._root))

    def _etag(self, path: Path) -> str | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"

    def _path(self, key: str) -> Path:
        path = Path(os.path.realpath(self._root / own_key(key)))  # `resolve` has an error of its own for loops of links
        if not path.is_relative_to(self._root.resolve()):
            raise outside(key, str(self._root))
        return path


_NOT_OURS = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


@contextlib.contextmanager
def _os_errors(where: str) -> "Iterator[None]":
    try:
        yield
    except OSError as error:
        if isinstance(error, _NOT_OURS) or error.errno in (errno.EROFS, errno.ELOOP):
            raise Refused("configuration", f"{where} cannot be used: {error.strerror}. Check STORE_URL.") from error
        raise Retryable(
            "store_unavailable", f"{where} cannot be read or written: {error.strerror}. Mend that, and try again."
        ) from error
