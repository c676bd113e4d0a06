"""A step of a backfill over all its shards: one that fails stops no other, unless they all would fail."""

import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from pipeline.backfill.files import MADE_OF, ShardFiles
from pipeline.errors import PipelineError, Refused
from pipeline.lookup import Progress, no_progress
from schemas.backfill import ShardRecord, ShardStep
from schemas.events import ErrorCode

ROUNDS = 3
"""A shard that failed, and may go through later, is tried again after all the others."""

MOST_IN_A_ROW = 3
"""So many shards that fail one after another have one cause."""

OF_ALL: frozenset[ErrorCode] = frozenset(
    {"steam_blocked", "steam_rate_limited", "store_unavailable", "schema_mismatch"}
)
OF_ONE: frozenset[ErrorCode] = frozenset({"bad_steam_id"})

WORDS: dict[ShardStep, str] = {"fetch": "Libraries fetched", "enrich": "Libraries enriched", "load": "Libraries loaded"}

Do = Callable[[ShardFiles], Awaitable[ShardRecord]]

log = structlog.get_logger()


def concerns_all(error: PipelineError) -> bool:
    """Whether an error ends the backfill, for it has nothing to do with the shard or the user that met it."""
    if isinstance(error, Refused):
        return error.code not in OF_ONE
    return error.is_cancelled or error.code in OF_ALL


async def over_shards(
    shards: Sequence[ShardFiles], users: int, step: ShardStep, do: Do, progress: Progress = no_progress
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


async def attempt(files: ShardFiles, step: ShardStep, do: Do) -> ShardRecord | None:
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
    shards: Sequence[ShardFiles], step: ShardStep, do: Do, on_shard: Callable[[ShardRecord], None], most_in_a_row: int
) -> list[ShardFiles]:
    """Go over the shards once; those that failed, and may go through later."""
    again: list[ShardFiles] = []
    in_a_row = 0
    for files in shards:
        try:
            record = await attempt(files, step, do)
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
