"""The commands that fill, compact and describe the catalogue."""

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime

import click
import polars as pl

from pipeline import clients
from pipeline.catalogue.look_up import Progress
from pipeline.catalogue.sync import SyncResult, sync_catalogue
from pipeline.cli.options import IGDB, STORE, json_option, with_settings
from pipeline.cli.output import progress_bars
from pipeline.cli.terminal import Group, echo, echo_always
from pipeline.settings import Settings
from schemas.frames import as_text


@click.group("catalogue", cls=Group, epilog="steam-import catalogue sync")
def catalogue() -> None:
    """Fill, compact or describe the catalogue of Steam apps.

    It holds what IGDB and Steam's store say about each app, and all users share it.
    """


@catalogue.command(epilog="steam-import catalogue sync --store-url s3://bucket")
@json_option
@with_settings(*IGDB)
def sync(settings: Settings, *, as_json: bool) -> None:
    """Read all that IGDB knows about Steam's apps, or what changed since the last sync.

    A sync that was interrupted continues where it stopped.
    """
    with progress_bars() as progress:
        synced = asyncio.run(_sync(settings, progress))
    if as_json:
        click.echo(json.dumps(asdict(synced)))
    else:
        title = "All Steam apps on IGDB" if synced.is_full else "Apps that changed on IGDB"
        echo(f"{title}: {synced.apps:,}. In the catalogue: {synced.known:,}. Requests: {synced.requests:,}.")


async def _sync(settings: Settings, progress: Progress) -> SyncResult:
    settings.require(*clients.NEEDED_BY_ENRICH)
    store = clients.open_store(settings)
    async with clients.open_igdb(settings) as igdb:
        return await sync_catalogue(store, clients.open_catalogue(settings, store), igdb, progress)


@catalogue.command(epilog="steam-import catalogue compact --store-url s3://bucket")
@json_option
@with_settings(*STORE)
def compact(settings: Settings, *, as_json: bool) -> None:
    """Merge the catalogue's small files into the large one, and move corrupt ones aside."""
    done = clients.open_catalogue(settings).compact()
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        echo(f"Apps: {done.apps:,}. Files merged: {done.merged}. Corrupt files put in quarantine: {done.quarantined}.")


@catalogue.command(epilog="steam-import catalogue show --json")
@json_option
@with_settings(*STORE)
def show(settings: Settings, *, as_json: bool) -> None:
    """Print how many apps the catalogue knows, when IGDB was first and last asked, and how large its files are."""
    known = clients.open_catalogue(settings).read_look_ups()
    coverage = _coverage(known.rows) | {"files": known.files, "bytes": known.size}
    if as_json:
        click.echo(json.dumps(coverage))
        return
    for name, figure in coverage.items():
        shown = f"{figure:,}" if isinstance(figure, int) else _age(figure)
        echo_always(f"{name.replace('_', ' ') + ':':22}{shown}")


def _coverage(known: pl.DataFrame) -> dict[str, int | str | None]:
    """Return counts of apps and, as ISO 8601 in UTC, the times of the oldest and the newest look-up, None if none."""
    by_reason = known.filter(pl.col("match_reason").is_not_null()).group_by("match_reason").len().sort("match_reason")
    reasons, looked_up_at = by_reason.select(pl.format("igdb_{}", "match_reason"), "len").rows(), pl.col("looked_up_at")
    ages = known.select(oldest_look_up=looked_up_at.min(), newest_look_up=looked_up_at.max())
    return {
        "apps": known.height,
        "with_store_type": known["store_type"].count(),
        "asked_of_igdb": known["looked_up_at"].count(),
        **dict(reasons),
        **as_text(ages).row(0, named=True),
    }


def _age(time: str | None) -> str:
    if time is None:
        return "never"
    return f"{(datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds() / 86400:.1f} days ago"
