"""What the live database has of SavePoint's tables: columns, enum values, and the table of users.

Questions to PostgreSQL's own catalogue about SavePoint's tables, wherever the search path finds them.
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
from pipeline.errors import Failed, Refused
from schemas.savepoint import (
    IMPORTED_GAME,
    SAVEPOINT,
    STATUSES_PLAYED,
    STATUSES_UNPLAYED,
    UNIQUE_KEYS,
    USED_ENUM_VALUES,
    is_read_only,
    is_required,
)

MATCH_STATUS = '"ImportedGame"."igdbMatchStatus"'
MIGRATION = "infra/prisma/migration.sql"


@dataclass(frozen=True)
class LiveSchema:
    """The tables as they are; `insisted` are the columns that a new row cannot do without."""

    columns: Mapping[str, Sequence[str]]
    insisted: Sequence[str]
    enums: Mapping[str, Sequence[str]]
    unique_keys: Mapping[str, Sequence[frozenset[str]]]
    users: Table | None

    @property
    def missing(self) -> list[str]:
        """What a load cannot work without; empty where it can work."""
        return [
            *self._missing_tables(),
            *self._missing_columns(),
            *self._missing_values(),
            *self._missing_keys(),
            *self._insisted_columns(),
        ]

    @property
    def remedy(self) -> str:
        """What to do about what is missing."""
        if any(MATCH_STATUS in missing for missing in self.missing):
            return f"Apply the migration {MIGRATION}, which adds {MATCH_STATUS}."
        return "Apply SavePoint's migrations, or look whether DATABASE_URL names the right database."

    @property
    def left_out(self) -> list[str]:
        """The optional columns that this database lacks."""
        return [_named(own) for own in self._own_columns() if not is_required(own) and not self.has(own)]

    def has(self, own: Column[object]) -> bool:
        """Whether the database has the column."""
        return own.name in self.columns.get(own.table.name, ())

    def require_users(self) -> Table:
        """The table of users, when nothing else is missing either; raises `schema_mismatch`, naming what is."""
        if self.missing or self.users is None:
            raise Failed(
                "schema_mismatch",
                f"This database cannot take an import, nothing was written. It lacks {', '.join(self.missing)}. "
                f"{self.remedy}",
            )
        return self.users

    def status_unplayed(self, wanted: str | None) -> str:
        """`LibraryItem.status` for playtime 0; raises `configuration`, listing the enum's values."""
        return self._status("STATUS_UNPLAYED", wanted, STATUSES_UNPLAYED)

    def status_played(self, wanted: str | None) -> str:
        """`LibraryItem.status` for playtime > 0; raises `configuration`, listing the enum's values."""
        return self._status("STATUS_PLAYED", wanted, STATUSES_PLAYED)

    def _status(self, setting: str, wanted: str | None, defaults: Sequence[str]) -> str:
        values = self.enums["LibraryItemStatus"]
        candidates = defaults if wanted is None else (wanted,)
        found = [status for status in candidates if status in values]
        if not found:
            raise Refused(
                "configuration",
                f"LibraryItemStatus of this database has no {' and no '.join(candidates)}: "
                f"set {setting} to one of {', '.join(values)}.",
            )
        return found[0]

    def _own_columns(self) -> list[Column[object]]:
        return [own for known in SAVEPOINT.sorted_tables for own in known.columns if not is_read_only(own)]

    def _missing_tables(self) -> list[str]:
        missing = [f'table "{name}"' for name in SAVEPOINT.tables if name not in self.columns]
        if self.users is None and IMPORTED_GAME.name in self.columns:
            missing.append('a foreign key of "ImportedGame"."userId" (it names the table of users)')
        return missing

    def _missing_columns(self) -> list[str]:
        return [
            f"column {_named(own)}"
            for own in self._own_columns()
            if own.table.name in self.columns and is_required(own) and not self.has(own)
        ]

    def _missing_values(self) -> list[str]:
        enums = [f'enum "{enum}"' for enum in USED_ENUM_VALUES if enum not in self.enums]
        return enums + [
            f'value {value} of enum "{enum}"'
            for enum, values in USED_ENUM_VALUES.items()
            for value in values
            if enum in self.enums and value not in self.enums[enum]
        ]

    def _missing_keys(self) -> list[str]:
        return [
            f'a unique key of "{name}" ({", ".join(key)})'
            for name, key in UNIQUE_KEYS.items()
            if name in self.columns and frozenset(key) not in self.unique_keys.get(name, ())
        ]

    def _insisted_columns(self) -> list[str]:
        filled = {_named(own) for own in self._own_columns()}
        return [f"a default of column {name} (no load fills it)" for name in self.insisted if name not in filled]


def read_live_schema(session: Session) -> LiveSchema:
    """Ask the catalogue, in four statements."""
    columns = session.fetch(columns_of_tables())
    values = session.fetch(enum_values())
    keys = session.fetch(unique_keys())
    return LiveSchema(
        columns=_grouped(columns.select("table_name", "column_name")),
        insisted=columns.filter("is_insisted")
        .select(pl.format('"{}"."{}"', "table_name", "column_name"))
        .to_series()
        .to_list(),
        enums=_grouped(values),
        unique_keys={name: list(map(frozenset, columns)) for name, columns in _grouped(keys).items()},
        users=_users(session),
    )


def _users(session: Session) -> Table | None:
    """The table that `ImportedGame.userId` refers to, with the column it refers to."""
    found = session.fetch(users_table())
    if found.is_empty():
        return None
    schema, name, key = found.row(0)
    times = (Column(time, TIMESTAMP(precision=3)) for time in ("createdAt", "updatedAt"))
    return Table(name, MetaData(), Column(key, Text, key="id"), *times, schema=schema)


def _grouped(pairs: pl.DataFrame) -> dict[str, list[Any]]:
    """The second column's values for each of the first's."""
    keys, values = pairs.columns
    lists = pairs.group_by(keys, maintain_order=True).agg(values)
    return dict(zip(lists[keys].to_list(), lists[values].to_list(), strict=True))


def _named(own: Column[object]) -> str:
    return f'"{own.table.name}"."{own.name}"'


CATALOG = "pg_catalog"

ATTRIBUTES = table(
    "pg_attribute",
    *map(column, ("attrelid", "attname", "attnum", "attisdropped", "attnotnull", "atthasdef", "attidentity")),
    schema=CATALOG,
)

CLASSES = table("pg_class", *map(column, ("oid", "relname", "relnamespace", "relkind")), schema=CATALOG)
NAMESPACES = table("pg_namespace", *map(column, ("oid", "nspname")), schema=CATALOG)
TYPES = table("pg_type", *map(column, ("oid", "typname")), schema=CATALOG)
ENUM_VALUES = table("pg_enum", *map(column, ("enumtypid", "enumlabel", "enumsortorder")), schema=CATALOG)

CONSTRAINTS = table(
    "pg_constraint",
    *map(column, ("conrelid", "confrelid", "contype")),
    column("conkey", ARRAY(Integer)),
    column("confkey", ARRAY(Integer)),
    schema=CATALOG,
)

INDEXES = table(
    "pg_index",
    *map(column, ("indrelid", "indisunique", "indimmediate", "indisvalid", "indpred", "indexprs")),
    column("indkey", ARRAY(Integer)),
    schema=CATALOG,
)


def columns_of_tables() -> Executable:
    """Each column of our tables, and whether a new row must say it."""
    has_default = ATTRIBUTES.c.atthasdef | (cast(ATTRIBUTES.c.attidentity, Text) != "")
    return (
        select(
            cast(CLASSES.c.relname, Text).label("table_name"),
            cast(ATTRIBUTES.c.attname, Text).label("column_name"),
            (ATTRIBUTES.c.attnotnull & ~has_default).label("is_insisted"),
        )
        .join_from(CLASSES, ATTRIBUTES, ATTRIBUTES.c.attrelid == CLASSES.c.oid)
        .where(
            CLASSES.c.relname.in_(SAVEPOINT.tables),
            func.pg_table_is_visible(CLASSES.c.oid),
            ATTRIBUTES.c.attnum > 0,
            ~ATTRIBUTES.c.attisdropped,
        )
        .order_by(CLASSES.c.relname, ATTRIBUTES.c.attnum)
    )


def enum_values() -> Executable:
    """The values of our enums, in their order."""
    return (
        select(cast(TYPES.c.typname, Text).label("enum_name"), cast(ENUM_VALUES.c.enumlabel, Text).label("value"))
        .join_from(TYPES, ENUM_VALUES, ENUM_VALUES.c.enumtypid == TYPES.c.oid)
        .where(TYPES.c.typname.in_(USED_ENUM_VALUES), func.pg_type_is_visible(TYPES.c.oid))
        .order_by(TYPES.c.typname, ENUM_VALUES.c.enumsortorder)
    )


def unique_keys() -> Executable:
    """The columns of each unique index that holds at once and for every row."""
    columns = (
        select(func.array_agg(cast(ATTRIBUTES.c.attname, Text)))
        .where(ATTRIBUTES.c.attrelid == INDEXES.c.indrelid, ATTRIBUTES.c.attnum == any_(INDEXES.c.indkey))
        .scalar_subquery()
    )
    return (
        select(cast(CLASSES.c.relname, Text).label("table_name"), columns.label("column_names"))
        .join_from(INDEXES, CLASSES, CLASSES.c.oid == INDEXES.c.indrelid)
        .where(
            CLASSES.c.relname.in_(UNIQUE_KEYS),
            func.pg_table_is_visible(CLASSES.c.oid),
            INDEXES.c.indisunique & INDEXES.c.indimmediate & INDEXES.c.indisvalid,
            INDEXES.c.indpred.is_(None),
            INDEXES.c.indexprs.is_(None),
        )
    )


def users_table() -> Executable:
    """Schema, table and column that `ImportedGame.userId` refers to."""
    own, other = ATTRIBUTES.alias("own"), ATTRIBUTES.alias("other")
    imported, users = CLASSES.alias("imported"), CLASSES.alias("users")
    return (
        select(*(cast(name, Text) for name in (NAMESPACES.c.nspname, users.c.relname, other.c.attname)))
        .select_from(CONSTRAINTS)
        .join(imported, imported.c.oid == CONSTRAINTS.c.conrelid)
        .join(own, and_(own.c.attrelid == imported.c.oid, own.c.attnum == any_(CONSTRAINTS.c.conkey)))
        .join(users, users.c.oid == CONSTRAINTS.c.confrelid)
        .join(other, and_(other.c.attrelid == users.c.oid, other.c.attnum == any_(CONSTRAINTS.c.confkey)))
        .join(NAMESPACES, NAMESPACES.c.oid == users.c.relnamespace)
        .where(
            imported.c.relname == IMPORTED_GAME.name,
            func.pg_table_is_visible(imported.c.oid),
            own.c.attname == IMPORTED_GAME.c.userId.name,
        )
    )
