"""Stores for tests: a directory, and a bucket of an S3 that lives in this process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from pipeline.apis.retry import RetryPolicy
from pipeline.storage.store import Store, open_store_at_url

BUCKET = "savepoint-imports"
KINDS = ("directory", "bucket", "prefix")
QUICK = RetryPolicy(timeout_seconds=5.0, attempts=3, base_seconds=0.01)
"""For clients of tests: three times at most, and hardly a wait between."""


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
