"""The two stores: a directory, and a bucket of S3."""

import contextlib
import errno
import fcntl
import glob
import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.session import Session

from pipeline.contract import Store
from pipeline.edges.patience import Patience
from pipeline.errors import Failed, Refused, Retryable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3 import S3Client

_PASSING = {408, 409, 429}
"""Of the 4xx, those that a later try may mend; for the others somebody has to change something."""

_SLOW = {"RequestTimeout", "SlowDown", "Throttling"}
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
_NEEDS = "Check S3_BUCKET or STORE_URL, and that we may s3:GetObject, PutObject, DeleteObject and ListBucket there."


def open_store(url: str, *, region: str | None = None, endpoint_url: str | None = None, patience: Patience) -> Store:
    """The store of a STORE_URL: `s3://bucket[/prefix]` or a directory, made when first written to."""
    url = url.strip()
    if "://" not in url:
        return DirectoryStore(Path(url))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise Refused("configuration", f"STORE_URL is {url!r}: give a directory, or s3://bucket/prefix.")
    config = Config(
        connect_timeout=patience.timeout_seconds,
        read_timeout=patience.timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
    )
    try:
        # boto3 would make the same one, after it has imported what transfers large files: a sixth of a cold start.
        client = Session().create_client("s3", region_name=region, endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:  # a region, an endpoint or a profile that cannot be
        raise Refused("configuration", f"S3 cannot be set up for {url}: {error}. Check the AWS_… settings.") from error
    return S3Store(cast("S3Client", client), bucket, prefix.strip("/"))


class DirectoryStore:
    """A directory of the machine; a location is an absolute path.

    Raises:
        Refused: `configuration`, when the directory is not ours to use.
        Retryable: `store_unavailable`, for anything else the file system says.
    """

    def __init__(self, root: Path) -> None:
        # As it is spelled, without `..`: a location is compared by its spelling.
        self._root = Path(os.path.normpath(root.expanduser().absolute()))

    def read(self, key: str) -> bytes | None:
        """The file's bytes, None where there is none."""
        with _os_errors(self.locate(key)):
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

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
            folder, _, name = prefix.rpartition("/")
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
            raise Failed("location_refused", f"{location!r} is not in the store {self._root}.")
        return str(path.relative_to(self._root))

    def _etag(self, path: Path) -> str | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root.resolve()):
            raise Failed("location_refused", f"{key!r} leads out of the store {self._root}.")
        return path


class S3Store:
    """A bucket, or a prefix of one; a location is `s3://bucket/key`. S3 shows an object whole or not at all.

    Raises:
        Refused: `configuration`, when the bucket is not there or not ours to use.
        Retryable: `store_unavailable`, after boto's own retries.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def read(self, key: str) -> bytes | None:
        """The object's bytes, None where there is none."""
        with self._s3_errors(key):
            try:
                return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None

    def write(self, key: str, body: bytes) -> None:
        """Put the object."""
        with self._s3_errors(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Put with If-Match, or with If-None-Match where there must be none."""
        condition: dict[str, str] = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._s3_errors(key):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body, **condition)  # type: ignore[arg-type]
            except ClientError as error:
                if error.response["Error"].get("Code") in _LOST_RACE:
                    return False
                raise
        return True

    def list(self, prefix: str) -> dict[str, str]:
        """The objects whose keys begin so."""
        with self._s3_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            return {
                item["Key"].removeprefix(self._prefix): item["ETag"]
                for page in pages
                for item in page.get("Contents", [])
            }

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        with self._s3_errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def locate(self, key: str) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def key_of(self, location: str) -> str:
        """The key of a location in this bucket and under this prefix."""
        root = self.locate("")
        if not location.startswith(root) or ".." in location.split("/"):
            raise Failed("location_refused", f"{location!r} is not in the store {root}.")
        return location.removeprefix(root)

    @contextlib.contextmanager
    def _s3_errors(self, key: str) -> "Iterator[None]":
        where = self.locate(key)
        try:
            yield
        except ClientError as error:
            code = error.response["Error"].get("Code", "unknown")
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 500)
            if 400 <= status < 500 and status not in _PASSING and code not in _SLOW:  # noqa: PLR2004 - HTTP's classes
                raise Refused("configuration", f"S3 answers {code} for {where}. {_NEEDS}") from error
            raise Retryable("store_unavailable", f"S3 answers {code} for {where}. Try again later.") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise Refused("configuration", f"There are no AWS credentials for {where}. {_NEEDS}") from error
        except ParamValidationError as error:
            raise Refused("configuration", f"S3 cannot have {where}: {error}. {_NEEDS}") from error
        except BotoCoreError as error:
            raise Retryable("store_unavailable", f"S3 cannot be reached for {where}: {error}.") from error


_NOT_OURS = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


@contextlib.contextmanager
def _os_errors(where: str) -> "Iterator[None]":
    try:
        yield
    except OSError as error:
        if isinstance(error, _NOT_OURS) or error.errno in (errno.EROFS, errno.ELOOP):
            raise Refused("configuration", f"{where} cannot be used: {error.strerror}. Check STORE_URL.") from error
        raise Retryable("store_unavailable", f"{where} cannot be read or written: {error.strerror}.") from error
