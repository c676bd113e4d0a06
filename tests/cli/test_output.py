import polars as pl
import pytest
from structlog.testing import capture_logs

from pipeline.cli.output import (
    ImportReport,
    console,
    dry_run_tables,
    format_unmatched_games,
    log_progress,
    summary_table,
)
from pipeline.cli.terminal import echo, echo_always, strip_control_characters
from schemas.events import DryRun, FetchResponse, LoadResponse
from schemas.frames import conform
from schemas.library import EnrichedLibrary
from tests.support.libraries import app, library

TITLE = "Portal\x1b]0;pwned\x07\x9b2J\r\x00"
SHOWN = "Portal\ufffd]0;pwned\ufffd\ufffd2J\ufffd\ufffd"


def test_a_terminal_shows_control_characters_and_obeys_none(capsys: pytest.CaptureFixture[str]) -> None:
    change = {"table": "Game", "key": TITLE, "column": "name", "old": None, "new": TITLE}
    out = console()
    echo(format_unmatched_games(conform(library(app(1)).with_columns(name=pl.lit(TITLE)), EnrichedLibrary)))
    out.print(*dry_run_tables(DryRun(tables=[], changes=[change])))
    echo(TITLE)
    echo_always(TITLE, err=True)
    printed = capsys.readouterr()
    assert printed.out.count(SHOWN) == 4
    assert printed.err == f"{SHOWN}\n"
    assert not set("\x1b\x07\x9b\r\x00") & set(printed.out + printed.err)


def test_of_many_unmatched_games_the_most_played_are_listed() -> None:
    odd = [app(number, name=f"[bold]Odd {number}[/bold]", playtime_forever=100 - number) for number in range(1, 22)]
    lines = format_unmatched_games(library(*reversed(odd))).splitlines()
    assert lines[:2] == ["Not matched (21):", "  [bold]Odd 1[/bold] (1, not_found)"]
    assert lines[13:] == ["  and 9 more, in the enriched CSV"]


def test_names_of_any_language_and_lines_are_shown_as_they_are() -> None:
    text = "Ni no Kuni \N{EM DASH} 二ノ国\tŁódź\nعربي \N{VIDEO GAME}"
    assert strip_control_characters(text) == text


def test_without_a_terminal_the_log_tells_how_far_a_task_is_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 104.0, 105.0, 110.0])
    monkeypatch.setattr("pipeline.cli.output.time.monotonic", lambda: next(clock))
    show = log_progress()
    with capture_logs() as logs:
        for done in (0, 4, 5, 10):
            show("Names looked up on IGDB", done, 40)
    (line,) = logs
    assert line.items() >= {"task": "Names looked up on IGDB", "done": 10, "of": 40, "seconds_left": 30}.items()


@pytest.mark.parametrize(
    ("number", "remarks"),
    [
        (1, ("1 row that was rejected", "app is no longer", "owner hides", "item may belong", "check it by hand")),
        (2, ("2 rows that were rejected", "apps are no longer", "owners hide", "items may belong", "them by hand")),
    ],
)
def test_the_summary_of_an_import_is_right_in_the_singular(
    number: int, remarks: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    stats = dict.fromkeys(("no_longer_owned", "playtimes_hidden", "library_items_to_review"), number)
    fetch = FetchResponse(success=True, rejected=number, game_count=3)
    console().print(summary_table(ImportReport(fetch=fetch, load=LoadResponse(success=True, stats=stats))))
    shown = capsys.readouterr().out
    assert [remark for remark in remarks if remark not in shown] == []
