"""CSVs that people open, edit and save in spreadsheets, and files of their machines."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.storage.csv import (
    escape_formulas,
    parse_records,
    read_local_file,
    strip_decimals,
    to_spreadsheet,
    unescape_cell,
    unescape_formulas,
)

HEADER = "appid,name,note"
SIGNS = ("=", "+", "-", "@", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}")
FORMULAS = (*SIGNS, "\t", "\r", "\n")

texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("'=+-@\t\r\n,;\"")))


def escaped_cell(text: str) -> str:
    cell: str = escape_formulas(pl.DataFrame({"name": [text]}, schema={"name": pl.String})).item()
    return cell


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\r1", "'\r1"),
        ("\t=1", "'\t'=1"),
        ("x;=1+1", "x;'=1+1"),
        ("x\t@SUM(A1);-1", "x\t'@SUM(A1);'-1"),
        ('x;"=1+1;', "x;'\"=1+1;"),
        ("x;'=1+1", "x;''=1+1"),
        ("x\n\N{FULLWIDTH EQUALS SIGN}1", "x\n'\N{FULLWIDTH EQUALS SIGN}1"),
        ("Steins;Gate", "Steins;Gate"),
        ("\N{FULLWIDTH EQUALS SIGN}1", "'\N{FULLWIDTH EQUALS SIGN}1"),
        ("'=1+1", "''=1+1"),
        ("''=1+1", "'''=1+1"),
        ("'Splosion Man", "'Splosion Man"),
    ],
)
def test_a_formula_is_escaped_and_restored_and_its_own_apostrophes_stay(text: str, cell: str) -> None:
    assert escaped_cell(text) == cell
    assert unescape_cell(cell) == text


@given(texts)
def test_any_text_is_restored_and_no_escaped_text_is_a_formula(text: str) -> None:
    cell = escaped_cell(text)
    assert not cell.startswith(FORMULAS)
    for separator in ";\t\r\n":
        parts = (part.lstrip("\"'" if part[:1] == '"' else "") for part in cell.split(separator)[1:])
        assert not any(part.startswith(SIGNS) for part in parts)
    assert unescape_cell(cell) == text
    assert unescape_formulas(pl.DataFrame({"name": [cell]})).item() == text


@given(st.lists(texts, min_size=1))
def test_any_texts_are_read_back_from_a_spreadsheet(names: list[str]) -> None:
    rows = pl.DataFrame({"appid": range(1, len(names) + 1), "name": names}, schema_overrides={"name": pl.String})
    assert [record.cells["name"] for record in parse_records(to_spreadsheet(rows))] == names


def cells(body: bytes) -> list[tuple[int, list[str]]]:
    return [(record.line, list(record.cells.values())) for record in parse_records(body)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"appid,name,note\n620,Portal 2,K\xc3\xb6nig\n", id="as we write it"),
        pytest.param(b"\xef\xbb\xbfappid,name,note\r\n620,Portal 2,K\xc3\xb6nig\r\n", id="BOM and CRLF"),
        pytest.param(b"appid;name;note\r\n620;Portal 2;K\xf6nig\r\n", id="semicolons in Windows-1252"),
        pytest.param("\ufeffappid\tname\tnote\r\n620\tPortal 2\tKönig\r\n".encode("utf-16-le"), id="Unicode text"),
        pytest.param(b"AppID , NAME,Note\r620,Portal 2,K\xc3\xb6nig", id="old Mac lines, and a header in capitals"),
        pytest.param(b'"appid","name","note"\n"620","Portal 2","K\xc3\xb6nig"\n', id="quotes everywhere"),
        pytest.param(b"sep=;\r\nappid;name;note\r\n620;Portal 2;K\xf6nig\r\n", id="Excel's line about separators"),
        pytest.param(b"appid,name,note\n,,\n620,Portal 2,K\xc3\xb6nig,,,\n\n", id="blank records and cells"),
    ],
)
def test_any_form_in_which_a_spreadsheet_saves_a_csv_is_read(body: bytes) -> None:
    assert [texts for _, texts in cells(body)] == [["620", "Portal 2", "König"]]


def test_a_record_has_the_number_of_the_line_it_begins_on() -> None:
    body = b'appid,name,note\n1,"two\nlines",\n\n2,"a ""quote"", and; more",x\n3\n'
    assert cells(body) == [
        (2, ["1", "two\nlines", ""]),
        (5, ["2", 'a "quote", and; more', "x"]),
        (6, ["3", "", ""]),
    ]


def test_a_record_that_cannot_be_read_has_a_fault_and_the_others_are_read() -> None:
    found = list(parse_records(b'appid,name,note\n1,a,b,c\n2,"x"y,\n3,a,b\n4,"never closed,\n5,a,b\n'))
    assert [(record.line, bool(record.fault)) for record in found] == [(2, True), (3, True), (4, False), (5, True)]
    assert found[0].fault == "it has 4 cells, not 3"
    assert found[2].cells == {"appid": "3", "name": "a", "note": "b"}


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("620", "620"),
        (" 620 ", "620"),
        ("620.0", "620"),
        ("620,00", "620"),
        ("620.5", "620.5"),
        ("900,000", "900,000"),
        ("6,2E+02", "6,2E+02"),
        ("", ""),
    ],
)
def test_an_id_loses_zero_decimals_and_other_text_is_unchanged(cell: str, number: str) -> None:
    assert strip_decimals(cell) == number


def test_a_local_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(b"a" * 10)
    assert read_local_file(path, max_bytes=10) == b"a" * 10
    for larger in (path, Path("/dev/zero")):
        with pytest.raises(PipelineError, match=r"has more than 9 bytes.* set FILE_MAX_BYTES higher") as refused:
            read_local_file(larger, max_bytes=9)
        assert refused.value.code == "checkpoint_invalid"


def test_a_local_file_that_cannot_be_read_is_a_bad_event(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(PipelineError, match="cannot be read") as refused:
            read_local_file(path, max_bytes=10)
        assert refused.value.code == "bad_event"
