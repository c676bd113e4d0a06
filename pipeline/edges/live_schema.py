"""What the live database has of SavePoint's tables: columns, enum values, and the table of users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import Column, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from pipeline.edges.postgres_session import Session
from pipeline.edges.system_catalog import columns_of_tables, enum_values, unique_keys, users_table
from pipeline.errors import Failed, Refused
from schemas.tables import (
    IMPORTED_GAME,
    SAVEPOINT,
    STATUSES_PLAYED,
    STATUSES_UNPLAYED,
    UNIQUE_KEYS,
    USED_ENUM_VALUES,
    is_required,
    is_theirs,
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
        return [own for known in SAVEPOINT.sorted_tables for own in known.columns if not is_theirs(own)]

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
