"""The parts that the statements of a load share: counted steps, new ids, the time, enums, and what differs."""

import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Delete, FromClause, Insert, Select, Table, Update, cast, func, literal, or_

NOW = func.timezone("UTC", func.now())
"""The start of the transaction in UTC, as SavePoint's times are, whatever the session's time zone is."""

NOT_COUNTED = ""
"""The name of a step whose rows no report counts."""

Values = Mapping[str, ColumnElement[Any]]


class Step(NamedTuple):
    """A statement, and the name under which the rows that it writes are counted."""

    counted_as: str
    statement: Insert | Update | Delete | Select[Any]


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_id_prefix() -> str:
    """Return the beginning of the ids of all rows that one load inserts; ids sort by time, as SavePoint's cuids do.

    It is `c`, the milliseconds since 1970 in eight digits of base 36, and ten random digits.
    """
    now = time.time_ns() // 1_000_000
    digits = [_DIGITS[now // 36**place % 36] for place in reversed(range(8))]
    return "".join(["c", *digits, *(secrets.choice(_DIGITS) for _ in range(10))])


def new_id(staged: Table, id_prefix: str) -> ColumnElement[str]:
    """Return the id of a new row: the load's prefix, and the number of the staged row in six hexadecimal digits."""
    width = literal(6, literal_execute=True)
    return literal(id_prefix) + func.lpad(func.to_hex(staged.c.number), width, "0")


def as_enum(value: str | ColumnElement[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the value with a cast to the column's enum, without which PostgreSQL neither compares nor writes it."""
    return cast(value, column.type)


def is_enum(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """Return the condition that the column holds this value of its enum."""
    return column == as_enum(value, column)


def differs(target: FromClause, values: Values) -> ColumnElement[bool]:
    """Return the condition that writing these values would change the row."""
    return or_(*(target.c[name].is_distinct_from(value) for name, value in values.items()))
