"""The plan of a backfill: its users, its shards and its estimated cost; written before the backfill begins."""

import json
import re
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from math import ceil
from typing import NamedTuple

import structlog
from pandera.typing.polars import DataFrame

from pipeline.apis.igdb_queries import APPS_PER_REQUEST, PAGE_SIZE
from pipeline.backfill.list import UserList, write_rejected_lines
from pipeline.backfill.report import read_last_loaded, read_report
from pipeline.backfill.shards import ShardFiles, list_shards, map_concurrently, read_json, write_json
from pipeline.errors import Failed, Refused, count_of
from pipeline.settings import Settings
from pipeline.storage.csv import to_csv
from pipeline.storage.keys import BACKFILLS, PLAN, backfill_key, parse_plan_key
from pipeline.storage.store import Store
from schemas.backfill import LastLoaded, ListedUsers, Plan, ShardUsers
from schemas.events import DEFAULT_SHARD_SIZE, MAX_SHARDS, RUN_ID
from schemas.frames import conform, empty_frame

SHARDS = "shards.json"
"""The file with the list of shard numbers, from which Step Functions starts one execution per shard."""

MAX_APPS = 170_000
"""The highest number of distinct apps that an estimate assumes: more than have been seen in libraries."""

APPS_PER_USER = 200

log = structlog.get_logger()


def draft_plan(
    store: Store,
    source: str,
    listed: UserList,
    *,
    run_id: str | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    is_full: bool = False,
) -> Plan:
    """Return the plan for a list of users; nothing is written.

    Without a `run_id` the plan continues the backfill of the list that is not complete, or begins a new one. The id
    depends on the arguments and the store alone, so that workers who begin at the same time share a backfill. With
    `is_full` users are loaded even if their rows are those of their last load.

    Raises:
        Refused: `bad_event`, where the list cannot be used, or makes too many shards.
    """
    if run_id:
        _check_run_id(run_id, "")
    users = listed.user_count
    if users > MAX_SHARDS * shard_size:
        says = f"{users:,} users make more than {MAX_SHARDS:,} shards of {shard_size}."
        raise Refused("bad_event", f"{says} Plan larger ones, with --shard-size.")
    return Plan(
        run_id=run_id or next_run_id(store, listed.digest, shard_size, is_full=is_full),
        source=source,
        input=listed.digest,
        users=users,
        rejected=listed.rejected_count,
        shard_size=shard_size,
        shards=ceil(users / shard_size),
        is_full=is_full,
        created_at=datetime.now(UTC),
    )


def next_run_id(store: Store, digest: str, shard_size: int, *, is_full: bool = False) -> str:
    """Return the id of the incomplete backfill of a list, found by the list's SHA-256, or the id for a new backfill."""
    name = sha256(f"{digest} {shard_size} {is_full}".encode()).hexdigest()[:12]
    run_ids = (f"{name}-{number}" for number in count(1))
    return next(run_id for run_id in run_ids if not (report := read_report(store, run_id)) or not report.is_complete)


def write_plan(store: Store, plan: Plan, listed: UserList) -> Plan:
    """Write the plan of a list of users, with its shards and the list's rejected lines, and return it.

    If the run has a plan already, nothing is written, and that plan is returned.

    Raises:
        Refused: `bad_event`, if the stored plan was made of a list of users with other content, or for shards of
            another size.
    """
    standing = find_plan(store, plan.run_id)
    if standing:
        if (standing.input, standing.shard_size) != (plan.input, plan.shard_size):
            raise Refused(
                "bad_event",
                f"The backfill {standing.run_id} is of another list, or of shards of "
                f"{count_of(standing.shard_size, 'user')}. Give --resume without a list, or leave it out.",
            )
        return standing
    last_loaded = empty_frame(LastLoaded) if plan.is_full else read_last_loaded(store)
    shards = _cut_into_shards(listed.users, last_loaded, plan.shard_size)
    for _ in map_concurrently(_write_users, zip(list_shards(store, plan), shards, strict=True)):
        pass
    numbers = [{"shard": number} for number in range(plan.shards)]
    store.write(backfill_key(plan.run_id, SHARDS), json.dumps(numbers).encode())
    write_rejected_lines(store, plan.run_id, listed.rejected_lines)
    write_json(store, backfill_key(plan.run_id, PLAN), plan)
    return plan


def _cut_into_shards(
    users: DataFrame[ListedUsers], last_loaded: DataFrame[LastLoaded], size: int
) -> list[DataFrame[ShardUsers]]:
    """Return the users, in order, as a list of shards of `size` users, each user with the digest of the last load."""
    last = last_loaded.select("user_id", "last_loaded_digest", "last_loaded_database")
    known = users.join(last, on="user_id", how="left", validate="1:1", maintain_order="left")
    return [conform(known.slice(start, size), ShardUsers) for start in range(0, known.height, size)]


def find_plan(store: Store, run_id: str) -> Plan | None:
    """Return the stored plan of a backfill, or None if the store has none.

    Raises:
        Failed: `checkpoint_invalid`, for one of a version that this program does not read.
    """
    return read_json(store, backfill_key(run_id, PLAN), Plan)


def list_plans(store: Store) -> list[Plan]:
    """Return the plans of all backfills in a store, the newest first; unreadable ones are logged and left out."""

    def find(run_id: str) -> Plan | None:
        try:
            return find_plan(store, run_id)
        except Failed as error:
            log.warning("record skipped", run_id=run_id, fault=error.message)
            return None

    run_ids = [run_id for key in store.list(BACKFILLS) if (run_id := parse_plan_key(key))]
    found = [plan for plan in map_concurrently(find, run_ids) if plan]
    return sorted(found, key=lambda plan: plan.created_at, reverse=True)


def require_plan(store: Store, run_id: str) -> Plan:
    """Return the stored plan of a backfill, or raise an error if the store has none.

    Raises:
        Refused: `bad_event`, where there is none, or the id is none that a backfill can have.
    """
    hint = "`steam-import runs` lists them."
    _check_run_id(run_id, hint)
    plan = find_plan(store, run_id)
    if plan is None:
        raise Refused("bad_event", f"There is no backfill {run_id!r} in this store. {hint}")
    return plan


class Estimate(NamedTuple):
    """The estimated numbers of requests of a backfill and their seconds: at least for Steam, at most for IGDB."""

    steam_requests: int
    steam_seconds: float
    igdb_requests: int
    igdb_seconds: float


def estimate_cost(settings: Settings, users: int, known_apps: int) -> Estimate:
    """Return the estimated requests and seconds of a backfill of `users` users, at the rates of the settings.

    `known_apps` is the number of apps in the catalogue. A user listed by a vanity name costs a request more to Steam.
    """
    days = max(users - 1, 0) // settings.steam_requests_per_day
    on_last_day = users - days * settings.steam_requests_per_day
    apps = max(min(users * APPS_PER_USER, MAX_APPS) - known_apps, 0)
    igdb_requests = ceil(apps / APPS_PER_REQUEST) + ceil(apps / PAGE_SIZE)
    return Estimate(
        users,
        days * 86_400 + on_last_day / settings.steam_requests_per_second,
        igdb_requests,
        igdb_requests / settings.igdb_requests_per_second,
    )


def _write_users(shard: tuple[ShardFiles, DataFrame[ShardUsers]]) -> None:
    files, users = shard
    files.store.write(files.shard.users_key, to_csv(users))


def _check_run_id(run_id: str, hint: str) -> None:
    if not re.fullmatch(RUN_ID, run_id):
        raise Refused(
            "bad_event", f"{run_id!r:.100} cannot be a backfill's id: it has to match {RUN_ID}. {hint}".rstrip()
        )
