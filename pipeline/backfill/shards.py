"""What is in the store of a shard: its users, and for each step a CSV and the manifest that counts.

The JSON objects of a backfill: its plan, its report, and what its steps did.

Objects of many shards, a few at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeVar

import pandera.polars as pa
import polars as pl
import structlog

from pipeline.apis.batching import split
from pipeline.backfill import outcomes as user_outcomes
from pipeline.errors import Failed, PipelineError
from pipeline.storage.checkpoints import require_owners
from pipeline.storage.csv import escape_formulas, read_rows, to_csv, unescape_formulas
from pipeline.storage.keys import Shard
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, parse_json
from schemas.backfill import Failure, Record, ShardFile, ShardRecord, ShardUsers
from schemas.events import SHARD_STEPS, ShardStep
from schemas.frames import dtypes

NONE = pl.DataFrame()
MADE_OF: dict[ShardStep, ShardStep] = {"enrich": "fetch", "load": "enrich"}
log = structlog.get_logger()


@dataclass(frozen=True)
class Work:
    """A step that has begun: when, and which manifest it will replace."""

    step: ShardStep
    input: str
    started_at: datetime
    replaces: str | None


@dataclass
class _Memory:
    """What a step has read of its shard."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    users: pl.DataFrame | None = None


@dataclass(frozen=True)
class ShardFiles:
    """One shard in a store.

    Several workers may do a step at once: their CSVs have keys of their own, and the first manifest stands.
    """

    store: Store
    shard: Shard
    _memory: _Memory | None = field(default=None, repr=False, compare=False)

    def for_a_step(self) -> "ShardFiles":
        """The same, read once: what others write meanwhile is not seen, until the manifest is to be written."""
        return replace(self, _memory=_Memory())

    def users(self) -> pl.DataFrame:
        """Whose shard it is, as ShardUsers; raises `checkpoint_invalid`."""
        memory = self._memory or _Memory()
        if memory.users is None:
            memory.users = read_rows(self._users_body(), self.shard.users_key, ShardUsers)
        return memory.users

    def done(self) -> dict[ShardStep, ShardRecord]:
        """The steps that need not be done again: each whole, and made from what is there now.

        Raises:
            Failed: `checkpoint_invalid`, where its users are lost, or a manifest is of another schema version.
        """
        found: dict[ShardStep, ShardRecord] = {}
        made_from = sha256(self._users_body()).hexdigest()
        for step in SHARD_STEPS:
            record = self.record(step)
            if record is None or record.input != made_from:
                break
            found[step] = record
            made_from = record.file.sha256 if record.file else ""
        last = list(found.values())[-1:]
        if last and last[0].file and self._proven(last[0].file) is None:
            del found[last[0].step]
        return found

    def record(self, step: ShardStep) -> ShardRecord | None:
        """The manifest of a step; None where none of this shard can be read there, for then the step is done anew."""
        key = self.shard.manifest_key(step)
        record = record_of(self._read(key), key, ShardRecord)
        return record if record and self.shard.is_of(record, step) else None

    def require(self, step: ShardStep) -> ShardRecord:
        """The manifest of a step that has to be done; raises `checkpoint_invalid`."""
        record = self.record(step)
        if record is None:
            raise self._invalid(self.shard.manifest_key(step), f"the {step} of this shard is not done")
        return record

    def outcomes(self, record: ShardRecord) -> pl.DataFrame:
        """The ShardOutcomes of a manifest; raises `location_refused` for one of anybody else's."""
        outcomes = pl.DataFrame(record.users, schema=user_outcomes.SCHEMA)
        self._check_owners(outcomes, self.shard.manifest_key(record.step))
        return outcomes

    def rows(self, file: ShardFile | None, model: type[pa.DataFrameModel]) -> pl.DataFrame:
        """The rows of a CSV, if it is the one that its manifest describes and they are the shard's users'.

        Raises:
            Failed: `checkpoint_invalid`; `location_refused` for a row of anybody else's.
        """
        if file is None:
            return pl.DataFrame(schema=dtypes(model))
        rows = read_rows(self._require(file), file.key, model)
        self._check_owners(rows, file.key)
        return rows

    def text(self, file: ShardFile, *columns: str, is_rejected: bool = False) -> pl.DataFrame:
        """The rows of a CSV as text, these columns of it or all; raises what `rows` raises."""
        body = self._require(file)
        try:
            rows = pl.read_csv(body, infer_schema=False)
            rows = unescape_formulas(rows) if is_rejected else rows
            self._check_owners(rows, file.key)
            rows = rows.select(columns or pl.all())
        except pl.exceptions.PolarsError as error:
            raise self._invalid(file.key, f"it cannot be read ({type(error).__name__})") from error
        return rows

    def begin(self, step: ShardStep) -> Work:
        """Begin a step; what another worker finishes from now on will stand."""
        key = self.shard.manifest_key(step)
        if step in MADE_OF:
            file = self.require(MADE_OF[step]).file
            made_from = file.sha256 if file else ""
        else:
            made_from = sha256(self._users_body()).hexdigest()
        return Work(step, made_from, datetime.now(UTC), self.store.list(key).get(key))

    def commit(  # noqa: PLR0913 - what a step made, and what it cost
        self,
        work: Work,
        outcomes: pl.DataFrame,
        *,
        rows: pl.DataFrame | None = None,
        rejected: pl.DataFrame = NONE,
        counts: dict[str, int] | None = None,
        requests: int = 0,
        rate_limited: int = 0,
        database: str | None = None,
    ) -> ShardRecord:
        """Write what a step made, the manifest last; if another worker was first, what that one made stands."""
        record = ShardRecord(
            run_id=self.shard.run_id,
            shard=self.shard.number,
            step=work.step,
            input=work.input,
            file=None if rows is None else self._write(work.step, rows),
            rejected=self._write(work.step, rejected, is_rejected=True) if rejected.height else None,
            users=outcomes.to_dicts(),
            counts=counts or {},
            requests=requests,
            rate_limited=rate_limited,
            database=database,
            started_at=work.started_at,
            finished_at=datetime.now(UTC),
        )
        if not self.store.replace(self.shard.manifest_key(work.step), to_json(record), work.replaces):
            return replace(self, _memory=None).require(work.step)
        self._log(record)
        return record

    @contextmanager
    def noting_failure(self, step: ShardStep) -> Iterator[None]:
        """Note why a step failed, for the report, and let the error fly on; forget it when the step succeeds."""
        try:
            yield
        except PipelineError as error:
            if self._is_done_unheard(step):
                self.store.delete(self.shard.failure_key)
                raise
            failure = Failure(step=step, error_code=error.code, error=error.message, retryable=error.retryable)
            self.store.write(self.shard.failure_key, to_json(failure))
            raise
        self.store.delete(self.shard.failure_key)

    def _is_done_unheard(self, step: ShardStep) -> bool:
        """Whether all was written that a step writes, and the answer to the last of it was lost."""
        with suppress(PipelineError):
            return step in replace(self, _memory=None).done()
        return False

    def failure(self) -> Failure | None:
        """Why the last step failed, if it did."""
        return read_record(self.store, self.shard.failure_key, Failure)

    def _write(self, step: ShardStep, rows: pl.DataFrame, *, is_rejected: bool = False) -> ShardFile:
        body = to_csv(escape_formulas(rows) if is_rejected else rows)  # people open what was set aside in a spreadsheet
        digest = sha256(body).hexdigest()
        key = self.shard.csv_key(step, digest, is_rejected=is_rejected)
        self.store.write(key, body)
        return ShardFile(key=key, rows=rows.height, bytes=len(body), sha256=digest)

    def _require(self, file: ShardFile) -> bytes:
        body = self._proven(file)
        if body is None:
            raise self._invalid(file.key, "it is not there, or not what its manifest describes")
        return body

    def _proven(self, file: ShardFile) -> bytes | None:
        body = self._read(file.key)
        return body if body is not None and sha256(body).hexdigest() == file.sha256 else None

    def _read(self, key: str) -> bytes | None:
        memory = self._memory or _Memory()
        body = memory.bodies.get(key) or self.store.read(key)
        if body is not None:
            memory.bodies[key] = body
        return body

    def _check_owners(self, rows: pl.DataFrame, key: str) -> None:
        require_owners(rows, key, self.users()["user_id"].to_list())

    def _users_body(self) -> bytes:
        body = self._read(self.shard.users_key)
        if body is None:
            raise self._invalid(self.shard.users_key, "there is no such file")
        return body

    def _invalid(self, key: str, why: str) -> Failed:
        return Failed(
            "checkpoint_invalid",
            f"{key}: {why}. Run `steam-import backfill --resume {self.shard.run_id}`; if that says so too, begin anew: "
            "`steam-import backfill USERS_CSV --resume ANOTHER_ID`.",
        )

    def _log(self, record: ShardRecord) -> None:
        log.info(
            "shard",
            step=record.step,
            run_id=record.run_id,
            shard=record.shard,
            seconds=record.seconds,
            requests=record.requests,
            users=len(record.users),
            rows=record.file.rows if record.file else 0,
            **record.counts,
        )


R = TypeVar("R", bound=Record)

REMEDY = (
    "Use the program's version that wrote it, or begin anew: `steam-import backfill USERS_CSV --resume ANOTHER_ID`."
)
"""Of what another version wrote."""


def read_record(store: Store, key: str, model: type[R], **of_key: object) -> R | None:
    """A JSON object of a backfill; None where there is none, none that can be read, or one of something else.

    `of_key` is what its key says of it, by the names of its fields.

    Raises:
        Failed: `checkpoint_invalid`, for one of another schema version.
    """
    return record_of(store.read(key), key, model, **of_key)


def record_of(body: bytes | None, key: str, model: type[R], **of_key: object) -> R | None:
    """The same of what was read already."""
    if body is None:
        return None
    try:
        record = parse_json(body, "backfill", model, key, REMEDY)
    except CorruptFile as error:
        log.warning("record left out", key=key, fault=str(error))
        return None
    if any(getattr(record, name) != value for name, value in of_key.items()):
        log.warning("record left out", key=key, fault="it is not of what its key says")
        return None
    return record


def write_record(store: Store, key: str, record: Record) -> None:
    """Write a JSON object of a backfill."""
    store.write(key, to_json(record))


def to_json(record: Record) -> bytes:
    """A record as it is written."""
    return record.model_dump_json(indent=1).encode()


READERS = 8
"""Objects that are read or written at a time where there may be thousands; boto keeps ten connections open."""

S = TypeVar("S")
T = TypeVar("T")


def map_concurrently(do: Callable[[S], T], things: Iterable[S]) -> Iterator[T]:
    """What is done with each shard, say, in their order: a few at a time, and no more results than those in memory."""
    with ThreadPoolExecutor(READERS) as readers:
        for some in split(list(things), READERS):
            yield from readers.map(do, some)
