"""The CSVs between the stages, and the manifests that prove them."""

import csv
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import pandera.polars as pa
import polars as pl
import structlog
from pydantic import ValidationError

from pipeline.errors import Failed
from pipeline.storage.csv import CsvRecords, escape_formulas
from pipeline.storage.keys import Checkpoint, manifest_key, parse_manifest_key
from pipeline.storage.store import DEFAULT_LIMITS, ReadLimits, Store
from pipeline.storage.versioned import OtherVersion, versioned
from schemas.frames import TIME_FORMAT, check
from schemas.manifest import SCHEMA_VERSION, Manifest, Source

log = structlog.get_logger()


@dataclass(frozen=True)
class CheckpointData:
    """What a checkpoint held, and the proof of what was read."""

    rows: pl.DataFrame
    source: Source


@dataclass(frozen=True)
class Provenance:
    """How a checkpoint came about, for its manifest."""

    run_id: str
    started_at: datetime
    requests: int
    counts: Mapping[str, int]
    source: Source | None = None


def read_checkpoint(
    store: Store, checkpoint: Checkpoint, model: type[pa.DataFrameModel], *, trust: bool = False
) -> CheckpointData:
    """The rows of a checkpoint, proven by its manifest where there is one, unless an edited file is to be trusted.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column; `location_refused` for a row of another
            user's.
    """
    read = _read(store, checkpoint.key, model, checkpoint.user_id, trust=trust)
    require_owners(read.rows, checkpoint.key, [checkpoint.user_id])
    return read


def read_rows(
    body: bytes, key: str, model: type[pa.DataFrameModel], limits: ReadLimits = DEFAULT_LIMITS
) -> pl.DataFrame:
    """The rows of a CSV that is proven; raises `checkpoint_invalid`, naming the file, the row and the column."""
    limits.check_header(key, body)
    rows, failures = check(_text(body, key, model), model)
    if failures.height:
        index, failed = failures.row(0)
        raise _invalid(key, f"{failures.height} rows do not conform, the first of them row {index + 1}: {failed}.")
    return rows


def require_owners(rows: pl.DataFrame, key: str, users: Collection[str]) -> None:
    """Refuse rows of anybody but these users: `location_refused`."""
    strangers = rows.filter(~pl.col("user_id").is_in(users))
    if strangers.height:
        raise Failed(
            "location_refused",
            f"{key} holds {strangers.height} rows of another user ({strangers['user_id'][0]}). Give that user's own "
            "file, or make this one anew.",
        )


def read_csv(store: Store, key: str, model: type[pa.DataFrameModel], *, trust: bool = False) -> pl.DataFrame:
    """The rows of a CSV of any name and any users, proven by the manifest beside it where there is one.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column.
    """
    return _read(store, key, model, trust=trust).rows


def read_manifest(store: Store, key: str) -> Manifest | None:
    """The manifest of the CSV of that key, None where there is none.

    Raises:
        Failed: `checkpoint_invalid`.
    """
    place = manifest_key(key)
    body = store.read(place)
    if body is None:
        return None
    try:
        return versioned(body, Manifest, f"{key}: its manifest")
    except ValidationError as error:
        raise _invalid(key, f"{place} is not a manifest ({error.error_count()} faults).") from None


def write_checkpoint(
    store: Store, checkpoint: Checkpoint, rows: pl.DataFrame, rejected: pl.DataFrame, making: Provenance
) -> Manifest:
    """Write a CSV, the rows set aside, and last the manifest that proves them.

    The old manifest goes first: killed in between, the stage leaves a CSV without one, which is accepted, and never one
    that disagrees, which would be refused.
    """
    body = to_csv(rows)
    store.delete(checkpoint.manifest_key)
    store.write(checkpoint.key, body)
    if rejected.height:
        store.write(checkpoint.rejected_key, to_csv(escape_formulas(rejected)))  # people open it in a spreadsheet
    else:
        store.delete(checkpoint.rejected_key)
    manifest = _describe(checkpoint, rows, body, making)
    store.write(checkpoint.manifest_key, manifest.model_dump_json(indent=2).encode())
    return manifest


def _describe(checkpoint: Checkpoint, rows: pl.DataFrame, body: bytes, making: Provenance) -> Manifest:
    finished_at = datetime.now(UTC)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        stage="fetch" if checkpoint.stage == "raw" else "enrich",
        user_id=checkpoint.user_id,
        run_id=making.run_id,
        key=checkpoint.key,
        rows=rows.height,
        bytes=len(body),
        sha256=sha256(body).hexdigest(),
        input=making.source,
        counts=dict(making.counts),
        requests=making.requests,
        started_at=making.started_at,
        finished_at=finished_at,
        seconds=round((finished_at - making.started_at).total_seconds(), 3),
    )


def to_csv(rows: pl.DataFrame) -> bytes:
    """Rows as the bytes of a CSV."""
    return rows.write_csv(datetime_format=TIME_FORMAT).encode()


def _read(
    store: Store, key: str, model: type[pa.DataFrameModel], user_id: str | None = None, *, trust: bool = False
) -> CheckpointData:
    body = store.read(key)
    try:
        if body is None:
            raise _invalid(key, f"there is no such file in {store.locate('')}: check its name.")
        source = Source(key=key, sha256=sha256(body).hexdigest())
        manifest = _proof(store, source, body, user_id, trust=trust)
        if not manifest:
            _check_shape(body, key, store.limits)
        rows = read_rows(body, key, model, store.limits)
        if manifest and manifest.rows != rows.height:
            raise _invalid(key, f"it has {rows.height} rows, and {manifest_key(key)} tells of {manifest.rows}.")
    except Failed as error:
        raise Failed(error.code, f"{error.message} {_make_anew(store, key)}") from None
    return CheckpointData(rows, source)


def _proof(store: Store, source: Source, body: bytes, user_id: str | None, *, trust: bool) -> Manifest | None:
    """The manifest that proves these bytes; None where there is none, or where it disagrees and they are trusted.

    A copy, of which nobody says whose it is, may have another name.
    """
    try:
        manifest = read_manifest(store, source.key)
        said = manifest and (manifest.bytes, manifest.sha256)
        named = manifest and user_id and (manifest.key, manifest.user_id)
        if said not in (None, (len(body), source.sha256)) or named not in (None, (source.key, user_id)):
            raise _invalid(source.key, f"it is not the file that {manifest_key(source.key)} describes.")
    except OtherVersion:
        raise
    except Failed as error:
        if not trust:
            says = f"{error.message} If it was edited on purpose, give --trust (in Python trust=True)."
            raise Failed(error.code, says) from None
        log.warning("trusted a file that its manifest does not prove", key=source.key, fault=error.message)
        return None
    return manifest


def _text(body: bytes, key: str, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    expected = list(model.to_schema().columns)
    try:
        # The header alone at first: of a short line under a wide one Polars makes as many nulls.
        found = pl.read_csv(body, infer_schema=False, n_rows=0).columns
        if missing := [name for name in expected if name not in found]:
            raise _invalid(key, f"it lacks the column {', '.join(missing)}.")
        if extra := [name for name in found if name not in expected]:
            raise _invalid(key, f"it has the unknown column {', '.join(extra)}.")
        return pl.read_csv(body, infer_schema=False).select(expected)
    except pl.exceptions.PolarsError as error:
        raise _invalid(key, f"it is not a CSV file in UTF-8: {str(error).splitlines()[0]}.") from None


def _check_shape(body: bytes, key: str, limits: ReadLimits) -> None:
    """Without a manifest only the shape can tell a cut file; Polars fills short rows with nulls."""
    limits.check_header(key, body)
    if not body.endswith(b"\n"):
        raise _invalid(key, "its last line does not end: the file is cut off." if body else "it is empty.")
    csv.field_size_limit(max(len(body), 131_072))  # a summary may be longer than the module's own limit
    records = CsvRecords(body.decode(errors="replace"), limits.csv_max_record_chars)
    try:
        width = len(next(records, []))
        for fields in records:
            if len(fields) != width:
                raise _invalid(key, f"line {records.lines} has {len(fields)} fields, not {width}.")
    except csv.Error as error:
        raise _invalid(key, f"line {records.lines + 1}: {error}.") from None


def _invalid(key: str, why: str) -> Failed:
    return Failed("checkpoint_invalid", f"{key}: {why}")


def _make_anew(store: Store, key: str) -> str:
    """The command that makes a CSV anew, where its name tells."""
    made = parse_manifest_key(manifest_key(key))
    if made is None:
        return "Make it anew with the stage that made it."
    if made.stage == "raw":
        return f"Make it anew: steam-import fetch STEAM_ID --user {made.user_id}"
    raw = Checkpoint(made.user_id, made.stem, "raw")
    return f"Make it anew: steam-import enrich {shlex.quote(store.locate(raw.key))}"
