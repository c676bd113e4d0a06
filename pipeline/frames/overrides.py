"""The humans' word: `overrides.csv`, a line an app."""

import csv
import re
from collections.abc import Iterator
from io import StringIO

import polars as pl
from pydantic import ValidationError

from pipeline.errors import Refused
from schemas.catalogue import HEADER, Override, Overrides
from schemas.frames import dtypes

SCHEMA = dtypes(Overrides)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

_OTHER_FORM = re.compile(rb"(?:\xef\xbb\xbf)?\s*\"?(?:appid|[0-9]+)\"?\s*[;\t]|.?\0", re.IGNORECASE)
"""A first line with other separators than commas, or half of it NUL, as UTF-16 is without its mark."""


def parse_overrides(body: bytes | None) -> tuple[pl.DataFrame, list[str]]:
    """The lines of overrides.csv as (Overrides, a sentence for each line that was skipped); of an app's lines the last.

    A line is a record, quoted or not: a quote that is never closed spoils its own line and no other.

    Raises:
        Refused: `configuration`, as `require_form`.
    """
    check_overrides_format(body or b"")
    faults: list[str] = []
    rows: dict[int, Override] = {}
    for number, fields in _lines(body or b"", faults):
        try:
            row = Override.model_validate(dict(zip(HEADER, fields, strict=False)))
        except ValidationError as error:
            faults.append(f"line {number}: {_why(error)}")
            continue
        if row.appid in rows:
            faults.append(f"line {number}: appid {row.appid} stands above already; this line counts")
        rows[row.appid] = row
    return pl.DataFrame([row.columns() for row in rows.values()], schema=SCHEMA), faults


def check_overrides_format(body: bytes) -> None:
    """Refuse overrides.csv as a whole, by `configuration`, where it is of a form in which no line of it would count."""
    if body.startswith(_UTF16) or _OTHER_FORM.match(body):
        raise Refused(
            "configuration",
            "overrides.csv has to be in UTF-8 and with commas, and it is not, so nothing that was decided would count. "
            "Save it as CSV UTF-8 (comma delimited).",
        )


def no_overrides() -> pl.DataFrame:
    """Overrides that decide nothing."""
    return pl.DataFrame(schema=SCHEMA)


def override_pairs(overrides: pl.DataFrame) -> pl.DataFrame:
    """The games that humans matched apps to, as ExternalGames."""
    return overrides.filter(pl.col("action") == "match").select("appid", igdb_id="override_igdb_id")


def _lines(body: bytes, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    # Not `splitlines`: it also breaks at U+2028 and others, which stand in notes; people count lines otherwise.
    text = StringIO(body.decode("utf-8-sig", errors="replace"), newline=None)
    for number, line in enumerate(text, start=1):
        try:
            fields = [field.strip() for field in next(csv.reader([line], strict=True), [])]
        except csv.Error as error:
            faults.append(f"line {number}: {error}")
            continue
        if any(fields) and not (number == 1 and fields[0].casefold() == HEADER[0]):
            yield number, fields


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
