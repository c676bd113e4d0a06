"""What changed between two imports of one user, row by row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.frames.changes import Snapshot, follow_playtimes, summarize_changes
from schemas.frames import conform, dtypes
from schemas.library import RawLibrary
from tests.support.libraries import app, library, matched

AT, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 8, tzinfo=UTC)
WEEK = 7 * 24 * 60
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
    "bought again, last played before": ([], [app(1, playtime_forever=60_000, rtime_last_played=BEFORE_AT)],
                                         {"new_games": [1]}, 0),
    "bought again, nobody knows when it was played": ([], [app(1, playtime_forever=60_000)], {"new_games": [1]}, 0),
    "more than has passed, of a game that was played offline": ([app(1, playtime_forever=5)],
                                                       [app(1, playtime_forever=5 + 2 * WEEK)],
                                                       {"most_played": [1]}, 2 * WEEK),
    "hidden now": ([app(1, playtime_forever=9)], [app(1), app(2)], {"new_games": [2]}, 0),
    "hidden before": ([app(1)], [app(1, playtime_forever=900, rtime_last_played=BEFORE_AT)], NOTHING, 0),
    "hidden before, nobody knows when it was played": ([app(1), app(2)],
                                     [app(1, playtime_forever=60_000), app(2, playtime_forever=10)], NOTHING, 0),
    "hidden before, and more than has passed in all": ([app(1), app(2)],
                               [app(1, playtime_forever=WEEK), app(2, playtime_forever=WEEK)], NOTHING, 0),
    "hidden before, and played since": ([app(1), app(2)],
                                  [app(1, playtime_forever=60_000, rtime_last_played=AFTER_AT),
                                   app(2, playtime_forever=10, rtime_last_played=AFTER_AT)], NOTHING, 0),
    "one hidden before": ([app(1), app(2, playtime_forever=9)],
                          [app(1, playtime_forever=60_000), app(2, playtime_forever=10)], {"most_played": [2]}, 1),
    "first played": ([app(1)], [app(1, playtime_forever=30, rtime_last_played=AFTER_AT)], {"most_played": [1]}, 30),
    "twice in an edited CSV": ([app(1), app(1)], [app(1), app(1)], NOTHING, 0),
}  # fmt: skip


def snapshots(before: Rows, after: Rows) -> tuple[Snapshot, Snapshot]:
    return (
        Snapshot("user-1", "earlier", AT, library(*before)),
        Snapshot("user-1", "later", UNTIL, library(*after)),
    )


@pytest.mark.parametrize("case", CASES)
def test_what_changed_between_two_imports(case: str) -> None:
    before, after, expected, minutes = CASES[case]
    summary = summarize_changes(*snapshots(before, after))
    lists = ("new_games", "no_longer_owned", "newly_matched", "renamed", "most_played")
    found = {name: [game.appid for game in games] for name in lists if (games := getattr(summary, name))}
    assert (found, summary.minutes_played_since) == (expected, minutes)
    assert summary.is_nothing is (not found)
    assert summary.playtimes_hidden is ("hidden" in case)


def test_the_five_most_played_are_listed_and_all_minutes_are_counted() -> None:
    before, after = ([app(n, playtime_forever=n * played) for n in range(1, 8)] for played in (1, 3))
    summary = summarize_changes(*snapshots(before, after))
    assert [(game.appid, game.minutes_played) for game in summary.most_played] == [(n, 2 * n) for n in (7, 6, 5, 4, 3)]
    assert summary.minutes_played_since == 56


def test_the_history_counts_the_minutes_that_the_changes_count_and_looks_past_hidden_imports() -> None:
    times = [AT + timedelta(weeks=week) for week in range(4)]
    shown = [
        [app(1, playtime_forever=100)],
        [app(1), app(2)],  # the owner hides all playtimes
        [app(1, playtime_forever=160), app(2, playtime_forever=30)],
        [app(1, playtime_forever=160), app(3, playtime_forever=60_000, rtime_last_played=BEFORE_AT)],
    ]
    raw = [conform(library(*rows).select(dtypes(RawLibrary).names()), RawLibrary) for rows in shown]

    history = follow_playtimes(zip(times, raw, strict=True))

    assert history.select("fetched_at", "since", "appid", "minutes_played").rows() == [
        (times[0], None, 1, None),
        (times[1], times[0], 1, 0),
        (times[1], times[0], 2, 0),
        (times[2], times[0], 1, 60),
        (times[2], times[0], 2, 30),
        (times[3], times[2], 1, 0),
        (times[3], times[2], 3, 0),
    ]
    earlier, later = snapshots(shown[0], shown[2])
    assert summarize_changes(earlier, later).minutes_played_since == 90
