"""Rows of IGDB's tables: those shipped beside this module, and the columns that all have."""

import json
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

from pipeline.sandbox.wire import Row

RECORDED_AT = 1_735_689_600
"""created_at and updated_at of every row: 2025-01-01."""


def read_rows(name: str) -> list[Row]:
    """One of the files shipped beside this module."""
    rows: list[Row] = json.loads((Path(__file__).parent / "recorded" / f"{name}.json").read_text(encoding="utf-8"))
    return rows


def by_id(rows: Iterable[Row]) -> dict[int, Row]:
    """Rows as a table that is looked up by id."""
    return {row["id"]: row for row in rows}


def described(table: str, row: Row) -> Row:
    """A row with the columns every row of IGDB has, where it lacks them."""
    return {"created_at": RECORDED_AT, "updated_at": RECORDED_AT, **_addresses(table, row), **row}


def described_rows(table: str) -> list[Row]:
    """The rows of a shipped file, described."""
    return [described(table, row) for row in read_rows(table)]


def _addresses(table: str, row: Row) -> Row:
    """A row's page, where its table has pages, and its checksum, made from table and id."""
    page = {"url": f"https://www.igdb.com/{table}/{row['slug']}"} if "slug" in row else {}
    image = row.get("image_id")
    picture = {"url": f"//images.igdb.com/igdb/image/upload/t_thumb/{image}.jpg"} if image else {}
    return {**page, **picture, "checksum": _checksum(table, row["id"])}


def _checksum(table: str, row_id: int) -> str:
    """A UUID in shape, another one for each row of each table."""
    return f"{row_id:08x}-0000-4000-8000-{crc32(table.encode()):012x}"
