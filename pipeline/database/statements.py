"""Parts of SQL that the statements of a load share: the counted statement, new ids, the time, enums and comparisons."""

import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Delete, FromClause, Insert, Select, Table, Update, cast, func, literal, or_

NOW = func.timezone("UTC", func.now())
"""The SQL expression for the start of the transaction, in UTC and without a zone as SavePoint's times are.

UTC is named because `now()` alone would become local time in a session with another time zone.
"""

NOT_COUNTED = ""
"""The `counted_as` of a statement whose rows no report counts, such as one that locks rows."""

Values = Mapping[str, ColumnElement[Any]]


class CountedStatement(NamedTuple):
    """An SQL statement of a load, and the name in the load's counts to which its number of written rows is added."""

    counted_as: str
    statement: Insert | Update | Delete | Select[Any]


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_id_prefix() -> str:
    """Return the first 19 characters of the ids of all rows that one load inserts, different for each load.

    The prefix is `c`, the milliseconds since 1970 in eight digits of base 36, and ten random digits; so ids sort by the
    time of their load, as SavePoint's own cuids do.
    """
    now = time.time_ns() // 1_000_000
    digits = [_DIGITS[now // 36**place % 36] for place in reversed(range(8))]
    return "".join(["c", *digits, *(secrets.choice(_DIGITS) for _ in range(10))])


def new_id(staged: Table, id_prefix: str) -> ColumnElement[str]:
    """Return the SQL expression for a new row's id: the load's prefix, and its number in six hex digits."""
    width = literal(6, literal_execute=True)
    return literal(id_prefix) + func.lpad(func.to_hex(staged.c.number), width, "0")


def as_enum(value: str | ColumnElement[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the SQL expression that casts a text to the enum of a column, as PostgreSQL has no implicit cast."""
    return cast(value, column.type)


def is_enum(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """Return the SQL condition that an enum column holds a value of its enum."""
    return column == as_enum(value, column)


def differs(target: FromClause, values: Values) -> ColumnElement[bool]:
    """Return the SQL condition that a row of `target` differs from the new values in a column; null equals null."""
    return or_(*(target.c[name].is_distinct_from(value) for name, value in values.items()))
