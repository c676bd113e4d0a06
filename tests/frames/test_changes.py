"""What changed between two imports of one user, row by row."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.frames.changes import compare_libraries, playtimes_hidden, summarize_changes
from tests.support.libraries import app, library, matched

AT = datetime(2026, 11, 1, tzinfo=UTC)
BEFORE_AT, AFTER_AT = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 9, tzinfo=UTC)
DLC = {"kind": "dlc", "match_status": "IGNORED", "match_reason": "filtered"}

Rows = list[dict[str, Any]]
NOTHING: dict[str, list[int]] = {}

CASES: dict[str, tuple[Rows, Rows, dict[str, list[int]], int]] = {
    "the same": ([app(1, playtime_forever=5)], [app(1, playtime_forever=5)], NOTHING, 0),
    "played": ([app(1, playtime_forever=5)], [app(1, playtime_forever=65)], {"most_played": [1]}, 60),
    "bought and played": ([], [app(1, playtime_forever=7)], {"new_games": [1], "most_played": [1]}, 7),
    "bought and matched at once is no new match": ([], [matched(1, 100)], {"new_games": [1]}, 0),
    "refunded": ([app(1, playtime_forever=5)], [], {"no_longer_owned": [1]}, 0),
    "renamed is neither bought nor refunded": ([app(1, name="Old")], [app(1, name="New")], {"renamed": [1]}, 0),
    "without a name now is not renamed": ([app(1, name="Old")], [app(1, name=None)], NOTHING, 0),
    "newly matched": ([app(1)], [matched(1, 100)], {"newly_matched": [1]}, 0),
    "matched to another game is not newly matched": ([matched(1, 100)], [matched(1, 101)], NOTHING, 0),
    "no longer matched": ([matched(1, 100)], [app(1)], NOTHING, 0),
    "DLC is no game": ([], [app(1, **DLC)], NOTHING, 0),
    "playtime never falls": ([app(1, playtime_forever=9), app(2, playtime_forever=1)],
                             [app(1, playtime_forever=3), app(2, playtime_forever=1)], NOTHING, 0),
    "hidden now": ([app(1, playtime_forever=9)], [app(1), app(2)], {"new_games": [2]}, 0),
    "hidden before": ([app(1)], [app(1, playtime_forever=900, rtime_last_played=BEFORE_AT)], NOTHING, 0),
    "first played": ([app(1)], [app(1, playtime_forever=30, rtime_last_played=AFTER_AT)], {"most_played": [1]}, 30),
    "twice in an edited CSV": ([app(1), app(1)], [app(1), app(1)], NOTHING, 0),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected", "minutes"), CASES.values(), ids=CASES)
def test_what_changed_between_two_imports(
    before: Rows, after: Rows, expected: dict[str, list[int]], minutes: int
) -> None:
    changes = compare_libraries(library(*before), library(*after), AT)
    summary = summarize_changes(changes, "earlier", "later")
    lists = ("new_games", "no_longer_owned", "newly_matched", "renamed", "most_played")
    found = {name: [game.appid for game in games] for name in lists if (games := getattr(summary, name))}
    assert (found, summary.minutes_played_since) == (expected, minutes)
    assert summary.is_nothing is (not found)


def test_the_five_most_played_are_listed_and_all_minutes_are_counted() -> None:
    before, after = (library(*(app(n, playtime_forever=n * played) for n in range(1, 8))) for played in (1, 3))
    summary = summarize_changes(compare_libraries(before, after), "earlier", "later")
    assert [(game.appid, game.minutes_played) for game in summary.most_played] == [(n, 2 * n) for n in (7, 6, 5, 4, 3)]
    assert summary.minutes_played_since == 56


@pytest.mark.parametrize(
    ("before", "after", "hidden"),
    [(9, 0, [True]), (0, 9, [True]), (9, 9, [False]), (0, 0, [False])],
    ids=["hidden now", "hidden before", "shown", "never played"],
)
def test_playtimes_of_0_alone_were_hidden_if_the_other_import_has_any(
    before: int, after: int, hidden: list[bool]
) -> None:
    played = {"rtime_last_played": BEFORE_AT}
    found = playtimes_hidden(
        library(app(1, playtime_forever=before, **played)), library(app(1, playtime_forever=after, **played)), AT
    )
    assert [found] == hidden
