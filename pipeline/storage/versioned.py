"""A Parquet file, read only after its own words tell what it takes: a few kilobytes may hold a billion values.

Polars tells rows and columns, not how large they are; so the footer and the head of each page are read here, which are
structs of Thrift's compact protocol (https://parquet.apache.org/docs/file-format, https://thrift.apache.org).

Files that say which schema they follow: one of another version is refused, never misread.
"""

from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from math import inf
from typing import Any, TypeVar

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors
from pydantic import BaseModel

from pipeline.errors import Failed
from schemas.manifest import SCHEMA_VERSION, Version

VALUE_BYTES = 16
"""A value in memory at most, beside the text it points to."""

FOOTER_FACTOR = 100
"""The objects that a byte of the footer may become, in bytes."""

PAGE_BYTES = 1_000
"""What a page costs however small it is: its head has to be read."""

DEEPEST = 16
MAGIC = b"PAR1"
TRUE, FALSE, BYTE, DOUBLE, BINARY, STRUCT = 1, 2, 3, 7, 8, 12
INTEGERS, LISTS = (4, 5, 6), (9, 10)


class Unmeasurable(ValueError):
    """Bytes of which nobody can tell what they take: no Parquet file, or a spoilt one."""


# Polars panics over some bytes that are no Parquet, 8 in 3,000 files with a few bytes changed.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, SchemaErrors, Unmeasurable)
"""What `read_parquet` raises for bytes that are no file of the model's rows."""


def read_parquet(body: bytes, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    """The rows of a file that a store has read, as its model has them; raises `UNREADABLE`."""
    _measure(body)  # the store did not refuse what it could not measure
    return model.validate(pl.read_parquet(BytesIO(body)), lazy=True)


def to_parquet(rows: pl.DataFrame) -> bytes:
    """Rows as the bytes of a file that says its schema version."""
    body = BytesIO()
    rows.write_parquet(body, metadata={"schema_version": str(SCHEMA_VERSION)})
    return body.getvalue()


def version_of(body: bytes) -> str | None:
    """The schema version that a file says it has; raises `UNREADABLE`."""
    return pl.read_parquet_metadata(BytesIO(body)).get("schema_version")


def takes_more(body: bytes, most: int) -> bool:
    """Whether a file would take more bytes in memory; not, if it is one that `read_parquet` does not read."""
    with suppress(Unmeasurable):
        return _measure(body, most) > most
    return False


def _measure(body: bytes, enough: float = inf) -> int:
    """Bytes in memory; those of the first parts, where these are enough."""
    taken = 0
    try:
        for size in _sizes(body):
            taken += size
            if taken > enough:
                break
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Unmeasurable("no Parquet") from None
    return taken


def _sizes(body: bytes) -> Iterator[int]:
    """Bytes in memory, part by part."""
    length = int.from_bytes(body[-8:-4], "little")
    if body[-4:] != MAGIC or length > len(body) - 12:
        raise ValueError(body[-4:])
    yield length * FOOTER_FACTOR
    footer = _Thrift(body, len(body) - 8 - length).struct()
    for group in footer[4]:
        yield max(group[3], 0) * VALUE_BYTES
        for column in group[1]:
            yield from _page_sizes(body, column[3])


def _page_sizes(body: bytes, column: dict[int, Any]) -> Iterator[int]:
    """Of one column of a row group; its pages lie one behind the other."""
    at = column.get(11, column[9])
    end = at + column[7]
    while at < end:
        head = _Thrift(body, at)
        page = head.struct()
        values = max(page[kind][1] for kind in (5, 7, 8) if kind in page)
        if min(page[2], page[3], values) < 0:
            raise ValueError(page)
        yield page[2] + values * VALUE_BYTES + PAGE_BYTES
        at = head.at + page[3]


class _Thrift:
    """Reads from a place on; raises ValueError for what is none, or not within the bytes."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self.at = at
        self._skip(0)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Its fields by number; texts are left out."""
        fields, number = dict[int, Any](), 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            if number in fields or depth > DEEPEST:
                raise ValueError(number)
            kind = head & 15
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: ANN401 - of any type that Thrift has
        if kind in INTEGERS:
            return self._integer()
        if kind in LISTS:
            return self._list(depth)
        if kind == STRUCT:
            return self.struct(depth + 1)
        sizes = {TRUE: 1, FALSE: 1, BYTE: 1, DOUBLE: 8}
        return self._skip(self._varint() if kind == BINARY else sizes[kind])

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size = self._varint() if head >> 4 == 15 else head >> 4  # noqa: PLR2004 - four bits, all set
        return [self._value(head & 15, depth + 1) for _ in range(size)]

    def _integer(self) -> int:
        coded = self._varint()
        return (coded >> 1) ^ -(coded & 1)

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follow
                return number
        raise ValueError(number)

    def _byte(self) -> int:
        self._skip(1)
        return self._body[self.at - 1]

    def _skip(self, size: int) -> None:
        self.at += size
        if not 0 <= self.at <= len(self._body):
            raise ValueError(self.at)


Model = TypeVar("Model", bound=BaseModel)


class OtherVersion(Failed):
    """A file that would be misread, whoever trusts it."""


def versioned(body: bytes, model: type[Model], file: str, remedy: str = "") -> Model:
    """A JSON object as its model has it.

    Raises:
        OtherVersion: `checkpoint_invalid`, with the remedy.
        ValidationError: It is none of the model's.
    """
    check_version(Version.model_validate_json(body).schema_version, file, remedy)
    return model.model_validate_json(body)


def check_version(version: object, file: str, remedy: str = "") -> None:
    """Refuse a file of another version than this program's; raises as `versioned`."""
    if str(version) != str(SCHEMA_VERSION):
        says = f"{file} has schema version {version!s:.20}, and this program reads {SCHEMA_VERSION}."
        raise OtherVersion("checkpoint_invalid", f"{says} {remedy}".rstrip())
