"""Stores for tests: a directory, a bucket of an S3 in this process, a store in memory, and one that fails when told."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import httpx
import polars as pl
import pytest
from moto import mock_aws

from pipeline.errors import Retryable
from pipeline.frames.raw_library import parse_owned_games
from pipeline.sandbox.world import World
from pipeline.settings import FILE_MAX_BYTES
from pipeline.storage.checkpoints import Provenance, read_checkpoint, write_checkpoint
from pipeline.storage.keys import Checkpoint, raw_checkpoint
from pipeline.storage.store import DirectoryStore, Store, open_store_at_url, require_size
from schemas.library import EnrichedLibrary, RawLibrary

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "savepoint-imports"
REGION: Final = "eu-central-1"

TIMESTAMP = "20261123T031749Z"
RAW = raw_checkpoint("user-1", TIMESTAMP)
ENRICHED = RAW.enriched
STARTED = datetime(2026, 11, 23, 3, 17, 49, tzinfo=UTC)
OWNER = World.RECORDED_ACCOUNT

SOME_BYTES = 20


@dataclass(frozen=True)
class OpenedStore:
    """A store for a test, with a look behind it and at the imports of user-1 in it."""

    kind: str
    folder: Path
    store: Store

    def names(self) -> list[str]:
        """Every object of the store, or file of its folder but for the locks."""
        return [name for name in names(self.kind, self.folder) if not name.endswith(".lock")]

    def files(self) -> dict[str, bytes | None]:
        return {name: self.store.read(name) for name in self.names()}

    def own(self, *games: dict[str, Any], raw: Checkpoint = RAW) -> None:
        """Put a raw CSV of these rows of Steam there."""
        own(self.store, games, raw)

    def raw_rows(self) -> pl.DataFrame:
        return read_checkpoint(self.store, RAW, RawLibrary).rows

    def rows(self, raw: Checkpoint = RAW) -> pl.DataFrame:
        return read_checkpoint(self.store, raw.enriched, EnrichedLibrary).rows

    def verdicts(self) -> dict[int, tuple[Any, ...]]:
        """Status, reason and game of each app."""
        rows = self.rows().select("appid", "match_status", "match_reason", "igdb_id")
        return {appid: (status, reason, igdb_id) for appid, status, reason, igdb_id in rows.iter_rows()}


@pytest.fixture(params=["directory", "prefix"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenedStore]:
    """An empty store: a directory, then a prefix of a bucket."""
    with opened(request.param, tmp_path) as store:
        yield OpenedStore(request.param, tmp_path, store)


@pytest.fixture
def here(tmp_path: Path) -> OpenedStore:
    """An empty directory as a store, for what does not depend on the kind."""
    return OpenedStore("directory", tmp_path, DirectoryStore(tmp_path))


def own(store: Store, games: Iterable[dict[str, Any]], raw: Checkpoint) -> None:
    """Put a raw CSV of these rows of Steam into a store."""
    rows, rejected = parse_owned_games(list(games), raw.user_id, OWNER)
    write_checkpoint(store, raw, rows, rejected, Provenance("run-0", STARTED, 1, {"games": rows.height}))


@contextlib.contextmanager
def opened(kind: str, folder: Path) -> Iterator[Store]:
    """An empty store: a directory, a bucket, or a prefix of a bucket."""
    if kind == "directory":
        yield open_store_at_url(str(folder))
        return
    with local_s3():
        prefix = "/of/ours" if kind == "prefix" else ""
        yield open_store_at_url(f"s3://{BUCKET}{prefix}", region=REGION)


@contextlib.contextmanager
def local_s3() -> Iterator[None]:
    """An S3 with one empty bucket, and credentials for it."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_PROFILE", raising=False)
        s3_client().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield


@contextlib.contextmanager
def served_s3() -> Iterator[str]:
    """The address of an S3 with one empty bucket, served for other processes; any credentials will do."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        # The server shares moto's state with the tests before it in this process.
        httpx.post(f"{url}/moto-api/reset").raise_for_status()
        client = boto3.session.Session("testing", "testing", region_name=REGION).client("s3", endpoint_url=url)
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        client.close()
        yield url
    finally:
        server.stop()


@cache
def s3_client() -> "S3Client":
    """A client of the S3 in this process; making one takes longer than most tests."""
    client: S3Client = boto3.session.Session("testing", "testing", region_name=REGION).client(
        "s3", endpoint_url=f"https://s3.{REGION}.amazonaws.com"
    )
    return client


def names(kind: str, folder: Path) -> list[str]:
    """Every object of the store, or file of its folder, hidden ones too."""
    if kind == "directory":
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    listed = s3_client().list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return sorted(entry["Key"].removeprefix("of/ours/") for entry in listed)


@dataclass
class Memory:
    """A store in memory; what is put there behind its back may be hostile."""

    objects: dict[str, bytes] = field(default_factory=dict)
    file_max_bytes: int = FILE_MAX_BYTES

    def read(self, key: str, *, max_bytes: int | None = None) -> bytes | None:
        body = self.objects.get(key)
        require_size(key, len(body or b""), max_bytes)
        return body

    def write(self, key: str, body: bytes) -> None:
        self.objects[key] = body

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def delete_folder(self, prefix: str) -> None:
        for key in self.list(prefix):
            self.delete(key)

    def delete_drafts(self, folder: str) -> None:
        """A store in memory has none."""

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        is_same = self.list(key).get(key) == etag
        if is_same:
            self.write(key, body)
        return is_same

    def list(self, prefix: str) -> dict[str, str]:
        return {key: str(hash(body)) for key, body in sorted(self.objects.items()) if key.startswith(prefix)}

    def locate(self, key: str) -> str:
        return f"/store/{key}"

    def key_of(self, location: str) -> str:
        return location.removeprefix("/store/")


@dataclass
class Watched:
    """A store that notes every call, and fails before or after the one that is told, or kills the process in it."""

    store: Store
    fails_at: int = 0
    is_carried_out: bool = False
    is_kill: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def file_max_bytes(self) -> int:
        return self.store.file_max_bytes

    def _call(self, name: str, key: str, call: Callable[[], Any]) -> Any:
        self.calls.append((name, key))
        is_failing = len(self.calls) == self.fails_at
        if is_failing and self.is_kill:
            if name in ("write", "replace"):
                _die_in_a_write()
                call()
            os.kill(os.getpid(), signal.SIGKILL)
        if is_failing and not self.is_carried_out:
            raise Retryable("store_unavailable", "killed before")
        answer = call()
        if is_failing:
            raise Retryable("store_unavailable", "killed behind")
        return answer

    def called(self, name: str) -> list[str]:
        return [key for called, key in self.calls if called == name]

    def read(self, key: str, *, max_bytes: int | None = None) -> bytes | None:
        body: bytes | None = self._call("read", key, lambda: self.store.read(key, max_bytes=max_bytes))
        return body

    def write(self, key: str, body: bytes) -> None:
        self._call("write", key, lambda: self.store.write(key, body))

    def delete(self, key: str) -> None:
        self._call("delete", key, lambda: self.store.delete(key))

    def delete_folder(self, prefix: str) -> None:
        self._call("delete_folder", prefix, lambda: self.store.delete_folder(prefix))

    def delete_drafts(self, folder: str) -> None:
        self._call("delete_drafts", folder, lambda: self.store.delete_drafts(folder))

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        return bool(self._call("replace", key, lambda: self.store.replace(key, body, etag)))

    def list(self, prefix: str) -> dict[str, str]:
        etags: dict[str, str] = self._call("list", prefix, lambda: self.store.list(prefix))
        return etags

    def locate(self, key: str) -> str:
        return self.store.locate(key)

    def key_of(self, location: str) -> str:
        return self.store.key_of(location)


def _die_in_a_write() -> None:
    """Have the kernel kill this process, if it may, when a file of it grows beyond some bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SOME_BYTES, SOME_BYTES))
