"""The records of a CSV of which nothing is known: each comma becomes a field, so none may be as long as the file.

CSVs that people open in a spreadsheet: nothing in them runs, and what a spreadsheet makes of them is understood.

A file of this machine that a person names, as a list of users or a review sheet: of any size, or no file at all.
"""

import csv
import errno
import os
import re
import stat
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.errors import Failed, Refused
from pipeline.storage.store import ReadLimits


class CsvRecords:
    """The records of a text; raises csv.Error for one that cannot be read, and goes on behind it."""

    def __init__(self, text: str, most_chars: int, delimiter: str = ",", *, strict: bool = False) -> None:
        self._most = most_chars
        self._chars = 0
        self._reader = csv.reader(map(self._counted, StringIO(text, newline="")), delimiter=delimiter, strict=strict)

    def __iter__(self) -> "CsvRecords":
        return self

    def __next__(self) -> list[str]:
        self._chars = 0
        return next(self._reader)

    @property
    def lines(self) -> int:
        """How many lines were read."""
        return self._reader.line_num

    def _counted(self, line: str) -> str:
        self._chars += len(line)
        if self._chars > self._most:
            raise csv.Error(f"a record is longer than {self._most:,} characters")
        return line


_BOM = "\ufeff"
"""Without it Excel takes UTF-8 for the code page of its machine."""

_SEPARATORS = ",;\t"
"""Excel writes what the region's list separator is, and tabs as Unicode text."""

_SIGNS, _BREAKS = "=+\\-@\uff1d\uff0b\uff0d\uff20", r"\t\r\n"
"""What makes a formula of a cell that begins with it, the full-width ones too (OWASP, CSV Injection)."""

_BEGIN, _BEGIN_DEFUSED = (f"^{mark}('*[{_SIGNS}{_BREAKS}])" for mark in ("", "'"))

_SPLIT, _SPLIT_DEFUSED = (f"([;{_BREAKS}]){mark}(['\"]*[{_SIGNS}])" for mark in ("", "'"))
"""A spreadsheet may split at other separators than ours, and what is after one begins a cell."""

_DECLARED = re.compile(f"sep=([{_SEPARATORS}])[\r\n]", re.IGNORECASE)
"""Excel's own first line, which says how it splits the others."""

_MOST_COLUMNS = 16_384
"""Of a sheet of Excel or LibreOffice."""

_MOST_CHARS = 2**20
"""Of a record; a cell of Excel has 32,767 at the most."""

_ID = re.compile(r"\s*([0-9]+)(?:[.,]0{0,2})?\s*")
"""Three zeros may be thousands."""


def to_spreadsheet(rows: pl.DataFrame) -> bytes:
    """The rows as a CSV in which no text is a formula; an apostrophe before it says that it is none."""
    return (_BOM + escape_formulas(rows).write_csv()).encode()


def escape_formulas(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with an apostrophe before each text that is a formula, or would be one without its apostrophes."""
    text = pl.col(pl.String).str
    return rows.with_columns(text.replace(_BEGIN, "'$1").str.replace_all(_SPLIT, "$1'$2"))


def unescape_formulas(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with each text as it was before its formulas were escaped."""
    text = pl.col(pl.String).str
    return rows.with_columns(text.replace_all(_SPLIT_DEFUSED, "$1$2").str.replace(_BEGIN_DEFUSED, "$1"))


def unescape_cell(cell: str) -> str:
    """The text as it was before its formula was escaped; a text that begins with apostrophes of its own keeps them."""
    return re.sub(_BEGIN_DEFUSED, r"\1", re.sub(_SPLIT_DEFUSED, r"\1\2", cell))


def strip_decimals(cell: str) -> str:
    """An id as a spreadsheet may write it, 620.0 too, as digits; anything else stays as it is."""
    found = _ID.fullmatch(cell)
    return found[1] if found else cell.strip()


class CsvRecord(NamedTuple):
    """A record of a CSV: the line it begins on, its cells by their column, and what is wrong with it, if anything."""

    line: int
    cells: Mapping[str, str]
    fault: str = ""


def parse_records(body: bytes) -> Iterator[CsvRecord]:
    """The records of a CSV that a spreadsheet has written, after its header; missing cells are blank.

    Raises:
        Failed: `checkpoint_invalid`, where its header is wider than any spreadsheet's.
    """
    reader, header, fault = _opened(body)
    if fault:
        yield CsvRecord(1, {}, fault)
        return
    blank = dict.fromkeys(header, "")
    while True:
        line = reader.lines + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield CsvRecord(line, {}, str(error))
            continue
        if any(cells):
            yield _record(line, header, cells, blank)


def parse_header(body: bytes) -> Sequence[str]:
    """The columns of such a CSV, none where it is no CSV; raises as `records`."""
    return _opened(body)[1]


def _opened(body: bytes) -> tuple[CsvRecords, Sequence[str], str]:
    """The records behind the header, the header, and what is wrong with it, if anything."""
    text = _decoded(body)
    declared = _DECLARED.match(text)
    separator = declared[1] if declared else max(_SEPARATORS, key=text.partition("\n")[0].count)
    reader = CsvRecords(text, _MOST_CHARS, separator, strict=True)
    try:
        if declared:
            next(reader)
        header = [cell.strip().casefold() for cell in next(reader, [])]
    except csv.Error as error:
        return reader, [], str(error)
    if len(header) > _MOST_COLUMNS:
        raise Failed("checkpoint_invalid", f"The first line names {len(header):,} columns: no spreadsheet has so many.")
    return reader, header, ""


def _record(line: int, header: Sequence[str], cells: Sequence[str], blank: dict[str, str]) -> CsvRecord:
    if any(cells[len(header) :]):
        return CsvRecord(line, {}, f"it has {len(cells)} cells, not {len(header)}")
    texts = dict(zip(header, map(unescape_cell, cells), strict=False))
    return CsvRecord(line, ChainMap(texts, blank))


def _decoded(body: bytes) -> str:
    """As UTF-8, as UTF-16 where it says so, else as Excel's own code page of Western Europe."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", errors="replace")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("cp1252", errors="replace")


def read_local_file(path: Path, limits: ReadLimits) -> bytes:
    """The bytes of a CSV.

    Raises:
        Refused: `bad_event`, for what cannot be read, or is no regular file.
        Failed: `checkpoint_invalid`, beyond CSV_MAX_BYTES, before it is read, or CSV_MAX_LINES.
    """
    try:
        # Without waiting: nobody may ever write into a pipe.
        with os.fdopen(os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileExistsError(errno.EEXIST, "it is no regular file")
            limits.check_csv(path.name, status.st_size)
            body = file.read(status.st_size)
    except OSError as error:
        raise Refused("bad_event", f"{path} cannot be read: {error.strerror}.") from error
    limits.check_lines(path.name, body)
    return body
