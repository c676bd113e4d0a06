"""The CSVs between the stages, and the manifests that prove them."""

import csv
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from io import StringIO

import pandera.polars as pa
import polars as pl
import structlog
from pydantic import ValidationError

from pipeline.contract import TIME_FORMAT, Store, check
from pipeline.errors import Failed
from pipeline.frames.spreadsheet import defused
from pipeline.layout import Checkpoint
from schemas.manifest import SCHEMA_VERSION, Manifest, Source, Version

MOST_COLUMNS = 1_000
"""Polars takes a second for a header of 100,000 columns, and a file may be one header."""

LONGEST_LINE = 2**20
"""Characters, a hundred times those of a game with all that IGDB says of it; each comma of a line becomes a field."""

log = structlog.get_logger()


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


def read_checkpoint(
    store: Store, checkpoint: Checkpoint, model: type[pa.DataFrameModel], *, trust: bool = False
) -> Read:
    """The rows of a checkpoint, proven by its manifest where there is one, unless an edited file is to be trusted.

    Raises:
        Failed: `checkpoint_invalid`, naming the file, the row and the column; `location_refused` for a row of another
            user's.
    """
    body = store.read(checkpoint.key)
    if body is None:
        raise _invalid(checkpoint, "there is no such file. Run the stage that makes it again.")
    source = Source(key=checkpoint.key, sha256=sha256(body).hexdigest())
    manifest = _proof(store, checkpoint, body, source.sha256, trust=trust)
    if not manifest:
        _check_shape(body, checkpoint)
    rows = _conform(_text(body, checkpoint, model), checkpoint, model)
    if manifest and manifest.rows != rows.height:
        raise _invalid(
            checkpoint, f"it has {rows.height} rows, and {checkpoint.manifest_key} tells of {manifest.rows}."
        )
    return Read(rows, source)


def _proof(store: Store, checkpoint: Checkpoint, body: bytes, sha: str, *, trust: bool) -> Manifest | None:
    """The manifest that proves these bytes; None where there is none, or where it disagrees and they are trusted."""
    try:
        manifest = _manifest(store, checkpoint)
        said = manifest and (manifest.key, manifest.user_id, manifest.bytes, manifest.sha256)
        if said not in (None, (checkpoint.key, checkpoint.user_id, len(body), sha)):
            raise _invalid(checkpoint, f"it is not the file that {checkpoint.manifest_key} describes.")
    except Failed as error:
        if not trust:
            how = f"Make it anew: {_command(store, checkpoint)}. If it was edited on purpose, give --trust."
            raise Failed(error.code, f"{error.message} {how}") from None
        log.warning("trusted a file that its manifest does not prove", key=checkpoint.key, fault=error.message)
        return None
    return manifest


def _command(store: Store, checkpoint: Checkpoint) -> str:
    """What makes a checkpoint anew."""
    if checkpoint.stage == "raw":
        return f"steam-import fetch STEAM_ID --user {checkpoint.user_id}"
    raw = Checkpoint(checkpoint.user_id, checkpoint.stem, "raw")
    return f"steam-import enrich {shlex.quote(store.locate(raw.key))}"


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
        store.write(checkpoint.rejected_key, _csv(defused(rejected)))  # people open it in a spreadsheet
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
        version = Version.model_validate_json(body).schema_version
        manifest = Manifest.model_validate_json(body) if version == SCHEMA_VERSION else None
    except ValidationError as error:
        faults = error.error_count()
        raise _invalid(checkpoint, f"{checkpoint.manifest_key} is not a manifest ({faults} faults).") from None
    if manifest is None:
        raise _invalid(
            checkpoint, f"its manifest has schema version {version}, and this program reads {SCHEMA_VERSION}."
        )
    return manifest


def _text(body: bytes, checkpoint: Checkpoint, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    if body.count(b",", 0, body.find(b"\n")) >= MOST_COLUMNS:
        raise _invalid(checkpoint, f"its header is wider than {MOST_COLUMNS} columns.")
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
    lines = csv.reader(_short(StringIO(body.decode(errors="replace"), newline="")))
    try:
        width = len(next(lines, []))
        for fields in lines:
            if len(fields) != width:
                raise _invalid(checkpoint, f"line {lines.line_num} has {len(fields)} fields, not {width}.")
    except csv.Error as error:
        raise _invalid(checkpoint, f"line {lines.line_num}: {error}.") from None


def _short(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if len(line) > LONGEST_LINE:
            raise csv.Error(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line


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
            f"{checkpoint.key} holds {strangers.height} rows of another user ({strangers['user_id'][0]}).",
        )
    return conforming


def _invalid(checkpoint: Checkpoint, why: str) -> Failed:
    return Failed("checkpoint_invalid", f"{checkpoint.key}: {why}")
