"""The commands with which people match games by hand: export a sheet, apply it."""

import asyncio
import json
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import click
import polars as pl
from pandera.typing.polars import DataFrame

from pipeline import clients
from pipeline.backfill.libraries import (
    FetchedLibraries,
    Owners,
    find_owners,
    read_libraries_of_backfill,
    read_newest_libraries,
)
from pipeline.backfill.plan import require_plan
from pipeline.backfill.report import read_outcomes
from pipeline.backfill.runner import reset_for_replay
from pipeline.catalogue.look_up import read_overrides
from pipeline.cli.backfill import error_of_failed_shards, report_table, run_steps
from pipeline.cli.imports import enrich_csv, load_csv, recording_failure
from pipeline.cli.local import absolute_location
from pipeline.cli.options import DATABASE, IGDB, json_option, next_command, trust_option, with_settings
from pipeline.cli.output import ImportReport, console, progress_bars, summary_table
from pipeline.cli.terminal import Group, echo, echo_always
from pipeline.errors import Failed, PipelineError, Retryable, count_of
from pipeline.review.decisions import AppliedReview, NamedGames, apply_review, name_games, parse_decisions
from pipeline.review.look_up import NameFile, NameLookup
from pipeline.review.sheet import (
    AppsToReview,
    Choice,
    ReviewExport,
    add_unowned_apps,
    count_owners,
    enrich_owned_apps,
    export_review,
    render_review_page,
)
from pipeline.settings import Settings
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.csv import read_local_file, to_spreadsheet
from pipeline.storage.keys import Checkpoint, parse_checkpoint_key
from pipeline.storage.store import Store
from schemas.backfill import Report
from schemas.catalogue import Catalogue
from schemas.events import EnrichEvent, EnrichResponse, LoadEvent, LoadResponse
from schemas.frames import conform, dtypes
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.review import Decision, OwnedApps

MOST_SHOWN = 20
"""The most skipped lines, loaded libraries and failed users that are printed; the others are counted."""


@click.group("review", cls=Group, epilog="steam-import review apply games.csv")
def review() -> None:
    """Match games by hand: export a sheet, fill it in, apply it."""


@review.command(epilog="steam-import review export -o games.csv")
@click.argument("source", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new CSV, or a page (.html), instead of stdout.",
)
@click.option("--matched", is_flag=True, help="Also the games that are matched, as some may be matched wrongly.")
@click.option("--app", "appids", type=click.IntRange(1), multiple=True, help="Only this appid; may be repeated.")
@trust_option
@json_option
@with_settings(*IGDB)
def export(  # noqa: PLR0913 - the command's options
    settings: Settings,
    source: str | None,
    output: Path | None,
    appids: tuple[int, ...],
    *,
    matched: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Write unmatched games, with candidates from IGDB, into a sheet or a page.

    SOURCE is the location of an enriched CSV, or the run id of a backfill. Without it, the sheet has what all
    imports and backfills fetched and the catalogue knows. Each app is listed once, those with the most owners first.
    A FILE that ends in .html is a page to decide in, by a browser. A CSV is for a spreadsheet: fill in the column
    action: match (with the igdb_id beside it), ignore or game. An empty cell decides nothing.
    """
    if as_json and output is None:
        raise click.UsageError("--json needs --output, for the file would go to stdout too.")
    if output and output.exists():
        raise click.UsageError(f"{output} exists, and may hold decisions. Give another name, or remove it.")
    settings.require(*clients.NEEDED_BY_ENRICH)
    store, known = clients.open_store(settings), clients.open_catalogue(settings).read()
    overrides = read_overrides(store)
    if source and ("/" in source or source.endswith(".csv")):
        apps = _read_import(store, source, trust=trust)
    else:
        apps = enrich_owned_apps(_count_owners(store, source, known, appids), known, overrides)

    async def make_sheet() -> ReviewExport:
        with progress_bars() as progress:
            async with clients.open_igdb(settings) as igdb:
                names = NameFile(store, timedelta(days=settings.catalogue_miss_ttl_days))
                look_up = NameLookup(igdb, names, progress)
                return await export_review(apps, known, overrides, look_up, Choice(matched, appids))

    exported = asyncio.run(make_sheet())
    is_page = output is not None and output.suffix.lower() in {".html", ".htm"}
    body = render_review_page(exported.sheet).encode() if is_page else to_spreadsheet(exported.sheet)
    if output:
        output.write_bytes(body)
    else:
        click.echo(body, nl=False)
    if as_json:
        click.echo(json.dumps({"file": str(output), **_counts(exported)}))
    else:
        echo(_describe(exported), err=output is None)
    if output and not as_json:
        page = f"Open {output} in a browser, decide, save games.csv"
        how, sheet = (page, "games.csv") if is_page else (f"Fill in the column action of {output}", str(output))
        echo(f"{how}, then: {next_command('review', 'apply', sheet)}")


@review.command(epilog="steam-import review apply games.csv")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("location", required=False)
@trust_option
@json_option
@with_settings(*dict.fromkeys(IGDB + DATABASE))
def apply(settings: Settings, file: Path, location: str | None, *, trust: bool, as_json: bool) -> None:
    """Put the decisions in FILE into overrides.csv, and load all users again who own these apps.

    Their newest raw CSVs are enriched and loaded, of imports and of backfills that have ended; Steam is not asked.
    Backfills that have not ended are named.
    With LOCATION, it is only the user of that raw or enriched CSV.
    """
    settings.require(*clients.NEEDED_BY_ENRICH)
    store = clients.open_store(settings)
    sheet = parse_decisions(read_local_file(file, store.file_max_bytes))
    libraries = (
        _read_one(store, location, trust=trust) if location else read_newest_libraries(store, with_last_ended=True)
    )
    wanted = pl.DataFrame({"appid": [decision.appid for decision in sheet.decisions]}, schema={"appid": pl.Int32})
    owners = find_owners(libraries, wanted["appid"].to_list())
    apps = dict.fromkeys(clients.open_catalogue(settings).read_about(wanted)["appid"]) | owners.names
    applied = apply_review(store, sheet, asyncio.run(_name_games(settings, sheet.decisions)), apps)
    _echo_first([f"{file.name}, line {line.line} is skipped: {line.why}" for line in applied.skipped], "more line")
    if not as_json:
        for decided in applied.decided:
            echo(decided)
        echo(f"Decisions put into overrides.csv: {len(applied.decided)}. Lines skipped: {len(applied.skipped)}.")
    for run_id, users in owners.unfinished.items() if applied.decided else ():
        who = count_of(users, "owner of these apps is", "owners of these apps are")
        says = f"{who} in backfill {run_id}, which has not ended and was left out."
        how = f"Run {next_command('backfill', '--resume', run_id)}, and when it has ended, apply the file again."
        echo_always(f"{says} {how}", err=True)
    imports: list[ImportReport] = []
    backfills: list[Report] = []
    try:
        if applied.decided:
            _load_again(settings, store, owners, imports, backfills, trust=trust)
    finally:
        if as_json:
            click.echo(json.dumps(_result_json(store, applied, owners, imports, backfills)))
        else:
            _print_loads(imports, backfills)


def _read_import(store: Store, location: str, *, trust: bool) -> AppsToReview:
    """Return the apps of an import as its enriched CSV has them."""
    checkpoint = parse_checkpoint_key(store.key_of(absolute_location(location)), "enriched")
    enriched = read_checkpoint(store, checkpoint, EnrichedLibrary, trust=trust).rows
    library = conform(enriched.select(dtypes(RawLibrary).keys()), RawLibrary)
    return AppsToReview(enriched, count_owners([library]))


def _count_owners(
    store: Store, run_id: str | None, known: DataFrame[Catalogue], appids: Collection[int]
) -> DataFrame[OwnedApps]:
    """Return the apps of a backfill with their owners; without one, those of all users and of the catalogue."""
    if run_id:
        return count_owners(library.rows for library in read_libraries_of_backfill(store, require_plan(store, run_id)))
    return add_unowned_apps(count_owners(library.rows for library in read_newest_libraries(store)), known, appids)


def _read_one(store: Store, location: str, *, trust: bool) -> list[FetchedLibraries]:
    key = store.key_of(absolute_location(location))
    named = parse_checkpoint_key(key, "raw" if key.endswith("-raw.csv") else "enriched")
    raw = named.raw
    return [FetchedLibraries(raw, read_checkpoint(store, raw, RawLibrary, trust=trust).rows)]


async def _name_games(settings: Settings, decisions: Iterable[Decision]) -> NamedGames:
    async with clients.open_igdb(settings) as igdb:
        return await name_games(igdb, decisions)


def _load_again(
    settings: Settings,
    store: Store,
    owners: Owners,
    imports: list[ImportReport],
    backfills: list[Report],
    *,
    trust: bool,
) -> None:
    """Enrich and load the raw CSVs of owners again, and put the results into the two lists.

    Raises:
        PipelineError: In the end, if single users or shards could not be loaded; the others are.
    """
    failures: list[Failed] = []
    errors: list[PipelineError] = []
    for raw in owners.imports:
        imports.append(ImportReport(raw.user_id))
        try:
            _load_library_again(settings, raw, store.locate(raw.key), imports[-1], trust=trust)
        except Failed as error:
            failures.append(error)
    if failures:
        some = f"{len(failures)} of {count_of(len(imports), 'library', 'libraries')}"
        message = f"{some} could not be loaded again, the first: {failures[0].message}"
        errors.append(Failed(failures[0].code, message))
    for run_id, shards in owners.shards.items():
        plan = require_plan(store, run_id)
        reset_for_replay(store, plan, shards)
        backfills.append(run_steps(settings, store, plan, ("enrich", "load")))
        if not backfills[-1].is_complete:
            errors.append(error_of_failed_shards(store, plan, backfills[-1]))
    _name_failed_users(store, imports, backfills)
    if errors:
        raise _combine(errors)


def _combine(errors: Sequence[PipelineError]) -> PipelineError:
    """Return one error with the messages and the notes of all; it is retryable if one of them is."""
    kind = Retryable if any(error.retryable for error in errors) else Failed
    error = kind(errors[0].code, " ".join(error.message for error in errors))
    for note in (note for one in errors for note in getattr(one, "__notes__", ())):
        error.add_note(note)
    return error


def _load_library_again(
    settings: Settings, raw: Checkpoint, location: str, report: ImportReport, *, trust: bool
) -> None:
    with recording_failure(report, "enrich", EnrichResponse):
        event = EnrichEvent(user_id=raw.user_id, s3_location=location)
        report.enrich = enrich_csv(settings, event, trust=trust)
    with recording_failure(report, "load", LoadResponse):
        enriched = str(report.enrich.s3_enriched_location)
        report.load = load_csv(settings, LoadEvent(user_id=raw.user_id, s3_enriched_location=enriched))


def _counts(exported: ReviewExport) -> dict[str, int]:
    """Return the numbers of a review sheet by their keys in the output of `--json`."""
    sheet = exported.sheet
    return {
        "unmatched": sheet.filter(match_status="UNMATCHED").height,
        "matched": sheet.filter(match_status="MATCHED").height,
        "freed": sheet["proposed"].count(),
        "with_candidates": sheet["candidate_1_id"].count(),
        "unanswered": exported.unanswered,
        "refused": len(exported.refused),
        "requests": exported.requests,
    }


def _describe(exported: ReviewExport) -> str:
    counts, apps = _counts(exported), exported.sheet.height
    unmatched, matched, freed = counts["unmatched"], counts["matched"], counts["freed"]
    today = "that today's rules would not filter"
    parts = [
        (unmatched, "unmatched game", ""),
        (matched, "matched game", ""),
        (freed, f"app {today}", f"apps {today}"),
        (apps - unmatched - matched - freed, "other app", ""),
    ]
    listed = ", ".join(count_of(*part) for part in parts if part[0])
    message = "There is nothing to review."
    if apps:
        message = f"To review: {count_of(apps, 'app')}, {counts['with_candidates']:,} with candidates: {listed}."
    if exported.unanswered:
        message += f"\nIGDB did not answer for {exported.unanswered} of the games: export again for their candidates."
    if exported.refused:
        name, says = next(iter(exported.refused.items()))
        message += f"\nIGDB refuses {len(exported.refused)} of the names, such as {name}: {says}"
    return message


def _print_loads(imports: list[ImportReport], backfills: list[Report]) -> None:
    loaded = [report for report in imports if report.load and report.load.success]
    for report in loaded[:MOST_SHOWN]:
        echo(f"\nLibrary of {report.user_id}:")
        console().print(summary_table(report))
    if len(loaded) > MOST_SHOWN:
        echo(f"\nand {count_of(len(loaded) - MOST_SHOWN, 'more library', 'more libraries')}, loaded again as well")
    for backfill in backfills:
        echo(f"\nBackfill {backfill.run_id}:")
        console().print(report_table(backfill))


def _name_failed_users(store: Store, imports: list[ImportReport], backfills: list[Report]) -> None:
    """Print who could not be loaded again, and why; of a backfill's failed users those of whom there are rows."""
    failed = [
        (report.user_id, f"{stage.error_code}: {stage.error}")
        for report in imports
        for stage in (report.enrich, report.load)
        if stage and not stage.success
    ]
    for report in backfills:
        has_failed = (pl.col("outcome") == "failed") & (pl.col("rows") > 0)
        failed += read_outcomes(store, report.run_id).filter(has_failed).select("user_id", "error").rows()
    _echo_first([f"User {user_id} was not loaded again: {why}" for user_id, why in failed], "more user")


def _echo_first(lines: Sequence[str], others: str) -> None:
    """Print the first lines, and how many others there are."""
    for line in lines[:MOST_SHOWN]:
        echo_always(line, err=True)
    if len(lines) > MOST_SHOWN:
        echo_always(f"and {count_of(len(lines) - MOST_SHOWN, others)}", err=True)


def _result_json(
    store: Store, applied: AppliedReview, owners: Owners, imports: list[ImportReport], backfills: list[Report]
) -> dict[str, object]:
    runs = zip(owners.imports, imports, strict=False)
    return {
        "taken": len(applied.decided),
        "decided": list(applied.decided),
        "skipped": [line._asdict() for line in applied.skipped],
        "runs": [report.as_json() | {"raw": store.locate(raw.key)} for raw, report in runs],
        "backfills": [report.model_dump(mode="json") for report in backfills],
        "unfinished": dict(owners.unfinished),
    }
