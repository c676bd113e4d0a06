"""Write and read JSON and Parquet files that say their version, and migrate those of older versions."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, TypeVar

import polars as pl
from pandera.typing.polars import DataFrame
from pydantic import BaseModel, ValidationError

from pipeline.errors import Failed
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
        raise CorruptFile(f"{error.error_count()} fields are wrong") from None


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


def read_current_parquets(bodies: Sequence[bytes], kind: FileKind, model: type[Model]) -> DataFrame[Model]:
    """Return the rows of several Parquet files, one file after the other, much faster than file by file.

    Raises:
        CorruptFile: One of them is no Parquet file of the current version with the model's columns.
    """
    with _unreadable_is_corrupt():
        if any(_parquet_version(body) != VERSIONS[kind] for body in bodies):
            raise CorruptFile("it is of another version")
        files: list[IO[bytes]] = [BytesIO(body) for body in bodies]
        rows = pl.read_parquet(files) if files else empty_frame(model)
    return _as_model(rows, model)


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
    rows.write_parquet(body, metadata={"schema_version": str(VERSIONS[kind])})
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
