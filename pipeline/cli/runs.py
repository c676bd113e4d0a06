"""The commands that list imports and backfills, show one of them, and compare two imports."""

import json
import re
import shlex
from dataclasses import asdict

import click
import polars as pl
from pandera.typing.polars import DataFrame
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline import clients
from pipeline.api import find_import, read_pair, runs_in
from pipeline.backfill.plan import find_plan
from pipeline.backfill.report import OUTCOMES_CSV, BackfillProgress, count_errors, read_progress, read_report
from pipeline.cli.backfill import FAILURES_SHOWN, report_table
from pipeline.cli.options import STORE, json_option, next_command, with_settings
from pipeline.cli.output import add_change_rows, console, figures_table
from pipeline.cli.terminal import Command, Group, echo
from pipeline.errors import agree, count_of
from pipeline.frames.changes import summarize_changes
from pipeline.settings import Settings
from pipeline.storage.checkpoints import read_failure, read_load_manifest, read_manifest
from pipeline.storage.csv import parse_csv
from pipeline.storage.keys import Checkpoint, backfill_key
from pipeline.storage.store import Store
from schemas.backfill import Plan, Report
from schemas.events import RUN_ID, SHARD_STEPS
from schemas.frames import as_text
from schemas.manifest import LoadManifest, Manifest, Runs

WIDE = 10_000
IDS = ("time", "user or backfill")
COUNTS = ("rows", "matched", "unmatched", "filtered", "pending", "rejected", "requests")


@click.group(cls=Group, invoke_without_command=True, epilog="steam-import runs --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The most runs to list.")
@json_option
@with_settings(*STORE)
def runs(settings: Settings, limit: int, *, as_json: bool) -> None:
    """List the runs in the store, the newest first.

    Each line has the stages that are done, what they counted, and how many seconds they took.
    """
    if click.get_current_context().invoked_subcommand:
        return
    store = clients.open_store(settings)
    found = runs_in(store, limit)
    if as_json:
        click.echo(json.dumps(found.with_columns(as_text(found.select("started_at"))).to_dicts()))
    elif found.height:
        out = console()
        out.print(_runs_table(found, out.width), crop=False)
        if "import" in found["kind"]:
            echo(f"An import's CSVs: {store.locate('imports/{user}/{time}-raw.csv')} and …-enriched.csv")
        if "backfill" in found["kind"]:
            echo(f"A backfill's users: {store.locate(backfill_key('{backfill}', OUTCOMES_CSV))}")
    else:
        echo(f"There are no runs in {store.locate('')}.")


@runs.command(epilog="steam-import runs show 20261123T031749Z")
@click.argument("run")
@json_option
@with_settings(*STORE)
def show(settings: Settings, run: str, *, as_json: bool) -> None:
    """Show one import or backfill: its stages, outcomes, rejected rows, errors, and what to do next.

    RUN is the id of a backfill, or the run id, the time or the location of a CSV of an import.
    """
    store = clients.open_store(settings)
    plan = find_plan(store, run) if re.fullmatch(RUN_ID, run) else None
    if plan:
        _show_backfill(store, plan, as_json=as_json)
    else:
        _show_import(store, find_import(store, run), as_json=as_json)


@click.command(cls=Command, epilog="steam-import diff 20261123T031749Z")
@click.argument("run")
@click.argument("later", required=False, metavar="[RUN]")
@click.option("--user", "user_id", help="Whose library it is, where no RUN is an import of one user.")
@json_option
@with_settings(*STORE)
def diff(settings: Settings, run: str, later: str | None, user_id: str | None, *, as_json: bool) -> None:
    """Print what changed between two imports of a user.

    With one RUN, since the user's last import before it that was loaded. A RUN is a run id, a time or the location of a
    CSV, as `runs` lists them. Of two RUNs one or both may be backfills.
    """
    store = clients.open_store(settings)
    earlier, after = read_pair(store, run, later, user_id)
    changes = summarize_changes(earlier, after)
    if as_json:
        click.echo(changes.model_dump_json())
        return
    nothing = ": nothing has changed." if changes.is_nothing else ":"
    echo(f"{after.user_id}, from {changes.since} to {changes.until}{nothing}")
    table = figures_table()
    add_change_rows(table, changes, shown=None)
    if table.row_count:
        console().print(table)


def _show_backfill(store: Store, plan: Plan, *, as_json: bool) -> None:
    report = read_report(store, plan.run_id)
    progress = read_progress(store, plan) if report is None else None
    errors = count_errors(store, plan.run_id) if report and report.users["failed"] else {}
    hint = _next_of_backfill(plan, report)
    again = _try_failed_again(store, plan) if report and report.is_complete and errors else None
    if as_json:
        shown = {"plan": plan.model_dump(mode="json"), "report": report and report.model_dump(mode="json")}
        so_far = {"progress": progress and asdict(progress), "errors": errors}
        click.echo(json.dumps(shown | so_far | {"next": hint or again, "try_failed_again": again}))
        return
    echo(f"Backfill {plan.run_id} of {count_of(plan.users, 'user')}, planned {plan.created_at:%Y-%m-%dT%H:%M:%SZ}")
    if progress:
        echo("It has no report yet: it is running, or was interrupted.")
    table = report_table(report) if report else figures_table()
    _add_progress(table, plan, progress, report)
    for code, users in errors.items():
        table.add_row("Users failed", f"{users:,}", code)
    console().print(table)
    if report:
        echo(store.locate(backfill_key(plan.run_id, OUTCOMES_CSV)))
    if again:
        echo(f"To try the failed users again: {again}")
    if hint or not again:
        echo(f"Next: {hint}" if hint else "Nothing is left to do.")


def _add_progress(table: Table, plan: Plan, progress: BackfillProgress | None, report: Report | None) -> None:
    """Add the shards that are done by step to a table, if not all are, and without a report also what failed."""
    shards = progress.shards if progress else report.shards if report and not report.is_complete else {}
    for step in SHARD_STEPS if shards else ():
        table.add_row(
            f"Shards, {step}", f"{shards[step]:,}", f"of {plan.shards:,} {agree(shards[step], 'is', 'are')} done"
        )
    if progress:
        table.add_row("Users fetched", f"{progress.users_fetched:,}", "")
        for failure in progress.failures[:FAILURES_SHOWN]:
            table.add_row("Failed", "", escape(failure))


def _next_of_backfill(plan: Plan, report: Report | None) -> str | None:
    """Return the command that continues a backfill, or runs rejected and PENDING rows again; None if none is left."""
    if report is None or not report.is_complete:
        return next_command("backfill", "--resume", plan.run_id)
    if report.stages["enrich"].get("pending") or any(stage.get("rejected") for stage in report.stages.values()):
        return next_command("replay", plan.run_id)
    return None


def _try_failed_again(store: Store, plan: Plan) -> str:
    """Return the command that makes a list of a backfill's failed users, and imports them again."""
    location = shlex.quote(store.locate(backfill_key(plan.run_id, OUTCOMES_CSV)))
    read, file = (f"aws s3 cp {location} - | ", "") if location.startswith("s3://") else ("", f" {location}")
    failed = """awk -F, 'NR == 1 || $3 == "failed"'"""
    return f"{read}{failed}{file} > again.csv && {next_command('backfill', 'again.csv')}"


def _show_import(store: Store, enriched: Checkpoint, *, as_json: bool) -> None:
    raw = enriched.raw
    csvs = {"fetch": raw, "enrich": enriched}
    written = {stage: read_manifest(store, of.key) for stage, of in csvs.items()}
    load = read_load_manifest(store, enriched)
    manifests = {**written, "load": load}
    rejected = {stage: _rejected_checks(store, of) for stage, of in csvs.items()}
    failure = read_failure(store, enriched)
    hint = _next_step(store, raw, written["enrich"], load, failure.stage if failure else None)
    if as_json:
        stages = {stage: found and found.model_dump(mode="json") for stage, found in manifests.items()}
        failed = {"failure": failure and failure.model_dump(mode="json")}
        click.echo(json.dumps({"user_id": raw.user_id, **stages, "rejected": rejected, **failed, "next": hint}))
        return
    echo(f"Import of {raw.user_id} at {raw.stem}")
    table = figures_table()
    for stage, manifest in manifests.items():
        counts = ", ".join(f"{count} {name}" for name, count in (manifest.counts if manifest else {}).items() if count)
        table.add_row(stage, f"{manifest.seconds} s" if manifest else "", counts if manifest else "no manifest")
        for check, rows in rejected.get(stage, {}).items():
            table.add_row("  rejected", str(rows), escape(check))
    if load and load.changes:
        add_change_rows(table, load.changes)
    console().print(table)
    if load:
        echo(f"Loaded into {load.database} with {count_of(load.statements, 'statement')}, run {load.run_id}")
    for checkpoint in csvs.values():
        echo(store.locate(checkpoint.key))
    if failure:
        echo(f"{failure.stage} failed at {failure.failed_at:%Y-%m-%dT%H:%M:%SZ}: {failure.error_code}: {failure.error}")
    echo(f"Next: {hint}" if hint else "Nothing is left to do.")


def _rejected_checks(store: Store, checkpoint: Checkpoint) -> dict[str, int]:
    """Return how many rows of a stage failed which check, from its CSV of rejected rows; none if there is none."""
    body = store.read(checkpoint.rejected_key)
    if body is None:
        return {}
    return dict(parse_csv(body, checkpoint.rejected_key).group_by("rejected_check").len().sort("rejected_check").rows())


def _next_step(
    store: Store, raw: Checkpoint, enrich: Manifest | None, load: LoadManifest | None, failed: str | None
) -> str | None:
    """Return the command that continues an import, or asks again for its PENDING games; None if nothing is left.

    It is that of the stage that has failed. A load of an earlier enriched CSV of the import does not count.
    """
    if enrich is None or enrich.counts.get("pending") or failed == "enrich":
        return next_command("enrich", store.locate(raw.key))
    if load is None or load.input.sha256 != enrich.sha256 or failed == "load":
        return next_command("load", store.locate(raw.enriched.key))
    return None


def _runs_table(found: DataFrame[Runs], width: int) -> Table:
    """Return a table of runs; where a terminal is narrow, it has fewer columns, and every id is whole."""
    cells = found.select(
        "timestamp",
        pl.coalesce("user_id", pl.format("{}, users: {}", "run_id", "users")),
        _stages_done().alias("done"),
        pl.col(*COUNTS, "seconds").round(1).cast(pl.String).fill_null(""),
    )
    while True:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in (*IDS, *cells.columns[len(IDS) :]):
            table.add_column(name, no_wrap=True, justify="right" if name in (*COUNTS, "seconds") else "left")
        for row in cells.rows():
            table.add_row(*row)
        table.width = Console(width=WIDE).measure(table).maximum
        if table.width <= width or cells.width == len(IDS):
            return table
        cells = cells.drop(cells.columns[-1])


def _stages_done() -> pl.Expr:
    """Return an expression for the text of the stages that are done, with "not ended" for an unfinished backfill."""
    stages = pl.col("stages").cast(pl.List(pl.String)).list.join(", ")
    not_ended = pl.concat_str(stages.replace("", None), pl.lit("not ended"), separator="; ", ignore_nulls=True)
    return pl.when(pl.col("is_ended").not_()).then(not_ended).otherwise(stages)
