"""The commands for many users at once."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from pipeline import clients
from pipeline.backfill.list import read_list
from pipeline.backfill.plan import Draft, draft_plan, estimate_cost, find_plan, require_plan, write_plan
from pipeline.backfill.report import OUTCOMES_CSV
from pipeline.backfill.runner import reset_for_replay, run_backfill
from pipeline.backfill.shards import ShardFiles, list_shards, map_concurrently
from pipeline.cli.echo import echo
from pipeline.cli.help import Command
from pipeline.cli.imports import interruptible
from pipeline.cli.local import with_database
from pipeline.cli.options import DATABASE, IGDB, STEAM, TIMEOUTS, json_option, with_settings
from pipeline.cli.output import balance, console, planned, progress_bars
from pipeline.errors import Failed, PipelineError, Retryable
from pipeline.settings import Settings
from pipeline.storage.csv import read_local_file
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import Store
from schemas.backfill import Plan, Report
from schemas.events import DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE, SHARD_STEPS, ShardStep

PACE = ("steam_requests_per_second", "steam_concurrency", "steam_requests_per_day")
REJECTED_SHOWN = 20


@click.command(cls=Command, epilog="steam-import backfill users.csv --dry-run")
@click.argument("users_csv", required=False)
@click.option("--resume", "run_id", metavar="RUN_ID", help="Go on with this backfill.")
@click.option("--shard-size", type=click.IntRange(1, MAX_SHARD_SIZE), default=DEFAULT_SHARD_SIZE, help="Users a shard.")
@click.option("--full", "is_full", is_flag=True, help="Load also what is the same as it was the last time.")
@click.option("--dry-run", is_flag=True, help="Check the list, and say what the backfill will take.")
@json_option
@with_settings(*dict.fromkeys(STEAM + IGDB + DATABASE + TIMEOUTS), *PACE)
def backfill(  # noqa: PLR0913 - the command's options
    settings: Settings,
    users_csv: str | None,
    run_id: str | None,
    shard_size: int,
    *,
    is_full: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import the libraries of all users in USERS_CSV.

    USERS_CSV has the columns user_id and steam_id64. It is a file, or a location in the store. The same command
    continues a backfill that was interrupted; after one that has ended, it imports what changed since.
    """
    place = clients.open_store(settings)
    if users_csv:
        body = _read(place, users_csv)
        draft = draft_plan(place, users_csv, body, run_id=run_id, shard_size=shard_size, is_full=is_full)
        _tell_rejected(draft)
        plan = find_plan(place, draft.plan.run_id) or draft.plan
    elif run_id:
        plan = require_plan(place, run_id)
    else:
        raise click.UsageError("Give a list of users, or --resume and the id of a backfill.")
    if dry_run:
        _tell_planned(settings, place, plan, as_json=as_json)
        return
    if users_csv:
        plan = write_plan(place, draft)
    _run(settings, plan, SHARD_STEPS, as_json=as_json)


@click.command(cls=Command, epilog="steam-import replay 0f3c5a9d2b71-1")
@click.argument("run_id")
@click.option("--all", "everything", is_flag=True, help="All shards, not only those with rejected or PENDING rows.")
@json_option
@with_settings(*dict.fromkeys(IGDB + DATABASE + TIMEOUTS))
def replay(settings: Settings, run_id: str, *, everything: bool, as_json: bool) -> None:
    """Enrich and load rejected and PENDING rows of a backfill again.

    Use it after a rule, an override or a schema was fixed, or when IGDB did not answer. It starts from the raw CSVs:
    Steam is not asked again.
    """
    place = clients.open_store(settings)
    plan = require_plan(place, run_id)
    shards = reset_for_replay(place, plan, everything=everything)
    echo(f"Shards to do again: {shards} of {plan.shards}.", err=True)
    _run(settings, plan, ("enrich", "load"), as_json=as_json)


def _run(settings: Settings, plan: Plan, steps: Sequence[ShardStep], *, as_json: bool) -> None:
    """The backfill, with bars; what stops it, or a shard that failed, is said after the report."""
    echo(f"Backfill {plan.run_id}", err=True)
    place = clients.open_store(settings)
    try:
        with interruptible():
            report = _report(settings, plan, steps)
    except (PipelineError, KeyboardInterrupt) as stopped:
        stopped.add_note(_how_to_go_on(plan))
        raise
    if as_json:
        click.echo(report.model_dump_json())
    else:
        console().print(balance(report))
        click.echo(place.locate(backfill_key(plan.run_id, OUTCOMES_CSV)))
    if not report.is_complete:
        raise _incomplete(place, plan, report)


def _report(settings: Settings, plan: Plan, steps: Sequence[ShardStep]) -> Report:
    with with_database(settings) as local:
        if local is not settings:
            clients.open_database(local).ensure_users(_users_of(clients.open_store(settings), plan))
        with progress_bars(Console(stderr=True)) as progress:
            return asyncio.run(run_backfill(local, plan, progress, steps))


def _incomplete(place: Store, plan: Plan, report: Report) -> PipelineError:
    """Shards that failed, and may go through later if any of them may."""
    noted = [failure for failure in map_concurrently(ShardFiles.find_failure, list_shards(place, plan)) if failure]
    kind = Retryable if any(failure.retryable for failure in noted) else Failed
    says = f"{len(report.failures)} shards failed, the first: {report.failures[0]}"
    error = kind(noted[0].error_code if noted else "checkpoint_invalid", says)
    error.add_note(_how_to_go_on(plan))
    return error


def _how_to_go_on(plan: Plan) -> str:
    return f"What is done stands. To go on: steam-import backfill --resume {plan.run_id}"


def _read(place: Store, users_csv: str) -> bytes:
    """The list, from a file of this machine or from the store."""
    if "://" in users_csv:
        return read_list(place, users_csv)
    return read_local_file(Path(users_csv), place.file_max_bytes)


def _users_of(place: Store, plan: Plan) -> list[str]:
    return [
        user_id
        for users in map_concurrently(ShardFiles.users, list_shards(place, plan))
        for user_id in users["user_id"]
    ]


def _tell_rejected(draft: Draft) -> None:
    for line, user_id, _, error in draft.rejected_lines.head(REJECTED_SHOWN).rows():
        echo(f"line {line} ({user_id!r}): {error}", err=True)
    if draft.rejected_lines.height > REJECTED_SHOWN:
        echo(f"and {draft.rejected_lines.height - REJECTED_SHOWN} lines more, in users.rejected.csv", err=True)


def _tell_planned(settings: Settings, place: Store, plan: Plan, *, as_json: bool) -> None:
    done = _done(place, plan)
    known = clients.open_catalogue(settings).read()
    left = plan.users - done["users_fetched"]
    cost = estimate_cost(settings, left, known.height)
    if as_json:
        click.echo(json.dumps(plan.model_dump(mode="json") | {"done": done, "estimate": cost._asdict()}))
    else:
        console().print(planned(plan, cost, done, settings.steam_requests_per_day))


def _done(place: Store, plan: Plan) -> dict[str, int]:
    """How many shards are through each step, and how many users were fetched."""
    done: Counter[str] = Counter()
    for counts in map_concurrently(_done_of, list_shards(place, plan) if find_plan(place, plan.run_id) else []):
        done.update(counts)
    return {"users_fetched": done["users_fetched"], **{step: done[step] for step in SHARD_STEPS}}


def _done_of(files: ShardFiles) -> dict[str, int]:
    steps = files.finished_steps()
    return {"users_fetched": len(steps["fetch"].users) if "fetch" in steps else 0, **dict.fromkeys(steps, 1)}
