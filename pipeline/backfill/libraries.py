"""The libraries of users in a store's backfills: the newest one of each user, imports included, or all of one user."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.backfill.plan import list_plans
from pipeline.backfill.report import OUTCOMES_CSV, read_report
from pipeline.backfill.shards import ShardFiles, list_shards, map_concurrently
from pipeline.errors import Failed, Refused
from pipeline.frames.changes import Snapshot
from pipeline.storage.checkpoints import list_checkpoints, read_checkpoint
from pipeline.storage.csv import parse_csv, unescape_formulas
from pipeline.storage.keys import Checkpoint, backfill_key
from pipeline.storage.store import Store
from schemas.backfill import Plan, ShardManifest
from schemas.events import KEY_TIME
from schemas.frames import Model, conform, empty_frame
from schemas.library import EnrichedLibrary, RawLibrary

log = structlog.get_logger()


class FetchedLibraries(NamedTuple):
    """The rows of a raw CSV, and where it is: one user's checkpoint, or a shard of a backfill.

    `is_ended` is false for a shard of a backfill that is still running, and true for everything else.
    """

    source: Checkpoint | ShardFiles
    rows: DataFrame[RawLibrary]
    is_ended: bool = True


@dataclass
class Owners:
    """Who owns some apps: the names of the apps that anybody owns, users' raw checkpoints, and shards by run id.

    `unfinished` counts the owners in each backfill that has not ended, by its run id.
    """

    names: dict[int, str | None] = field(default_factory=dict)
    imports: list[Checkpoint] = field(default_factory=list)
    shards: dict[str, list[ShardFiles]] = field(default_factory=dict)
    unfinished: Counter[str] = field(default_factory=Counter)


def read_newest_libraries(store: Store, *, with_last_ended: bool = False) -> Iterator[FetchedLibraries]:
    """Yield the raw rows of all users, each user's from the newest import or backfill that fetched them.

    Where that is a backfill that has not ended, `with_last_ended` also yields the user's rows from the newest import or
    ended backfill. A file that cannot be read is logged and left out. A few files are in memory at a time.
    """
    imports = {checkpoint.user_id: checkpoint for checkpoint in list_checkpoints(store, "raw")}
    seen: set[str] = set()
    for plan in list_plans(store):
        at = plan.created_at
        later = {user for user, checkpoint in imports.items() if checkpoint.fetched_at and checkpoint.fetched_at > at}
        is_ended = read_report(store, plan.run_id) is not None
        for files, rows, _ in read_libraries_of_backfill(store, plan):
            others = rows.filter(~pl.col("user_id").is_in(list(seen | later)))
            if is_ended or not with_last_ended:
                seen.update(others["user_id"].unique())
            yield FetchedLibraries(files, conform(others, RawLibrary), is_ended)
    remaining = [checkpoint for user, checkpoint in imports.items() if user not in seen]
    yield from map_concurrently(partial(_read_import, store), remaining)


def read_libraries_of_backfill(store: Store, plan: Plan) -> Iterator[FetchedLibraries]:
    """Yield the raw rows of each shard of a backfill; none for a shard that is not fetched, or cannot be read."""
    yield from map_concurrently(_read_shard, list_shards(store, plan))


def find_owners(libraries: Iterable[FetchedLibraries], appids: Collection[int]) -> Owners:
    """Return who owns some apps among the libraries; owners in backfills that have not ended are only counted."""
    owners, is_wanted = Owners(), pl.col("appid").is_in(list(appids))
    for source, rows, is_ended in libraries:
        owned = rows.filter(is_wanted)
        owners.names.update(owned.select("appid", "name").rows())
        if not owned.height:
            continue
        if isinstance(source, Checkpoint):
            owners.imports.append(source)
        elif is_ended:
            owners.shards.setdefault(source.shard.run_id, []).append(source)
        else:
            owners.unfinished[source.shard.run_id] += owned["user_id"].n_unique()
    return owners


def _read_import(store: Store, checkpoint: Checkpoint) -> FetchedLibraries:
    try:
        return FetchedLibraries(checkpoint, read_checkpoint(store, checkpoint, RawLibrary).rows)
    except Failed as error:
        log.warning("library left out", key=checkpoint.key, fault=error.message)
        return FetchedLibraries(checkpoint, empty_frame(RawLibrary))


def _read_shard(files: ShardFiles) -> FetchedLibraries:
    try:
        fetched = files.find_manifest("fetch")
        return FetchedLibraries(files, files.rows(fetched, RawLibrary) if fetched else empty_frame(RawLibrary))
    except Failed as error:
        log.warning("library left out", run_id=files.shard.run_id, shard=files.shard.number, fault=error.message)
        return FetchedLibraries(files, empty_frame(RawLibrary))


def read_fetched_libraries(store: Store, user_id: str) -> Iterator[tuple[datetime, DataFrame[RawLibrary]]]:
    """Yield the raw rows of a user from each backfill that has ended, with the time at which its fetch ended.

    A backfill without the user costs two requests, one with the user five.

    Raises:
        Failed: `checkpoint_invalid`, if the files of a backfill cannot be read.
    """
    for plan in list_plans(store):
        if fetched := _find_fetched(store, plan, user_id):
            yield fetched.at, _of_user(user_id, fetched.files.rows(fetched.manifest, RawLibrary), RawLibrary)


def read_enriched_library(store: Store, plan: Plan, user_id: str) -> Snapshot:
    """Return the enriched library of a user as a backfill found it.

    A backfill leaves out the rows that are those last loaded: they are read from the backfill that loaded them.

    Raises:
        Refused: `bad_event`, if the backfill has none of the user, or has not ended.
        Failed: `checkpoint_invalid`, if its files cannot be read, or those of the earlier backfill are deleted.
    """
    fetched = _find_fetched(store, plan, user_id)
    if fetched is None:
        raise Refused(
            "bad_event",
            f"The backfill {plan.run_id} has no library of user {user_id}, or has not ended. "
            f"{backfill_key(plan.run_id, OUTCOMES_CSV)} says what became of its users.",
        )
    digest, rows = _find_enriched(fetched, user_id)
    if rows is None:
        earlier = (_find_fetched(store, of, user_id) for of in list_plans(store) if of.created_at < plan.created_at)
        libraries = (_find_enriched(of, user_id) for of in earlier if of)
        rows = next((found for of, found in libraries if found is not None and of == digest), None)
    if rows is None:
        raise Failed(
            "checkpoint_invalid",
            f"The library of {user_id} in the backfill {plan.run_id} is the one that an earlier backfill loaded, whose "
            "files are not there any more. Give another RUN.",
        )
    return Snapshot(user_id, fetched.at.strftime(KEY_TIME), fetched.at, rows)


class _Fetched(NamedTuple):
    """The files of a shard that has a user's library, and the manifest of its fetch."""

    files: ShardFiles
    manifest: ShardManifest

    @property
    def at(self) -> datetime:
        return self.manifest.finished_at.replace(microsecond=0)


def _find_fetched(store: Store, plan: Plan, user_id: str) -> _Fetched | None:
    """Return the shard of a backfill that has a user's library; None if there is none, or no outcomes yet.

    The outcomes are in the order of the shards, so the user's line tells the shard; where people sorted the file, or
    users were erased, the search goes on from there.
    """
    key = backfill_key(plan.run_id, OUTCOMES_CSV)
    body = store.read(key) or b""
    if user_id.encode() not in body:
        return None
    outcomes = unescape_formulas(parse_csv(body, key).select("user_id", "rows")).with_row_index("line")
    lines = outcomes.filter(pl.col("user_id") == user_id, pl.col("rows") != "0")["line"]
    if lines.is_empty():
        return None
    first, shards = lines[0] // plan.shard_size, list_shards(store, plan)
    for shard in shards[first:] + shards[:first]:
        files = shard.with_cache()
        manifest = files.find_manifest("fetch")
        if manifest and any(user["user_id"] == user_id for user in manifest.users):
            return _Fetched(files, manifest)
    return None


def _find_enriched(fetched: _Fetched, user_id: str) -> tuple[str | None, DataFrame[EnrichedLibrary] | None]:
    """Return the digest of a user's enriched rows, and the rows; None for those that are not in the shard's CSV."""
    enriched = fetched.files.require_manifest("enrich")
    outcome = fetched.files.outcomes(enriched).row(by_predicate=pl.col("user_id") == user_id, named=True)
    if outcome["is_unchanged"]:
        return outcome["digest"], None
    return outcome["digest"], _of_user(user_id, fetched.files.rows(enriched, EnrichedLibrary), EnrichedLibrary)


def _of_user(user_id: str, rows: DataFrame[Model], model: type[Model]) -> DataFrame[Model]:
    return conform(rows.filter(pl.col("user_id") == user_id), model)
