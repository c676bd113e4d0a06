"""What is too large, or no file at all, is refused before it is read."""

import os
from collections.abc import Iterator
from pathlib import Path
from traceback import format_exception

import pytest

from pipeline.errors import Failed, PipelineError, Refused
from pipeline.storage.store import DirectoryStore, ReadLimits, Store, open_store_at_url
from tests.support.stores import BUCKET, local_s3

LIMITS = ReadLimits(
    csv_max_bytes=30, csv_max_lines=5, json_max_bytes=15, catalogue_max_bytes=20, overrides_max_bytes=10
)
KEY = "imports/user-1/20261123T031749Z-raw.csv"


@pytest.fixture(scope="module", params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "directory":
        yield open_store_at_url(str(tmp_path_factory.mktemp("store")), limits=LIMITS)
        return
    with local_s3():
        yield open_store_at_url(f"s3://{BUCKET}", region="eu-central-1", limits=LIMITS)


@pytest.mark.parametrize(
    ("key", "most", "code", "setting"),
    [
        (KEY, 30, "checkpoint_invalid", "CSV_MAX_BYTES"),
        (KEY.replace(".csv", ".json"), 15, "checkpoint_invalid", "JSON_MAX_BYTES"),
        ("backfills/a/plan.json", 15, "checkpoint_invalid", "JSON_MAX_BYTES"),
        ("catalogue/sync.json", 15, "configuration", "JSON_MAX_BYTES"),
        ("catalogue/apps.parquet", 20, "configuration", "CATALOGUE_MAX_BYTES"),
        ("catalogue/new/a.parquet", 20, "configuration", "CATALOGUE_MAX_BYTES"),
        ("overrides.csv", 10, "configuration", "OVERRIDES_MAX_BYTES"),
    ],
)
def test_an_object_is_read_up_to_its_limit(store: Store, key: str, most: int, code: str, setting: str) -> None:
    store.write(key, b"x" * most)
    assert store.read(key) == b"x" * most
    store.write(key, b"x" * (most + 1))
    with pytest.raises(PipelineError) as refused:
        store.read(key)
    assert refused.value.code == code
    says = f"{key}: it has {most + 1} bytes, and no more than {most} are read. "
    assert refused.value.message == f"{says}Look whether it is what it should be; if so, set {setting} higher."


@pytest.mark.parametrize("key", [KEY, "lists/users.txt"])
def test_a_csv_of_too_many_lines_is_refused_whatever_its_name(store: Store, key: str) -> None:
    store.write(key, b"\n" * 6)
    with pytest.raises(Failed, match="it has 6 lines"):
        store.read(key)


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "overrides.csv")
    with pytest.raises(Refused, match=r"overrides\.csv cannot be used"):
        DirectoryStore(tmp_path).read("overrides.csv")


def test_a_loop_of_links_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Failed, match="loop leads over a link"):
        DirectoryStore(tmp_path).read("loop")


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a\0b", "a\\b", "a\nb", "\ud800"])
def test_a_key_that_could_lead_out_is_refused(store: Store, key: str) -> None:
    for use in (store.read, store.delete, store.list):
        with pytest.raises(Failed, match="is no key of a store"):
            use(key)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_s3_is_not_spoken_to_in_the_clear_whoever_names_its_address(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://s3.example")
    with pytest.raises(Refused, match="give an address that begins with https://"):
        open_store_at_url(f"s3://{BUCKET}", region="eu-central-1")


@pytest.mark.parametrize(
    "url", ["http://user:canary@[::1", "https://user:canary@ho st/", "http://user:canary@127.0.0.1"]
)
def test_an_endpoint_that_is_none_is_refused_and_not_quoted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(Refused, match="AWS_ENDPOINT_URL") as refused:
        open_store_at_url(f"s3://{BUCKET}", region="eu-central-1")
    assert "canary" not in "".join(format_exception(refused.value))
