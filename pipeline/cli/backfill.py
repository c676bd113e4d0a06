"""The commands for many users at once: import their libraries, replay a backfill, and erase one of them."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from pipeline import clients
from pipeline.backfill.forget import forget_user
from pipeline.backfill.list import UserList, list_of_csv, list_of_database, read_list
from pipeline.backfill.plan import Estimate, draft_plan, estimate_cost, find_plan, require_plan, write_plan
from pipeline.backfill.report import NOT_BEGUN, OUTCOMES_CSV, read_progress, read_report
from pipeline.backfill.runner import reset_for_replay, run_backfill
from pipeline.backfill.shards import ShardFiles, list_shards, map_concurrently
from pipeline.cli.imports import interruptible
from pipeline.cli.local import with_database
from pipeline.cli.options import DATABASE, IGDB, STEAM, STORE, TIMEOUTS, json_option, next_command, with_settings
from pipeline.cli.output import console, figures_table, progress_bars
from pipeline.cli.terminal import Command, echo
from pipeline.errors import Failed, PipelineError, Refused, Retryable, count_of
from pipeline.settings import Settings
from pipeline.stages import require_user_id
from pipeline.storage.csv import read_local_file
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import Store
from schemas.backfill import OUTCOMES, Plan, Report
from schemas.events import (
    DEFAULT_SHARD_SIZE,
    FROM_DATABASE,
    MAX_SHARD_SIZE,
    SHARD_STEPS,
    ForgetResponse,
    ShardStep,
)

RATES = ("steam_requests_per_second", "steam_concurrency", "steam_requests_per_day")
REJECTED_SHOWN = FAILURES_SHOWN = 20
STEPS = ("fetch", "catalogue", "enrich", "load")

NO_RESULTS = ("rows", "unchanged")
"""Names of a step's counts that are not outcomes of rows: all rows, and rows that were not loaded again."""


@click.command(cls=Command, epilog="steam-import backfill users.csv --dry-run")
@click.argument("users_csv", required=False)
@click.option(
    "--from-database", is_flag=True, help="Import all users of DATABASE_URL who have a steamId64, instead of a list."
)
@click.option("--resume", "run_id", metavar="RUN_ID", help="Continue this backfill.")
@click.option(
    "--shard-size", type=click.IntRange(1, MAX_SHARD_SIZE), default=DEFAULT_SHARD_SIZE, help="Users per shard."
)
@click.option(
    "--full", "is_full", is_flag=True, help="Load also libraries that have not changed since they were loaded."
)
@click.option("--dry-run", is_flag=True, help="Check the list, print what the backfill will take, and write nothing.")
@json_option
@with_settings(*dict.fromkeys(STEAM + IGDB + DATABASE + TIMEOUTS), *RATES)
def backfill(  # noqa: PLR0913 - the command's options
    settings: Settings,
    users_csv: str | None,
    run_id: str | None,
    shard_size: int,
    *,
    from_database: bool,
    is_full: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import the libraries of all users in USERS_CSV, or in the database.

    USERS_CSV has the columns user_id and steam_id64. It is a file, or a location in the store. The same command
    continues a backfill that was interrupted; after one that has ended, it imports what changed since.
    """
    store = clients.open_store(settings)
    source = FROM_DATABASE if from_database else users_csv
    if from_database and (users_csv or run_id):
        raise click.UsageError("Give --from-database without a list and without --resume.")
    if source:
        listed = _read_list(settings, store, users_csv, counts_only=dry_run)
        plan = draft_plan(store, source, listed, run_id=run_id, shard_size=shard_size, is_full=is_full)
        _print_rejected(listed)
    elif run_id:
        plan = require_plan(store, run_id)
    else:
        raise click.UsageError("Give a list of users, --from-database, or --resume and the id of a backfill.")
    if dry_run:
        _print_plan(settings, store, plan, as_json=as_json)
        return
    if source:
        plan = write_plan(store, plan, listed)
    _run(settings, plan, SHARD_STEPS, as_json=as_json)


@click.command(cls=Command, epilog="steam-import replay 0f3c5a9d2b71-1")
@click.argument("run_id")
@click.option("--all", "everything", is_flag=True, help="All shards, not only those with rejected or PENDING rows.")
@json_option
@with_settings(*dict.fromkeys(IGDB + DATABASE + TIMEOUTS))
def replay(settings: Settings, run_id: str, *, everything: bool, as_json: bool) -> None:
    """Load rejected and PENDING rows of a backfill again.

    Use it after a rule, an override or a schema was fixed, or when IGDB did not answer. They are enriched again
    from the raw CSVs; Steam is not asked.
    """
    store = clients.open_store(settings)
    plan = require_plan(store, run_id)
    shards = reset_for_replay(store, plan, list_shards(store, plan) if everything else None)
    report = None if shards else read_report(store, run_id)
    if report and report.is_complete:
        says = f"Backfill {run_id} has no rejected and no PENDING rows: nothing was run again. --all runs all shards."
        if as_json:
            click.echo(json.dumps({"run_id": run_id, "shards": 0}))
        else:
            echo(says)
        return
    if not shards and not read_progress(store, plan).shards["fetch"]:
        says = f"No user of backfill {run_id} is fetched yet: there is nothing to run again, and nothing was written."
        raise Refused("bad_event", f"{says} Fetch them: {next_command('backfill', '--resume', run_id)}")
    echo(f"Shards to run again: {shards} of {plan.shards}.", err=True)
    _run(settings, plan, ("enrich", "load"), as_json=as_json)


@click.command(cls=Command, epilog="steam-import forget cm1a2b3c4 --dry-run")
@click.argument("user_id")
@click.option("--dry-run", is_flag=True, help="Print what the store holds of the user, and erase nothing.")
@json_option
@with_settings(*STORE)
def forget(settings: Settings, user_id: str, *, dry_run: bool, as_json: bool) -> None:
    """Erase what the store holds of a user.

    These are the user's imports, lines in lists, rows in backfills that have ended, and what was last loaded. If a
    backfill with the user has not ended, nothing is erased. The database is not touched.
    """
    settings.require("store")
    erased = forget_user(clients.open_store(settings), require_user_id(user_id), dry_run=dry_run)
    if as_json:
        click.echo(erased.model_dump_json(exclude={"seconds", "requests"}))
    else:
        _print_erased(erased)


def _read_list(settings: Settings, store: Store, users_csv: str | None, *, counts_only: bool) -> UserList:
    """Return the list of users in the database, or in a CSV of this machine or of the store."""
    if users_csv is None:
        return list_of_database(clients.open_database(settings), counts_only=counts_only)
    if "://" in users_csv:
        return list_of_csv(read_list(store, users_csv))
    return list_of_csv(read_local_file(Path(users_csv), store.file_max_bytes))


def _print_rejected(listed: UserList) -> None:
    for line, user_id, _, error in listed.rejected_lines.head(REJECTED_SHOWN).rows():
        echo(f"line {line} ({user_id!r}): {error}", err=True)
    if listed.rejected_count > REJECTED_SHOWN:
        echo(f"and {count_of(listed.rejected_count - REJECTED_SHOWN, 'more line')}, in users.rejected.csv", err=True)


def _print_plan(settings: Settings, store: Store, plan: Plan, *, as_json: bool) -> None:
    stored = find_plan(store, plan.run_id)
    plan, done = (stored, read_progress(store, stored)) if stored else (plan, NOT_BEGUN)
    known_apps = clients.open_catalogue(settings).read().height
    cost = estimate_cost(settings, plan.users - done.users_fetched, known_apps)
    if as_json:
        counts = {"users_fetched": done.users_fetched, **done.shards}
        click.echo(json.dumps(plan.model_dump(mode="json") | {"done": counts, "estimate": cost._asdict()}))
    else:
        console().print(_plan_table(plan, cost, done.shards, settings.steam_requests_per_day))


def _plan_table(plan: Plan, cost: Estimate, done: dict[str, int], requests_per_day: int) -> Table:
    table = figures_table()
    table.add_row("Users", f"{plan.users:,}", f"and lines rejected: {plan.rejected:,}" if plan.rejected else "")
    progress = f"{done['fetch']} fetched, {done['enrich']} enriched, {done['load']} loaded"
    table.add_row("Shards", f"{plan.shards:,}", f"of up to {count_of(plan.shard_size, 'user')}; {progress}")
    share = f"{cost.steam_requests / requests_per_day:.1%} of the {requests_per_day:,} that are allowed a day"
    table.add_row("Steam requests", f"{cost.steam_requests:,}", f"at least, {share}; {_duration(cost.steam_seconds)}")
    table.add_row("IGDB requests", f"{cost.igdb_requests:,}", f"at most; {_duration(cost.igdb_seconds)}")
    return table


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _run(settings: Settings, plan: Plan, steps: Sequence[ShardStep], *, as_json: bool) -> None:
    """Run steps of a backfill with progress bars, print its report, and raise an error if a shard failed."""
    echo(f"Backfill {plan.run_id}", err=True)
    store = clients.open_store(settings)
    report = run_steps(settings, store, plan, steps)
    if as_json:
        click.echo(report.model_dump_json())
    else:
        console().print(report_table(report))
        click.echo(store.locate(backfill_key(plan.run_id, OUTCOMES_CSV)))
    if not report.is_complete:
        raise error_of_failed_shards(store, plan, report)


def run_steps(settings: Settings, store: Store, plan: Plan, steps: Sequence[ShardStep]) -> Report:
    """Run steps of a backfill with progress bars, and return its report; the database is embedded if none is set.

    An error or an interruption gets a note that names the command which continues.
    """
    try:
        with interruptible(), with_database(settings) as local:
            if local is not settings:
                users = map_concurrently(ShardFiles.users, list_shards(store, plan))
                clients.open_database(local).ensure_users([user_id for shard in users for user_id in shard["user_id"]])
            with progress_bars() as progress:
                return asyncio.run(run_backfill(local, plan, progress, steps))
    except (PipelineError, KeyboardInterrupt) as stopped:
        stopped.add_note(_how_to_continue(plan))
        raise


def error_of_failed_shards(store: Store, plan: Plan, report: Report) -> PipelineError:
    """Return the error for a backfill with failed shards; it is retryable if the error of any shard is."""
    failures = [failure for failure in map_concurrently(ShardFiles.find_failure, list_shards(store, plan)) if failure]
    kind = Retryable if any(failure.retryable for failure in failures) else Failed
    shards = f"{len(report.failures)} of {count_of(plan.shards, 'shard')} of backfill {plan.run_id} failed"
    message = f"{shards}, the first: {report.failures[0]}"
    error = kind(failures[0].error_code if failures else "checkpoint_invalid", message)
    error.add_note(_how_to_continue(plan))
    return error


def _how_to_continue(plan: Plan) -> str:
    return f"To continue: {next_command('backfill', '--resume', plan.run_id)}"


def report_table(report: Report) -> Table:
    """Return a table for the terminal about a backfill: users by outcome, rows and seconds by step, and failures."""
    table = figures_table()
    for outcome in ("total", *OUTCOMES):
        if report.users[outcome]:
            table.add_row("Users" if outcome == "total" else f"  {outcome}", f"{report.users[outcome]:,}", "")
    for step, counts in report.stages.items():
        results = {name: rows for name, rows in counts.items() if rows and name not in NO_RESULTS}
        remark = ", ".join(f"{rows:,} {name}" for name, rows in results.items())
        unchanged = f"; {counts['unchanged']:,} unchanged" if counts.get("unchanged") else ""
        table.add_row(f"Rows to {step}", f"{counts.get('rows', 0):,}", remark + unchanged)
    written = sum(rows for count, rows in report.written.items() if count.endswith(("_created", "_updated")))
    table.add_row("Rows written", f"{written:,}", "")
    for step in STEPS:
        effort = report.effort[step]
        remarks = [
            count_of(effort.requests, "request") if effort.requests else "",
            f"{effort.rate_limited:,} refused by the rate limit" if effort.rate_limited else "",
            count_of(round(effort.rows_per_second), "row a second", "rows a second") if effort.rows_per_second else "",
        ]
        table.add_row(f"Seconds, {step}", f"{effort.seconds:,.1f}", ", ".join(filter(None, remarks)))
    for failure in report.failures[:FAILURES_SHOWN]:
        table.add_row("Failed", "", escape(failure))
    return table


def _print_erased(erased: ForgetResponse) -> None:
    echo(f"{'The store holds' if erased.dry_run else 'Erased'} of user {erased.user_id}:")
    echo(f"  files of imports: {erased.files}")
    echo(f"  lists of users:   {', '.join(erased.lists or ()) or 'none'}")
    echo(f"  backfills:        {', '.join(erased.backfills or ()) or 'none'}")
    echo(f"  last loaded:      {'yes' if erased.last_loaded else 'no'}")
    echo("The rows of the user in the database are not touched: delete the user in SavePoint.")
