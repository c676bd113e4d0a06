"""The least privileges that a database role needs for a load: as GRANT statements, and the ones that our role lacks."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from sqlalchemy import Column, Table, Text, cast, func, select

from pipeline.database.connection import Session, quote_identifier
from pipeline.database.live_schema import CLASSES, NAMESPACES, STEAM_ID
from schemas.savepoint import GAME, GAME_GENRE, GAME_PLATFORM, GENRE, IMPORTED_GAME, LIBRARY_ITEM, PLATFORM

TABLE_RIGHTS = {
    ("SELECT", "INSERT", "UPDATE"): (GENRE, PLATFORM, GAME, IMPORTED_GAME, LIBRARY_ITEM),
    ("SELECT", "INSERT", "DELETE"): (GAME_GENRE, GAME_PLATFORM),
}
"""The mapping of rights that a load needs to the tables of SavePoint on which it needs them."""


class _Grantables(NamedTuple):
    """The names in GRANT statements: the database, the schema of SavePoint's tables, and the sequence of LibraryItem.

    The name of the sequence is qualified and quoted; it is None where the items' ids come from no sequence.
    """

    database: str
    schema: str
    sequence: str | None


def read_grant_statements(session: Session, users: Table, role: str) -> list[str]:
    """Return the GRANT statements, as text, that allow a role to run loads and nothing more; runs none of them.

    The names in them are read from the live database. The users' SteamID64s may be read too, where the table has them:
    imports without a given account take them there.
    """
    grantables = _read_grantables(session)
    to = f"TO {quote_identifier(role)};"

    def names(tables: Sequence[Table]) -> str:
        return ", ".join(_qualified(grantables.schema, own.name) for own in tables)

    readable: list[Column[str]] = [users.c.id, *([users.c[STEAM_ID]] if STEAM_ID in users.c else [])]
    columns = ", ".join(quote_identifier(own.name) for own in readable)
    return [
        f"GRANT TEMPORARY ON DATABASE {quote_identifier(grantables.database)} {to}",
        *(f"GRANT USAGE ON SCHEMA {quote_identifier(schema)} {to}" for schema in _closed_schemas(grantables, users)),
        *(f"GRANT {', '.join(rights)} ON {names(tables)} {to}" for rights, tables in TABLE_RIGHTS.items()),
        *([f"GRANT USAGE ON SEQUENCE {grantables.sequence} {to}"] if grantables.sequence else []),
        f"GRANT SELECT ({columns}) ON {_qualified(str(users.schema), users.name)} {to}",
    ]


def read_missing_rights(session: Session, users: Table) -> list[str]:
    """Return the rights that a load needs and the connected role lacks, as texts such as `INSERT on Game`."""
    grantables = _read_grantables(session)
    users_name = _qualified(str(users.schema), users.name)
    has_rights = {
        f"TEMPORARY on {grantables.database}": func.has_database_privilege(func.current_database(), "TEMPORARY"),
        f"SELECT on {users.name}": func.has_column_privilege(users_name, users.c.id.name, "SELECT"),
    }
    for schema in _closed_schemas(grantables, users):
        has_rights[f"USAGE on the schema {schema}"] = func.has_schema_privilege(schema, "USAGE")
    for rights, tables in TABLE_RIGHTS.items():
        for own, right in product(tables, rights):
            name = _qualified(grantables.schema, own.name)
            has_rights[f"{right} on {own.name}"] = func.has_table_privilege(name, right)
    if grantables.sequence:
        has_rights[f"USAGE on {grantables.sequence}"] = func.has_sequence_privilege(grantables.sequence, "USAGE")
    granted = session.fetch(select(*(has.label(right) for right, has in has_rights.items()))).row(0)
    return [right for right, has in zip(has_rights, granted, strict=True) if not has]


def _closed_schemas(grantables: _Grantables, users: Table) -> list[str]:
    """Return the schemas of the tables that not everybody may use, as everybody may use `public`."""
    return sorted({grantables.schema, str(users.schema)} - {"public"})


def _qualified(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def _read_grantables(session: Session) -> _Grantables:
    table, column = f'"{LIBRARY_ITEM.name}"', LIBRARY_ITEM.c.id.name
    names = (func.current_database(), NAMESPACES.c.nspname, func.pg_get_serial_sequence(table, column))
    query = (
        select(*(cast(name, Text) for name in names))
        .join_from(NAMESPACES, CLASSES, CLASSES.c.relnamespace == NAMESPACES.c.oid)
        .where(CLASSES.c.relname == LIBRARY_ITEM.name, func.pg_table_is_visible(CLASSES.c.oid))
    )
    return _Grantables(*session.fetch(query).row(0))
