"""The newest library of each user in a store, whether an import or a backfill wrote it."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.backfill.plan import list_plans
from pipeline.backfill.report import read_report
from pipeline.backfill.shards import ShardFiles, list_shards, map_concurrently
from pipeline.errors import Failed
from pipeline.storage.checkpoints import list_checkpoints, read_checkpoint
from pipeline.storage.keys import Checkpoint
from pipeline.storage.store import Store
from schemas.backfill import Plan
from schemas.frames import conform, empty_frame
from schemas.library import RawLibrary

log = structlog.get_logger()


class FetchedLibraries(NamedTuple):
    """The rows of a raw CSV, and where it is: one user's checkpoint, or a shard of a backfill.

    `is_ended` is false for a shard of a backfill that has not ended.
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
    """Yield the raw rows of each shard of a backfill that is fetched; one that cannot be read is logged, left out."""
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
