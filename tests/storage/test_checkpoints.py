import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from structlog.testing import capture_logs

from pipeline.errors import PipelineError, Retryable
from pipeline.storage.checkpoints import Provenance, read_checkpoint, write_checkpoint
from pipeline.storage.csv import parse_records
from pipeline.storage.keys import Checkpoint
from pipeline.storage.store import DirectoryStore
from schemas.frames import dtypes
from schemas.library import RawLibrary
from schemas.manifest import VERSIONS, Manifest, Source
from tests.support.stores import RAW, STARTED, Watched

SCHEMA = dtypes(RawLibrary)
HEADER = ",".join(SCHEMA)
ROW = 'user-1,76561197960287930,440,"Team Fortress 2",30,,1,2,3,4,2021-12-12T01:46:21Z,e3f595a9'
QUOTED = '"user-1","76561197960287930","440","Team Fortress 2","30",,"1","2","3","4","2021-12-12T01:46:21Z","e3f595a9"'
PROVENANCE = Provenance("run-1", STARTED, 2, {"games": 1, "rejected": 0})

NAMES = ('"quoted", comma', "two\r\nlines", "two\rlines", "\n", '"', "\ufeffBOM", "null", "", None)


@dataclass
class Folder:
    """A store of its own, with one raw CSV in it or none."""

    store: DirectoryStore

    def put(self, text: str | bytes) -> None:
        self.store.write(RAW.key, text if isinstance(text, bytes) else text.encode())

    def read(self) -> pl.DataFrame:
        return read_checkpoint(self.store, RAW, RawLibrary).rows

    def refusal(self) -> PipelineError:
        with pytest.raises(PipelineError) as refused:
            self.read()
        return refused.value


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(DirectoryStore(tmp_path))


def library(*names: str | None) -> pl.DataFrame:
    owner = {"user_id": "user-1", "steam_id64": "76561197960287930", "playtime_forever": 0}
    return pl.DataFrame([{**owner, "appid": n + 1, "name": name} for n, name in enumerate(names)], schema=SCHEMA)


def write(folder: Folder, rows: pl.DataFrame, rejected: pl.DataFrame | None = None) -> Manifest:
    return write_checkpoint(folder.store, RAW, rows, pl.DataFrame() if rejected is None else rejected, PROVENANCE)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=6))
@example(list(NAMES))
def test_any_names_are_read_back_with_and_without_the_manifest(folder: Folder, names: list[str | None]) -> None:
    rows = library(*names)
    write(folder, rows)
    assert_frame_equal(folder.read(), rows)
    folder.store.delete(RAW.manifest_key)
    assert_frame_equal(folder.read(), rows)


def test_an_empty_library_is_a_header_alone(folder: Folder) -> None:
    write(folder, library())
    assert folder.store.read(RAW.key) == f"{HEADER}\n".encode()
    assert_frame_equal(folder.read(), library())


def test_null_and_empty_text_differ_in_the_csv_and_times_are_in_utc(folder: Folder) -> None:
    played = datetime(2021, 12, 12, 1, 46, 21, tzinfo=UTC)
    write(folder, library(None, "").with_columns(rtime_last_played=pl.lit(played).cast(SCHEMA["rtime_last_played"])))
    assert (folder.store.read(RAW.key) or b"").decode().splitlines()[1:] == [
        "user-1,76561197960287930,1,,0,,,,,,2021-12-12T01:46:21Z,",
        'user-1,76561197960287930,2,"",0,,,,,,2021-12-12T01:46:21Z,',
    ]


def test_the_manifest_holds_every_field_of_the_contract(folder: Folder) -> None:
    source = Source(key="imports/user-1/x-raw.csv", sha256="0" * 64)
    making = Provenance("run-1", STARTED, 7, {"matched": 2}, source)
    written = write_checkpoint(folder.store, RAW.enriched, library("One", "Two"), pl.DataFrame(), making)
    body = folder.store.read(RAW.enriched.key) or b""
    manifest = json.loads(folder.store.read(RAW.enriched.manifest_key) or b"")
    finished = datetime.fromisoformat(manifest["finished_at"])
    assert manifest == {
        "schema_version": VERSIONS["checkpoint"],
        "stage": "enrich",
        "user_id": "user-1",
        "run_id": "run-1",
        "key": "imports/user-1/20261123T031749Z-enriched.csv",
        "rows": 2,
        "bytes": len(body),
        "sha256": sha256(body).hexdigest(),
        "input": {"key": "imports/user-1/x-raw.csv", "sha256": "0" * 64},
        "counts": {"matched": 2},
        "requests": 7,
        "started_at": "2026-11-23T03:17:49Z",
        "finished_at": manifest["finished_at"],
        "seconds": round((finished - STARTED).total_seconds(), 3),
    }
    assert Manifest.model_validate(manifest) == written


def test_rejected_rows_are_written_beside_the_csv_and_deleted_when_a_retry_has_none(folder: Folder) -> None:
    rejected = pl.DataFrame(
        {"appid": ["x", None], "name": ["", "a\0b"], "rejected_check": ["appid: not Int32", "n: x"]}
    )
    write(folder, library("One"), rejected)
    assert folder.store.read(RAW.rejected_key) == b'appid,name,rejected_check\nx,"",appid: not Int32\n,a\0b,n: x\n'
    write(folder, library("One"))
    assert folder.store.read(RAW.rejected_key) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"\ufeff{HEADER}\r\n{ROW}\r\n", id="BOM and CRLF, as spreadsheets write"),
        pytest.param(
            ",".join(reversed(HEADER.split(","))) + "\n" + ",".join(reversed(ROW.split(","))) + "\n", id="other order"
        ),
        pytest.param(f"{HEADER}\n{QUOTED}\n", id="more quotes than needed"),
    ],
)
def test_a_csv_without_manifest_is_accepted_if_it_conforms(folder: Folder, text: str) -> None:
    folder.put(text)
    played = datetime(2021, 12, 12, 1, 46, 21, tzinfo=UTC)
    values = ["user-1", "76561197960287930", 440, "Team Fortress 2", 30, None, 1, 2, 3, 4, played, "e3f595a9"]
    assert_frame_equal(folder.read(), pl.DataFrame([values], schema=SCHEMA, orient="row"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(
            f"{HEADER}\n{ROW}\n".replace(",name,", ",title,"), "it lacks the column name", id="missing column"
        ),
        pytest.param(f"{HEADER},colour\n{ROW},red\n", "it has the unknown column colour", id="extra column"),
        pytest.param(f"{HEADER},name\n{ROW},x\n", "it has the unknown column name", id="the same column twice"),
        pytest.param(f"{ROW}\n", "it lacks the columns user_id, steam_id64", id="no header"),
        pytest.param(
            f"{HEADER}\n{ROW}\n{ROW}\n{ROW}\n".replace("440", "four", 2).replace("four", "440", 1),
            "1 row does not conform, row 2: appid: not Int32",
            id="wrong type",
        ),
        pytest.param(
            f"{HEADER}\n{ROW.replace('Z,', ',')}\n", "row 1: rtime_last_played: not Datetime", id="time without zone"
        ),
        pytest.param(f"{HEADER}\n{ROW}\n{ROW[:40]}", "its last line does not end: the file is cut off", id="cut line"),
        pytest.param(f"{HEADER}\n{ROW}\n\n", "line 3 has 0 cells, not 12", id="blank line"),
        pytest.param("", "it is empty", id="empty file"),
        pytest.param(f"{HEADER}\n{ROW}\n".encode("latin-1").replace(b"Team", b"\xc4rger"), "UTF-8", id="Latin-1"),
        pytest.param(b"PK\x03\x04\n", RAW.key, id="a spreadsheet's own format"),
    ],
)
def test_a_csv_without_manifest_that_does_not_conform_is_refused_by_name(
    folder: Folder, text: str | bytes, why: str
) -> None:
    folder.put(text)
    refusal = folder.refusal()
    assert refusal.code == "checkpoint_invalid"
    assert RAW.key in refusal.message
    assert why in refusal.message
    assert "\n" not in refusal.message


def test_a_missing_file_is_named_with_what_to_do(folder: Folder) -> None:
    refusal = folder.refusal()
    assert refusal.code == "checkpoint_invalid"
    where = folder.store.locate("")
    assert refusal.message == (
        f"{RAW.key}: there is no such file in {where}: check its name. "
        "Make it again: steam-import fetch STEAM_ID --user user-1"
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: b"[]", id="a list"),
        pytest.param(lambda text: text.replace(b'"sha256"', b'"md5"'), id="a field missing"),
    ],
)
def test_a_file_that_is_not_a_manifest_is_refused_by_name(folder: Folder, change: Callable[[bytes], bytes]) -> None:
    write(folder, library("One"))
    folder.store.write(RAW.manifest_key, change(folder.store.read(RAW.manifest_key) or b""))
    refusal = folder.refusal()
    assert refusal.code == "checkpoint_invalid"
    assert f"{RAW.key}: {RAW.manifest_key} is not a manifest" in refusal.message


def disagree(folder: Folder, checkpoint: Checkpoint = RAW) -> None:
    """Leave a CSV that was edited after its manifest."""
    write_checkpoint(folder.store, checkpoint, library("One"), pl.DataFrame(), PROVENANCE)
    body = folder.store.read(checkpoint.key) or b""
    folder.store.write(checkpoint.key, body.replace(b"One", b"Two"))


@pytest.mark.parametrize(
    ("checkpoint", "command"),
    [
        pytest.param(RAW, "steam-import fetch STEAM_ID --user user-1", id="raw"),
        pytest.param(RAW.enriched, "steam-import enrich {}/imports/user-1/20261123T031749Z-raw.csv", id="enriched"),
    ],
)
def test_an_edited_file_is_refused_with_the_command_that_makes_it_again(
    folder: Folder, tmp_path: Path, checkpoint: Checkpoint, command: str
) -> None:
    disagree(folder, checkpoint)
    with pytest.raises(PipelineError) as refused:
        read_checkpoint(folder.store, checkpoint, RawLibrary)
    says = (
        f"If it was edited on purpose, give --trust (in Python trust=True). Make it again: {command.format(tmp_path)}"
    )
    assert refused.value.code == "checkpoint_invalid"
    described = f"{checkpoint.key}: it is not the file that {checkpoint.manifest_key} describes"
    assert refused.value.message.startswith(described)
    assert refused.value.message.endswith(says)


def test_an_edited_file_is_read_if_trusted(folder: Folder) -> None:
    disagree(folder)
    with capture_logs() as logs:
        rows = read_checkpoint(folder.store, RAW, RawLibrary, trust=True).rows
    assert rows["name"].to_list() == ["Two"]
    assert [(entry["log_level"], entry["key"]) for entry in logs] == [("warning", RAW.key)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(f"{HEADER}\n{ROW.replace('user-1', 'user-2')}\n", "location_refused", id="another user's rows"),
        pytest.param(f"{HEADER}\n{ROW}", "checkpoint_invalid", id="cut off"),
    ],
)
def test_a_trusted_file_must_still_be_whole_and_of_its_user(folder: Folder, text: str, code: str) -> None:
    disagree(folder)
    folder.put(text)
    with pytest.raises(PipelineError) as refused:
        read_checkpoint(folder.store, RAW, RawLibrary, trust=True)
    assert refused.value.code == code


def test_rejected_rows_are_safe_in_a_spreadsheet_and_the_csv_stays_as_it_is(folder: Folder) -> None:
    formula = '=HYPERLINK("http://evil.example")'
    write(folder, library(formula), pl.DataFrame({"name": [formula, "@x"], "rejected_check": ["n: x", "n: x"]}))
    assert folder.read()["name"].to_list() == [formula]
    rejected = [record.cells["name"] for record in parse_records(folder.store.read(RAW.rejected_key) or b"")]
    assert rejected == [formula, "@x"]
    assert b"\n'@x" in (folder.store.read(RAW.rejected_key) or b"")


def test_a_csv_that_is_larger_than_allowed_is_read_only_with_its_manifest(tmp_path: Path) -> None:
    small = Folder(DirectoryStore(tmp_path, file_max_bytes=100))
    write(small, library("One"))
    assert small.read().height == 1
    small.store.delete(RAW.manifest_key)
    refusal = small.refusal()
    assert refusal.code == "checkpoint_invalid"
    assert f"{RAW.key} has more than 100 bytes. Check that it is the right file" in refusal.message


@pytest.mark.parametrize(
    ("calls", "left"),
    [
        pytest.param(1, "Old", id="before the old manifest is deleted"),
        pytest.param(2, "Old", id="before the CSV"),
        pytest.param(3, "New", id="before the rejected rows"),
        pytest.param(4, "New", id="before the manifest"),
    ],
)
def test_a_stage_that_is_killed_while_writing_leaves_a_csv_that_can_be_read(
    folder: Folder, calls: int, left: str
) -> None:
    write(folder, library("Old"))
    rejected = pl.DataFrame({"rejected_check": ["x"]})
    with pytest.raises(Retryable):
        write_checkpoint(Watched(folder.store, fails_at=calls), RAW, library("New"), rejected, PROVENANCE)
    assert folder.read()["name"].to_list() == [left]
