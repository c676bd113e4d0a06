"""What the two sides agree on: how rows meet their schemas, and what a store can do."""

import re
from dataclasses import dataclass
from typing import Protocol

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from pipeline.errors import Failed, PipelineError, Refused
from pipeline.parquet import takes_more

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""Times in CSVs: UTC, whole seconds."""

_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*([^\n]*)")


@dataclass(frozen=True)
class ReadLimits:
    """How much is read of one object; each is the setting of its name in capitals."""

    csv_max_bytes: int = 2**28
    csv_max_lines: int = 5_000_000
    csv_max_columns: int = 1_000
    csv_max_record_chars: int = 2**20
    json_max_bytes: int = 2**24
    catalogue_max_bytes: int = 2**30
    overrides_max_bytes: int = 2**24
    parquet_max_bytes: int = 2**30

    def check_size(self, key: str, size: float) -> None:
        """Refuse an object before it is read: by `checkpoint_invalid`, by `configuration` if it is all users'."""
        name = "csv_max_bytes"
        if key.endswith(".json"):
            name = "json_max_bytes"
        elif key.startswith("catalogue/"):
            name = "catalogue_max_bytes"
        elif key == "overrides.csv":
            name = "overrides_max_bytes"
        self._check(key, size, "bytes", name)

    def check_csv(self, key: str, size: float) -> None:
        """Refuse a CSV before it is read, whatever its name, by `checkpoint_invalid`."""
        self._check(key, size, "bytes", "csv_max_bytes")

    def checked(self, key: str, body: bytes) -> bytes:
        """The bytes, if they do not come to too much when they are parsed; raises as `check_size`."""
        if key.endswith(".parquet"):
            if takes_more(body, self.parquet_max_bytes):
                raise self._refusal(key, "more bytes when it is unpacked", "parquet_max_bytes")
        elif not key.endswith(".json"):
            self.check_lines(key, body)
        return body

    def check_lines(self, key: str, body: bytes) -> None:
        """Refuse a CSV of too many lines, as `check_size` does."""
        self._check(key, body.count(b"\n"), "lines", "csv_max_lines")

    def check_header(self, key: str, body: bytes) -> None:
        """Refuse a CSV with too many columns, with more lines of header than one, or with one that is no UTF-8.

        Polars would read them, for a header's faults are no errors to it.
        """
        header = _HEADER.match(body)[1]  # type: ignore[index]  # it matches anything
        try:
            header.decode()
        except UnicodeDecodeError as error:
            raise Failed("checkpoint_invalid", f"{key}: its header is not in UTF-8: {error.reason}.") from None
        if header.count(b'"') % 2:
            raise Failed("checkpoint_invalid", f"{key}: a quote in its header is not closed on the same line.")
        self._check(key, header.count(b",") + 1, "columns", "csv_max_columns")

    def _check(self, key: str, size: float, unit: str, name: str) -> None:
        if size > getattr(self, name):
            raise self._refusal(key, f"{size:,} {unit}", name)

    def _refusal(self, key: str, size: str, name: str) -> PipelineError:
        says = (
            f"{key}: it has {size}, and no more than {getattr(self, name):,} are read. "
            f"Look whether it is what it should be; if so, set {name.upper()} higher."
        )
        is_of_all = name == "parquet_max_bytes" or key == "overrides.csv" or key.startswith("catalogue/")
        return Refused("configuration", says) if is_of_all else Failed("checkpoint_invalid", says)


DEFAULT_LIMITS = ReadLimits()


class Store(Protocol):
    """Where the checkpoints are: a directory or a bucket. Raises `store_unavailable` or `configuration`."""

    @property
    def limits(self) -> ReadLimits:
        """How much is read of an object."""
        ...

    def read(self, key: str) -> bytes | None:
        """The object's bytes, None where there is no such object; one beyond the limits is refused unread."""
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
        if typed[name].null_count() > rows[name].null_count()
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
