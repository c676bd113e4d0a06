"""What the two sides agree on: how rows meet their schemas, and what a store can do."""

from dataclasses import dataclass
from typing import Protocol

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from pipeline.errors import Failed, Refused
from pipeline.parquet import takes_more

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""Times in CSVs: UTC, whole seconds."""


@dataclass(frozen=True)
class ReadLimits:
    """How much is read of one object; each is the setting of its name in capitals."""

    csv_max_bytes: int = 2**28
    csv_max_lines: int = 5_000_000
    catalogue_max_bytes: int = 2**30
    overrides_max_bytes: int = 2**24
    parquet_max_bytes: int = 2**30

    def check_size(self, key: str, size: float) -> None:
        """Refuse an object before it is read: by `checkpoint_invalid`, by `configuration` if it is all users'."""
        name = "csv_max_bytes"
        if key.startswith("catalogue/"):
            name = "catalogue_max_bytes"
        elif key == "overrides.csv":
            name = "overrides_max_bytes"
        if size > getattr(self, name):
            raise self._refusal(key, f"{size:,} bytes", name)

    def checked(self, key: str, body: bytes) -> bytes:
        """The bytes, if they do not come to too much when they are parsed; raises as `check_size`."""
        if key.endswith(".csv") and (lines := body.count(b"\n")) > self.csv_max_lines:
            raise self._refusal(key, f"{lines:,} lines", "csv_max_lines")
        if key.endswith(".parquet") and takes_more(body, self.parquet_max_bytes):
            raise self._refusal(key, "more bytes when it is unpacked", "parquet_max_bytes")
        return body

    def _refusal(self, key: str, size: str, name: str) -> Failed | Refused:
        says = f"{key}: it has {size}, and no more than {getattr(self, name):,} are read. "
        advice = f"Look whether it is what it should be; if so, set {name.upper()} higher."
        kind, code = (Failed, "checkpoint_invalid") if name.startswith("csv") else (Refused, "configuration")
        return kind(code, says + advice)  # type: ignore[arg-type]


DEFAULT_LIMITS = ReadLimits()


class Store(Protocol):
    """Where the checkpoints are: a directory or a bucket. Raises `store_unavailable` or `configuration`."""

    def read(self, key: str) -> bytes | None:
        """The object's bytes, None where there is no such object; one beyond its `ReadLimits` is refused unread."""
        ...

    def write(self, key: str, body: bytes) -> None:
        """Put the whole object in its place at once: no reader ever sees half of it."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Write, if the object is still the one of that ETag (None: if there still is none); whether it was."""
        ...

    def list(self, prefix: str) -> dict[str, str]:
        """The ETags of all objects whose keys begin so, by key: another one means other bytes."""
        ...

    def locate(self, key: str) -> str:
        """The location of a key: `s3://bucket/key` or an absolute path."""
        ...

    def key_of(self, location: str) -> str:
        """The key of a location in this store, found without asking it; raises `location_refused`."""
        ...


def set_aside(rows: pl.DataFrame, model: type[pa.DataFrameModel]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those that conform to the model and those that do not.

    Columns of text are read as the model's types. The rejected rows are text again, with the first check that each one
    failed in `rejected_check`.

    Raises:
        SchemaErrors: The columns are not the model's, which is a bug of the caller's.
    """
    typed, failures = check(rows, model)
    rejected = as_text(rows).with_row_index().join(failures, on="index", validate="1:1", maintain_order="left")
    accepted = typed.with_row_index().join(failures, on="index", how="anti", maintain_order="left")
    return accepted.drop("index"), rejected.drop("index")


def check(rows: pl.DataFrame, model: type[pa.DataFrameModel]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows in the model's types, and the first check that each bad one fails: `index, rejected_check`.

    Raises:
        SchemaErrors: The columns are not the model's, which is a bug of the caller's.
    """
    typed = _typed(rows, model)
    return typed, _failures(rows, typed, model).sort("index")


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as a CSV spells them: every column a String, times in `TIME_FORMAT`."""
    times = pl.selectors.datetime()
    return rows.with_columns(times.dt.strftime(TIME_FORMAT)).cast(pl.String)


def _typed(rows: pl.DataFrame, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    return rows.with_columns(
        _read_as(name, column.dtype.type)
        for name, column in model.to_schema().columns.items()
        if rows.schema.get(name) == pl.String and column.dtype.type != pl.String
    )


def _read_as(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).str.to_datetime(TIME_FORMAT, time_unit=dtype.time_unit, time_zone="UTC", strict=False)
    return pl.col(name).cast(dtype, strict=False)


def _failures(rows: pl.DataFrame, typed: pl.DataFrame, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    """The first check that each bad row fails: `index, rejected_check`."""
    unreadable = [
        rows.with_row_index()
        .filter(rows[name].is_not_null() & typed[name].is_null())
        .select("index", rejected_check=pl.lit(f"{name}: not {dtype}"))
        for name, dtype in typed.schema.items()
        if dtype != rows.schema[name]
    ]
    return pl.concat([*unreadable, _failed_checks(typed, model)]).unique("index", keep="first", maintain_order=True)


def _failed_checks(typed: pl.DataFrame, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    try:
        model.validate(typed, lazy=True)
    except SchemaErrors as error:
        found: pl.DataFrame = error.failure_cases
        if found["index"].null_count():  # a column is missing, unknown or of another type: no row is to blame
            raise
        check = pl.format("{}: {}", "column", "check")
        return found.select(pl.col("index").cast(pl.get_index_type()), rejected_check=check)
    return pl.DataFrame(schema={"index": pl.get_index_type(), "rejected_check": pl.String})
