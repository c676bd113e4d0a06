from typing import Any

import pytest

from pipeline.errors import Failed, Refused, Retryable
from pipeline.frames.overrides import parse_overrides
from pipeline.review.decisions import AppliedReview, NamedGames, apply_review, parse_decisions, update_overrides_csv
from pipeline.storage.store import Store
from schemas.review import Decision
from tests.support.stores import Memory, OpenedStore

HEADER = b"appid,name,action,igdb_id,note\n"


def edited(*lines: str) -> bytes:
    return HEADER + "".join(f"{line}\n" for line in lines).encode()


def decision(appid: int, action: str, igdb_id: int | None = None, note: str = "") -> Decision:
    return Decision.model_validate({"appid": appid, "action": action, "igdb_id": igdb_id, "note": note, "line": 2})


def test_a_line_decides_what_its_action_says() -> None:
    body = edited("620,Portal 2,match,72,mine", "400,Portal,ignore,,", "10,Half,game,,", "20,Not yet,,,later")
    decisions, skipped = parse_decisions(body)
    assert [(one.line, one.appid, one.action, one.igdb_id, one.note) for one in decisions] == [
        (2, 620, "match", 72, "mine"),
        (3, 400, "ignore", None, ""),
        (4, 10, "game", None, ""),
    ]
    assert skipped == []


def test_a_line_counts_however_a_spreadsheet_writes_it() -> None:
    body = "\ufeffappid;name;action;igdb_id;note\r\n620.0;'=1;  Match ;72,0;two\u2028lines  here\r\n"
    ((read,), skipped) = parse_decisions(body.encode())
    assert (read.appid, read.action, read.igdb_id, read.note) == (620, "match", 72, "two lines here")
    assert skipped == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("620,Portal 2,link,72,", "action: Input should be 'match', 'ignore' or 'game'", id="action"),
        pytest.param("620,Portal 2,match,,", "match needs an igdb_id", id="no game"),
        pytest.param("620,Portal 2,match,a game,", "igdb_id: Input should be a valid integer", id="text for a game"),
        pytest.param('620,Portal 2,match,"72,000",', "igdb_id: Input should be a valid integer", id="thousands"),
        pytest.param("6.2E+2,Portal 2,ignore,,", "appid: Input should be a valid integer", id="exponent"),
        pytest.param("620,Portal 2,,72,", "it has an igdb_id and no action", id="no action"),
        pytest.param("620,Portal, 2,match,72,,more", "it has 7 cells, not 5", id="a comma without quotes"),
    ],
)
def test_an_invalid_line_is_skipped_by_its_number_and_the_others_count(line: str, why: str) -> None:
    decisions, skipped = parse_decisions(edited("400,Portal,game,,", line, "10,Half,ignore,,"))
    assert [one.appid for one in decisions] == [400, 10]
    assert [line.line for line in skipped] == [3]
    assert skipped[0].why.startswith(why)


def test_lines_that_agree_with_the_last_one_about_their_app_are_not_skipped() -> None:
    lines = (f"620,a,{action},,\n" for action in ("game", "ignore", "match", "game"))
    decisions, skipped = parse_decisions(HEADER + "".join(lines).replace("match,", "match,72").encode())
    assert [line.line for line in skipped] == [3, 4]
    assert {line.why for line in skipped} == {"line 5 decides otherwise about appid 620, and counts"}
    assert [decision.line for decision in decisions] == [5]


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        (b"appid,name\n620,Portal 2\n", "action, igdb_id, note"),
        *(
            (body, "appid, action, igdb_id, note")
            for body in (b"a,b\n1,2\n", b"", b"\n \n", b"PK\x03\x04\x14\0", b'"appid,name')
        ),
    ],
)
def test_missing_columns_are_named(body: bytes, missing: str) -> None:
    with pytest.raises(Failed, match=f"lacks the columns {missing}. .*saved as CSV") as refused:
        parse_decisions(body)
    assert refused.value.code == "checkpoint_invalid"


OTHERS = b'appid,action,igdb_id,note\r\n  10 , game,,"kept, as it is"\r\nrubbish "\r\n\r\n30,match,5,caf\xe9\r\n'
BOM = b"\xef\xbb\xbf"
IGNORE = decision(620, "ignore")
UPDATES = {
    "no file": (None, [IGNORE], b"appid,action,igdb_id,note\n620,ignore,,\n"),
    "no decisions": (OTHERS, [], OTHERS),
    "lines of other apps stay byte for byte": (OTHERS, [IGNORE], OTHERS + b"620,ignore,,\r\n"),
    "no line break at the end": (OTHERS.rstrip(b"\r\n"), [IGNORE], OTHERS + b"620,ignore,,\r\n"),
    "byte order mark": (BOM + OTHERS, [IGNORE], BOM + OTHERS + b"620,ignore,,\r\n"),
    "no header": (BOM + b"620,game,,x\n", [IGNORE], BOM + b"620,ignore,,x\n"),
    "in place of the last line of the app": (
        b"appid,action,igdb_id,note\n620,match,1,first\n400,game,,\n620,match,2,second\n10,ignore,,\n",
        [decision(620, "match", 72, 'a "third", with comma')],
        b'appid,action,igdb_id,note\n400,game,,\n620,match,72,"a ""third"", with comma"\n10,ignore,,\n',
    ),
    "a blank note keeps the former one": (
        OTHERS,
        [decision(30, "ignore")],
        OTHERS.replace(b"30,match,5,", b"30,ignore,,"),
    ),
    "an equal line stays": (OTHERS, [decision(10, "game"), decision(30, "match", 5)], OTHERS),
}


@pytest.mark.parametrize(("before", "made", "after"), UPDATES.values(), ids=UPDATES)
def test_decisions_are_written_among_the_lines_that_are_there_and_once(
    before: bytes | None, made: list[Decision], after: bytes
) -> None:
    assert update_overrides_csv(before, made) == update_overrides_csv(after, made) == after


@pytest.mark.parametrize("body", [OTHERS.decode("latin-1").encode("utf-16"), OTHERS.replace(b",", b";")])
def test_a_file_of_another_format_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match=r"overrides\.csv has to be in UTF-8 and with commas"):
        update_overrides_csv(body, [decision(620, "ignore")])


GAMES = NamedGames({5: "A game"}, unanswered={6})
OWNED = dict.fromkeys(range(1, 41))
"""The apps that a library or the catalogue has, without names."""


def deciding(store: Store, *lines: str) -> AppliedReview:
    return apply_review(store, parse_decisions(edited(*lines)), GAMES, OWNED)


def test_decisions_about_known_apps_and_games_are_merged_into_the_overrides_that_are_there() -> None:
    store = Memory({"overrides.csv": b"appid,action,igdb_id,note\n99,match,5,not of this run\n2,game,,why\n"})
    applied = deciding(store, "41,,ignore,,", "1,,ignore,,", "2,,match,5,", "3,,match,6,", "4,,match,7,")
    assert list(applied.decided) == ["App (1) → not imported", "App (2) → A game (IGDB 5)"]
    assert [(line.line, line.why.partition(". ")[0]) for line in applied.skipped] == [
        (2, "appid: neither a library nor the catalogue has app 41"),
        (5, "igdb_id: IGDB gave no answer about game 6"),
        (6, "igdb_id: IGDB knows no game 7"),
    ]
    assert store.objects["overrides.csv"] == (
        b"appid,action,igdb_id,note\n99,match,5,not of this run\n2,match,5,why\n1,ignore,,\n"
    )


class Contested:
    """A store in which others are quicker, so many times."""

    def __init__(self, store: Store, times: int) -> None:
        self._store = store
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        self._times -= 1
        if self._times >= 0:
            deciding(self._store, f"{20 + self._times},,game,,")
        return self._store.replace(key, body, etag)


def test_lines_that_others_write_meanwhile_are_kept(here: OpenedStore) -> None:
    contested: Any = Contested(here.store, times=3)
    deciding(contested, "1,,ignore,,", "2,,ignore,,")
    rows, _ = parse_overrides(here.store.read("overrides.csv"))
    assert dict(rows.select("appid", "action").rows()) == {
        22: "game", 21: "game", 20: "game", 1: "ignore", 2: "ignore"
    }  # fmt: skip


def test_a_file_that_others_rewrite_all_the_time_is_left_alone() -> None:
    store = Memory()
    contested: Any = Contested(store, times=20)
    with pytest.raises(Retryable, match="rewritten by others"):
        deciding(contested, "1,,ignore,,")
    assert b"\n1,ignore" not in store.objects["overrides.csv"]
