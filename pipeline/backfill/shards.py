"""The files of a backfill's shards in the store: the users of each, and per step a CSV and its manifest."""

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
from pipeline.storage.csv import escape_formulas, parse_csv, require_model, to_csv, unescape_formulas
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
"""The mapping of a step to the step whose CSV it reads; a fetch reads the shard's users instead."""

APP_COLUMNS = pl.Schema({name: dtypes(RawLibrary)[name] for name in ("appid", "name")})
"""The names and dtypes of the raw CSV's columns that the look-up of apps needs."""

_EARLIER_NAMES = {"seen_digest": "last_loaded_digest", "seen_database": "last_loaded_database"}
"""The columns of a shard's users as the first version named them; its backfills are resumed, and users erased there."""

START_AGAIN = "start a new backfill: `steam-import backfill USERS_CSV --resume ANOTHER_ID`"
log = structlog.get_logger()


@dataclass(frozen=True)
class StartedStep:
    """A step of a shard that was started: its input's SHA-256, its start, and the ETag of the manifest to replace.

    `finished_at` is the end of one that only gets another result, such as a fetch whose rejected rows are accepted.
    """

    step: ShardStep
    input: str
    started_at: datetime
    replaces: str | None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class StepResult:
    """The result of a step of one shard: the users' outcomes, the CSV's rows (None of a load), counts, requests."""

    outcomes: DataFrame[ShardOutcomes]
    rows: pl.DataFrame | None = None
    rejected: pl.DataFrame = field(default_factory=pl.DataFrame)
    counts: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    rate_limited: int = 0
    database: str | None = None


@dataclass(frozen=True)
class ShardFiles:
    """The files of one shard in a store: its users, and the CSV and manifest of each step; reads and writes them.

    Several workers may do a step of the same shard at once: each CSV has a key of its own, and only the first manifest
    is kept.
    """

    store: Store
    shard: Shard
    _cache: dict[str, bytes] | None = field(default=None, repr=False, compare=False)

    def with_cache(self) -> "ShardFiles":
        """Return the same shard with a cache: each object is read once, and later changes to it are not seen."""
        return replace(self, _cache={})

    def users(self) -> DataFrame[ShardUsers]:
        """Return one row per user of the shard.

        Raises:
            Failed: `checkpoint_invalid`, where their file is missing or corrupt.
        """
        rows = parse_csv(self._users_body(), self.shard.users_key).rename(_EARLIER_NAMES, strict=False)
        return require_model(rows, self.shard.users_key, ShardUsers)

    def finished_steps(self) -> dict[ShardStep, ShardManifest]:
        """Return the finished steps of the shard, mapped to their manifests, in order: fetch, enrich, load.

        A step is finished if its manifest names the SHA-256 of the current input; the last CSV must be intact.

        Raises:
            Failed: `checkpoint_invalid`, where the users' file is missing, or a manifest has another version.
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
        """Return the manifest of a step, or None if it is missing or corrupt, so that the step is done again.

        Raises:
            Failed: `checkpoint_invalid`, for one of a version that this program does not read.
        """
        key = self.shard.manifest_key(step)
        return _parse_json(self._read(key), key, ShardManifest)

    def require_manifest(self, step: ShardStep) -> ShardManifest:
        """Return the manifest of a step, or raise an error if the step is not done.

        Raises:
            Failed: `checkpoint_invalid`, where the step is not done.
        """
        manifest = self.find_manifest(step)
        if manifest is None:
            raise self._invalid(self.shard.manifest_key(step), f"the {step} of this shard is not done")
        return manifest

    def outcomes(self, manifest: ShardManifest) -> DataFrame[ShardOutcomes]:
        """Return the outcomes of the users, one row each, that a manifest of the shard holds.

        Raises:
            Failed: `location_refused`, for one of a user who is not the shard's.
        """
        outcomes = pl.DataFrame(manifest.users, schema=dtypes(ShardOutcomes))
        self._check_owners(outcomes, self.shard.manifest_key(manifest.step))
        return conform(outcomes, ShardOutcomes)

    def rows(self, manifest: ShardManifest, model: type[Model]) -> DataFrame[Model]:
        """Return the rows of the CSV that a manifest of the shard describes, as a frame of `model`; none without a CSV.

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
        """Return a frame of `appid` and `name`, one row per row of the raw CSV; only its SHA-256 is checked.

        Raises:
            Failed: `checkpoint_invalid`, if the CSV is not there, or not the one that the manifest describes.
        """
        if fetched.file is None:
            return pl.DataFrame(schema=APP_COLUMNS)
        return self._read_csv(fetched, fetched.file).select(APP_COLUMNS.names()).cast(APP_COLUMNS)

    def rejected_rows(self, manifest: ShardManifest) -> pl.DataFrame:
        """Return the rows that a manifest's step set aside, as text with the failed check in `rejected_check`; or none.

        Raises:
            Failed: `checkpoint_invalid`, if the CSV is missing or differs from its manifest; `location_refused`, for a
                row of a user who is not the shard's.
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

    def start_step(self, step: ShardStep) -> StartedStep:
        """Return the input, start time and current manifest's ETag of a step, as `commit` needs them; writes nothing.

        If another worker commits the step after this call, `commit` keeps that worker's manifest.

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
        """Write the CSVs of a step's result and, last, the manifest; return the manifest that is in the store then.

        If another worker has committed the step since `start_step`, that worker's manifest stays and is returned.
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
            finished_at=started.finished_at or datetime.now(UTC),
        )
        if not self.store.replace(self.shard.manifest_key(step), to_json(manifest), started.replaces):
            return replace(self, _cache=None).require_manifest(step)
        log.info(
            "shard",
            step=step,
            run_id=manifest.run_id,
            shard=manifest.shard,
            seconds=manifest.seconds,
            requests=manifest.requests,
            users=len(manifest.users),
            rows=manifest.file.rows if manifest.file else 0,
            **manifest.counts,
        )
        return manifest

    @contextmanager
    def recording_failure(self, step: ShardStep) -> Iterator[None]:
        """Store an error that is raised in the `with` block as the shard's failure; a success deletes the failure."""
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
        """Return the stored failure (step, code, message) of the shard's last attempted step, or None without one."""
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


def list_shards(store: Store, plan: Plan) -> list[ShardFiles]:
    """Return the ShardFiles of each shard of a plan, in the order of their numbers from 0; reads none of them."""
    return [ShardFiles(store, Shard(plan.run_id, number)) for number in range(plan.shards)]


READERS = 8
"""The number of threads that read or write objects at a time, below the ten connections that boto keeps open."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_concurrently(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results of a function for each item, in the items' order; eight calls run at a time, in threads.

    At most eight results are in memory at a time, as those of thousands of shards would not fit.
    """
    with ThreadPoolExecutor(READERS) as readers:
        for batch in split(list(items), READERS):
            yield from readers.map(function, batch)


FileModel = TypeVar("FileModel", bound=BackfillFile)
REMEDY = f"Use the program's version that wrote it, or {START_AGAIN}."


def read_json(store: Store, key: str, model: type[FileModel]) -> FileModel | None:
    """Return a backfill's JSON file at a key, parsed as `model`, or None if it is missing or corrupt.

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
    """Write a backfill's plan, manifest, failure or report to the store as a JSON file at a key."""
    store.write(key, to_json(file))


def to_json(file: BackfillFile) -> bytes:
    """Return a backfill's plan, manifest, failure or report as the bytes of its JSON file."""
    return file.model_dump_json(indent=1).encode()
