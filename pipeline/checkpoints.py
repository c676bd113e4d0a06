"""The CSVs between the stages, and the manifests that prove them."""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from io import StringIO

import pandera.polars as pa
import polars as pl
from pydantic import ValidationError

from pipeline.contract import TIME_FORMAT, Store, check
from pipeline.errors import Failed
from pipeline.layout import Checkpoint, manifest_key
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
    read, manifest = _read(store, checkpoint.key, model)
    if manifest and (manifest.key, manifest.user_id) != (checkpoint.key, checkpoint.user_id):
        raise _invalid(checkpoint.key, f"{checkpoint.manifest_key} tells of another file.")
    _check_owners(read.rows, checkpoint.key, [checkpoint.user_id])
    return read


def read_rows(body: bytes, key: str, model: type[pa.DataFrameModel], users: Collection[str]) -> pl.DataFrame:
    """The rows of a CSV that is proven, if they are of these users.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column; `location_refused`.
    """
    rows = _conform(_text(body, key, model), key, model)
    _check_owners(rows, key, users)
    return rows


def read_copy(store: Store, key: str, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    """The rows of a CSV of any name and any users, proven by the manifest beside it where there is one.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column.
    """
    return _read(store, key, model)[0].rows


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
        manifest = Manifest.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(key, f"{place} is not a manifest ({error.error_count()} faults).") from None
    if manifest.schema_version != SCHEMA_VERSION:
        raise _invalid(key, f"its schema version is {manifest.schema_version}, not {SCHEMA_VERSION}.")
    return manifest


def write_checkpoint(
    store: Store, checkpoint: Checkpoint, rows: pl.DataFrame, rejected: pl.DataFrame, making: Making
) -> Manifest:
    """Write a CSV, the rows set aside, and last the manifest that proves them.

    The old manifest goes first: killed in between, the stage leaves a CSV without one, which is accepted, and never one
    that disagrees, which would be refused.
    """
    body = csv_of(rows)
    store.delete(checkpoint.manifest_key)
    store.write(checkpoint.key, body)
    if rejected.height:
        store.write(checkpoint.rejected_key, csv_of(rejected))
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


def csv_of(rows: pl.DataFrame) -> bytes:
    """Rows as the bytes of a CSV."""
    return rows.write_csv(datetime_format=TIME_FORMAT).encode()


def _read(store: Store, key: str, model: type[pa.DataFrameModel]) -> tuple[Read, Manifest | None]:
    body = store.read(key)
    if body is None:
        raise _invalid(key, f"there is no such file in {store.locate('')}: check its name.")
    manifest = read_manifest(store, key)
    source = Source(key=key, sha256=sha256(body).hexdigest())
    if not manifest:
        _check_shape(body, key)
    elif (manifest.bytes, manifest.sha256) != (len(body), source.sha256):
        raise _invalid(
            key,
            f"it is not the file that {manifest_key(key)} describes, but was edited or cut.",
        )
    rows = _conform(_text(body, key, model), key, model)
    if manifest and manifest.rows != rows.height:
        raise _invalid(key, f"{manifest_key(key)} tells of another file.")
    return Read(rows, source), manifest


def _text(body: bytes, key: str, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    try:
        rows = pl.read_csv(body, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _invalid(key, f"it is not a CSV file in UTF-8: {str(error).splitlines()[0]}.") from None
    expected = list(model.to_schema().columns)
    if missing := [name for name in expected if name not in rows.columns]:
        raise _invalid(key, f"it lacks the column {', '.join(missing)}.")
    if extra := [name for name in rows.columns if name not in expected]:
        raise _invalid(key, f"it has the unknown column {', '.join(extra)}.")
    return rows.select(expected)


def _check_shape(body: bytes, key: str) -> None:
    """Without a manifest only the shape can tell a cut file; Polars fills short rows with nulls."""
    if not body.endswith(b"\n"):
        raise _invalid(key, "its last line does not end: the file is cut off." if body else "it is empty.")
    csv.field_size_limit(max(len(body), 131_072))  # a summary may be longer than the module's own limit
    lines = csv.reader(StringIO(body.decode(errors="replace"), newline=""))
    try:
        width = len(next(lines, []))
        for fields in lines:
            if len(fields) != width:
                raise _invalid(key, f"line {lines.line_num} has {len(fields)} fields, not {width}.")
    except csv.Error as error:
        raise _invalid(key, f"line {lines.line_num}: {error}.") from None


def _conform(rows: pl.DataFrame, key: str, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    conforming, failures = check(rows, model)
    if failures.height:
        index, failed = failures.row(0)
        raise _invalid(key, f"{failures.height} rows do not conform, the first of them row {index + 1}: {failed}.")
    return conforming


def _check_owners(rows: pl.DataFrame, key: str, users: Collection[str]) -> None:
    strangers = rows.filter(~pl.col("user_id").is_in(users))
    if strangers.height:
        raise Failed(
            "location_refused",
            f"{key} holds {strangers.height} rows of another user ({strangers['user_id'][0]}). {_make_anew(key)}",
        )


def _invalid(key: str, why: str) -> Failed:
    return Failed("checkpoint_invalid", f"{key}: {why} {_make_anew(key)}")


def _make_anew(key: str) -> str:
    return f"Make it anew with steam-import {'fetch' if key.endswith('-raw.csv') else 'enrich'}."
