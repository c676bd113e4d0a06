"""The live database, compared with what a load needs: encoding, columns with their types, enums, keys, users' table.

It is read from PostgreSQL's own catalogue (pg_class and others), for the tables that the search path finds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import polars as pl
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Executable,
    Float,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    any_,
    cast,
    column,
    exists,
    func,
    literal,
    select,
    table,
    union_all,
)
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP

from pipeline.database.connection import ROW_SECURITY_REMEDY, Session
from pipeline.errors import Failed, Refused
from schemas.savepoint import (
    IMPORTED_GAME,
    SAVEPOINT,
    UNIQUE_KEYS,
    USED_ENUM_VALUES,
    is_read_only,
    is_required,
    takes_null,
)

MATCH_STATUS = '"ImportedGame"."igdbMatchStatus"'
ENCODING = "UTF8"

STEAM_ID = "steamId64"
"""The column of the table of users with their SteamID64s. A load does not need it."""

FITTING_TYPES: dict[type[Any], tuple[str, ...]] = {
    Text: ("text", "varchar", "citext"),
    Integer: ("int4", "int8", "numeric"),
    BigInteger: ("int8", "numeric"),
    Double: ("float8", "numeric"),
    Boolean: ("bool",),
    TIMESTAMP: ("timestamp",),
}
"""The mapping of a column's type to the types, by the names of PostgreSQL's catalogue, that hold all of its values."""


LiveColumns = frozenset[Column[Any]]
"""The set of the columns that a live database has of SavePoint's tables, as the objects in schemas/savepoint.py.

Statements are cached by such a set: two databases with the same columns have equal ones.
"""


class LiveColumn(NamedTuple):
    """A column as the live database has it: its type's name, whether it refuses nulls, and an insert has to fill it."""

    type_name: str
    refuses_null: bool
    needs_value: bool


@dataclass(frozen=True)
class LiveSchema:
    """The columns, enum values and unique keys that a live database has of SavePoint's tables.

    Each mapping is by the name of the table or enum; enum values are in the order of the enum.

    `users` is the table that `ImportedGame.userId` refers to, with its key as the column `id`, and with the column
    `steamId64` if the database has it. `row_security` names the tables of which row-level security hides rows from our
    role, and `row_rules` the triggers and rules of a table that may change or drop a row before it is written.
    """

    encoding: str
    is_read_only: bool
    columns: Mapping[str, Mapping[str, LiveColumn]]
    row_security: Sequence[str]
    row_rules: Mapping[str, Sequence[str]]
    enums: Mapping[str, Sequence[str]]
    unique_keys: Mapping[str, Sequence[frozenset[str]]]
    users: Table | None

    @property
    def missing(self) -> list[str]:
        """The list of what a load needs and the database lacks, as texts such as `table "Game"`; empty if nothing."""
        return [
            *([] if self.encoding == ENCODING else [f"the encoding {ENCODING} (it has {self.encoding})"]),
            *self._missing_tables(),
            *self._missing_columns(),
            *self._missing_enum_values(),
            *self._missing_unique_keys(),
            *self._missing_defaults(),
        ]

    @property
    def remedy(self) -> str:
        """The sentence that tells an operator how to add what the database lacks, by a migration, or what to check."""
        if self.encoding != ENCODING:
            return f"Names of games need a database that is made with ENCODING '{ENCODING}' TEMPLATE template0."
        if any(missing.startswith(f"column {MATCH_STATUS}") for missing in self.missing):
            return f"Apply the migration infra/prisma/migration.sql, which adds {MATCH_STATUS}."
        return "Apply SavePoint's migrations, or check whether DATABASE_URL names the right database."

    @property
    def left_out(self) -> list[str]:
        """The list of optional columns that the database lacks, as `"Table"."column"`; a load does not fill them."""
        return [
            _quoted(own) for own in self._written_columns() if not is_required(own) and own not in self.known_columns
        ]

    @cached_property
    def known_columns(self) -> LiveColumns:
        """The columns of SavePoint's tables that the live database has."""
        known = (own for table in SAVEPOINT.sorted_tables for own in table.columns)
        return frozenset(own for own in known if own.name in self.columns.get(own.table.name, ()))

    def require_complete(self) -> Table:
        """Return the SQLAlchemy table of users, after checking that the database has, and shows, all that a load needs.

        Raises:
            Failed: `schema_mismatch`, naming all that is missing and what to do about it.
            Refused: `configuration`, where row-level security may hide rows, which a load would insert again.
        """
        if self.missing or self.users is None:
            raise Failed(
                "schema_mismatch",
                f"This database cannot take an import, nothing was written. It lacks {', '.join(self.missing)}. "
                f"{self.remedy}",
            )
        if self.row_security:
            raise Refused(
                "configuration",
                f"Row-level security hides rows of {', '.join(self.row_security)} from this role, and a load would "
                f"insert them again; nothing was written. {ROW_SECURITY_REMEDY}",
            )
        return self.users

    def require_encoding(self) -> None:
        """Raise `schema_mismatch` if the database is not in UTF-8, and so cannot hold every name."""
        if self.encoding != ENCODING:
            raise Failed(
                "schema_mismatch", f"This database has the encoding {self.encoding}, nothing was written. {self.remedy}"
            )

    def _written_columns(self) -> list[Column[Any]]:
        return [own for known in SAVEPOINT.sorted_tables for own in known.columns if not is_read_only(own)]

    def _missing_tables(self) -> list[str]:
        missing = [f'table "{name}"' for name in SAVEPOINT.tables if name not in self.columns]
        if self.users is None and IMPORTED_GAME.name in self.columns:
            missing.append('a foreign key of "ImportedGame"."userId" (it names the table of users)')
        return missing

    def _missing_columns(self) -> Iterator[str]:
        for own in self._written_columns():
            name, fitting, live = _quoted(own), _fitting_types(own), self.columns.get(own.table.name, {}).get(own.name)
            if live is None and own.table.name in self.columns and is_required(own):
                yield f"column {name}"
            if live and live.type_name not in fitting:
                yield f"the type {fitting[0]} of column {name} (it is {live.type_name})"
            if live and live.refuses_null and takes_null(own):
                yield f"nulls in column {name} (it is NOT NULL)"

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
        written = {(own.table.name, own.name) for own in self._written_columns()}
        return [
            f'a default of column "{table}"."{name}" (no load fills it)'
            for table, columns in self.columns.items()
            for name, live in columns.items()
            if live.needs_value and (table, name) not in written
        ]


def _quoted(own: Column[Any]) -> str:
    return f'"{own.table.name}"."{own.name}"'


def _fitting_types(own: Column[Any]) -> tuple[str, ...]:
    return (str(own.type.name),) if isinstance(own.type, ENUM) else FITTING_TYPES[type(own.type)]


def read_live_schema(session: Session) -> LiveSchema:
    """Return the columns, enum values and unique keys of a session's database, read by four queries."""
    columns, hidden = _read_columns(session)
    facts = session.fetch(_select_facts())
    settings = dict(_facts(facts, "setting").iter_rows())
    unique_keys = session.fetch(_select_unique_keys())
    users, is_hidden = _read_users_table(session)
    return LiveSchema(
        encoding=settings["server_encoding"],
        is_read_only=settings["transaction_read_only"] == "on",
        columns=columns,
        row_security=[*hidden, *([users.name] if users is not None and is_hidden else [])],
        row_rules=_as_lists(_facts(facts, "row rule")),
        enums=_as_lists(_facts(facts, "enum")),
        unique_keys={name: list(map(frozenset, keys)) for name, keys in _as_lists(unique_keys).items()},
        users=users,
    )


def _read_columns(session: Session) -> tuple[dict[str, dict[str, LiveColumn]], list[str]]:
    """Return the columns of each of SavePoint's tables, and the tables of which row-level security hides rows."""
    found = session.fetch(_select_columns())
    columns: dict[str, dict[str, LiveColumn]] = {}
    for table_name, column_name, *facts in found.drop("is_hidden").iter_rows():
        columns.setdefault(table_name, {})[column_name] = LiveColumn(*facts)
    return columns, found.filter("is_hidden")["table_name"].unique(maintain_order=True).to_list()


def _read_users_table(session: Session) -> tuple[Table | None, bool]:
    """Return the table of users, and whether row-level security hides rows of it."""
    found = session.fetch(_select_users_table())
    if found.is_empty():
        return None, False
    schema, name, key, is_hidden, has_steam_id = found.row(0)
    return _users_table(schema, name, key, has_steam_id=has_steam_id), is_hidden


@cache
def _users_table(schema: str, name: str, key: str, *, has_steam_id: bool) -> Table:
    columns: list[Column[Any]] = [Column(key, Text, key="id")]
    columns += [Column(time, TIMESTAMP(precision=3)) for time in ("createdAt", "updatedAt")]
    columns += [Column(STEAM_ID, Text)] if has_steam_id else []
    return Table(name, MetaData(), *columns, schema=schema)


def _facts(facts: pl.DataFrame, kind: str) -> pl.DataFrame:
    return facts.filter(pl.col("kind") == kind).select("name", "value")


def _as_lists(pairs: pl.DataFrame) -> dict[str, list[Any]]:
    """Return a mapping of each value in the first column to the list of its values in the second."""
    keys, values = pairs.columns
    lists = pairs.group_by(keys, maintain_order=True).agg(values)
    return dict(zip(lists[keys].to_list(), lists[values].to_list(), strict=True))


CATALOG = "pg_catalog"
CLASSES = table("pg_class", *map(column, ("oid", "relname", "relnamespace")), schema=CATALOG)
NAMESPACES = table("pg_namespace", *map(column, ("oid", "nspname")), schema=CATALOG)
_TYPES = table("pg_type", *map(column, ("oid", "typname")), schema=CATALOG)
_ENUM_VALUES = table("pg_enum", *map(column, ("enumtypid", "enumlabel", "enumsortorder")), schema=CATALOG)

_ATTRIBUTES = table(
    "pg_attribute",
    *map(column, ("attrelid", "attname", "attnum", "attisdropped", "attnotnull", "atthasdef", "attidentity")),
    column("atttypid"),
    schema=CATALOG,
)

_CONSTRAINTS = table(
    "pg_constraint",
    *map(column, ("conrelid", "confrelid", "contype")),
    column("conkey", ARRAY(Integer)),
    column("confkey", ARRAY(Integer)),
    schema=CATALOG,
)

_TRIGGERS = table(
    "pg_trigger",
    *map(column, ("tgrelid", "tgname", "tgisinternal", "tgenabled")),
    column("tgtype", Integer),
    schema=CATALOG,
)
_RULES = table("pg_rewrite", *map(column, ("ev_class", "rulename", "is_instead", "ev_enabled")), schema=CATALOG)
_BEFORE_EACH_ROW = 3
"""The bits of `pg_trigger.tgtype` of a trigger before each row."""

_INDEXES = table(
    "pg_index",
    *map(column, ("indrelid", "indisunique", "indimmediate", "indisvalid", "indpred", "indexprs")),
    column("indkey", ARRAY(Integer)),
    schema=CATALOG,
)


@cache
def _select_columns() -> Executable:
    """Select each column of SavePoint's tables: its type, what it takes, and whether rows of its table are hidden."""
    has_default = _ATTRIBUTES.c.atthasdef | (cast(_ATTRIBUTES.c.attidentity, Text) != "")
    return (
        select(
            cast(CLASSES.c.relname, Text).label("table_name"),
            cast(_ATTRIBUTES.c.attname, Text).label("column_name"),
            cast(_TYPES.c.typname, Text).label("type_name"),
            cast(_ATTRIBUTES.c.attnotnull, Boolean).label("refuses_null"),
            (_ATTRIBUTES.c.attnotnull & ~has_default).label("needs_value"),
            func.row_security_active(CLASSES.c.oid).label("is_hidden"),
        )
        .join_from(CLASSES, _ATTRIBUTES, _ATTRIBUTES.c.attrelid == CLASSES.c.oid)
        .join(_TYPES, _TYPES.c.oid == _ATTRIBUTES.c.atttypid)
        .where(
            CLASSES.c.relname.in_(SAVEPOINT.tables),
            func.pg_table_is_visible(CLASSES.c.oid),
            _ATTRIBUTES.c.attnum > 0,  # the others are PostgreSQL's own, as xmin
            ~_ATTRIBUTES.c.attisdropped,
        )
        .order_by(CLASSES.c.relname, _ATTRIBUTES.c.attnum)
    )


@cache
def _select_facts() -> Executable:
    """Select, in one query, the enums' values in their order, the tables' triggers and rules, and two settings."""
    settings = [
        select(*_fact("setting", literal(name), func.current_setting(name), literal(0)))
        for name in ("server_encoding", "transaction_read_only")
    ]
    facts = union_all(_select_enum_values(), _select_row_rules(), *settings).subquery("facts")
    return select(facts.c.kind, facts.c.name, facts.c.value).order_by(
        facts.c.kind, facts.c.name, facts.c.place, facts.c.value
    )


def _fact(
    kind: str, name: ColumnElement[Any], value: ColumnElement[Any], place: ColumnElement[Any]
) -> tuple[ColumnElement[Any], ...]:
    texts = {"kind": literal(kind), "name": name, "value": value}
    return (*(cast(text, Text).label(label) for label, text in texts.items()), cast(place, Float).label("place"))


def _select_row_rules() -> Select[Any]:
    """Select the triggers before each row, and the rules, of SavePoint's tables."""
    triggers = select(
        _TRIGGERS.c.tgrelid.label("relid"), cast(literal("trigger "), Text).concat(_TRIGGERS.c.tgname)
    ).where(
        _TRIGGERS.c.tgtype.op("&")(_BEFORE_EACH_ROW) == _BEFORE_EACH_ROW,
        ~_TRIGGERS.c.tgisinternal,
        cast(_TRIGGERS.c.tgenabled, Text) != "D",
    )
    rules = select(_RULES.c.ev_class, cast(literal("rule "), Text).concat(_RULES.c.rulename)).where(
        cast(_RULES.c.rulename, Text) != "_RETURN", cast(_RULES.c.ev_enabled, Text) != "D"
    )
    both = union_all(triggers, rules).subquery("row_rules")
    relid, name = both.c
    return (
        select(*_fact("row rule", CLASSES.c.relname, name, literal(0)))
        .join_from(CLASSES, both, relid == CLASSES.c.oid)
        .where(CLASSES.c.relname.in_(SAVEPOINT.tables), func.pg_table_is_visible(CLASSES.c.oid))
    )


def _select_enum_values() -> Select[Any]:
    """Select the values of SavePoint's enums, with the place of each in its enum."""
    return (
        select(*_fact("enum", _TYPES.c.typname, _ENUM_VALUES.c.enumlabel, _ENUM_VALUES.c.enumsortorder))
        .join_from(_TYPES, _ENUM_VALUES, _ENUM_VALUES.c.enumtypid == _TYPES.c.oid)
        .where(_TYPES.c.typname.in_(USED_ENUM_VALUES), func.pg_type_is_visible(_TYPES.c.oid))
    )


@cache
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


@cache
def _select_users_table() -> Executable:
    """Select the schema, table and column that `ImportedGame.userId` refers to, and two facts about the table.

    They are whether rows of it are hidden, and whether it has a column with the users' SteamID64s.
    """
    own, referenced, steam_id = (_ATTRIBUTES.alias(name) for name in ("own", "referenced", "steam_id"))
    imported, users = CLASSES.alias("imported"), CLASSES.alias("users")
    return (
        select(
            *(cast(name, Text) for name in (NAMESPACES.c.nspname, users.c.relname, referenced.c.attname)),
            func.row_security_active(users.c.oid),
            exists().where(
                steam_id.c.attrelid == users.c.oid, steam_id.c.attname == STEAM_ID, ~steam_id.c.attisdropped
            ),
        )
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
