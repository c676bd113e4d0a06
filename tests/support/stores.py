"""Stores for tests: a directory, a bucket of an S3 in this process, a store in memory, and one that fails when told."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pipeline.apis.retry import RetryPolicy
from pipeline.errors import Retryable
from pipeline.storage.store import DEFAULT_LIMITS, ReadLimits, Store, open_store_at_url

BUCKET = "savepoint-imports"
KINDS = ("directory", "bucket", "prefix")
QUICK = RetryPolicy(timeout_seconds=5.0, attempts=3, base_seconds=0.01)
"""For clients of tests: three times at most, and hardly a wait between."""

SOME_BYTES = 20


@contextlib.contextmanager
def opened(kind: str, folder: Path) -> Iterator[Store]:
    """An empty store of one of `KINDS`."""
    if kind == "directory":
        yield open_store_at_url(str(folder), patience=QUICK)
        return
    with local_s3():
        prefix = "/of/ours" if kind == "prefix" else ""
        yield open_store_at_url(f"s3://{BUCKET}{prefix}", region="eu-central-1", patience=QUICK)


@contextlib.contextmanager
def local_s3() -> Iterator[None]:
    """An S3 with one bucket, and credentials for it."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_PROFILE", raising=False)
        client = boto3.client("s3", region_name="eu-central-1")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield


def names(kind: str, folder: Path) -> list[str]:
    """Every object of the store, or file of its folder, hidden ones too."""
    if kind == "directory":
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    listed = boto3.client("s3", region_name="eu-central-1").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return sorted(entry["Key"].removeprefix("of/ours/") for entry in listed)


@dataclass
class Memory:
    """A store in memory; what is put there behind its back may be hostile."""

    objects: dict[str, bytes] = field(default_factory=dict)
    limits: ReadLimits = DEFAULT_LIMITS

    def read(self, key: str) -> bytes | None:
        body = self.objects.get(key)
        if body is None:
            return None
        self.limits.check_size(key, len(body))
        return self.limits.checked(key, body)

    def write(self, key: str, body: bytes) -> None:
        self.objects[key] = body

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

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
    def limits(self) -> ReadLimits:
        return self.store.limits

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

    def read(self, key: str) -> bytes | None:
        body: bytes | None = self._call("read", key, lambda: self.store.read(key))
        return body

    def write(self, key: str, body: bytes) -> None:
        self._call("write", key, lambda: self.store.write(key, body))

    def delete(self, key: str) -> None:
        self._call("delete", key, lambda: self.store.delete(key))

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
