"""Run a backfill: all its steps in turn, or the one that a state machine asks for; and reset it for a replay."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from secrets import randbelow
from typing import cast

import polars as pl
import structlog

from pipeline import clients
from pipeline.backfill.list import list_of_csv, list_of_database, read_list
from pipeline.backfill.outcomes import outcomes_of_fetch
from pipeline.backfill.plan import SHARDS, draft_plan, find_plan, require_plan, write_plan
from pipeline.backfill.report import REPORT, read_report, withdraw_report, write_report
from pipeline.backfill.shards import PREVIOUS_STEP, ShardFiles, StepResult, list_shards, map_concurrently
from pipeline.backfill.steps import (
    LOOK_UP_JSON,
    enrich_shard,
    fetch_shard,
    find_look_up,
    load_shard,
    look_up,
    stops_backfill,
    want_apps_of_shards,
)
from pipeline.catalogue.look_up import Progress, no_progress
from pipeline.errors import Failed, PipelineError, Refused, Retryable, count_of
from pipeline.settings import Settings
from pipeline.stages import with_statuses
from pipeline.storage.keys import Shard, backfill_key
from pipeline.storage.store import Store
from schemas.backfill import FetchedUsers, Plan, Report, ShardManifest
from schemas.events import DEFAULT_SHARD_SIZE, FROM_DATABASE, SHARD_STEPS, BackfillEvent, BackfillResponse, ShardStep
from schemas.frames import conform, dtypes, set_aside
from schemas.library import RawLibrary
from schemas.staging import DEFAULT_OPTIONS

ROUNDS = 3
"""How many times a step goes over the shards; each time after the first, only over those with a retryable error."""

MAX_FAILURES_IN_A_ROW = 3
"""The number of shards failing in a row, in the first round, at which the backfill stops: they have one cause."""

PROGRESS_LABELS: dict[ShardStep, str] = {
    "fetch": "Libraries fetched",
    "enrich": "Libraries enriched",
    "load": "Libraries loaded",
}
NEEDED_SETTINGS = {"fetch": clients.NEEDED_BY_FETCH, "enrich": ("store",), "load": clients.NEEDED_BY_LOAD}

StepFunction = Callable[[ShardFiles], Awaitable[ShardManifest]]
"""The type of a function that does one step (fetch, enrich or load) of a shard, and returns the step's manifest."""

log = structlog.get_logger()


async def run_backfill(
    settings: Settings,
    plan: Plan,
    progress: Progress = no_progress,
    steps: Sequence[ShardStep] = SHARD_STEPS,
    store: Store | None = None,
) -> Report:
    """Run a planned backfill: do all unfinished steps of all shards, write the report, and return it.

    Without a `store` the one of the settings is used. `steps` limits the work to some of fetch, enrich and load.

    Raises:
        PipelineError: The error that stopped the backfill, after the report was written; finished steps stay, and the
            next run of the same backfill continues after them.
    """
    needed = [name for step in steps for name in NEEDED_SETTINGS[step]]
    settings.require(*dict.fromkeys([*needed, *clients.NEEDED_BY_ENRICH]))
    store = store or clients.open_store(settings)
    shards = list_shards(store, plan)
    withdraw_report(store, plan)
    try:
        for step in steps:
            if step == "enrich":
                async with clients.open_catalogue_lookup(settings, store=store) as lookup:
                    await look_up(store, plan, shards, lookup, progress)
            async with open_step(settings, step, store=store) as function:
                limited = _within_daily_limit(settings, shards, function) if step == "fetch" else function
                await run_step_on_shards(shards, plan.users, step, limited, progress)
    except PipelineError as error:
        if not error.is_cancelled:
            write_report(store, plan)
        raise
    return write_report(store, plan)


async def run_step_on_shards(
    shards: Sequence[ShardFiles], users: int, step: ShardStep, function: StepFunction, progress: Progress = no_progress
) -> None:
    """Do one step (fetch, enrich or load) of every shard that lacks it; store a shard's failure, and go on.

    Workers who share a backfill begin to fetch at different shards. They load in the same order, because of several
    apps of one game the first that is loaded gives the game its `steamAppId`. `progress` is told how many of the
    `users` are done.

    Raises:
        PipelineError: The error that stops the whole backfill: one that every shard would meet, or the third in a row.
    """
    first = randbelow(len(shards)) if step == "fetch" and shards else 0
    remaining, users_done = [*shards[first:], *shards[:first]], 0

    def on_done(manifest: ShardManifest) -> None:
        nonlocal users_done
        users_done += len(manifest.users)
        progress(PROGRESS_LABELS[step], users_done, users)

    progress(PROGRESS_LABELS[step], 0, users)
    for number in range(ROUNDS):
        max_failures = MAX_FAILURES_IN_A_ROW if number == 0 else len(remaining) + 1
        remaining = await _run_round(remaining, step, function, on_done, max_failures)


async def _run_round(
    shards: Sequence[ShardFiles],
    step: ShardStep,
    function: StepFunction,
    on_done: Callable[[ShardManifest], None],
    max_failures_in_a_row: int,
) -> list[ShardFiles]:
    """Do a step of each shard once; return those that failed with an error that may pass."""
    to_retry: list[ShardFiles] = []
    failures_in_a_row = 0
    for files in shards:
        try:
            manifest = await run_step(files, step, function)
        except PipelineError as error:
            failures_in_a_row += error.retryable
            if stops_backfill(error) or failures_in_a_row == max_failures_in_a_row:
                raise
            log.warning("shard failed", step=step, shard=files.shard.number, error=error.message)
            to_retry += [files] if error.retryable else []
        else:
            failures_in_a_row = 0
            if manifest:
                on_done(manifest)
    return to_retry


async def run_step(files: ShardFiles, step: ShardStep, function: StepFunction) -> ShardManifest | None:
    """Do one step of a shard unless it is done, and return its manifest; None if the previous step is not done."""
    files = files.with_cache()
    finished = files.finished_steps()
    if step in finished:
        return finished[step]
    if step in PREVIOUS_STEP and PREVIOUS_STEP[step] not in finished:
        return None
    with files.recording_failure(step):
        return await function(files)


@asynccontextmanager
async def open_step(
    settings: Settings, step: ShardStep, deadline: float | None = None, store: Store | None = None
) -> AsyncIterator[StepFunction]:
    """Open the clients of a step (fetch, enrich or load), and yield the function that does the step of one shard.

    `deadline` is a time of `time.monotonic`, after which a fetch asks Steam no more.
    """
    settings.require(*NEEDED_SETTINGS[step])
    if step == "fetch":
        async with clients.open_steam(settings) as steam:
            yield lambda files: fetch_shard(files, steam, deadline)
    elif step == "enrich":
        catalogue = clients.open_catalogue(settings, store)

        async def enrich(files: ShardFiles) -> ShardManifest:
            return enrich_shard(files, catalogue, clients.lifetimes_of(settings))

        yield enrich
    else:
        database = clients.open_database(settings)
        options = with_statuses(DEFAULT_OPTIONS, settings)

        async def load(files: ShardFiles) -> ShardManifest:
            return load_shard(files, database, options)

        yield load


def _within_daily_limit(settings: Settings, shards: Sequence[ShardFiles], fetch: StepFunction) -> StepFunction:
    """Return a fetch that stops before the shard whose users would take it over STEAM_REQUESTS_PER_DAY."""
    allowed, spent = settings.steam_requests_per_day, sum(map_concurrently(_requests_today, shards))

    async def fetch_within_limit(files: ShardFiles) -> ShardManifest:
        nonlocal spent
        needed = files.users().height
        if needed > allowed:
            says = f"A shard of {count_of(needed, 'user')} takes as many requests to Steam"
            but = f"and STEAM_REQUESTS_PER_DAY is {allowed}"
            raise Refused("configuration", f"{says}, {but}. Plan smaller ones, with --shard-size.")
        if spent + needed > allowed:
            raise Retryable(
                "steam_rate_limited",
                f"{count_of(spent, 'request')} went to Steam today, and it allows {allowed} a day "
                "(STEAM_REQUESTS_PER_DAY). Go on tomorrow.",
            )
        manifest = await fetch(files)
        spent += manifest.requests
        return manifest

    return fetch_within_limit


def _requests_today(files: ShardFiles) -> int:
    fetched = files.find_manifest("fetch")
    return fetched.requests if fetched and fetched.finished_at.date() == datetime.now(UTC).date() else 0


async def run_event(settings: Settings, event: BackfillEvent, deadline: float | None = None) -> BackfillResponse:
    """Do the step of a Step Functions event (plan, fetch, catalogue, enrich, load, report) and return its response.

    `deadline` is a time of `time.monotonic`, after which no outside API is asked.

    Raises:
        PipelineError: Any error of the step.
    """
    store = clients.open_store(settings)
    response = BackfillResponse(success=True, step=event.step, run_id=event.run_id, shard=event.shard)
    match event.step:
        case "plan":
            found = _plan(settings, store, event)
        case "report":
            plan = require_plan(store, event.run_id)
            report = write_report(store, plan)
            found = {"report": store.locate(backfill_key(plan.run_id, REPORT)), "stats": report.users}
        case "catalogue":
            plan = require_plan(store, event.run_id)
            catalogue = clients.open_catalogue(settings, store)
            manifest = want_apps_of_shards(
                store, plan, list_shards(store, plan), catalogue, clients.lifetimes_of(settings)
            )
            found = {"stats": manifest.counts}
        case step:
            processes = max(settings.steam_processes, event.fetch_concurrency)
            settings = settings.model_copy(update={"steam_processes": processes})
            done = await _run_shard_step(settings, store, event, step, deadline)
            found = {"stats": {"users": len(done.users), **done.counts}}
    return response.model_copy(update=found)


def _plan(settings: Settings, store: Store, event: BackfillEvent) -> dict[str, object]:
    """Write the plan of a list or of the database's users, or find the run's; return the response's keys about it."""
    standing = find_plan(store, event.run_id)
    if event.users is None:
        plan = require_plan(store, event.run_id)
    elif standing and event.users == standing.source == FROM_DATABASE:
        # A run keeps its users, though others may have come into the database meanwhile.
        plan = standing
    else:
        size = event.shard_size or DEFAULT_SHARD_SIZE
        listed = (
            list_of_database(clients.open_database(settings))
            if event.users == FROM_DATABASE
            else list_of_csv(read_list(store, event.users))
        )
        plan = draft_plan(store, event.users, listed, run_id=event.run_id, shard_size=size)
        plan = write_plan(store, plan, listed)
    withdraw_report(store, plan)
    bucket, _, shards_key = store.locate(backfill_key(plan.run_id, SHARDS)).removeprefix("s3://").partition("/")
    stats = {"users": plan.users, "rejected": plan.rejected}
    return {"shards": plan.shards, "bucket": bucket, "shards_key": shards_key, "stats": stats}


async def _run_shard_step(
    settings: Settings, store: Store, event: BackfillEvent, step: ShardStep, deadline: float | None
) -> ShardManifest:
    plan, number = require_plan(store, event.run_id), cast("int", event.shard)
    if number >= plan.shards:
        raise Refused("bad_event", f"The backfill {plan.run_id} has {count_of(plan.shards, 'shard')}, and no {number}.")
    async with open_step(settings, step, deadline) as function:
        manifest = await run_step(ShardFiles(store, Shard(plan.run_id, number)), step, function)
    if manifest is None:
        raise Failed("checkpoint_invalid", f"Shard {number}: the step before {step} is not done.")
    return manifest


def reset_for_replay(store: Store, plan: Plan, chosen: Sequence[ShardFiles] | None = None) -> int:
    """Delete the results of all steps after the fetch of some shards, so that they run again; return how many shards.

    These are the chosen shards, or those with rejected rows or with rows whose match is PENDING. Rejected rows that
    conform to their schema today are put into the raw CSVs. The database is not touched. The backfill has to be run
    again afterwards, from the look-up on.

    Raises:
        Failed: `checkpoint_invalid`, for a file of a version that this program does not read; it is not deleted.
    """
    read_report(store, plan.run_id)
    find_look_up(store, plan)
    shards = list_shards(store, plan) if chosen is None else chosen
    reset = sum(map_concurrently(partial(_reset_shard, is_chosen=chosen is not None), shards))
    if reset:
        for name in (LOOK_UP_JSON, REPORT):
            store.delete(backfill_key(plan.run_id, name))
    return reset


def _reset_shard(files: ShardFiles, *, is_chosen: bool) -> bool:
    finished = files.finished_steps()
    if "fetch" not in finished:
        return False
    has_rejected = any(manifest.rejected for manifest in finished.values())
    has_pending = "enrich" in finished and files.outcomes(finished["enrich"])["pending"].sum() > 0
    if not (is_chosen or has_rejected or has_pending):
        return False
    _accept_rejected_rows(files, finished["fetch"])
    files.store.delete(files.shard.manifest_key("enrich"))
    return True


def _accept_rejected_rows(files: ShardFiles, fetched: ShardManifest) -> None:
    """Put rows that were set aside, and conform today, into the raw CSV."""
    if fetched.rejected is None:
        return
    accepted, rejected = set_aside(files.rejected_rows(fetched).select(dtypes(RawLibrary).names()), RawLibrary)
    if not accepted.height:
        return
    rows = conform(pl.concat([files.rows(fetched, RawLibrary), accepted]), RawLibrary)
    users = conform(files.outcomes(fetched).select(dtypes(FetchedUsers).names()), FetchedUsers)
    result = StepResult(
        outcomes_of_fetch(users, rows, rejected),
        rows,
        rejected,
        requests=fetched.requests,
        rate_limited=fetched.rate_limited,
    )
    # A load tells by the time of the fetch what was played recently, and Steam is not asked now.
    started = files.start_step("fetch")
    files.commit(replace(started, started_at=fetched.started_at, finished_at=fetched.finished_at), result)
