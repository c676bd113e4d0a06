"""A step of a backfill over all its shards: one that fails stops no other, unless they all would fail.

Backfills with these settings: each step for one shard, as the state machine asks for it, or for all in turn.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import structlog

from pipeline import clients
from pipeline.backfill.plan import REPORT, SHARDS, draft_plan, make_plan, read_list, require_plan, shards_of
from pipeline.backfill.report import write_report
from pipeline.backfill.shards import MADE_OF, ShardFiles, map_concurrently
from pipeline.backfill.steps import concerns_all, enrich_shard, fetch_shard, load_shard, look_up
from pipeline.catalogue.look_up import Progress, no_progress
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.settings import Settings
from pipeline.storage.keys import Shard, backfill_key
from pipeline.storage.store import Store
from schemas.backfill import PlanRecord, Report, ShardRecord
from schemas.events import SHARD_SIZE, SHARD_STEPS, BackfillEvent, BackfillResponse, ShardStep
from schemas.staging import LoadOptions

ROUNDS = 3
"""A shard that failed, and may go through later, is tried again after all the others."""

MOST_IN_A_ROW = 3
"""So many shards that fail one after another have one cause."""

WORDS: dict[ShardStep, str] = {"fetch": "Libraries fetched", "enrich": "Libraries enriched", "load": "Libraries loaded"}
StepFunction = Callable[[ShardFiles], Awaitable[ShardRecord]]
log = structlog.get_logger()


async def over_shards(
    shards: Sequence[ShardFiles], users: int, step: ShardStep, do: StepFunction, progress: Progress = no_progress
) -> None:
    """Do a step of every shard for which it is not done; of a shard that fails, note why.

    Workers who share a backfill fetch from different shards on; loads go in order, for of several apps of one game the
    first that is loaded gives it its `steamAppId`. `progress` is told how many of the `users` are through.

    Raises:
        PipelineError: What stops all shards: it `concerns_all`, or three in a row have failed.
    """
    begin = random.randrange(len(shards) or 1) if step == "fetch" else 0  # noqa: S311 - where to begin is no secret
    left, through = [*shards[begin:], *shards[:begin]], 0

    def on_shard(record: ShardRecord) -> None:
        nonlocal through
        through += len(record.users)
        progress(WORDS[step], through, users)

    progress(WORDS[step], 0, users)
    for number in range(ROUNDS):
        left = await _round(left, step, do, on_shard, MOST_IN_A_ROW if number == 0 else len(left) + 1)


async def run_step(files: ShardFiles, step: ShardStep, do: StepFunction) -> ShardRecord | None:
    """Do a step of a shard if it is to be done; None where the step before it was not done."""
    files = files.for_a_step()
    done = files.done()
    if step in done:
        return done[step]
    if step in MADE_OF and MADE_OF[step] not in done:
        return None
    with files.noting_failure(step):
        return await do(files)


async def _round(
    shards: Sequence[ShardFiles],
    step: ShardStep,
    do: StepFunction,
    on_shard: Callable[[ShardRecord], None],
    most_in_a_row: int,
) -> list[ShardFiles]:
    """Go over the shards once; those that failed, and may go through later."""
    again: list[ShardFiles] = []
    in_a_row = 0
    for files in shards:
        try:
            record = await run_step(files, step, do)
        except PipelineError as error:
            in_a_row += error.retryable
            if concerns_all(error) or in_a_row == most_in_a_row:
                raise
            log.warning("shard failed", step=step, shard=files.shard.number, error=error.message)
            again += [files] if error.retryable else []
        else:
            in_a_row = 0
            if record:
                on_shard(record)
    return again


NEEDED = {"fetch": clients.NEEDED_BY_FETCH, "enrich": ("store",), "load": clients.NEEDED_BY_LOAD}


async def run_backfill(
    settings: Settings,
    plan: PlanRecord,
    progress: Progress = no_progress,
    steps: Sequence[ShardStep] = SHARD_STEPS,
    place: Store | None = None,
) -> Report:
    """All steps of all shards that are not done yet, and the report; it is also written where an error stops a step.

    The store is the settings' own, unless another one is given.

    Raises:
        PipelineError: What stopped it; all that was done stands, and the same backfill goes on from there.
    """
    settings.require(*dict.fromkeys(name for step in steps for name in NEEDED[step]), *clients.NEEDED_BY_ENRICH)
    place = place or clients.open_store(settings)
    shards = shards_of(place, plan)
    try:
        for step in steps:
            if step == "enrich":
                await look_up_all(settings, plan, progress, place=place)
            async with open_step(settings, step, place=place) as do:
                once = within_day(settings, shards, do) if step == "fetch" else do
                await over_shards(shards, plan.users, step, once, progress)
    except PipelineError as error:
        if not error.is_cancelled:
            write_report(place, plan)
        raise
    return write_report(place, plan)


async def look_up_all(
    settings: Settings,
    plan: PlanRecord,
    progress: Progress = no_progress,
    deadline: float | None = None,
    place: Store | None = None,
) -> dict[str, int]:
    """The one look-up of a backfill; see `look_up`. What is not answered by the deadline is PENDING."""
    settings.require(*clients.NEEDED_BY_ENRICH)
    place = place or clients.open_store(settings)
    async with clients.open_catalogue_lookup(settings, deadline, place) as knowledge:
        record = await look_up(place, plan, shards_of(place, plan), knowledge, progress)
    return record.counts


async def do_step(settings: Settings, event: BackfillEvent, deadline: float | None = None) -> BackfillResponse:
    """One step for one shard, or for all: what a state machine asks for; outside APIs are asked up to the deadline.

    Raises:
        PipelineError: What the step met.
    """
    response = BackfillResponse(success=True, step=event.step, run_id=event.run_id, shard=event.shard)
    place = clients.open_store(settings)
    if event.step == "plan":
        plan = _plan(settings, event)
        key = backfill_key(plan.run_id, SHARDS)
        bucket, _, shards_key = place.locate(key).removeprefix("s3://").partition("/")
        stats = {"users": plan.users, "rejected": plan.rejected}
        found: dict[str, object] = {"shards": plan.shards, "bucket": bucket, "shards_key": shards_key, "stats": stats}
        return response.model_copy(update=found)
    plan = require_plan(place, event.run_id)
    if event.step == "report":
        report = write_report(place, plan)
        return response.model_copy(
            update={"report": place.locate(backfill_key(plan.run_id, REPORT)), "stats": report.users}
        )
    if event.step == "catalogue":
        return response.model_copy(update={"stats": await look_up_all(settings, plan, deadline=deadline)})
    files = ShardFiles(place, Shard(plan.run_id, cast("int", event.shard)))
    record = await _do_shard(settings, plan, event.step, files, deadline)
    return response.model_copy(update={"stats": {"users": len(record.users), **record.counts}})


def _plan(settings: Settings, event: BackfillEvent) -> PlanRecord:
    place = clients.open_store(settings)
    if event.users is None:
        return require_plan(place, event.run_id)
    size = event.shard_size or SHARD_SIZE
    draft = draft_plan(place, read_list(place, event.users), run_id=event.run_id, size=size)
    return make_plan(place, event.users, draft)


async def _do_shard(
    settings: Settings, plan: PlanRecord, step: ShardStep, files: ShardFiles, deadline: float | None
) -> ShardRecord:
    if files.shard.number >= plan.shards:
        raise Refused("bad_event", f"The backfill {plan.run_id} has {plan.shards} shards, and no {files.shard.number}.")
    async with open_step(settings, step, deadline) as do:
        record = await run_step(files, step, do)
    if record is None:
        raise Failed("checkpoint_invalid", f"Shard {files.shard.number}: the step before {step} is not done.")
    return record


@asynccontextmanager
async def open_step(
    settings: Settings, step: ShardStep, deadline: float | None = None, place: Store | None = None
) -> AsyncIterator[StepFunction]:
    """How a step of a shard is done, with its clients open."""
    settings.require(*NEEDED[step])
    if step == "fetch":
        async with clients.open_steam(settings) as steam:
            yield lambda files: fetch_shard(files, steam, deadline)
    elif step == "enrich":
        catalogue = clients.open_catalogue(settings, place)

        async def enrich(files: ShardFiles) -> ShardRecord:
            return enrich_shard(files, catalogue)

        yield enrich
    else:
        database = clients.open_database(settings)
        options = LoadOptions(settings.status_unplayed, settings.status_played)

        async def load(files: ShardFiles) -> ShardRecord:
            return load_shard(files, database, options)

        yield load


def within_day(settings: Settings, shards: Sequence[ShardFiles], do: StepFunction) -> StepFunction:
    """A fetch that ends before the day's requests are used up.

    Raises:
        Retryable: `steam_rate_limited`.
        Refused: `configuration`, where no day is enough for a shard.
    """
    allowed, spent = settings.steam_requests_per_day, sum(map_concurrently(_spent_today, shards))

    async def fetch(files: ShardFiles) -> ShardRecord:
        nonlocal spent
        needed = files.users().height
        if needed > allowed:
            says = f"A shard of {needed} users takes as many requests to Steam, and STEAM_REQUESTS_PER_DAY is {allowed}"
            raise Refused("configuration", f"{says}. Plan smaller ones, with --shard-size.")
        if spent + needed > allowed:
            raise Retryable(
                "steam_rate_limited",
                f"{spent} requests went to Steam today, and it allows {allowed} a day "
                "(STEAM_REQUESTS_PER_DAY). Go on tomorrow.",
            )
        record = await do(files)
        spent += record.requests
        return record

    return fetch


def _spent_today(files: ShardFiles) -> int:
    fetched = files.record("fetch")
    return fetched.requests if fetched and fetched.finished_at.date() == datetime.now(UTC).date() else 0
