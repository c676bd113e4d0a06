"""Parse overrides.csv, in which people decide what an app is; it wins over the store, IGDB and all rules."""

import csv
import re
from io import StringIO

import polars as pl
from pandera.typing.polars import DataFrame
from pydantic import ValidationError

from pipeline.errors import Refused
from schemas.catalogue import OVERRIDES_HEADER, ExternalGames, Override, Overrides
from schemas.frames import conform, dtypes

_UTF16 = (b"\xff\xfe", b"\xfe\xff")

_OTHER_FORMAT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\"?(?:appid|[0-9]+)\"?\s*[;\t]|.?\0", re.IGNORECASE)
"""A first line with separators other than commas, or with NULs, as UTF-16 without its byte order mark has."""


def parse_overrides(body: bytes | None) -> tuple[DataFrame[Overrides], list[str]]:
    """Return a frame of the overrides in overrides.csv, a row per app, and a list with a sentence per skipped line.

    `body` is the file's bytes, or None without a file. Of several lines about one app, the last counts. Each line is
    parsed alone, so a quote that is never closed makes only its own line invalid.

    Raises:
        Refused: `configuration`, from `check_overrides_format`.
    """
    check_overrides_format(body or b"")
    # Not `splitlines`: it also breaks at U+2028 and others, which occur in notes and are no line ends in a spreadsheet.
    lines = StringIO((body or b"").decode("utf-8-sig", errors="replace"), newline=None)
    skipped: list[str] = []
    rows: dict[int, Override] = {}
    for number, line in enumerate(lines, start=1):
        try:
            fields = [field.strip() for field in next(csv.reader([line], strict=True), [])]
            if not any(fields) or (number == 1 and fields[0].casefold() == OVERRIDES_HEADER[0]):
                continue
            row = Override.model_validate(dict(zip(OVERRIDES_HEADER, fields, strict=False)))
        except (csv.Error, ValidationError) as error:
            skipped.append(f"line {number}: {describe_fault(error)}")
            continue
        if row.appid in rows:
            skipped.append(f"line {number}: appid {row.appid} has an earlier line too; this one counts")
        rows[row.appid] = row
    frame = pl.DataFrame([row.to_row() for row in rows.values()], schema=dtypes(Overrides))
    return conform(frame, Overrides), skipped


def check_overrides_format(body: bytes) -> None:
    """Check that the bytes of overrides.csv are a CSV in UTF-8 with commas, because no line could be read otherwise.

    Raises:
        Refused: `configuration`, if they are in another format.
    """
    if body.startswith(_UTF16) or _OTHER_FORMAT.match(body):
        raise Refused(
            "configuration",
            "overrides.csv has to be in UTF-8 and with commas, and it is not, so nothing that was decided would count. "
            "Save it as CSV UTF-8 (comma delimited).",
        )


def override_pairs(overrides: DataFrame[Overrides]) -> DataFrame[ExternalGames]:
    """Return a row with the app and the IGDB game of each override whose action is `match`."""
    rows = overrides.filter(pl.col("action") == "match").select("appid", igdb_id="override_igdb_id")
    return conform(rows, ExternalGames)


def describe_fault(error: Exception) -> str:
    """Return the text for an exception about an invalid line of overrides.csv or of a review sheet.

    For Pydantic's ValidationError it is the first invalid field and the reason, for any other the exception's own text.
    """
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])
