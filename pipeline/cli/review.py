"""The commands with which people match the games that were not matched: export a sheet, apply it."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import click

from pipeline import clients
from pipeline.catalogue.names import NameFile
from pipeline.cli.imports import enrich_csv, load_csv
from pipeline.cli.local import absolute_location
from pipeline.cli.options import DATABASE, IGDB, json_option, trust_option, with_settings
from pipeline.cli.output import ImportReport, console, progress_bars, summary_table
from pipeline.cli.terminal import Group, echo, echo_always
from pipeline.review.decisions import AppliedReview, NamedGames, apply_review, name_games
from pipeline.review.look_up import NameLookup
from pipeline.review.sheet import ReviewExport, export_review
from pipeline.settings import Settings
from pipeline.storage.csv import read_local_file
from pipeline.storage.keys import Checkpoint
from pipeline.storage.store import Store
from schemas.events import EnrichEvent, LoadEvent

SKIPPED_SHOWN = 20


@click.group("review", cls=Group, epilog="steam-import review apply games.csv")
def review() -> None:
    """Match games by hand: export a sheet, fill it in, apply it."""


@review.command(epilog="steam-import review export data/imports/me/20261123T031749Z-enriched.csv")
@click.argument("enriched_location")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A new file, instead of stdout.")
@trust_option
@json_option
@with_settings(*IGDB)
def export(settings: Settings, enriched_location: str, output: Path | None, *, trust: bool, as_json: bool) -> None:
    """Write the unmatched games of the enriched CSV at ENRICHED_LOCATION, with candidates from IGDB, into a sheet.

    Fill in the column action: match (with the igdb_id beside it), ignore or game. An empty cell decides nothing.
    """
    if as_json and output is None:
        raise click.UsageError("--json needs --output, for the file would go to stdout too.")
    if output and output.exists():
        raise click.UsageError(f"{output} exists, and may hold decisions. Give another name, or remove it.")
    exported = asyncio.run(_export(settings, absolute_location(enriched_location), trust=trust))
    if output:
        output.write_bytes(exported.body)
    else:
        click.echo(exported.body, nl=False)
    if as_json:
        click.echo(json.dumps({"file": str(output), **_counts(exported)}))
    else:
        echo(_describe(exported), err=output is None)
    if output and not as_json:
        echo(f"Fill in the column action of {output}, then: steam-import review apply {output}")


@review.command(epilog="steam-import review apply games.csv")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("location", required=False)
@trust_option
@json_option
@with_settings(*dict.fromkeys(IGDB + DATABASE))
def apply(settings: Settings, file: Path, location: str | None, *, trust: bool, as_json: bool) -> None:
    """Put the decisions in FILE into overrides.csv, and enrich and load the runs that they are about again.

    FILE names these runs; with LOCATION, it is the run of that raw or enriched CSV.
    """
    settings.require(*clients.NEEDED_BY_ENRICH)
    store = clients.open_store(settings)
    body = read_local_file(file, store.file_max_bytes)
    games = asyncio.run(_name_games(settings, body))
    applied = apply_review(store, body, games, None if location is None else absolute_location(location), trust=trust)
    for line in applied.skipped[:SKIPPED_SHOWN]:
        echo_always(f"{file.name}, line {line.line} is skipped: {line.why}", err=True)
    if len(applied.skipped) > SKIPPED_SHOWN:
        echo_always(f"and {len(applied.skipped) - SKIPPED_SHOWN} more lines", err=True)
    reports: list[ImportReport] = []
    try:
        for raw in applied.runs:
            reports.append(ImportReport(raw.user_id))
            _import(settings, store, raw, reports[-1], trust=trust)
    finally:
        if as_json:
            click.echo(json.dumps(_result_json(store, applied, reports)))
    if not as_json:
        _print_result(applied, reports)


async def _name_games(settings: Settings, body: bytes) -> NamedGames:
    async with clients.open_igdb(settings) as igdb:
        return await name_games(igdb, body)


async def _export(settings: Settings, location: str, *, trust: bool) -> ReviewExport:
    settings.require(*clients.NEEDED_BY_ENRICH)
    with progress_bars() as progress:
        async with clients.open_igdb(settings) as igdb:
            store = clients.open_store(settings)
            names = NameFile(store, timedelta(days=settings.catalogue_miss_ttl_days))
            known = clients.open_catalogue(settings).read()
            return await export_review(store, known, NameLookup(igdb, names, progress), location, trust=trust)


def _import(settings: Settings, store: Store, raw: Checkpoint, report: ImportReport, *, trust: bool) -> None:
    """Enrich and load a raw CSV again, and put the responses into the report."""
    raw_event = EnrichEvent(user_id=raw.user_id, s3_location=store.locate(raw.key))
    report.enrich = enrich_csv(settings, raw_event, trust=trust)
    event = LoadEvent(user_id=raw.user_id, s3_enriched_location=store.locate(raw.enriched.key))
    report.load = load_csv(settings, event)


def _counts(exported: ReviewExport) -> dict[str, int]:
    """Return the numbers in a review sheet by their keys in the output of `--json`."""
    return {
        "unmatched": exported.unmatched,
        "freed": exported.no_longer_filtered,
        "with_candidates": exported.with_candidates,
        "unanswered": exported.unanswered,
        "requests": exported.requests,
    }


def _describe(exported: ReviewExport) -> str:
    message = (
        f"To review: {exported.unmatched} unmatched games, {exported.with_candidates} of them with candidates, and "
        f"{exported.no_longer_filtered} apps that today's rules would not filter."
    )
    if exported.unanswered:
        message += f"\nIGDB did not answer for {exported.unanswered} of the games: export again for their candidates."
    return message


def _print_result(applied: AppliedReview, reports: list[ImportReport]) -> None:
    for line in applied.decided:
        echo(line)
    echo(f"Decisions put into overrides.csv: {len(applied.decided)}. Lines skipped: {len(applied.skipped)}.")
    for report in reports:
        echo(f"\nLibrary of {report.user_id}:")
        console().print(summary_table(report))


def _result_json(store: Store, applied: AppliedReview, reports: list[ImportReport]) -> dict[str, object]:
    runs = zip(applied.runs, reports, strict=False)
    return {
        "taken": len(applied.decided),
        "decided": list(applied.decided),
        "skipped": [line._asdict() for line in applied.skipped],
        "runs": [report.as_json() | {"raw": store.locate(raw.key)} for raw, report in runs],
    }
