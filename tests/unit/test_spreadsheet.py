import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Failed
from pipeline.storage.csv import (
    escape_formulas,
    parse_records,
    strip_decimals,
    to_spreadsheet,
    unescape_cell,
    unescape_formulas,
)

HEADER = "appid,name,note"
SIGNS = ("=", "+", "-", "@", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}")
FORMULAS = (*SIGNS, "\t", "\r", "\n")

WIDE = ",".join(f"c{number}" for number in range(10_000)).encode() + b"\n"

texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("'=+-@\t\r\n,;\"")))


def defused_cell(text: str) -> str:
    cell: str = escape_formulas(pl.DataFrame({"name": [text]}, schema={"name": pl.String})).item()
    return cell


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t1", "'\t1"),
        ("\r1", "'\r1"),
        ("\n1", "'\n1"),
        ("\t=1", "'\t'=1"),
        ("x;=1+1", "x;'=1+1"),
        ("x\t@SUM(A1);-1", "x\t'@SUM(A1);'-1"),
        ('x;"=1+1;', "x;'\"=1+1;"),
        ("x;'=1+1", "x;''=1+1"),
        ("x\n\N{FULLWIDTH EQUALS SIGN}1", "x\n'\N{FULLWIDTH EQUALS SIGN}1"),
        ("Steins;Gate", "Steins;Gate"),
        ("x; =1", "x; =1"),
        ("\N{FULLWIDTH EQUALS SIGN}1", "'\N{FULLWIDTH EQUALS SIGN}1"),
        ("'=1+1", "''=1+1"),
        ("''=1+1", "'''=1+1"),
        ("'Splosion Man", "'Splosion Man"),
        ("'", "'"),
        ("1=1", "1=1"),
        (" =1", " =1"),
        ("", ""),
    ],
)
def test_a_formula_is_defused_and_restored_and_an_apostrophe_of_its_own_stays(text: str, cell: str) -> None:
    assert defused_cell(text) == cell
    assert unescape_cell(cell) == text


@given(texts)
def test_any_text_comes_back_and_none_is_a_formula(text: str) -> None:
    cell = defused_cell(text)
    assert not cell.startswith(FORMULAS)
    for separator in ";\t\r\n":
        parts = (part.lstrip("\"'" if part[:1] == '"' else "") for part in cell.split(separator)[1:])
        assert not any(part.startswith(SIGNS) for part in parts)
    assert unescape_cell(cell) == text
    assert unescape_formulas(pl.DataFrame({"name": [cell]})).item() == text


def test_null_stays_null_and_numbers_are_no_formulas() -> None:
    rows = pl.DataFrame({"name": [None, "a"], "score": [-1, 2]}, schema={"name": pl.String, "score": pl.Int32})
    assert escape_formulas(rows).equals(rows)


@given(st.lists(texts, min_size=1))
def test_any_texts_come_back_through_a_file(names: list[str]) -> None:
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
def test_what_a_spreadsheet_writes_is_understood(body: bytes) -> None:
    assert [texts for _, texts in cells(body)] == [["620", "Portal 2", "König"]]


def test_a_record_is_known_by_the_line_it_begins_on() -> None:
    body = b'appid,name,note\n1,"two\nlines",\n\n2,"a ""quote"", and; more",x\n3\n'
    assert cells(body) == [
        (2, ["1", "two\nlines", ""]),
        (5, ["2", 'a "quote", and; more', "x"]),
        (6, ["3", "", ""]),
    ]


def test_a_record_that_cannot_be_read_is_a_fault_and_the_others_count() -> None:
    found = list(parse_records(b'appid,name,note\n1,a,b,c\n2,"x"y,\n3,a,b\n4,"never closed,\n5,a,b\n'))
    assert [(record.line, bool(record.fault)) for record in found] == [(2, True), (3, True), (4, False), (5, True)]
    assert found[0].fault == "it has 4 cells, not 3"
    assert found[2].cells == {"appid": "3", "name": "a", "note": "b"}


def test_a_header_wider_than_any_spreadsheet_is_refused_and_short_lines_under_a_wide_one_cost_nothing() -> None:
    with pytest.raises(Failed, match="16,385 columns"):
        next(parse_records(b"," * 16_384 + b"\n"))
    began = time.perf_counter()
    assert sum(record.cells["c9999"] == "" for record in parse_records(WIDE + b"x\n" * 20_000)) == 20_000
    assert time.perf_counter() - began < 3


def test_a_record_as_long_as_its_file_is_a_fault_and_the_others_count() -> None:
    found = list(parse_records(b"appid,name\n1," + (b'"\n",' + b"," * 900_000) * 4 + b"\n2,b\n"))
    assert found[0].fault == "a record is longer than 1,048,576 characters"
    assert found[-1].cells == {"appid": "2", "name": "b"}


def test_a_file_without_records_has_none() -> None:
    assert [list(parse_records(body)) for body in (b"", b"\n", b"appid,name\n", b"\xef\xbb\xbf")] == [[]] * 4


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("620", "620"),
        (" 620 ", "620"),
        ("620.0", "620"),
        ("620,00", "620"),
        ("620.", "620"),
        ("620.5", "620.5"),
        ("900,000", "900,000"),
        ("6,2E+02", "6,2E+02"),
        ("-1", "-1"),
        ("", ""),
    ],
)
def test_an_id_loses_its_decimals_and_nothing_else_becomes_one(cell: str, number: str) -> None:
    assert strip_decimals(cell) == number
