"""Write and read JSON and Parquet files that say their version, and migrate those of older versions."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeVar

import polars as pl
from pandera.typing.polars import DataFrame
from pydantic import BaseModel, ValidationError

from pipeline.errors import Failed, count_of
from schemas.frames import Model, conform, dtypes, empty_frame
from schemas.manifest import VERSIONS, FileKind

Record = TypeVar("Record", bound=BaseModel)
T = TypeVar("T")


def _unchanged(content: T) -> T:
    return content


@dataclass(frozen=True)
class Migration:
    """The functions that migrate a file to the next version: one for its JSON object, one for its rows, or both.

    The rows of a CSV are text, those of a Parquet file have their dtypes.
    """

    record: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged
    rows: Callable[[pl.DataFrame], pl.DataFrame] = _unchanged


ROWS_PER_GROUP = 10_000
"""The rows of a row group of a Parquet file: of a sorted file, a reader skips the groups without a wanted row."""

_SEEN = {"seen_digest": "last_loaded_digest", "seen_database": "last_loaded_database", "seen_at": "last_loaded_at"}

MIGRATIONS: dict[tuple[FileKind, int], Migration] = {
    ("last_loaded", 1): Migration(rows=lambda rows: rows.rename(_SEEN, strict=False)),
}
"""The migration of each kind of file from an older version, by both. Files without one are refused."""


class WrongVersion(Failed):
    """The error for a file in a version of its format that this program cannot read."""


class CorruptFile(ValueError):
    """The error for a file whose bytes cannot be parsed as its model."""


def parse_json(body: bytes, kind: FileKind, model: type[Record], name: str, remedy: str = "") -> Record:
    """Return the JSON object in the bytes of a file as its model, migrated if it is of an older version.

    Raises:
        WrongVersion: The file cannot be migrated; the message names it and ends with the remedy.
        CorruptFile: The bytes are not a JSON object of the model.
    """
    record = _parse_object(body)
    for migration in find_migrations(kind, record.get("schema_version", 1), name, remedy):
        record = migration.record(record)
    try:
        return model.model_validate(record | {"schema_version": VERSIONS[kind]})
    except ValidationError as error:
        raise CorruptFile(count_of(error.error_count(), "field is wrong", "fields are wrong")) from None


def json_version(body: bytes) -> int:
    """Return the version that a JSON object says it has, 1 if it says none; raises `CorruptFile`."""
    return int(_parse_object(body).get("schema_version", 1))


def read_parquet(body: bytes, kind: FileKind, model: type[Model], name: str, remedy: str = "") -> DataFrame[Model]:
    """Return the rows in the bytes of a Parquet file as its model, migrated if they are of an older version.

    Raises:
        WrongVersion: The file cannot be migrated; the message names it and ends with the remedy.
        CorruptFile: The bytes are not a Parquet file with the model's columns.
    """
    with _unreadable_is_corrupt():
        migrations = list(find_migrations(kind, _parquet_version(body), name, remedy))
        rows = pl.read_parquet(BytesIO(body))
    for migration in migrations:
        rows = migration.rows(rows)
    return _as_model(rows, model)


def read_current_parquets(
    bodies: Sequence[bytes],
    kind: FileKind,
    model: type[Model],
    columns: Sequence[str] | None = None,
    wanted: pl.Series | None = None,
) -> pl.DataFrame:
    """Return rows of several Parquet files, one file after the other, much faster than file by file.

    With `columns` only these are decoded. With `wanted` only those rows are returned that have one of its values in the
    column that is called as it is, which must have no nulls.

    Raises:
        CorruptFile: One of them is no Parquet file of the current version with the model's columns.
    """
    if not bodies:
        return empty_frame(model).select(columns or pl.all())
    expected = dtypes(model)
    with _unreadable_is_corrupt():
        if any(_parquet_version(body) != VERSIONS[kind] for body in bodies):
            raise CorruptFile("it is of another version")
        if list(pl.read_parquet_schema(bodies[0])) != list(expected):
            raise CorruptFile(f"its columns are not those of {model.__name__}")
        rows = _scan(bodies, columns).collect() if wanted is None else _rows_with(bodies, wanted, columns)
        # The columns are of the right version, but an Enum of theirs may have got another category since.
        wrong = {name: dtype for name, dtype in rows.schema.items() if dtype != expected[name]}
        return rows.cast({name: expected[name] for name in wrong}).rechunk()


def _scan(bodies: Sequence[bytes], columns: Sequence[str] | None) -> pl.LazyFrame:
    return pl.scan_parquet(list(bodies)).select(columns or pl.all())


def _rows_with(bodies: Sequence[bytes], wanted: pl.Series, columns: Sequence[str] | None) -> pl.DataFrame:
    """Return the rows with a wanted value; only files that have one are decoded beyond the column of these values.

    Of a file with several row groups those are skipped whose statistics lie outside of the range of the values.
    """
    name = wanted.name
    is_wanted = pl.col(name).is_between(wanted.min(), wanted.max()) & pl.col(name).is_in(wanted.implode())
    values = pl.read_parquet(list(bodies), columns=[name])[name]
    found = values.is_in(wanted.implode()).arg_true()
    ends = pl.Series(values.chunk_lengths()).cum_sum()
    if found.len() and len(ends) == len(bodies):  # Polars reads each row group into a chunk, and a small file has one
        having = [bodies[number] for number in ends.search_sorted(found, side="right").unique().sort()]
        rows = _scan(having, columns).collect().filter(is_wanted)  # a filter in the scan takes longer for small files
        if rows.height == found.len():
            return rows
    return _scan(bodies[:1] if found.is_empty() else bodies, columns).filter(is_wanted).collect()


@contextmanager
def _unreadable_is_corrupt() -> Iterator[None]:
    """Raise `CorruptFile` for what Polars cannot read.

    It panics, instead of raising its own error, for 8 in 3,000 files in which a few bytes were changed.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        raise CorruptFile(type(error).__name__) from None


def _parquet_version(body: bytes) -> int:
    return int(pl.read_parquet_metadata(BytesIO(body)).get("schema_version", "1"))


def _as_model(rows: pl.DataFrame, model: type[Model]) -> DataFrame[Model]:
    expected = dtypes(model)
    if rows.columns != list(expected):
        raise CorruptFile(f"its columns are not those of {model.__name__}")
    try:
        # The columns are of the right version, but an Enum of theirs may have got another category since.
        return conform(rows.cast(expected), model)
    except pl.exceptions.PolarsError as error:
        raise CorruptFile(type(error).__name__) from None


def to_parquet(rows: pl.DataFrame, kind: FileKind) -> bytes:
    """Return rows as the bytes of a Parquet file whose metadata say its kind's version."""
    body = BytesIO()
    rows.write_parquet(body, metadata={"schema_version": str(VERSIONS[kind])}, row_group_size=ROWS_PER_GROUP)
    return body.getvalue()


def find_migrations(kind: FileKind, version: int, name: str, remedy: str = "") -> Iterator[Migration]:
    """Yield the migrations from a version of a kind of file to the current version, in the order to apply them.

    Raises:
        WrongVersion: The version is newer than the current one, or a migration is missing.
    """
    current = VERSIONS[kind]
    while version != current:
        migration = MIGRATIONS.get((kind, version))
        if migration is None:
            says = f"{name} is of version {version} of the {kind} format, and this program reads version {current}."
            raise WrongVersion("checkpoint_invalid", f"{says} {remedy}".rstrip())
        yield migration
        version += 1


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        record = json.loads(body)
    except ValueError as error:
        raise CorruptFile(str(error)) from None
    if not isinstance(record, dict):
        raise CorruptFile("it is not a JSON object")
    return record
