"""Read and write CSV files: the program's own, and those that people edit in a spreadsheet."""

import csv
import re
from codecs import BOM_UTF16
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.errors import Failed, Refused, agree, count_of
from pipeline.settings import absolute_path
from pipeline.storage.store import require_size
from schemas.frames import TIME_FORMAT, Model, check_rows, conform, dtypes
from schemas.library import RawLibrary

csv.field_size_limit(2**31 - 1)  # a summary of a game may be longer than the module's limit of 131,072 characters


def to_csv(rows: pl.DataFrame) -> bytes:
    """Return rows as the bytes of a CSV: UTF-8 with a header, a null as an empty cell, times in UTC."""
    return rows.write_csv(datetime_format=TIME_FORMAT).encode()


def read_rows(body: bytes, name: str, model: type[Model]) -> DataFrame[Model]:
    """Return the rows in the bytes of a CSV as a frame of the model.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, if it is no CSV, or a column or a value is not the model's.
    """
    return require_model(parse_csv(body, name), name, model)


def parse_csv(body: bytes, name: str) -> pl.DataFrame:
    """Return the rows in the bytes of a CSV, every column as text; raises `checkpoint_invalid` if it cannot be read."""
    try:
        return pl.read_csv(body, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise invalid_file(name, f"it is not a CSV file in UTF-8: {str(error).splitlines()[0]}.") from None


def require_model(text: pl.DataFrame, name: str, model: type[Model]) -> DataFrame[Model]:
    """Return rows of text as a frame of the model, or raise an error for the first row that does not conform.

    Raises:
        Failed: `checkpoint_invalid`, with the file's name, the column that is missing or unknown, or the first row
            that does not conform and the check that it fails.
    """
    expected = list(dtypes(model))
    if set(text.columns) == set(dtypes(RawLibrary)) < set(expected):
        raise invalid_file(name, "this is a raw CSV: enrich it first, with `steam-import enrich`.")
    if missing := [name for name in expected if name not in text.columns]:
        raise invalid_file(name, f"it lacks the {agree(len(missing), 'column')} {', '.join(missing)}.")
    if unknown := [name for name in text.columns if name not in expected]:
        raise invalid_file(name, f"it has the unknown {agree(len(unknown), 'column')} {', '.join(unknown)}.")
    rows, failures = check_rows(text.select(expected), model)
    if failures.height:
        index, failed = failures.row(0)
        rows_fail = count_of(failures.height, "row does not conform,", "rows do not conform, the first of them")
        raise invalid_file(name, f"{rows_fail} row {index + 1}: {failed}.")
    return conform(rows, model)


def require_whole(body: bytes, name: str) -> None:
    """Raise `checkpoint_invalid` for a CSV that was cut short: its last line does not end, or a line lacks cells.

    Polars does not notice: it fills a short line with nulls.
    """
    if not body.endswith(b"\n"):
        raise invalid_file(name, "its last line does not end: the file is cut off." if body else "it is empty.")
    try:
        reader = csv.reader(StringIO(body.decode(), newline=""))
        width = len(next(reader, []))
        for cells in reader:
            if len(cells) != width:
                raise invalid_file(name, f"line {reader.line_num} has {count_of(len(cells), 'cell')}, not {width}.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise invalid_file(name, f"it is not a CSV file in UTF-8: {error}.") from None


def invalid_file(name: str, why: str) -> Failed:
    """Return the error for a file that cannot be used: `checkpoint_invalid`, with its name and the reason."""
    return Failed("checkpoint_invalid", f"{name}: {why}")


def read_local_file(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a file on this machine, of at most `max_bytes`.

    Raises:
        Refused: `bad_event`, if the file cannot be read.
        Failed: `checkpoint_invalid`, if it has more than `max_bytes`.
    """
    try:
        with absolute_path(path).open("rb") as file:
            body = file.read(max_bytes + 1)
    except OSError as error:
        raise Refused("bad_event", f"{path} cannot be read: {error.strerror}.") from error
    require_size(str(path), len(body), max_bytes)
    return body


BYTE_ORDER_MARK = "\ufeff"
"""The first character of CSVs for spreadsheets: without it Excel takes UTF-8 for the code page of its machine."""

_SEPARATORS = ",;\t"
"""The separators that are recognized: Excel writes the list separator of its region, and tabs in Unicode text."""

_DECLARED_SEPARATOR = re.compile(f"sep=([{_SEPARATORS}])[\r\n]", re.IGNORECASE)
"""A first line that Excel understands, and that some programs write: it says how the other lines are separated."""

_SIGNS, _BREAKS = "=+\\-@\uff1d\uff0b\uff0d\uff20", r"\t\r\n"
"""A cell that begins with one of these is a formula, also with the full-width ones (OWASP, CSV Injection)."""

_FORMULA, _ESCAPED_FORMULA = (f"^{mark}('*[{_SIGNS}{_BREAKS}])" for mark in ("", "'"))

_INNER_FORMULA, _ESCAPED_INNER_FORMULA = (f"([;{_BREAKS}]){mark}(['\"]*[{_SIGNS}])" for mark in ("", "'"))
"""A spreadsheet may split lines at other separators than commas, and then a cell begins within a text."""

_ID = re.compile(r"\s*([0-9]+)(?:[.,]0{0,2})?\s*")
"""An id with up to two decimals, all zero. Three zeros may be thousands."""


def to_spreadsheet(rows: pl.DataFrame) -> bytes:
    """Return rows as the bytes of a CSV for a spreadsheet, with texts escaped that it would take for formulas."""
    return (BYTE_ORDER_MARK + escape_formulas(rows).write_csv()).encode()


def escape_formulas(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with an apostrophe before each text that a spreadsheet would take for a formula.

    A text that would be a formula without its leading apostrophes gets one more, so that `unescape_formulas` restores
    every text exactly.
    """
    text = pl.col(pl.String).str
    return rows.with_columns(text.replace(_FORMULA, "'$1").str.replace_all(_INNER_FORMULA, "$1'$2"))


def unescape_formulas(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with the apostrophes that `escape_formulas` added removed from each text."""
    text = pl.col(pl.String).str
    return rows.with_columns(text.replace_all(_ESCAPED_INNER_FORMULA, "$1$2").str.replace(_ESCAPED_FORMULA, "$1"))


def unescape_cell(cell: str) -> str:
    """Return the text of one cell without the apostrophes that `escape_formulas` added."""
    return re.sub(_ESCAPED_FORMULA, r"\1", re.sub(_ESCAPED_INNER_FORMULA, r"\1\2", cell))


def strip_decimals(cell: str) -> str:
    """Return digits for an id that a spreadsheet wrote with decimals, as in 620.0 or 620,00; other text unchanged."""
    found = _ID.fullmatch(cell)
    return found[1] if found else cell.strip()


class CsvRecord(NamedTuple):
    """One record of a CSV: the line on which it begins, its cells by column, and why it cannot be used, if so."""

    line: int
    cells: Mapping[str, str]
    fault: str = ""


def parse_records(body: bytes) -> Iterator[CsvRecord]:
    """Yield the records of a CSV as any spreadsheet saves it; blank records are left out, missing cells are blank.

    Separators, encodings and line ends are recognized; column names are in lower case; escaped formulas are restored.
    """
    lines = _lines(body)
    line, header, fault = next(lines, (1, [], ""))
    if fault:
        yield CsvRecord(line, {}, fault)
        return
    columns = _names(header)
    for line, cells, fault in lines:
        if fault or any(cells[len(columns) :]):
            yield CsvRecord(line, {}, fault or f"it has {count_of(len(cells), 'cell')}, not {len(columns)}")
        elif any(cells):
            texts = map(unescape_cell, cells[: len(columns)])
            yield CsvRecord(line, dict(zip_longest(columns, texts, fillvalue="")))


def parse_header(body: bytes) -> Sequence[str]:
    """Return the column names of a CSV as any spreadsheet saves it, in lower case; an empty list if it is not a CSV."""
    _, header, _ = next(_lines(body), (1, [], ""))
    return _names(header)


def drop_records(body: bytes, column: str, text: str) -> bytes:
    """Return a CSV as any spreadsheet saves it, without the records that have a text in a column, and else unchanged.

    Every column of that name counts. A record that cannot be read is dropped if it has the text as a word anywhere.
    """
    lines = list(StringIO(_decode(body), newline=""))
    records = list(_lines(body))
    names = _names(records[0][1]) if records else []
    word = re.compile(rf"(?<![\w-]){re.escape(text)}(?![\w-])")
    dropped = set[int]()
    for number, (line, cells, fault) in enumerate(records[1:], 2):
        end = records[number][0] if number < len(records) else len(lines) + 1
        named = (cell for name, cell in zip(names, cells, strict=False) if name == column)
        has_text = any(unescape_cell(cell).strip() == text for cell in named)
        if has_text or (fault and word.search("".join(lines[line - 1 : end - 1]))):
            dropped.update(range(line, end))
    kept = (line for number, line in enumerate(_byte_lines(body, lines), 1) if number not in dropped)
    return b"".join(kept) if dropped else body


def _byte_lines(body: bytes, lines: Sequence[str]) -> list[bytes]:
    """Return the bytes of each line: encoding its text again would lose the bytes that are no character."""
    if _encoding(body) != "utf-16":
        return body.splitlines(keepends=True)
    ends = [*accumulate((len(line.encode("utf-16-le")) for line in lines), initial=len(BOM_UTF16))]
    return [body[start:end] for start, end in pairwise([0, *ends[1:]])]


def _names(header: Sequence[str]) -> list[str]:
    return [cell.strip().casefold() for cell in header]


def _lines(body: bytes) -> Iterator[tuple[int, list[str], str]]:
    """Yield the line on which each record begins, its cells, and why it cannot be read; the header comes first."""
    text = _decode(body)
    declared = _DECLARED_SEPARATOR.match(text)
    separator = declared[1] if declared else max(_SEPARATORS, key=text.partition("\n")[0].count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    if declared:
        next(reader)
    while True:
        line, cells, fault = reader.line_num + 1, list[str](), ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = str(error)
        yield line, cells, fault


def _decode(body: bytes) -> str:
    return body.decode(_encoding(body), errors="replace")


def _encoding(body: bytes) -> str:
    """Return the encoding of a CSV: UTF-8, UTF-16 if a byte order mark is first, else Western Europe's code page."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig" if body.startswith(BYTE_ORDER_MARK.encode()) else "utf-8"
