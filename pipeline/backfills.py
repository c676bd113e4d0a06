"""Backfills with these settings: each step for one shard, as the state machine asks for it, or for all in turn."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

from pipeline import wiring
from pipeline.backfill.catalogue import look_up
from pipeline.backfill.files import ShardFiles
from pipeline.backfill.plan import REPORT, SHARDS, draft_plan, make_plan, read_list, require_plan, shards_of
from pipeline.backfill.readers import each
from pipeline.backfill.report import write_report
from pipeline.backfill.run import Do, attempt, over_shards
from pipeline.backfill.shards import enrich_shard, fetch_shard, load_shard
from pipeline.contract import Store
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.layout import Shard, backfill_key
from pipeline.lookup import Progress, no_progress
from pipeline.settings import Settings
from schemas.backfill import (
    SHARD_SIZE,
    SHARD_STEPS,
    PlanRecord,
    Report,
    ShardRecord,
    ShardStep,
)
from schemas.backfill_events import BackfillEvent, BackfillResponse

NEEDED = {"fetch": wiring.NEEDED_BY_FETCH, "enrich": ("store",), "load": wiring.NEEDED_BY_LOAD}


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
    settings.require(*dict.fromkeys(name for step in steps for name in NEEDED[step]), *wiring.NEEDED_BY_ENRICH)
    place = place or wiring.store(settings)
    shards = shards_of(place, plan)
    try:
        for step in steps:
            if step == "enrich":
                await look_up_all(settings, plan, progress, place=place)
            async with doing(settings, step, place=place) as do:
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
    settings.require(*wiring.NEEDED_BY_ENRICH)
    place = place or wiring.store(settings)
    async with wiring.open_knowledge(settings, deadline, place) as knowledge:
        record = await look_up(place, plan, shards_of(place, plan), knowledge, progress)
    return record.counts


async def do_step(settings: Settings, event: BackfillEvent, deadline: float | None = None) -> BackfillResponse:
    """One step for one shard, or for all: what a state machine asks for; outside APIs are asked up to the deadline.

    Raises:
        PipelineError: What the step met.
    """
    response = BackfillResponse(success=True, step=event.step, run_id=event.run_id, shard=event.shard)
    place = wiring.store(settings)
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
    place = wiring.store(settings)
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
    async with doing(settings, step, deadline) as do:
        record = await attempt(files, step, do)
    if record is None:
        raise Failed("checkpoint_invalid", f"Shard {files.shard.number}: the step before {step} is not done.")
    return record


@asynccontextmanager
async def doing(
    settings: Settings, step: ShardStep, deadline: float | None = None, place: Store | None = None
) -> AsyncIterator[Do]:
    """How a step of a shard is done, with its clients open."""
    settings.require(*NEEDED[step])
    if step == "fetch":
        async with wiring.open_steam(settings) as steam:
            yield lambda files: fetch_shard(files, steam, deadline)
    elif step == "enrich":
        catalogue = wiring.catalogue(settings, place)

        async def enrich(files: ShardFiles) -> ShardRecord:
            return enrich_shard(files, catalogue)

        yield enrich
    else:
        database = wiring.database(settings)

        async def load(files: ShardFiles) -> ShardRecord:
            return load_shard(
                files, database, status_unplayed=settings.status_unplayed, status_played=settings.status_played
            )

        yield load


def within_day(settings: Settings, shards: Sequence[ShardFiles], do: Do) -> Do:
    """A fetch that ends before the day's requests are used up.

    Raises:
        Retryable: `steam_rate_limited`.
        Refused: `configuration`, where no day is enough for a shard.
    """
    allowed, spent = settings.steam_requests_per_day, sum(each(_spent_today, shards))

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
