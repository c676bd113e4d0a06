"""A small file may hold any number of values: what it takes is told before it is read."""

import contextlib
from io import BytesIO
from pathlib import Path
from random import Random

import polars as pl
import pytest

from pipeline.backfill.plan import read_seen
from pipeline.catalogue.files import CatalogueFiles
from pipeline.errors import Refused
from pipeline.storage.store import DirectoryStore, ReadLimits
from pipeline.storage.versioned import UNREADABLE, read_parquet, takes_more
from schemas.backfill import LastLoaded
from schemas.catalogue import Catalogue
from schemas.frames import empty_frame

MANY = 1_000_000
LIMITS = ReadLimits(parquet_max_bytes=MANY)


def parquet(rows: pl.DataFrame) -> bytes:
    body = BytesIO()
    rows.write_parquet(body, metadata={"schema_version": "1"})
    return body.getvalue()


def catalogue(rows: int, **columns: pl.Expr | pl.Series) -> bytes:
    appids = pl.int_range(1, rows + 1, dtype=pl.Int32)
    return parquet(empty_frame(Catalogue).clear(rows).with_columns(appid=appids, **columns))


BOMBS = {
    "a long list": catalogue(1, candidates=pl.Series([pl.repeat(7, MANY, dtype=pl.Int32, eager=True)])),
    "long texts": catalogue(2, igdb_summary=pl.lit("A" * MANY)),
    "many rows": catalogue(10_000),
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_a_small_file_of_the_catalogue_that_is_too_much_in_memory_is_refused(tmp_path: Path, body: bytes) -> None:
    assert len(body) < 50_000
    for key in ("catalogue/apps.parquet", "catalogue/new/a.parquet"):
        store = DirectoryStore(tmp_path / key.replace("/", "-"), LIMITS)
        store.write(key, body)
        with pytest.raises(Refused, match=f"{key}: it has more bytes when it is unpacked.*PARQUET_MAX_BYTES"):
            CatalogueFiles(store).read()


def test_a_small_file_of_many_users_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, LIMITS)
    columns = dict.fromkeys(LastLoaded.to_schema().columns, pl.lit("x"))
    store.write(
        "backfills/seen.parquet", parquet(pl.select(pl.repeat("u", MANY).alias("user_id")).with_columns(**columns))
    )
    with pytest.raises(Refused, match="PARQUET_MAX_BYTES"):
        read_seen(store)


def test_what_the_pages_hold_counts_whatever_the_footer_says() -> None:
    body = BOMBS["a long list"]
    footer = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    million, twenty_thousand = b"\x80\x89\x7a", b"\xc0\xb8\x02"  # as Thrift spells them, zigzag and varint
    assert million in body[footer:]
    assert takes_more(body[:footer] + body[footer:].replace(million, twenty_thousand), MANY)


def test_no_less_is_told_than_polars_takes() -> None:
    rows = pl.DataFrame(
        {
            "number": range(5_000),
            "text": [f"text {number}" for number in range(5_000)],
            "list": [[{"a": number, "b": "x"}] * (number % 5) for number in range(5_000)],
        }
    )
    assert takes_more(parquet(rows), int(rows.estimated_size()))
    assert not takes_more(parquet(rows), 10 * int(rows.estimated_size()))


def test_spoilt_bytes_are_read_or_said_to_be_unreadable_and_nothing_else() -> None:
    random, whole = Random(7), catalogue(3)
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(random.randrange(1, 4)):
            body[random.randrange(len(body))] = random.randrange(256)
        if takes_more(bytes(body), MANY):
            continue
        with contextlib.suppress(*UNREADABLE):
            read_parquet(bytes(body), Catalogue)


@pytest.mark.parametrize(
    "footer",
    [b"", b"\x19\xfc" * 500, b"\x1c" * 500, b"\x49\xf7" + b"\xff" * 8 + b"\x7f", b"\x19\xf7\xff\xff\xff\xff\x7f"],
    ids=["none", "lists in lists", "structs in structs", "a list without end", "numbers without end"],
)
def test_a_footer_that_leads_nowhere_is_not_followed(footer: bytes) -> None:
    body = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    assert not takes_more(body, MANY)
    with pytest.raises(UNREADABLE):
        read_parquet(body, Catalogue)
