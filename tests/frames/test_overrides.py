import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from pipeline.errors import Refused
from pipeline.frames.overrides import override_pairs, parse_overrides
from schemas.catalogue import ExternalGames, Overrides

HEADER = "appid,action,igdb_id,note\n"
GOOD = "400,match,71,Portal\n"


def read(body: str | bytes | None) -> tuple[list[tuple[int, str, int | None]], list[str]]:
    rows, faults = parse_overrides(body.encode() if isinstance(body, str) else body)
    return Overrides.validate(rows).rows(), faults


def test_each_line_says_what_one_app_is() -> None:
    rows, faults = read(f"{HEADER}620,match,72,the co-op game\n400,ignore,,\n10,game,,no DLC\n")
    assert rows == [(620, "match", 72), (400, "ignore", None), (10, "game", None)]
    assert faults == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(None, id="no file"),
        pytest.param("", id="an empty file"),
        pytest.param(HEADER, id="a header alone"),
        pytest.param("\n\n  \n,,,\n", id="blank lines"),
    ],
)
def test_a_file_without_decisions_has_no_overrides(body: str | bytes | None) -> None:
    assert read(body) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(HEADER + GOOD, id="plain"),
        pytest.param(GOOD, id="no header"),
        pytest.param(f"\ufeff{HEADER}{GOOD}", id="byte order mark"),
        pytest.param((HEADER + GOOD).replace("\n", "\r\n"), id="CRLF"),
        pytest.param((HEADER + GOOD).replace("\n", "\r"), id="CR"),
        pytest.param(HEADER + GOOD.rstrip("\n"), id="no line break at the end"),
        pytest.param('"appid","action","igdb_id","note"\n"400","match","71","Portal"\n', id="all quoted"),
        pytest.param(f"{HEADER} 400 , match , 71 ,Portal\n", id="blanks around"),
        pytest.param(f"{HEADER}400,match,71,a\u2028b\x0bc\x85d\n", id="line separators of Unicode in the note"),
        pytest.param(HEADER + "\n" + GOOD + "\n", id="blank lines between"),
        pytest.param("Appid,Action,IGDB_ID,Note\n" + GOOD, id="a header in capitals"),
        pytest.param(f"{HEADER}400,match,71,Müller\n".encode("latin-1"), id="a note in latin-1"),
    ],
)
def test_however_a_spreadsheet_saves_it_the_line_counts(body: str | bytes) -> None:
    assert read(body) == ([(400, "match", 71)], [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("620,match,,", "needs an igdb_id", id="match without a game"),
        pytest.param("620", "action", id="appid alone"),
        pytest.param("620,hide,,", "action", id="unknown action"),
        pytest.param("Portal 2,ignore,,", "appid", id="name for an appid"),
        pytest.param("620,match,99999999999999999999,", "igdb_id", id="huge game"),
        pytest.param('620,ignore,,"never closed', "unexpected end", id="quote never closed"),
        pytest.param("6\x0020,ignore,,", "appid", id="NUL in an appid"),
    ],
)
def test_an_invalid_line_is_skipped_with_its_number_and_the_rest_counts(line: str, why: str) -> None:
    rows, (fault,) = read(f"{HEADER}10,ignore,,\n{line}\n{GOOD}")
    assert rows == [(10, "ignore", None), (400, "match", 71)]
    assert fault.startswith("line 3: ")
    assert why in fault


def test_every_invalid_line_has_a_sentence_and_undoes_no_good_one_of_its_app() -> None:
    rows, faults = read(f'{HEADER}x,ignore,,\n{GOOD}400,match,nonsense,\n10,ignore,,"two\nlines"\n')
    assert rows == [(400, "match", 71)]
    assert [fault.split(":")[0] for fault in faults] == ["line 2", "line 4", "line 5", "line 6"]


def test_a_fault_does_not_repeat_what_a_cell_holds() -> None:
    _, (fault,) = read(f"{HEADER}{'x' * 1000},ignore,,\n")
    assert len(fault) < 200


def test_the_later_of_two_lines_of_an_app_counts() -> None:
    rows, faults = read(f"{HEADER}400,ignore,,\n{GOOD}")
    assert rows == [(400, "match", 71)]
    assert faults == ["line 3: appid 400 has an earlier line too; this one counts"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param((HEADER + GOOD).encode("utf-16"), id="UTF-16"),
        pytest.param((HEADER + GOOD).encode("utf-16-be"), id="UTF-16 without its mark"),
        pytest.param((HEADER + GOOD).replace(",", ";").encode(), id="semicolons"),
        pytest.param(("\ufeff" + HEADER + GOOD).replace(",", "\t").encode(), id="tabs"),
    ],
)
def test_a_file_of_another_format_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Refused, match=r"Save it as CSV UTF-8 \(comma delimited\)"):
        parse_overrides(body)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="replace"))))
def test_a_valid_line_counts_whatever_stands_before_it(body: bytes) -> None:
    try:
        rows, _ = parse_overrides(body + b"\n" + GOOD.encode())
    except Refused:
        reject()
    assert Overrides.validate(rows).filter(appid=400).row(0) == (400, "match", 71)


def test_matches_are_pairs_of_app_and_game() -> None:
    rows, _ = parse_overrides(f"{HEADER}{GOOD}10,ignore,,\n20,game,,\n".encode())
    assert ExternalGames.validate(override_pairs(rows)).rows() == [(400, 71)]
