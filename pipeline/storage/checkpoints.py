"""Read and write checkpoints: the CSVs between the stages, and the manifests that hold their digests."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Generic, Literal

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.errors import Failed, PipelineError, count_of
from pipeline.storage.csv import escape_formulas, invalid_file, parse_csv, require_model, require_whole, to_csv
from pipeline.storage.keys import IMPORTS, Checkpoint, CsvStage, manifest_key, parse_csv_key, user_folder
from pipeline.storage.store import Store
from pipeline.storage.versioned import (
    CorruptFile,
    Migration,
    Record,
    WrongVersion,
    find_migrations,
    json_version,
    parse_json,
)
from schemas.frames import Model
from schemas.manifest import FileKind, LoadManifest, Manifest, Source, StageFailure

log = structlog.get_logger()


@dataclass(frozen=True)
class CheckpointData(Generic[Model]):
    """The rows of a checkpoint, the key and digest of the CSV that they were read from, and the run that made it.

    `run_id` is None for a CSV whose manifest does not prove it.
    """

    rows: DataFrame[Model]
    source: Source
    run_id: str | None = None


@dataclass(frozen=True)
class Provenance:
    """How a checkpoint was made, for its manifest: run id, start, requests sent, counts, and its source."""

    run_id: str
    started_at: datetime
    requests: int
    counts: Mapping[str, int]
    source: Source | None = None


def read_checkpoint(
    store: Store, checkpoint: Checkpoint, model: type[Model], *, trust: bool = False
) -> CheckpointData[Model]:
    """Return the rows of a user's checkpoint with its key and digest, which has to be the one in its manifest, if any.

    With `trust`, a CSV that was edited on purpose, and so has another digest than its manifest says, is read too.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column; `location_refused`, if a row is of
            another user.
    """
    data = _read(store, checkpoint.key, model, trust=trust)
    require_owners(data.rows, checkpoint.key, [checkpoint.user_id])
    return data


def read_csv(store: Store, key: str, model: type[Model], *, trust: bool = False) -> DataFrame[Model]:
    """Return the rows of a CSV, whatever its key and whoever its users are.

    Its digest has to be the one in its manifest, if it has one, unless `trust` says otherwise.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column.
    """
    return _read(store, key, model, trust=trust).rows


def read_manifest(store: Store, key: str) -> Manifest | None:
    """Return the manifest beside the CSV with a key, None if there is none.

    Raises:
        Failed: `checkpoint_invalid`, if it is corrupt or of a version that this program does not read.
    """
    body = store.read(manifest_key(key))
    return None if body is None else _parse_manifest(body, key)


def list_checkpoints(store: Store, stage: CsvStage, user_id: str | None = None) -> list[Checkpoint]:
    """Return the checkpoints of a user, or of all users, whose CSV has a time in its key, the oldest first."""
    return _checkpoints_among(store.list(user_folder(user_id) if user_id else IMPORTS), stage)


def find_earlier(store: Store, checkpoint: Checkpoint) -> Checkpoint | None:
    """Return the user's last checkpoint of the same stage before this one that was loaded; None if there is none.

    Where none before it was loaded, as in stores that older versions wrote, the last one counts.
    """
    keys = store.list(user_folder(checkpoint.user_id)) if checkpoint.fetched_at else {}
    earlier = [of for of in _checkpoints_among(keys, checkpoint.stage) if of.stem < checkpoint.stem]
    loaded = [of for of in earlier if of.loaded_key in keys]
    return next(reversed(loaded or earlier), None)


def _checkpoints_among(keys: Iterable[str], stage: CsvStage) -> list[Checkpoint]:
    found = map(parse_csv_key, keys)
    return sorted((of for of in found if of and of.stage == stage and of.fetched_at), key=lambda of: of.stem)


def read_load_manifest(store: Store, checkpoint: Checkpoint) -> LoadManifest | None:
    """Return the manifest of the load of an import, None if there is none.

    Raises:
        Failed: `checkpoint_invalid`, if it is corrupt or of a version that this program does not read.
    """
    return _read_json(store, checkpoint.loaded_key, "load", LoadManifest)


def read_failure(store: Store, checkpoint: Checkpoint) -> StageFailure | None:
    """Return why the last enrichment or load of an import failed, None if it did not fail.

    Raises:
        Failed: `checkpoint_invalid`, if the record is corrupt or of a version that this program does not read.
    """
    return _read_json(store, checkpoint.failure_key, "failure", StageFailure)


def _read_json(store: Store, key: str, kind: FileKind, model: type[Record]) -> Record | None:
    body = store.read(key)
    try:
        return None if body is None else parse_json(body, kind, model, key)
    except CorruptFile as error:
        raise invalid_file(key, f"it is not the record of a {kind}: {error}.") from None


def write_load_manifest(store: Store, checkpoint: Checkpoint, manifest: LoadManifest) -> None:
    """Write the manifest of a load; an error is logged alone, for what was loaded is committed by then."""
    with _logging_alone("the load is done, but its manifest was not written", checkpoint.loaded_key):
        store.write(checkpoint.loaded_key, manifest.model_dump_json(indent=2).encode())


@contextmanager
def recording_failure(store: Store, source: Checkpoint, stage: Literal["enrich", "load"]) -> Iterator[None]:
    """Store an error of the body beside the CSV that the stage reads, if it is there; a success deletes the record."""
    key, says = source.failure_key, "why the stage failed was not written, or not deleted"
    try:
        yield
    except PipelineError as error:
        failure = StageFailure(stage=stage, error_code=error.code, error=error.message, failed_at=datetime.now(UTC))
        with _logging_alone(says, key):
            # Without the CSV the user may be erased, and then nothing of the user may be written again.
            if not error.is_cancelled and source.key in store.list(source.key):
                store.write(key, failure.model_dump_json(indent=2).encode())
        raise
    with _logging_alone(says, key):
        store.delete(key)


@contextmanager
def _logging_alone(says: str, key: str) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        log.warning(says, key=key, fault=error.message)


def require_owners(rows: pl.DataFrame, key: str, users: Collection[str]) -> None:
    """Raise `location_refused` if any row belongs to a user who is not among `users`; `key` names the file."""
    others = rows.filter(~pl.col("user_id").is_in(users))
    if others.height:
        raise Failed(
            "location_refused",
            f"{key} holds {count_of(others.height, 'row')} of another user ({others['user_id'][0]}). Give a file of "
            "the user alone, or make this one again.",
        )


def write_checkpoint(
    store: Store, checkpoint: Checkpoint, rows: pl.DataFrame, rejected: pl.DataFrame, provenance: Provenance
) -> Manifest:
    """Write a checkpoint's CSV, the CSV of its rejected rows, and last its manifest; return the manifest.

    The old manifest is deleted first: a process that is killed in between leaves a CSV without a manifest, which is
    accepted, and never one that disagrees with its manifest, which would be refused.
    """
    body = to_csv(rows)
    store.delete(checkpoint.manifest_key)
    store.write(checkpoint.key, body)
    if rejected.height:
        store.write(checkpoint.rejected_key, to_csv(escape_formulas(rejected)))  # people open it in a spreadsheet
    else:
        store.delete(checkpoint.rejected_key)
    manifest = _describe(checkpoint, rows, body, provenance)
    store.write(checkpoint.manifest_key, manifest.model_dump_json(indent=2).encode())
    return manifest


def _describe(checkpoint: Checkpoint, rows: pl.DataFrame, body: bytes, provenance: Provenance) -> Manifest:
    finished_at = datetime.now(UTC)
    return Manifest(
        stage="fetch" if checkpoint.stage == "raw" else "enrich",
        user_id=checkpoint.user_id,
        run_id=provenance.run_id,
        key=checkpoint.key,
        rows=rows.height,
        bytes=len(body),
        sha256=sha256(body).hexdigest(),
        input=provenance.source,
        counts=dict(provenance.counts),
        requests=provenance.requests,
        started_at=provenance.started_at,
        finished_at=finished_at,
        seconds=round((finished_at - provenance.started_at).total_seconds(), 3),
    )


def _read(store: Store, key: str, model: type[Model], *, trust: bool) -> CheckpointData[Model]:
    try:
        manifest = store.read(manifest_key(key))
        body = store.read(key, max_bytes=store.file_max_bytes if manifest is None else None)
        if body is None:
            raise invalid_file(key, f"there is no such file in {store.locate('')}: check its name.")
        source = Source(key=key, sha256=sha256(body).hexdigest())
        migrations: Iterable[Migration] = ()
        proof = None if manifest is None else _find_proof(manifest, source, trust=trust)
        if manifest is not None and proof:
            migrations = find_migrations("checkpoint", json_version(manifest), key)
        else:
            require_whole(body, key)
        rows = parse_csv(body, key)
        for migration in migrations:
            rows = migration.rows(rows)
        return CheckpointData(require_model(rows, key, model), source, proof.run_id if proof else None)
    except Failed as error:
        checkpoint = parse_csv_key(key)
        if checkpoint is None:
            raise
        says = f"{error.message} Make it again: {_command_to_make_again(store, checkpoint)}"
        raise Failed(error.code, says) from None


def _find_proof(body: bytes, source: Source, *, trust: bool) -> Manifest | None:
    """Return a manifest that has the digest of a CSV; if it has not, None and a warning with `trust`, else raise."""
    try:
        manifest = _parse_manifest(body, source.key)
        if manifest.sha256 == source.sha256:
            return manifest
        raise invalid_file(source.key, f"it is not the file that {manifest_key(source.key)} describes.")
    except WrongVersion:
        raise
    except Failed as error:
        if not trust:
            says = f"{error.message} If it was edited on purpose, give --trust (in Python trust=True)."
            raise Failed(error.code, says) from None
        log.warning("trusted a file that its manifest does not prove", key=source.key, fault=error.message)
        return None


def _parse_manifest(body: bytes, key: str) -> Manifest:
    try:
        return parse_json(body, "checkpoint", Manifest, key)
    except CorruptFile as error:
        raise invalid_file(key, f"{manifest_key(key)} is not a manifest: {error}.") from None


def _command_to_make_again(store: Store, checkpoint: Checkpoint) -> str:
    if checkpoint.stage == "raw":
        return f"steam-import fetch STEAM_ID --user {checkpoint.user_id}"
    return f"steam-import enrich {shlex.quote(store.locate(checkpoint.raw.key))}"
