"""What people see: progress bars, and the table at the end.

What people see of a backfill: what it will cost, and what became of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from pipeline.backfill.plan import Estimate
from pipeline.catalogue.look_up import Progress, no_progress
from pipeline.cli.echo import is_quiet, strip_control_characters
from pipeline.database.live_schema import LiveSchema
from schemas.backfill import OUTCOMES, Plan, Report
from schemas.events import SHARD_STEPS, DryRun, EnrichResponse, EnrichStats, FetchResponse, LoadResponse, StageResponse
from schemas.library import ENRICHED_KINDS

NOT_MATCHED_SHOWN = 12

TO_SAY = {
    "no_longer_owned": "apps are no longer owned; they were left as they are",
    "playtimes_hidden": "owner hides all playtimes; those that are there were left",
    "library_items_to_review": "library items may belong to another game since an override: look at them",
}

PIPE_WIDTH = 140

TABLES = {
    "imported_games": "ImportedGame",
    "games": "Game",
    "genres": "Genre",
    "platforms": "Platform",
    "game_genres": "GameGenre",
    "game_platforms": "GamePlatform",
    "library_items": "LibraryItem",
}


class Screen(Console):
    """A console that no name of an app can set the title of, or move the cursor on."""

    def render_str(self, text: str, **how: Any) -> Text:  # noqa: ANN401 - as rich takes it
        """As any console, but for control characters."""
        return super().render_str(strip_control_characters(text), **how)


def console() -> Console:
    """Standard output, for what only people read; where nobody sees the lines break, they need not."""
    out = Screen(quiet=is_quiet())
    return out if out.is_terminal else Screen(quiet=is_quiet(), width=PIPE_WIDTH)


@dataclass
class ImportReport:
    """What one `run` did; a stage it did not come to is None."""

    user_id: str | None = None
    steam_id64: str | None = None
    fetch: FetchResponse | None = None
    enrich: EnrichResponse | None = None
    load: LoadResponse | None = None

    @property
    def stages(self) -> dict[str, StageResponse | None]:
        """The stages' responses, by name."""
        return {"fetch": self.fetch, "enrich": self.enrich, "load": self.load}

    def total(self, figure: str) -> float:
        """The sum of `seconds` or `requests` over the stages."""
        return float(sum(getattr(response, figure) for response in self.stages.values() if response))

    def as_json(self) -> dict[str, Any]:
        """`{user_id, steam_id64, raw, enriched, fetch, enrich, load}`, each stage with its `seconds` and `requests`."""
        return {
            "user_id": self.user_id,
            "steam_id64": self.steam_id64,
            "raw": self.fetch and self.fetch.s3_location,
            "enriched": self.enrich and self.enrich.s3_enriched_location,
            **{name: response and response_json(response) for name, response in self.stages.items()},
        }


def response_json(response: StageResponse) -> dict[str, Any]:
    """A handler's response with `seconds` and `requests`, and after a dry run with what would be written."""
    would = response.dry_run if isinstance(response, LoadResponse) else None
    return response.model_dump(mode="json") | ({"dry_run": would.model_dump(mode="json")} if would else {})


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """One bar for each thing that is counted; on anything but a terminal, nothing: log lines tell there."""
    if is_quiet() or not console.file.isatty():  # not is_terminal, which FORCE_COLOR makes of any pipe
        yield no_progress
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def summary(report: ImportReport) -> Table:
    """What was found, what became of it, and what it cost."""
    table = figures()
    if report.fetch:
        table.add_row("Games found", str(report.fetch.game_count), _set_aside(report.fetch))
    if report.enrich:
        _add_matches(table, report.enrich)
    if report.load:
        _add_rows(table, report.load)
    table.add_row("Seconds", f"{report.total('seconds'):.1f}", "")
    table.add_row("API requests", f"{report.total('requests'):.0f}", "")
    return table


def figures() -> Table:
    """A table of names, numbers and remarks."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    return table


def would_write(would: DryRun) -> list[Table]:
    """What a dry run would have done to each table, and to each column where that was asked for."""
    tables = Table("Table", "created", "updated", "removed", "left alone", title="Nothing was written", box=None)
    for row in would.tables:
        tables.add_row(*(str(row[name]) for name in ("table", "created", "updated", "removed", "left_alone")))
    changes = Table("Table", "row", "column", "old", "new", box=None)
    for change in would.changes:
        changes.add_row(*(escape(change[name] or "") for name in ("table", "key", "column", "old", "new")))
    return [tables, changes] if would.changes else [tables]


def files(report: ImportReport) -> str:
    """Where the CSVs are, a line each."""
    places = {
        "Raw CSV:": report.fetch and report.fetch.s3_location,
        "Enriched CSV:": report.enrich and report.enrich.s3_enriched_location,
    }
    return "\n".join(f"{what:14}{where}" for what, where in places.items() if where)


def not_matched(enriched: pl.DataFrame) -> str:
    """The games IGDB did not give, the most played first, each with the reason."""
    games = enriched.filter(pl.col("match_status").is_in(["UNMATCHED", "PENDING"])).sort(
        "playtime_forever", descending=True
    )
    if games.height == 0:
        return ""
    name = pl.coalesce("name", pl.format("App {}", "appid"))
    lines = games.head(NOT_MATCHED_SHOWN).select(
        pl.format("  {} ({}, {})", name, "appid", pl.col("match_reason").cast(pl.String))
    )
    more = games.height - lines.height
    rest = [f"  and {more} more, in the enriched CSV"] if more else []
    return "\n".join([f"Not matched ({games.height}):", *lines.to_series(), *rest])


def findings_json(live: LiveSchema) -> dict[str, list[str]]:
    """What a load finds in a database, what it misses, and what it would leave out."""
    return {
        "users_table": [live.users.name] if live.users is not None else [],
        "tables": sorted(live.columns),
        "missing": live.missing,
        "left_out": live.left_out,
    }


def describe(live: LiveSchema) -> str:
    """The same, a line each."""
    titles = ("Users' table", "Tables", "Missing", "Left out")
    findings = dict(zip(titles, findings_json(live).values(), strict=True))
    return "\n".join(f"{what + ':':14}{', '.join(found) or 'nothing'}" for what, found in findings.items())


def _add_matches(table: Table, enrich: EnrichResponse) -> None:
    stats = enrich.stats
    if stats is None:
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(enrich.kinds.items()) if kind not in ENRICHED_KINDS)
    table.add_row("  filtered", str(stats.filtered), kinds)
    table.add_row("  matched", str(stats.matched), "")
    table.add_row("  unmatched", str(stats.unmatched), _incomplete(stats))
    table.add_row(
        "  pending", str(stats.pending), "IGDB did not answer for these: run it again" if stats.pending else ""
    )


def _add_rows(table: Table, load: LoadResponse) -> None:
    stats = load.stats or {}
    created, updated = (sum(stats.get(f"{name}_{what}", 0) for name in TABLES) for what in ("created", "updated"))
    for what, total in (("created", created), ("updated", updated)):
        parts = [f"{stats[f'{name}_{what}']} {label}" for name, label in TABLES.items() if stats.get(f"{name}_{what}")]
        table.add_row(f"Rows {what}", str(total), ", ".join(parts))
    for count, words in TO_SAY.items():
        if stats.get(count):
            table.add_row("", str(stats[count]), words)


def _set_aside(response: StageResponse) -> str:
    return f"and {response.rejected} rows set aside, in the rejected CSV" if response.rejected else ""


def _incomplete(stats: EnrichStats) -> str:
    return f"{stats.igdb_incomplete} of them incomplete on IGDB" if stats.igdb_incomplete else ""


STEPS = ("fetch", "catalogue", "enrich", "load")

NO_PARTS = ("rows", "unchanged")
"""Counts of a stage that are not among those that its rows add up to."""


def planned(plan: Plan, estimate: Estimate, done: dict[str, int], requests_per_day: int) -> Table:
    """Users, shards, and the most that a backfill will ask of either API."""
    table = figures()
    table.add_row("Users", f"{plan.users:,}", f"and lines rejected: {plan.rejected:,}" if plan.rejected else "")
    through = ", ".join(
        f"{done[step]} {word}" for step, word in zip(SHARD_STEPS, ("fetched", "enriched", "loaded"), strict=True)
    )
    table.add_row("Shards", f"{plan.shards:,}", f"of up to {plan.shard_size} users; {through}")
    table.add_row(
        "Steam requests",
        f"{estimate.steam_requests:,}",
        f"at least, {estimate.steam_requests / requests_per_day:.1%} of the {requests_per_day:,} that are allowed "
        f"a day; {_duration(estimate.steam_seconds)}",
    )
    table.add_row("IGDB requests", f"{estimate.igdb_requests:,}", f"at the most; {_duration(estimate.igdb_seconds)}")
    return table


def balance(report: Report) -> Table:
    """Users by outcome, rows in and out of each stage, and what it cost."""
    table = figures()
    for outcome in ("total", *OUTCOMES):
        if report.users[outcome]:
            table.add_row("Users" if outcome == "total" else f"  {outcome}", f"{report.users[outcome]:,}", "")
    for step, counts in report.stages.items():
        out = ", ".join(f"{rows:,} {what}" for what, rows in counts.items() if rows and what not in NO_PARTS)
        out += f"; {counts['unchanged']:,} as they were" if counts.get("unchanged") else ""
        table.add_row(f"Rows to {step}", f"{counts.get('rows', 0):,}", out)
    written = sum(rows for what, rows in report.written.items() if what.endswith(("_created", "_updated")))
    table.add_row("Rows written", f"{written:,}", "")
    for step in STEPS:
        effort = report.effort[step]
        parts = [f"{effort.requests:,} requests" if effort.requests else ""]
        parts += [f"{effort.rate_limited:,} of them refused for their rate" if effort.rate_limited else ""]
        parts += [f"{effort.rows_per_second:,.0f} rows a second" if effort.rows_per_second else ""]
        table.add_row(f"Seconds, {step}", f"{effort.seconds:,.1f}", ", ".join(part for part in parts if part))
    for failure in report.failures[:10]:
        table.add_row("Failed", "", failure)
    return table


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
