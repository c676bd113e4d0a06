"""`steam-import report`: what it reads, where it writes, and what it refuses."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from pipeline.review.look_up import NameFile
from pipeline.storage.checkpoints import Provenance, write_checkpoint
from pipeline.storage.keys import parse_checkpoint_key
from pipeline.storage.store import DirectoryStore
from schemas.catalogue import Catalogue, KnownNames
from schemas.frames import TIME_FORMAT
from tests.support.libraries import app, frame, library, matched
from tests.support.programs import Ended, SteamImport

KEY = "imports/user-1/20261123T031749Z-enriched.csv"
IN_STORE = f"data/{KEY}"
COVER = "https://images.igdb.com/igdb/image/upload/t_cover_big/co1.jpg"
COPY = Path("copy of a library.csv")


ROWS = library(app(1, name="Nobody Knows Me"), matched(2, 72))
ENRICHED_CSV = ROWS.write_csv(datetime_format=TIME_FORMAT).encode()

Report = Callable[..., Ended]


@pytest.fixture
def report(unconfigured_program: SteamImport) -> Report:
    """Runs the command in a folder with an enriched CSV in the store, and a copy of it beside."""
    making = Provenance("run-1", datetime(2026, 11, 23, tzinfo=UTC), 0, {})
    write_checkpoint(DirectoryStore(Path("data")), parse_checkpoint_key(KEY, "enriched"), ROWS, ROWS.clear(), making)
    COPY.write_bytes(ENRICHED_CSV)
    return partial(unconfigured_program, "report")


@pytest.mark.parametrize("where", [IN_STORE, str(COPY)], ids=["in the store", "a copy"])
def test_the_page_is_written_into_the_working_folder_and_its_path_printed(report: Report, where: str) -> None:
    ended = report(where)
    page = Path("report.html")
    assert (ended.status, ended.out, ended.err) == (0, f"{page.absolute()}\n", "")
    assert "Nobody Knows Me" in page.read_text(encoding="utf-8")
    assert sorted(path.name for path in Path().iterdir()) == ["copy of a library.csv", "data", "report.html"]


def test_the_page_names_the_key_or_the_copy_and_the_day_of_the_fetch_if_that_name_tells_it_and_no_folder(
    report: Report, tmp_path: Path
) -> None:
    whole = Path(Path(KEY).name)
    whole.write_bytes(ENRICHED_CSV)
    for where, named in {IN_STORE: KEY, str(COPY.absolute()): COPY.name, str(whole): whole.name}.items():
        page = report(where, "-o", "-").out
        assert (page[:15], page[-8:]) == ("<!doctype html>", "</html>\n")
        assert f"<code>{named}</code>" in page
        assert ("<title>Steam library of user-1, 23 November 2026</title>" in page) == (where != str(COPY.absolute()))
        assert str(tmp_path) not in page
    assert not Path("report.html").exists()


def test_covers_are_in_the_page_only_if_asked_for(report: Report) -> None:
    COPY.write_bytes(library(matched(1, 10, igdb_cover_url=COVER, playtime_forever=9)).write_csv().encode())
    assert COVER not in report(str(COPY), "-o", "-").out
    assert f'<img src="{COVER}"' in report(str(COPY), "-o", "-", "--covers").out


def test_candidates_have_the_names_that_an_export_of_a_review_left_in_the_store(report: Report) -> None:
    found = [{"igdb_id": 7, "label": "Nobody Knows You (2019, main game)", "score": 90}]
    row = {"name": "Nobody Knows Me", "looked_up_at": datetime.now(UTC), "candidates": found}
    NameFile(DirectoryStore(Path("data")), timedelta(days=7)).remember(frame(KnownNames, [row]))
    link = '<a href="https://www.igdb.com/search?q=Nobody%20Knows%20You"'
    for where in (IN_STORE, str(COPY)):
        assert link in report(where, "-o", "-").out


def test_a_catalogue_that_cannot_be_read_costs_names_but_no_page(report: Report) -> None:
    Path("data/catalogue").mkdir()
    frame(Catalogue).write_parquet("data/catalogue/apps.parquet", metadata={"schema_version": "99"})
    ended = report(IN_STORE)
    assert ended.status == 0
    assert "report lacks the names of candidates" in ended.err


def test_the_csv_itself_is_not_written_over(report: Report) -> None:
    before = COPY.read_bytes()
    ended = report(str(COPY), "-o", f"./{COPY}")
    assert (ended.status, COPY.read_bytes()) == (2, before)
    assert "is the CSV itself" in ended.err


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(b"user_id,steam_id64,appid,name\nuser-1,2,3,x\n", "lacks the column", id="raw"),
        pytest.param(None, "no such file", id="missing"),
    ],
)
def test_a_file_that_is_no_enriched_csv_is_refused_by_name(report: Report, body: bytes | None, why: str) -> None:
    COPY.unlink()
    if body is not None:
        COPY.write_bytes(body)
    ended = report(str(COPY))
    assert (ended.status, ended.out, Path("report.html").exists()) == (1, "", False)
    assert ended.err.startswith(f"checkpoint_invalid: {COPY}")
    assert why in ended.err


def test_a_csv_that_disagrees_with_its_manifest_is_read_on_purpose_only(report: Report) -> None:
    in_store = Path(IN_STORE)
    in_store.write_bytes(in_store.read_bytes().replace(b"Nobody", b"Somebody"))
    assert "give --trust" in report(IN_STORE).err
    assert report(IN_STORE, "--trust").status == 0


def test_a_page_that_cannot_be_written_says_what_to_do(report: Report) -> None:
    ended = report(IN_STORE, "-o", f"{COPY}/report.html")
    assert ended.status == 2
    assert "Name another file with -o." in ended.err
