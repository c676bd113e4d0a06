"""Each kind of file has a version of its own; an older file is migrated, or refused by name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
from pandera.typing.polars import DataFrame
from pydantic import BaseModel

from pipeline.catalogue.files import APPS, CatalogueFiles
from pipeline.errors import Failed
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.store import DirectoryStore
from pipeline.storage.versioned import (
    MIGRATIONS,
    CorruptFile,
    Migration,
    WrongVersion,
    parse_json,
    read_parquet,
    to_parquet,
)
from schemas.backfill import LastLoaded
from schemas.catalogue import Catalogue
from schemas.frames import dtypes
from schemas.library import RawLibrary
from schemas.manifest import VERSIONS, FileKind
from tests.support.apis import fetch
from tests.support.libraries import frame
from tests.support.stores import OWNER, RAW, STARTED, own

ROWS = pl.DataFrame({name: ["x"] for name in dtypes(LastLoaded)})


DECLARED_VERSIONS, DECLARED_MIGRATIONS = dict(VERSIONS), dict(MIGRATIONS)


class Note(BaseModel):
    """A JSON file of these tests."""

    schema_version: int
    text: str


@pytest.fixture(autouse=True)
def _first_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every kind of file be of its first version, whatever it is by now."""
    for kind in VERSIONS:
        monkeypatch.setitem(VERSIONS, kind, 1)
    for migration in list(MIGRATIONS):
        monkeypatch.delitem(MIGRATIONS, migration)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World.recorded(), limits=False) as running:
        yield running


def bump(patch: pytest.MonkeyPatch, kind: FileKind, migration: Migration | None = None) -> None:
    """Raise the version of a kind of file, with a migration of the older files or without one."""
    if migration:
        patch.setitem(MIGRATIONS, (kind, VERSIONS[kind]), migration)
    patch.setitem(VERSIONS, kind, VERSIONS[kind] + 1)


def catalogue_rows(*appids: int) -> DataFrame[Catalogue]:
    return frame(Catalogue, [{"appid": appid, "store_asked_at": STARTED} for appid in appids])


def know_three_apps(store: DirectoryStore) -> None:
    store.write(APPS, to_parquet(catalogue_rows(10, 20, 30), "catalogue"))


def test_every_kind_has_a_version() -> None:
    assert VERSIONS.keys() == set(get_args(FileKind))


@pytest.mark.parametrize("kind", ["catalogue", "last_loaded"])
def test_what_all_users_share_can_be_migrated_from_every_older_version(kind: FileKind) -> None:
    older = range(1, DECLARED_VERSIONS[kind])
    assert [version for version in older if (kind, version) not in DECLARED_MIGRATIONS] == []


def test_a_fetch_works_after_all_versions_were_raised_and_only_the_catalogues_own_refuses_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, store: DirectoryStore, sandbox: Sandbox
) -> None:
    know_three_apps(store)
    for kind in VERSIONS.keys() - {"catalogue"}:
        bump(monkeypatch, kind)
    fetch(sandbox, store, OWNER)
    assert read_checkpoint(store, RAW, RawLibrary).rows.height == 129
    assert json.loads(store.read(RAW.manifest_key) or b"")["schema_version"] == 2
    assert CatalogueFiles(store).read()["appid"].to_list() == [10, 20, 30]
    bump(monkeypatch, "catalogue")
    fetch(sandbox, store, OWNER)
    body = store.read(APPS)
    with pytest.raises(Failed, match=rf"^checkpoint_invalid: {APPS} is of version 1 of .* wrote it, or delete it"):
        CatalogueFiles(store).compact()
    assert store.read(APPS) == body


def test_an_older_checkpoint_is_refused_with_the_command_that_makes_it_again(
    monkeypatch: pytest.MonkeyPatch, store: DirectoryStore
) -> None:
    own(store, [{"appid": 440, "name": "One"}], RAW)
    bump(monkeypatch, "checkpoint")
    for trust in (False, True):
        with pytest.raises(Failed) as refused:
            read_checkpoint(store, RAW, RawLibrary, trust=trust)
        assert refused.value.code == "checkpoint_invalid"
        assert refused.value.message == (
            f"{RAW.key} is of version 1 of the checkpoint format, and this program reads version 2. "
            "Make it again: steam-import fetch STEAM_ID --user user-1"
        )


def test_an_older_checkpoint_is_read_through_its_migration(
    monkeypatch: pytest.MonkeyPatch, store: DirectoryStore
) -> None:
    own(store, [{"appid": 440, "name": "One"}], RAW)
    bump(monkeypatch, "checkpoint", Migration(rows=lambda rows: rows.with_columns(name=pl.lit("Two"))))
    assert read_checkpoint(store, RAW, RawLibrary).rows["name"].to_list() == ["Two"]


def test_the_catalogue_is_read_and_compacted_through_its_migration(
    monkeypatch: pytest.MonkeyPatch, store: DirectoryStore
) -> None:
    know_three_apps(store)
    bump(monkeypatch, "catalogue", Migration(rows=lambda rows: rows.with_columns(store_type=pl.lit("beta"))))
    CatalogueFiles(store).compact()
    assert CatalogueFiles(store).read()["store_type"].to_list() == ["beta"] * 3
    assert pl.read_parquet_metadata(Path(store.locate(APPS)))["schema_version"] == "2"


def test_a_json_file_is_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    bump(monkeypatch, "sync", Migration(record=lambda note: note | {"text": note["text"] + "b"}))
    bump(monkeypatch, "sync", Migration(record=lambda note: note | {"text": note["text"] + "c"}))
    for version, text in ((1, "abc"), (2, "ac"), (3, "a")):
        body = json.dumps({"schema_version": version, "text": "a"}).encode()
        assert parse_json(body, "sync", Note, "note.json") == Note(schema_version=3, text=text)


def test_a_parquet_file_is_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    body = to_parquet(ROWS, "last_loaded")
    bump(monkeypatch, "last_loaded", Migration(rows=lambda rows: rows.with_columns(pl.col("user_id") + "b")))
    bump(monkeypatch, "last_loaded", Migration(rows=lambda rows: rows.with_columns(pl.col("user_id") + "c")))
    assert read_parquet(body, "last_loaded", LastLoaded, "x.parquet")["user_id"].to_list() == ["xbc"]
    assert read_parquet(to_parquet(ROWS, "last_loaded"), "last_loaded", LastLoaded, "x.parquet").equals(ROWS)


def test_a_parquet_file_from_before_a_category_was_added_is_read() -> None:
    older = catalogue_rows(10).with_columns(store_type=pl.lit("mod", pl.Enum(["game", "mod"])))
    rows = read_parquet(to_parquet(older, "catalogue"), "catalogue", Catalogue, "x.parquet")
    assert (rows["store_type"].to_list(), rows.schema) == (["mod"], dtypes(Catalogue))


@pytest.mark.parametrize("version", [-1, 0, 2, 10**30])
def test_a_version_without_a_migration_is_refused_by_name_with_the_remedy(version: int) -> None:
    body = json.dumps({"schema_version": version, "what": "of another kind"}).encode()
    with pytest.raises(WrongVersion) as refused:
        parse_json(body, "sync", Note, "note.json", "Do this.")
    assert refused.value.message == (
        f"note.json is of version {version} of the sync format, and this program reads version 1. Do this."
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"{}", b'{"schema_version": true}', b'{"text": 1}'])
def test_bytes_that_are_not_a_json_file_of_the_model_are_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptFile):
        parse_json(body, "sync", Note, "note.json")
