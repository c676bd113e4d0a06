"""The CSVs between the stages, and the manifests that prove them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from io import StringIO

import pandera.polars as pa
import polars as pl
from pydantic import ValidationError

from pipeline.contract import TIME_FORMAT, Store, check
from pipeline.errors import Failed
from pipeline.layout import Checkpoint
from schemas.manifest import SCHEMA_VERSION, Manifest, Source


@dataclass(frozen=True)
class Read:
    """What a checkpoint held, and the proof of what was read."""

    rows: pl.DataFrame
    source: Source


@dataclass(frozen=True)
class Making:
    """How a checkpoint came about, for its manifest."""

    run_id: str
    started_at: datetime
    requests: int
    counts: Mapping[str, int]
    source: Source | None = None


def read_checkpoint(store: Store, checkpoint: Checkpoint, model: type[pa.DataFrameModel]) -> Read:
    """The rows of a checkpoint, proven by its manifest where there is one.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column; `location_refused` for a row of another
            user's.
    """
    body = store.read(checkpoint.key)
    if body is None:
        raise _invalid(checkpoint, "there is no such file.")
    manifest = _manifest(store, checkpoint)
    source = Source(key=checkpoint.key, sha256=sha256(body).hexdigest())
    if not manifest:
        _check_shape(body, checkpoint)
    elif (manifest.key, manifest.bytes, manifest.sha256) != (source.key, len(body), source.sha256):
        raise _invalid(checkpoint, f"it is not the file that {checkpoint.manifest_key} describes.")
    rows = _conform(_text(body, checkpoint, model), checkpoint, model)
    if manifest and (manifest.user_id, manifest.rows) != (checkpoint.user_id, rows.height):
        raise _invalid(checkpoint, f"{checkpoint.manifest_key} tells of another file.")
    return Read(rows, source)


def write_checkpoint(
    store: Store, checkpoint: Checkpoint, rows: pl.DataFrame, rejected: pl.DataFrame, making: Making
) -> Manifest:
    """Write a CSV, the rows set aside, and last the manifest that proves them.

    The old manifest goes first: killed in between, the stage leaves a CSV without one, which is accepted, and never one
    that disagrees, which would be refused.
    """
    body = _csv(rows)
    store.delete(checkpoint.manifest_key)
    store.write(checkpoint.key, body)
    if rejected.height:
        store.write(checkpoint.rejected_key, _csv(rejected))
    else:
        store.delete(checkpoint.rejected_key)
    manifest = _describe(checkpoint, rows, body, making)
    store.write(checkpoint.manifest_key, manifest.model_dump_json(indent=2).encode())
    return manifest


def _describe(checkpoint: Checkpoint, rows: pl.DataFrame, body: bytes, making: Making) -> Manifest:
    finished_at = datetime.now(UTC)
    return Manifest(
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


def _csv(rows: pl.DataFrame) -> bytes:
    return rows.write_csv(datetime_format=TIME_FORMAT).encode()


def _manifest(store: Store, checkpoint: Checkpoint) -> Manifest | None:
    body = store.read(checkpoint.manifest_key)
    if body is None:
        return None
    try:
        manifest = Manifest.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(
            checkpoint, f"{checkpoint.manifest_key} is not a manifest ({error.error_count()} faults)."
        ) from None
    if manifest.schema_version != SCHEMA_VERSION:
        raise _invalid(checkpoint, f"its schema version is {manifest.schema_version}, not {SCHEMA_VERSION}.")
    return manifest


def _text(body: bytes, checkpoint: Checkpoint, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    try:
        rows = pl.read_csv(body, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _invalid(checkpoint, f"it is not a CSV file in UTF-8: {str(error).splitlines()[0]}.") from None
    expected = list(model.to_schema().columns)
    if missing := [name for name in expected if name not in rows.columns]:
        raise _invalid(checkpoint, f"it lacks the column {', '.join(missing)}.")
    if extra := [name for name in rows.columns if name not in expected]:
        raise _invalid(checkpoint, f"it has the unknown column {', '.join(extra)}.")
    return rows.select(expected)


def _check_shape(body: bytes, checkpoint: Checkpoint) -> None:
    """Without a manifest only the shape can tell a cut file; Polars fills short rows with nulls."""
    if not body.endswith(b"\n"):
        raise _invalid(checkpoint, "its last line does not end: the file is cut off." if body else "it is empty.")
    csv.field_size_limit(max(len(body), 131_072))  # a summary may be longer than the module's own limit
    lines = csv.reader(StringIO(body.decode(errors="replace"), newline=""))
    try:
        width = len(next(lines, []))
        for fields in lines:
            if len(fields) != width:
                raise _invalid(checkpoint, f"line {lines.line_num} has {len(fields)} fields, not {width}.")
    except csv.Error as error:
        raise _invalid(checkpoint, f"line {lines.line_num}: {error}.") from None


def _conform(rows: pl.DataFrame, checkpoint: Checkpoint, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    conforming, failures = check(rows, model)
    if failures.height:
        index, failed = failures.row(0)
        raise _invalid(
            checkpoint, f"{failures.height} rows do not conform, the first of them row {index + 1}: {failed}."
        )
    strangers = conforming.filter(pl.col("user_id") != checkpoint.user_id)
    if strangers.height:
        raise Failed(
            "location_refused",
            f"{checkpoint.key} holds {strangers.height} rows of another user ({strangers['user_id'][0]}). "
            f"{_make_anew(checkpoint)}",
        )
    return conforming


def _invalid(checkpoint: Checkpoint, why: str) -> Failed:
    return Failed("checkpoint_invalid", f"{checkpoint.key}: {why} {_make_anew(checkpoint)}")


def _make_anew(checkpoint: Checkpoint) -> str:
    return f"Make it anew with steam-import {'fetch' if checkpoint.stage == 'raw' else 'enrich'}."
