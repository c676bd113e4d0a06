"""The shards of a backfill in the store: the users of each, and for each step a CSV and the manifest that proves it."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeVar

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import split
from pipeline.errors import Failed, PipelineError
from pipeline.storage.checkpoints import require_owners
from pipeline.storage.csv import escape_formulas, parse_csv, read_rows, require_model, to_csv, unescape_formulas
from pipeline.storage.keys import Shard
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, find_migrations, json_version, parse_json
from schemas.backfill import (
    BackfillFile,
    Plan,
    ShardCsv,
    ShardFailure,
    ShardManifest,
    ShardOutcomes,
    ShardUsers,
)
from schemas.events import SHARD_STEPS, ShardStep
from schemas.frames import Model, conform, dtypes, empty_frame
from schemas.library import RawLibrary

PREVIOUS_STEP: dict[ShardStep, ShardStep] = {"enrich": "fetch", "load": "enrich"}
"""The step whose CSV a step is made from; a fetch is made from the shard's users."""

APP_COLUMNS = pl.Schema({name: dtypes(RawLibrary)[name] for name in ("appid", "name")})
"""The columns of a library that the look-up of its apps needs."""

START_AGAIN = "start a new backfill: `steam-import backfill USERS_CSV --resume ANOTHER_ID`"
log = structlog.get_logger()


@dataclass(frozen=True)
class StartedStep:
    """A step of a shard that has begun: what it is made from, when it began, and which manifest it will replace."""

    step: ShardStep
    input: str
    started_at: datetime
    replaces: str | None


@dataclass(frozen=True)
class StepResult:
    """The result of a step of a shard, and its cost; a load has no rows for a CSV."""

    outcomes: DataFrame[ShardOutcomes]
    rows: pl.DataFrame | None = None
    rejected: pl.DataFrame = field(default_factory=pl.DataFrame)
    counts: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    rate_limited: int = 0
    database: str | None = None


@dataclass(frozen=True)
class ShardFiles:
    """One shard in a store: reads its files, and writes what a step makes of it.

    Several workers may do a step of the same shard at once: their CSVs have keys of their own, and of the manifests the
    first one stands.
    """

    store: Store
    shard: Shard
    _cache: dict[str, bytes] | None = field(default=None, repr=False, compare=False)

    def with_cache(self) -> "ShardFiles":
        """Return the same shard with a cache: each object is read once, and later changes are not seen."""
        return replace(self, _cache={})

    def users(self) -> DataFrame[ShardUsers]:
        """Return the users of the shard.

        Raises:
            Failed: `checkpoint_invalid`, where their file is missing or corrupt.
        """
        return read_rows(self._users_body(), self.shard.users_key, ShardUsers)

    def finished_steps(self) -> dict[ShardStep, ShardManifest]:
        """Return the manifests of the steps that need not be done again: made from what is there, and still whole.

        Raises:
            Failed: `checkpoint_invalid`, where the shard's users are lost, or a manifest has another version.
        """
        finished: dict[ShardStep, ShardManifest] = {}
        input_digest = sha256(self._users_body()).hexdigest()
        for step in SHARD_STEPS:
            manifest = self.find_manifest(step)
            if manifest is None or manifest.input != input_digest:
                break
            finished[step] = manifest
            input_digest = manifest.file.sha256 if manifest.file else ""
        last = next(reversed(finished.values()), None)
        # The CSV of an earlier step was proven by the step that read it.
        if last and last.file and self._find_proven(last.file) is None:
            del finished[last.step]
        return finished

    def find_manifest(self, step: ShardStep) -> ShardManifest | None:
        """Return the manifest of a step; None where there is none that can be read, so that the step is done again.

        Raises:
            Failed: `checkpoint_invalid`, for one of a version that this program does not read.
        """
        key = self.shard.manifest_key(step)
        return _parse_json(self._read(key), key, ShardManifest)

    def require_manifest(self, step: ShardStep) -> ShardManifest:
        """Return the manifest of a step, which has to be done.

        Raises:
            Failed: `checkpoint_invalid`, where the step is not done.
        """
        manifest = self.find_manifest(step)
        if manifest is None:
            raise self._invalid(self.shard.manifest_key(step), f"the {step} of this shard is not done")
        return manifest

    def outcomes(self, manifest: ShardManifest) -> DataFrame[ShardOutcomes]:
        """Return the outcomes that a manifest of this shard holds.

        Raises:
            Failed: `location_refused`, for one of a user who is not the shard's.
        """
        outcomes = pl.DataFrame(manifest.users, schema=dtypes(ShardOutcomes))
        self._check_owners(outcomes, self.shard.manifest_key(manifest.step))
        return conform(outcomes, ShardOutcomes)

    def rows(self, manifest: ShardManifest, model: type[Model]) -> DataFrame[Model]:
        """Return the rows of the CSV that a manifest of this shard describes; none, where it describes no CSV.

        Raises:
            Failed: `checkpoint_invalid`, if the CSV is not there, or not the one that the manifest describes;
                `location_refused`, for a row of a user who is not the shard's.
        """
        if manifest.file is None:
            return empty_frame(model)
        rows = require_model(self._read_csv(manifest, manifest.file), manifest.file.key, model)
        self._check_owners(rows, manifest.file.key)
        return rows

    def apps(self, fetched: ShardManifest) -> pl.DataFrame:
        """Return `appid` and `name` of each row of a shard's raw CSV; its digest proves them, so they are not checked.

        Raises:
            Failed: `checkpoint_invalid`, if the CSV is not there, or not the one that the manifest describes.
        """
        if fetched.file is None:
            return pl.DataFrame(schema=APP_COLUMNS)
        return self._read_csv(fetched, fetched.file).select(APP_COLUMNS.names()).cast(APP_COLUMNS)

    def rejected_rows(self, manifest: ShardManifest) -> pl.DataFrame:
        """Return the rows that a step set aside: every column as text, and the check that each one failed.

        Raises:
            Failed: As `rows`.
        """
        if manifest.rejected is None:
            return pl.DataFrame()
        rows = unescape_formulas(self._read_csv(manifest, manifest.rejected))
        self._check_owners(rows, manifest.rejected.key)
        return rows

    def _read_csv(self, manifest: ShardManifest, file: ShardCsv) -> pl.DataFrame:
        """Return the rows of a CSV as text, after migrating them if its manifest has an older version."""
        body = self._find_proven(file)
        if body is None:
            raise self._invalid(file.key, "it is not there, or not what its manifest describes")
        rows = parse_csv(body, file.key)
        key = self.shard.manifest_key(manifest.step)
        for migration in find_migrations("backfill", json_version(self._read(key) or b"{}"), key, REMEDY):
            rows = migration.rows(rows)
        return rows

    def begin(self, step: ShardStep) -> StartedStep:
        """Begin a step, and return what `commit` needs to finish it.

        If another worker finishes the step from now on, that worker's manifest will stand.

        Raises:
            Failed: `checkpoint_invalid`, where the step before it is not done.
        """
        key = self.shard.manifest_key(step)
        if step in PREVIOUS_STEP:
            file = self.require_manifest(PREVIOUS_STEP[step]).file
            input_digest = file.sha256 if file else ""
        else:
            input_digest = sha256(self._users_body()).hexdigest()
        return StartedStep(step, input_digest, datetime.now(UTC), self.store.list(key).get(key))

    def commit(self, started: StartedStep, result: StepResult) -> ShardManifest:
        """Write the result of a step, its manifest last, and return the manifest that stands.

        If another worker has finished the step since it began, that worker's manifest stands.
        """
        step, rejected = started.step, result.rejected
        manifest = ShardManifest(
            run_id=self.shard.run_id,
            shard=self.shard.number,
            step=step,
            input=started.input,
            file=None if result.rows is None else self._write_csv(step, result.rows),
            rejected=self._write_csv(step, rejected, is_rejected=True) if rejected.height else None,
            users=result.outcomes.to_dicts(),
            counts=result.counts,
            requests=result.requests,
            rate_limited=result.rate_limited,
            database=result.database,
            started_at=started.started_at,
            finished_at=datetime.now(UTC),
        )
        if not self.store.replace(self.shard.manifest_key(step), to_json(manifest), started.replaces):
            return replace(self, _cache=None).require_manifest(step)
        _log_finished(manifest)
        return manifest

    @contextmanager
    def recording_failure(self, step: ShardStep) -> Iterator[None]:
        """Write down why a step failed, for the report, and raise the error; delete that once the step succeeds."""
        try:
            yield
        except PipelineError as error:
            if self._is_finished_nevertheless(step):
                self.store.delete(self.shard.failure_key)
                raise
            failure = ShardFailure(step=step, error_code=error.code, error=error.message, retryable=error.retryable)
            write_json(self.store, self.shard.failure_key, failure)
            raise
        self.store.delete(self.shard.failure_key)

    def _is_finished_nevertheless(self, step: ShardStep) -> bool:
        """Return whether a step that failed has written all it writes: the answer to its last write may be lost."""
        with suppress(PipelineError):
            return step in replace(self, _cache=None).finished_steps()
        return False

    def find_failure(self) -> ShardFailure | None:
        """Return why the last step of the shard failed; None if it did not."""
        return read_json(self.store, self.shard.failure_key, ShardFailure)

    def _write_csv(self, step: ShardStep, rows: pl.DataFrame, *, is_rejected: bool = False) -> ShardCsv:
        body = to_csv(escape_formulas(rows) if is_rejected else rows)  # people open rejected rows in a spreadsheet
        digest = sha256(body).hexdigest()
        key = self.shard.csv_key(step, digest, is_rejected=is_rejected)
        self.store.write(key, body)
        return ShardCsv(key=key, rows=rows.height, bytes=len(body), sha256=digest)

    def _find_proven(self, file: ShardCsv) -> bytes | None:
        """Return the bytes of a CSV; None where they are not those that its manifest describes."""
        body = self._read(file.key)
        return body if body is not None and sha256(body).hexdigest() == file.sha256 else None

    def _read(self, key: str) -> bytes | None:
        if self._cache is None:
            return self.store.read(key)
        if key not in self._cache:
            body = self.store.read(key)
            if body is None:
                return None
            self._cache[key] = body
        return self._cache[key]

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
            f"{key}: {why}. Run `steam-import backfill --resume {self.shard.run_id}`; if this message comes again, "
            f"{START_AGAIN}.",
        )


def _log_finished(manifest: ShardManifest) -> None:
    log.info(
        "shard",
        step=manifest.step,
        run_id=manifest.run_id,
        shard=manifest.shard,
        seconds=manifest.seconds,
        requests=manifest.requests,
        users=len(manifest.users),
        rows=manifest.file.rows if manifest.file else 0,
        **manifest.counts,
    )


def list_shards(store: Store, plan: Plan) -> list[ShardFiles]:
    """Return the shards of a plan, in the order of their numbers."""
    return [ShardFiles(store, Shard(plan.run_id, number)) for number in range(plan.shards)]


READERS = 8
"""Objects that are read or written at a time where there may be thousands; boto keeps ten connections open."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_concurrently(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of a function for each item, in their order; eight calls run at a time.

    No more results than that are in memory: those of thousands of shards would not fit.
    """
    with ThreadPoolExecutor(READERS) as readers:
        for batch in split(list(items), READERS):
            yield from readers.map(function, batch)


FileModel = TypeVar("FileModel", bound=BackfillFile)
REMEDY = f"Use the program's version that wrote it, or {START_AGAIN}."


def read_json(store: Store, key: str, model: type[FileModel]) -> FileModel | None:
    """Return a JSON file of a backfill; None where there is none that can be read.

    Raises:
        Failed: `checkpoint_invalid`, for one of a version that this program does not read.
    """
    return _parse_json(store.read(key), key, model)


def _parse_json(body: bytes | None, key: str, model: type[FileModel]) -> FileModel | None:
    if body is None:
        return None
    try:
        return parse_json(body, "backfill", model, key, REMEDY)
    except CorruptFile as error:
        log.warning("file skipped", key=key, fault=str(error))
        return None


def write_json(store: Store, key: str, file: BackfillFile) -> None:
    """Write a JSON file of a backfill."""
    store.write(key, to_json(file))


def to_json(file: BackfillFile) -> bytes:
    """Return the bytes of a JSON file of a backfill."""
    return file.model_dump_json(indent=1).encode()
