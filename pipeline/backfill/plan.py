"""A list of users, checked as a whole, and cut into shards.

What a backfill sets out to do, written down before it begins.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from math import ceil
from typing import Any, NamedTuple

import polars as pl
import structlog

from pipeline.apis.igdb_queries import APPS_PER_REQUEST, PAGE_SIZE
from pipeline.backfill.shards import ShardFiles, map_concurrently, read_record, write_record
from pipeline.errors import Failed, Refused
from pipeline.steam_id import Vanity, parse_steam_id
from pipeline.storage.csv import parse_header, parse_records, strip_decimals, to_csv, to_spreadsheet
from pipeline.storage.keys import LAST_LOADED, PLAN, Shard, backfill_key
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, read_parquet
from schemas.backfill import LastLoaded, ListedUsers, PlanRecord, RefusedUsers, Report
from schemas.events import MOST_SHARDS, RUN_ID, SHARD_SIZE, USER_ID
from schemas.frames import check_rows

COLUMNS = ("user_id", "steam_id64")
STEAM_CALLS_A_DAY = 100_000

APPS_OF_STEAM = 170_000
"""More than anybody has seen in libraries: no backfill asks for more."""

APPS_A_USER = 200
_LINES = {"line": pl.Int64, "user_id": pl.String, "steam_id64": pl.String, "error": pl.String}
_PARSED = _LINES | {"steam_id": pl.String, "steam_id_error": pl.String}


class Estimate(NamedTuple):
    """What a backfill will ask: of Steam at the least, a request a user; of IGDB at the most."""

    steam_requests: int
    steam_seconds: float
    igdb_requests: int
    igdb_seconds: float


MOST_CHARS = 500
"""Of what a refused line is told by."""


def listed_users(body: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A CSV of `user_id,steam_id64` and whatever else, as (ListedUsers, RefusedUsers).

    Of several lines for one user the first one counts. The Steam id may have any form.

    Raises:
        Refused: `bad_event`, where it lacks one of the columns, or has no line at all.
    """
    lines = _lines(body).with_columns(error=pl.coalesce("error", _user_id_error(), "steam_id_error"))
    judged = _without_repeated(lines)
    is_good = pl.col("error").is_null()
    return (
        ListedUsers.validate(judged.filter(is_good).select("user_id", "steam_id"), lazy=True),
        RefusedUsers.validate(
            # A cell of any length would come back from no spreadsheet.
            judged.filter(~is_good)
            .select(_LINES.keys())
            .fill_null("")
            .with_columns(pl.col(pl.String).str.head(MOST_CHARS)),
            lazy=True,
        ),
    )


def shard_users(users: pl.DataFrame, seen: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    """ListedUsers in ShardUsers of a size, in their order; with what is Seen of them."""
    last = seen.select("user_id", "seen_digest", "seen_database")
    known = users.join(last, on="user_id", how="left", validate="1:1", maintain_order="left")
    return [known.slice(start, size) for start in range(0, known.height, size)]


def estimate(
    users: int, known_apps: int, steam_requests_per_second: float, igdb_requests_per_second: float
) -> Estimate:
    """What so many users cost where the catalogue knows so many apps already; vanity names cost a request more."""
    days = max(users - 1, 0) // STEAM_CALLS_A_DAY
    apps = max(min(users * APPS_A_USER, APPS_OF_STEAM) - known_apps, 0)
    igdb_requests = ceil(apps / APPS_PER_REQUEST) + ceil(apps / PAGE_SIZE)
    return Estimate(
        users,
        days * 86_400 + (users - days * STEAM_CALLS_A_DAY) / steam_requests_per_second,
        igdb_requests,
        igdb_requests / igdb_requests_per_second,
    )


def _lines(body: bytes) -> pl.DataFrame:
    parsed: dict[str, list[Any]] = {name: [] for name in _PARSED}
    for line, cells, fault in parse_records(body):
        steam_id64 = cells.get("steam_id64", "").strip()
        values = (line, cells.get("user_id", "").strip(), steam_id64, fault or None, *_account(steam_id64))
        for column, value in zip(parsed.values(), values, strict=True):
            column.append(value)
    if not parsed["line"]:
        raise Refused("bad_event", "The list holds no users. Give a CSV with the columns user_id and steam_id64.")
    header = parse_header(body)
    if lacking := [name for name in COLUMNS if name not in header]:
        raise Refused("bad_event", f"The list lacks the column {' and '.join(lacking)}; its first line names them.")
    return pl.DataFrame(parsed, schema=_PARSED)


def _account(text: str) -> tuple[str | None, str | None]:
    """The SteamID64 or vanity name, or what is wrong with it."""
    try:
        account = parse_steam_id(text)
    except Refused as error:
        return None, f"{error.code}: {error.message}"
    return account.name if isinstance(account, Vanity) else account, None


def _user_id_error() -> pl.Expr:
    message = pl.format("bad_event: the user id has to match {}", pl.lit(USER_ID))
    return pl.when(~pl.col("user_id").str.contains(USER_ID)).then(message)


def _without_repeated(lines: pl.DataFrame) -> pl.DataFrame:
    """The first good line of a user counts; the others say which one it is."""
    first = pl.col("line").filter(pl.col("error").is_null()).min().over("user_id")
    message = pl.format("bad_event: line {} has this user already", first)
    return lines.with_columns(error=pl.coalesce("error", pl.when(pl.col("line") != first).then(message)))


NO_LISTS = ("imports/", "catalogue/")
"""Where users' libraries are, and what all share."""

SHARDS, REFUSED, REPORT = "shards.json", "users.rejected.csv", "report.json"
REMEDY_OF_SEEN = "Use the program's version that wrote it, or delete it: then all users are loaded again."
log = structlog.get_logger()


class Draft(NamedTuple):
    """A plan that is not written down yet."""

    run_id: str
    input: str
    users: pl.DataFrame
    refused: pl.DataFrame
    shard_size: int
    is_full: bool


def read_list(store: Store, location: str) -> bytes:
    """A list of users at a location of the store; raises `bad_event` where there is none, and `location_refused`."""
    key = store.key_of(location)
    if key.startswith(NO_LISTS):
        raise Failed("location_refused", f"{location!r:.200} is no list of users. Put the list elsewhere in the store.")
    body = store.read(key, max_bytes=store.file_max_bytes)
    if body is None:
        raise Refused("bad_event", f"There is no list of users at {location}.")
    return body


def draft_plan(
    store: Store, body: bytes, *, run_id: str | None = None, size: int = SHARD_SIZE, is_full: bool = False
) -> Draft:
    """A list of users, checked as a whole.

    Without a `run_id` it is the backfill of this list that has not ended, or the next one: a function of the list and
    the store, so that workers who begin at once share it. A full one takes no notice of what was loaded before.

    Raises:
        Refused: `bad_event`, where the list cannot be used.
    """
    if run_id and not re.fullmatch(RUN_ID, run_id):
        raise Refused("bad_event", f"{run_id!r:.100} cannot be a backfill's id: it has to match {RUN_ID}.")
    users, refused = listed_users(body)
    digest = sha256(body).hexdigest()
    return Draft(run_id or next_run(store, digest, size, is_full=is_full), digest, users, refused, size, is_full)


def plan_of(draft: Draft, source: str) -> PlanRecord:
    """What a draft comes to; raises `bad_event` for more shards than there can be."""
    if draft.users.height > MOST_SHARDS * draft.shard_size:
        says = f"{draft.users.height:,} users make more than {MOST_SHARDS:,} shards of {draft.shard_size}."
        raise Refused("bad_event", f"{says} Plan larger ones, with --shard-size.")
    return PlanRecord(
        run_id=draft.run_id,
        source=source,
        input=draft.input,
        users=draft.users.height,
        rejected=draft.refused.height,
        shard_size=draft.shard_size,
        shards=-(-draft.users.height // draft.shard_size),
        is_full=draft.is_full,
        created_at=datetime.now(UTC),
    )


def make_plan(store: Store, source: str, draft: Draft) -> PlanRecord:
    """Cut a list of users into shards and write them down; a plan that is there already stands.

    Raises:
        Refused: `bad_event`, where the run is of another list.
    """
    there = find_plan(store, draft.run_id)
    if there:
        return _same(there, draft)
    plan = plan_of(draft, source)
    seen = no_seen() if draft.is_full else read_seen(store)
    shards = zip(shards_of(store, plan), shard_users(draft.users, seen, draft.shard_size), strict=True)
    for _ in map_concurrently(_write_users, shards):
        pass
    numbers = [{"shard": number} for number in range(plan.shards)]
    store.write(backfill_key(plan.run_id, SHARDS), json.dumps(numbers).encode())
    store.write(backfill_key(plan.run_id, REFUSED), to_spreadsheet(draft.refused))
    write_record(store, backfill_key(plan.run_id, PLAN), plan)
    return plan


def next_run(store: Store, digest: str, size: int, *, is_full: bool = False) -> str:
    """The backfill of a list that has not ended well, or the one after all that have."""
    name = sha256(f"{digest} {size} {is_full}".encode()).hexdigest()[:12]
    for number in count(1):
        run_id = f"{name}-{number}"
        report = read_record(store, backfill_key(run_id, REPORT), Report, run_id=run_id)
        if report is None or not report.is_complete:
            return run_id
    raise AssertionError("count() has no end")


def find_plan(store: Store, run_id: str) -> PlanRecord | None:
    """The plan of a run, if there is one; that of another run is none."""
    return read_record(store, backfill_key(run_id, PLAN), PlanRecord, run_id=run_id)


def require_plan(store: Store, run_id: str) -> PlanRecord:
    """The plan of a run; raises `bad_event`."""
    if not re.fullmatch(RUN_ID, run_id):
        raise Refused("bad_event", f"{run_id!r:.100} cannot be a backfill's id. `steam-import runs` lists them.")
    plan = find_plan(store, run_id)
    if plan is None:
        raise Refused("bad_event", f"There is no backfill {run_id!r} in this store. `steam-import runs` lists them.")
    return plan


def shards_of(store: Store, plan: PlanRecord) -> Sequence[ShardFiles]:
    """The shards of a plan."""
    return [ShardFiles(store, Shard(plan.run_id, number)) for number in range(plan.shards)]


def read_seen(store: Store) -> pl.DataFrame:
    """What was last loaded for whom, as Seen; nothing, where the file cannot be read.

    Raises:
        Failed: `checkpoint_invalid`, for a file of another schema version.
    """
    body = store.read(LAST_LOADED)
    if body is None:
        return no_seen()
    try:
        return read_parquet(body, "last_loaded", LastLoaded, LAST_LOADED, REMEDY_OF_SEEN)
    except CorruptFile as error:
        log.warning("all users are loaded again", key=LAST_LOADED, fault=str(error))
        return no_seen()


def no_seen() -> pl.DataFrame:
    """A Seen of nobody."""
    return pl.DataFrame(schema=dict.fromkeys(LastLoaded.to_schema().columns, pl.String))


def read_refused(store: Store, plan: PlanRecord) -> pl.DataFrame:
    """RefusedUsers, as the plan wrote them for people; raises `checkpoint_invalid`, where they were edited."""
    key = backfill_key(plan.run_id, REFUSED)
    schema = dict.fromkeys(RefusedUsers.to_schema().columns, pl.String)
    try:
        cells = [record.cells for record in parse_records(store.read(key) or b"")]
    except Failed as error:
        raise _edited(key, error.message) from None
    lines = [
        {name: line.get(name) for name in schema} | {"line": strip_decimals(line.get("line", ""))} for line in cells
    ]
    rows, failures = check_rows(pl.DataFrame(lines, schema=schema), RefusedUsers)
    if failures.height:
        index, failed = failures.row(0)
        raise _edited(key, f"{failures.height} rows do not conform, the first of them row {index + 1}: {failed}.")
    if rows.height != plan.rejected:
        raise _edited(key, f"it has {rows.height} rows, and the plan tells of {plan.rejected}.")
    return rows


def _edited(key: str, why: str) -> Failed:
    return Failed(
        "checkpoint_invalid",
        f"{key}: {why} Put it back as it was, or begin anew: `steam-import backfill USERS_CSV --resume ANOTHER_ID`.",
    )


def _write_users(shard: tuple[ShardFiles, pl.DataFrame]) -> None:
    files, users = shard
    files.store.write(files.shard.users_key, to_csv(users))


def _same(plan: PlanRecord, draft: Draft) -> PlanRecord:
    if (plan.input, plan.shard_size) != (draft.input, draft.shard_size):
        raise Refused(
            "bad_event",
            f"The backfill {plan.run_id} is of another list, or of shards of {plan.shard_size} users. Give --resume "
            "without a list, or leave it out.",
        )
    return plan
