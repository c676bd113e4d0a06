"""The schema of the live database, compared with what a load needs: columns, enum values, unique keys, users' table.

It is read from PostgreSQL's own catalogue (pg_class and others), for the tables that the search path finds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import (
    ARRAY,
    Column,
    Executable,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    any_,
    cast,
    column,
    func,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from pipeline.database.connection import Session
from pipeline.errors import Failed
from schemas.savepoint import (
    IMPORTED_GAME,
    SAVEPOINT,
    UNIQUE_KEYS,
    USED_ENUM_VALUES,
    is_read_only,
    is_required,
)

MATCH_STATUS = '"ImportedGame"."igdbMatchStatus"'
MIGRATION = "infra/prisma/migration.sql"


@dataclass(frozen=True)
class LiveSchema:
    """The columns, enum values and unique keys that a live database has of SavePoint's tables.

    Each mapping is by the name of the table or enum; enum values are in the order of the enum.

    `not_null` holds the columns that every new row needs a value for, as `"Table"."column"`. `users` is the table that
    `ImportedGame.userId` refers to, with its key as the column `id`.
    """

    columns: Mapping[str, Sequence[str]]
    not_null: Sequence[str]
    enums: Mapping[str, Sequence[str]]
    unique_keys: Mapping[str, Sequence[frozenset[str]]]
    users: Table | None

    @property
    def missing(self) -> list[str]:
        """The list of what a load needs and the database lacks, as texts such as `table "Game"`; empty if nothing."""
        return [
            *self._missing_tables(),
            *self._missing_columns(),
            *self._missing_enum_values(),
            *self._missing_unique_keys(),
            *self._missing_defaults(),
        ]

    @property
    def remedy(self) -> str:
        """The sentence that tells an operator how to add what is missing: a migration to apply, or what to check."""
        if any(MATCH_STATUS in missing for missing in self.missing):
            return f"Apply the migration {MIGRATION}, which adds {MATCH_STATUS}."
        return "Apply SavePoint's migrations, or check whether DATABASE_URL names the right database."

    @property
    def left_out(self) -> list[str]:
        """The list of optional columns that the database lacks, as `"Table"."column"`; a load does not fill them."""
        return [_quoted(own) for own in self._written_columns() if not is_required(own) and not self.has(own)]

    def has(self, own: Column[Any]) -> bool:
        """Return True if the live database has a column of SavePoint's tables."""
        return own.name in self.columns.get(own.table.name, ())

    def require_complete(self) -> Table:
        """Return the SQLAlchemy table of users, after checking that the database has all that a load needs.

        Raises:
            Failed: `schema_mismatch`, naming all that is missing and what to do about it.
        """
        if self.missing or self.users is None:
            raise Failed(
                "schema_mismatch",
                f"This database cannot take an import, nothing was written. It lacks {', '.join(self.missing)}. "
                f"{self.remedy}",
            )
        return self.users

    def _written_columns(self) -> list[Column[Any]]:
        return [own for known in SAVEPOINT.sorted_tables for own in known.columns if not is_read_only(own)]

    def _missing_tables(self) -> list[str]:
        missing = [f'table "{name}"' for name in SAVEPOINT.tables if name not in self.columns]
        if self.users is None and IMPORTED_GAME.name in self.columns:
            missing.append('a foreign key of "ImportedGame"."userId" (it names the table of users)')
        return missing

    def _missing_columns(self) -> list[str]:
        return [
            f"column {_quoted(own)}"
            for own in self._written_columns()
            if own.table.name in self.columns and is_required(own) and not self.has(own)
        ]

    def _missing_enum_values(self) -> list[str]:
        enums = [f'enum "{enum}"' for enum in USED_ENUM_VALUES if enum not in self.enums]
        return enums + [
            f'value {value} of enum "{enum}"'
            for enum, values in USED_ENUM_VALUES.items()
            for value in values
            if enum in self.enums and value not in self.enums[enum]
        ]

    def _missing_unique_keys(self) -> list[str]:
        return [
            f'a unique key of "{name}" ({", ".join(key)})'
            for name, key in UNIQUE_KEYS.items()
            if name in self.columns and frozenset(key) not in self.unique_keys.get(name, ())
        ]

    def _missing_defaults(self) -> list[str]:
        written = {_quoted(own) for own in self._written_columns()}
        return [f"a default of column {name} (no load fills it)" for name in self.not_null if name not in written]


def _quoted(own: Column[Any]) -> str:
    return f'"{own.table.name}"."{own.name}"'


def read_live_schema(session: Session) -> LiveSchema:
    """Return the LiveSchema of the database that a session is connected to, read by four queries."""
    columns = session.fetch(_select_columns())
    enum_values = session.fetch(_select_enum_values())
    unique_keys = session.fetch(_select_unique_keys())
    not_null = columns.filter("is_not_null").select(pl.format('"{}"."{}"', "table_name", "column_name"))
    return LiveSchema(
        columns=_as_lists(columns.select("table_name", "column_name")),
        not_null=not_null.to_series().to_list(),
        enums=_as_lists(enum_values),
        unique_keys={name: list(map(frozenset, keys)) for name, keys in _as_lists(unique_keys).items()},
        users=_read_users_table(session),
    )


def _read_users_table(session: Session) -> Table | None:
    found = session.fetch(_select_users_table())
    if found.is_empty():
        return None
    schema, name, key = found.row(0)
    times = (Column(time, TIMESTAMP(precision=3)) for time in ("createdAt", "updatedAt"))
    return Table(name, MetaData(), Column(key, Text, key="id"), *times, schema=schema)


def _as_lists(pairs: pl.DataFrame) -> dict[str, list[Any]]:
    """Return a mapping of each value in the first column to the list of its values in the second."""
    keys, values = pairs.columns
    lists = pairs.group_by(keys, maintain_order=True).agg(values)
    return dict(zip(lists[keys].to_list(), lists[values].to_list(), strict=True))


CATALOG = "pg_catalog"
CLASSES = table("pg_class", *map(column, ("oid", "relname", "relnamespace", "relkind")), schema=CATALOG)
NAMESPACES = table("pg_namespace", *map(column, ("oid", "nspname")), schema=CATALOG)
_TYPES = table("pg_type", *map(column, ("oid", "typname")), schema=CATALOG)
_ENUM_VALUES = table("pg_enum", *map(column, ("enumtypid", "enumlabel", "enumsortorder")), schema=CATALOG)

_ATTRIBUTES = table(
    "pg_attribute",
    *map(column, ("attrelid", "attname", "attnum", "attisdropped", "attnotnull", "atthasdef", "attidentity")),
    schema=CATALOG,
)

_CONSTRAINTS = table(
    "pg_constraint",
    *map(column, ("conrelid", "confrelid", "contype")),
    column("conkey", ARRAY(Integer)),
    column("confkey", ARRAY(Integer)),
    schema=CATALOG,
)

_INDEXES = table(
    "pg_index",
    *map(column, ("indrelid", "indisunique", "indimmediate", "indisvalid", "indpred", "indexprs")),
    column("indkey", ARRAY(Integer)),
    schema=CATALOG,
)


def _select_columns() -> Executable:
    """Select each column of SavePoint's tables, and whether every new row needs a value for it."""
    has_default = _ATTRIBUTES.c.atthasdef | (cast(_ATTRIBUTES.c.attidentity, Text) != "")
    return (
        select(
            cast(CLASSES.c.relname, Text).label("table_name"),
            cast(_ATTRIBUTES.c.attname, Text).label("column_name"),
            (_ATTRIBUTES.c.attnotnull & ~has_default).label("is_not_null"),
        )
        .join_from(CLASSES, _ATTRIBUTES, _ATTRIBUTES.c.attrelid == CLASSES.c.oid)
        .where(
            CLASSES.c.relname.in_(SAVEPOINT.tables),
            func.pg_table_is_visible(CLASSES.c.oid),
            _ATTRIBUTES.c.attnum > 0,  # the others are PostgreSQL's own, as xmin
            ~_ATTRIBUTES.c.attisdropped,
        )
        .order_by(CLASSES.c.relname, _ATTRIBUTES.c.attnum)
    )


def _select_enum_values() -> Executable:
    """Select the values of SavePoint's enums, in their order."""
    return (
        select(cast(_TYPES.c.typname, Text).label("enum_name"), cast(_ENUM_VALUES.c.enumlabel, Text).label("value"))
        .join_from(_TYPES, _ENUM_VALUES, _ENUM_VALUES.c.enumtypid == _TYPES.c.oid)
        .where(_TYPES.c.typname.in_(USED_ENUM_VALUES), func.pg_type_is_visible(_TYPES.c.oid))
        .order_by(_TYPES.c.typname, _ENUM_VALUES.c.enumsortorder)
    )


def _select_unique_keys() -> Executable:
    """Select the columns of each unique index that is checked at once, and for every row."""
    columns = (
        select(func.array_agg(cast(_ATTRIBUTES.c.attname, Text)))
        .where(_ATTRIBUTES.c.attrelid == _INDEXES.c.indrelid, _ATTRIBUTES.c.attnum == any_(_INDEXES.c.indkey))
        .scalar_subquery()
    )
    return (
        select(cast(CLASSES.c.relname, Text).label("table_name"), columns.label("column_names"))
        .join_from(_INDEXES, CLASSES, CLASSES.c.oid == _INDEXES.c.indrelid)
        .where(
            CLASSES.c.relname.in_(UNIQUE_KEYS),
            func.pg_table_is_visible(CLASSES.c.oid),
            _INDEXES.c.indisunique & _INDEXES.c.indimmediate & _INDEXES.c.indisvalid,
            _INDEXES.c.indpred.is_(None),
            _INDEXES.c.indexprs.is_(None),
        )
    )


def _select_users_table() -> Executable:
    """Select the schema, the table and the column that `ImportedGame.userId` refers to."""
    own, referenced = _ATTRIBUTES.alias("own"), _ATTRIBUTES.alias("referenced")
    imported, users = CLASSES.alias("imported"), CLASSES.alias("users")
    return (
        select(*(cast(name, Text) for name in (NAMESPACES.c.nspname, users.c.relname, referenced.c.attname)))
        .select_from(_CONSTRAINTS)
        .join(imported, imported.c.oid == _CONSTRAINTS.c.conrelid)
        .join(own, and_(own.c.attrelid == imported.c.oid, own.c.attnum == any_(_CONSTRAINTS.c.conkey)))
        .join(users, users.c.oid == _CONSTRAINTS.c.confrelid)
        .join(
            referenced,
            and_(referenced.c.attrelid == users.c.oid, referenced.c.attnum == any_(_CONSTRAINTS.c.confkey)),
        )
        .join(NAMESPACES, NAMESPACES.c.oid == users.c.relnamespace)
        .where(
            imported.c.relname == IMPORTED_GAME.name,
            func.pg_table_is_visible(imported.c.oid),
            own.c.attname == IMPORTED_GAME.c.userId.name,
        )
    )
