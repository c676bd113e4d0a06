"""Print an import for people: progress bars on a terminal, tables, and the same figures as JSON."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
import structlog
from pandera.typing.polars import DataFrame
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from pipeline.catalogue.look_up import Progress, no_progress
from pipeline.cli.terminal import is_quiet, strip_control_characters
from pipeline.errors import agree, count_of
from schemas.events import (
    ChangedGame,
    ChangeSummary,
    DryRun,
    EnrichResponse,
    FetchResponse,
    LoadResponse,
    StageResponse,
)
from schemas.library import ENRICHED_KINDS, EnrichedLibrary

UNMATCHED_SHOWN = 12

NAMES_SHOWN = 5
"""The most names of games that a line about an import shows; `steam-import diff` shows all."""

LOG_SECONDS = 5.0
"""The number of seconds between two lines about the progress of a task, where there is no terminal."""

PIPE_WIDTH = 140
"""The width of a table in characters if stdout is not a terminal: lines need not break there."""

TABLES = {
    "imported_games": "ImportedGame",
    "games": "Game",
    "genres": "Genre",
    "platforms": "Platform",
    "game_genres": "GameGenre",
    "game_platforms": "GamePlatform",
    "library_items": "LibraryItem",
}
"""SavePoint's tables, by the name under which a load counts their rows: `{name}_created` and `{name}_updated`."""

REMARKS = {
    "no_longer_owned": (
        "app is no longer owned; its rows were left as they are",
        "apps are no longer owned; their rows were left as they are",
    ),
    "playtimes_hidden": (
        "owner hides all playtimes; the known playtimes were kept",
        "owners hide all playtimes; the known playtimes were kept",
    ),
    "library_items_to_review": (
        "library item may belong to another game since an override: check it by hand",
        "library items may belong to another game since an override: check them by hand",
    ),
}
"""Sentences with which the summary explains counts of a load that are 1 or more, by the count's name."""


log = structlog.get_logger()


class SafeConsole(Console):
    """A rich console that prints control characters, which names of apps may contain, as replacement characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text as rich renders it, without control characters."""
        return super().render_str(strip_control_characters(text), **options)


def console() -> Console:
    """Return a rich console for stdout, which prints nothing if the command was called with `--quiet`."""
    out = SafeConsole(quiet=is_quiet())
    return out if out.is_terminal else SafeConsole(quiet=is_quiet(), width=PIPE_WIDTH)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a callback that shows progress as a bar per task, or logs it without a terminal; not with `--quiet`."""
    out = Console(stderr=True)
    if is_quiet() or not out.file.isatty():  # not is_terminal, which FORCE_COLOR makes of any pipe
        yield no_progress if is_quiet() else log_progress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=out, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(description: str, done: int, total: int) -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(description)
            bars.update(tasks[description], completed=done, total=total)

        yield show


def log_progress() -> Progress:
    """Return a callback that logs how far a task is and the time left, every five seconds of the task."""
    begun: dict[str, float] = {}
    logged: dict[str, float] = {}

    def show(description: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = begun.setdefault(description, now)
        if done and now - logged.setdefault(description, now) >= LOG_SECONDS:
            logged[description] = now
            left = round((now - start) / done * (total - done))
            log.info("progress", task=description, done=done, of=total, seconds_left=left)

    return show


@dataclass
class ImportReport:
    """The responses of fetch, enrich and load in one import; that of a stage that has not run is None."""

    user_id: str | None = None
    steam_id64: str | None = None
    fetch: FetchResponse | None = None
    enrich: EnrichResponse | None = None
    load: LoadResponse | None = None

    @property
    def stages(self) -> dict[str, StageResponse | None]:
        """The stages' responses, by name of stage."""
        return {"fetch": self.fetch, "enrich": self.enrich, "load": self.load}

    @property
    def locations(self) -> dict[str, str | None]:
        """The locations of the two CSVs, by `raw` and `enriched`; None for one that was not written."""
        return {
            "raw": self.fetch.s3_location if self.fetch else None,
            "enriched": self.enrich.s3_enriched_location if self.enrich else None,
        }

    def total(self, figure: str) -> float:
        """Return the sum of `seconds` or `requests` over the stages."""
        return float(sum(getattr(response, figure) for response in self.stages.values() if response))

    def as_json(self) -> dict[str, Any]:
        """Return the import as a dict of JSON types: `{user_id, steam_id64, raw, enriched, fetch, enrich, load}`."""
        return {
            "user_id": self.user_id,
            "steam_id64": self.steam_id64,
            **self.locations,
            **{name: response and response_json(response) for name, response in self.stages.items()},
        }


def response_json(response: StageResponse) -> dict[str, Any]:
    """Return a stage's response as a dict of JSON types, with `seconds` and `requests`; a load's with `changes`.

    After a dry run it has `dry_run` too.
    """
    extra = {"changes": response.changes, "dry_run": response.dry_run} if isinstance(response, LoadResponse) else {}
    return response.model_dump(mode="json") | {
        name: value.model_dump(mode="json") for name, value in extra.items() if value
    }


def summary_table(report: ImportReport) -> Table:
    """Return a table for the terminal about an import: games found and matched, rows written, seconds and requests."""
    table = figures_table()
    if report.fetch:
        rejected = report.fetch.rejected or 0
        rows = count_of(rejected, "row that was", "rows that were")
        remark = f"and {rows} rejected, see the rejected CSV" if rejected else ""
        table.add_row("Games found", str(report.fetch.game_count), remark)
    if report.enrich:
        _add_matches(table, report.enrich)
    if report.load:
        _add_rows_written(table, report.load)
        _add_changes(table, report.load)
    table.add_row("Seconds", f"{report.total('seconds'):.1f}", "")
    table.add_row("API requests", f"{report.total('requests'):.0f}", "")
    return table


def figures_table() -> Table:
    """Return an empty table for the terminal, whose lines have a name, a number and a remark."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    return table


def _add_matches(table: Table, enrich: EnrichResponse) -> None:
    stats = enrich.stats
    if stats is None:
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(enrich.kinds.items()) if kind not in ENRICHED_KINDS)
    incomplete = f"{stats.igdb_incomplete} of them incomplete on IGDB" if stats.igdb_incomplete else ""
    pending = "IGDB did not answer for these: run it again" if stats.pending else ""
    table.add_row("  filtered", str(stats.filtered), kinds)
    table.add_row("  matched", str(stats.matched), "")
    table.add_row("  unmatched", str(stats.unmatched), incomplete)
    table.add_row("  pending", str(stats.pending), pending)


def _add_rows_written(table: Table, load: LoadResponse) -> None:
    counts = load.stats or {}
    for change in ("created", "updated"):
        rows = {name: counts.get(f"{key}_{change}", 0) for key, name in TABLES.items()}
        parts = ", ".join(f"{count} {name}" for name, count in rows.items() if count)
        table.add_row(f"Rows {change}", str(sum(rows.values())), parts)
    for name, remarks in REMARKS.items():
        if count := counts.get(name):
            table.add_row("", str(count), agree(count, *remarks))


def _add_changes(table: Table, load: LoadResponse) -> None:
    """Add what changed since the last import that was loaded, or that this one is the first."""
    if load.changes and load.changes.since is None:
        table.add_row("First import", "", "there is none before it to compare with")
    elif load.changes:
        table.add_row(f"Since {load.changes.since}", "", "nothing has changed" if load.changes.is_nothing else "")
        add_change_rows(table, load.changes)


def add_change_rows(table: Table, changes: ChangeSummary, shown: int | None = NAMES_SHOWN) -> None:
    """Add a line to a table of figures for each way in which games changed, with the names of at most `shown` games."""
    for title, games in (
        ("  new games", changes.new_games),
        ("  no longer owned", changes.no_longer_owned),
        ("  newly matched", changes.newly_matched),
        ("  renamed", changes.renamed),
    ):
        if games:
            more = f", and {len(games) - shown} more" if shown and len(games) > shown else ""
            table.add_row(title, str(len(games)), escape(", ".join(map(_describe_game, games[:shown])) + more))
    if changes.minutes_played_since:
        most = ", ".join(f"{_name(game)} {game.minutes_played / 60:.1f}" for game in changes.most_played)
        table.add_row("  hours played", f"{changes.minutes_played_since / 60:.1f}", escape(most))
    if changes.playtimes_hidden:
        table.add_row(
            "",
            "",
            "playtimes were hidden in one of the two imports: hours of games whose playtime was hidden are not counted",
        )


def _describe_game(game: ChangedGame) -> str:
    return f"{game.old_name} → {_name(game)}" if game.old_name else _name(game)


def _name(game: ChangedGame) -> str:
    return game.name or f"App {game.appid}"


def dry_run_tables(dry_run: DryRun) -> list[Table]:
    """Return the tables for the terminal about a dry run: rows to write by database table, and changes if asked for."""
    tables = Table("Table", "created", "updated", "removed", "left alone", title="Nothing was written", box=None)
    for row in dry_run.tables:
        tables.add_row(*(str(row[name]) for name in ("table", "created", "updated", "removed", "left_alone")))
    changes = Table("Table", "row", "column", "old", "new", box=None)
    for change in dry_run.changes:
        changes.add_row(*(escape(change[name] or "") for name in ("table", "key", "column", "old", "new")))
    return [tables, changes] if dry_run.changes else [tables]


def format_unmatched_games(enriched: DataFrame[EnrichedLibrary]) -> str:
    """Return a text with a title and a line for each of the most played unmatched games; "" if all are matched."""
    games = enriched.filter(pl.col("match_status").is_in(["UNMATCHED", "PENDING"])).sort(
        "playtime_forever", descending=True
    )
    if games.height == 0:
        return ""
    name = pl.coalesce("name", pl.format("App {}", "appid"))
    lines = games.head(UNMATCHED_SHOWN).select(
        pl.format("  {} ({}, {})", name, "appid", pl.col("match_reason").cast(pl.String))
    )
    more = games.height - lines.height
    rest = [f"  and {more} more, in the enriched CSV"] if more else []
    return "\n".join([f"Not matched ({games.height}):", *lines.to_series(), *rest])
