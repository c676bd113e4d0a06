"""CSVs that people open in a spreadsheet: nothing in them runs, and what a spreadsheet makes of them is understood."""

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import NamedTuple

import polars as pl

_BOM = "\ufeff"
"""Without it Excel takes UTF-8 for the code page of its machine."""

_SEPARATORS = ",;\t"
"""Excel writes what the region's list separator is, and tabs as Unicode text."""

_SIGNS, _BREAKS = "=+\\-@\uff1d\uff0b\uff0d\uff20", r"\t\r\n"
"""What makes a formula of a cell that begins with it, the full-width ones too (OWASP, CSV Injection)."""

_BEGIN, _BEGIN_DEFUSED = (f"^{mark}('*[{_SIGNS}{_BREAKS}])" for mark in ("", "'"))
_SPLIT, _SPLIT_DEFUSED = (f"([;{_BREAKS}]){mark}(['\"]*[{_SIGNS}])" for mark in ("", "'"))
"""A spreadsheet may split at other separators than ours, and what is after one begins a cell."""

_ID = re.compile(r"\s*([0-9]+)(?:[.,]0{0,2})?\s*")
"""Three zeros may be thousands."""


def spreadsheet(rows: pl.DataFrame) -> bytes:
    """The rows as a CSV in which no text is a formula; an apostrophe before it says that it is none."""
    return (_BOM + defused(rows).write_csv()).encode()


def defused(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with an apostrophe before each text that is a formula, or would be one without its apostrophes."""
    text = pl.col(pl.String).str
    return rows.with_columns(text.replace(_BEGIN, "'$1").str.replace_all(_SPLIT, "$1'$2"))


def as_written(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with each text as it was before it was defused."""
    text = pl.col(pl.String).str
    return rows.with_columns(text.replace_all(_SPLIT_DEFUSED, "$1$2").str.replace(_BEGIN_DEFUSED, "$1"))


def restored(cell: str) -> str:
    """The text that was defused; a text that begins with apostrophes of its own keeps them."""
    return re.sub(_BEGIN_DEFUSED, r"\1", re.sub(_SPLIT_DEFUSED, r"\1\2", cell))


def whole_number(cell: str) -> str:
    """An id as a spreadsheet may write it, 620.0 too, as digits; anything else stays as it is."""
    found = _ID.fullmatch(cell)
    return found[1] if found else cell.strip()


class Record(NamedTuple):
    """A record of a CSV: the line it begins on, its cells by their column, and what is wrong with it, if anything."""

    line: int
    cells: dict[str, str]
    fault: str = ""


def records(body: bytes) -> Iterator[Record]:
    """The records of a CSV that a spreadsheet has written, after its header; missing cells are blank."""
    text = _decoded(body)
    separator = max(_SEPARATORS, key=text.partition("\n")[0].count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
    except csv.Error as error:
        yield Record(1, {}, str(error))
        return
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, {}, str(error))
            continue
        if any(cells):
            yield _record(line, header, cells)


def _record(line: int, header: Sequence[str], cells: Sequence[str]) -> Record:
    if any(cells[len(header) :]):
        return Record(line, {}, f"it has {len(cells)} cells, not {len(header)}")
    texts = [restored(cell) for cell in cells] + [""] * len(header)
    return Record(line, dict(zip(header, texts, strict=False)))


def _decoded(body: bytes) -> str:
    """As UTF-8, as UTF-16 where it says so, else as Excel's own code page of Western Europe."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", errors="replace")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("cp1252", errors="replace")
