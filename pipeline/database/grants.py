"""The least privileges that a database role needs for a load: as GRANT statements, and the ones that our role lacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Select, Table, Text, and_, cast, column, func, select, table

from pipeline.database.connection import Session
from pipeline.database.connection import quote_identifier as _quote
from pipeline.database.live_schema import CATALOG, CLASSES, NAMESPACES, STEAM_ID
from schemas.savepoint import GAME, GAME_GENRE, GAME_PLATFORM, GENRE, IMPORTED_GAME, LIBRARY_ITEM, PLATFORM

UPDATED_TABLES = (GENRE, PLATFORM, GAME, IMPORTED_GAME, LIBRARY_ITEM)
LINK_TABLES = (GAME_GENRE, GAME_PLATFORM)

_DEPENDENCIES = table("pg_depend", *map(column, ("objid", "refobjid", "deptype")), schema=CATALOG)


@dataclass(frozen=True)
class Grantables:
    """The names in GRANT statements: the database, the schema of SavePoint's tables, and LibraryItem's sequences.

    Each sequence is a pair of its schema and its name.
    """

    database: str
    schema: str
    sequences: Sequence[tuple[str, str]]


def read_grantables(session: Session) -> Grantables:
    """Return the names that stand in GRANT statements, read from the live database by two queries."""
    database, schema = session.fetch(_select_database_and_schema()).row(0)
    return Grantables(database, schema, [(schema, name) for schema, name in session.fetch(_select_sequences()).rows()])


def grant_statements(grantables: Grantables, users: Table, role: str) -> list[str]:
    """Return the GRANT statements, as text, that allow a role to run loads and nothing more; runs none of them.

    The users' SteamID64s may be read too, where the table has them: imports without a given account take them there.
    """
    to = f"TO {_quote(role)};"

    def names(tables: Sequence[Table]) -> str:
        return ", ".join(_qualified(grantables.schema, own.name) for own in tables)

    readable: list[Column[str]] = [users.c.id, *([users.c[STEAM_ID]] if STEAM_ID in users.c else [])]
    columns = ", ".join(_quote(own.name) for own in readable)
    return [
        f"GRANT TEMPORARY ON DATABASE {_quote(grantables.database)} {to}",
        *(f"GRANT USAGE ON SCHEMA {_quote(schema)} {to}" for schema in _closed_schemas(grantables, users)),
        f"GRANT SELECT, INSERT, UPDATE ON {names(UPDATED_TABLES)} {to}",
        f"GRANT SELECT, INSERT, DELETE ON {names(LINK_TABLES)} {to}",
        *(f"GRANT USAGE ON SEQUENCE {_qualified(*sequence)} {to}" for sequence in grantables.sequences),
        f"GRANT SELECT ({columns}) ON {_qualified(str(users.schema), users.name)} {to}",
    ]


def read_missing_rights(session: Session, users: Table) -> list[str]:
    """Return the rights that a load needs and the connected role lacks, as texts such as `INSERT on Game`."""
    grantables = read_grantables(session)
    tables = [(own.name, right) for own in UPDATED_TABLES for right in ("SELECT", "INSERT", "UPDATE")]
    tables += [(own.name, right) for own in LINK_TABLES for right in ("SELECT", "INSERT", "DELETE")]
    users_name = _qualified(str(users.schema), users.name)
    rights = {
        f"TEMPORARY on {grantables.database}": func.has_database_privilege(func.current_database(), "TEMPORARY"),
        f"SELECT on {users.name}": func.has_column_privilege(users_name, users.c.id.name, "SELECT"),
    }
    for schema in _closed_schemas(grantables, users):
        rights[f"USAGE on the schema {schema}"] = func.has_schema_privilege(schema, "USAGE")
    for name, right in tables:
        rights[f"{right} on {name}"] = func.has_table_privilege(_qualified(grantables.schema, name), right)
    for schema, name in grantables.sequences:
        rights[f"USAGE on {name}"] = func.has_sequence_privilege(_qualified(schema, name), "USAGE")
    granted = session.fetch(select(*(has.label(right) for right, has in rights.items()))).row(0)
    return [right for right, has in zip(rights, granted, strict=True) if not has]


def _closed_schemas(grantables: Grantables, users: Table) -> list[str]:
    """Return the schemas of the tables that not everybody may use, as everybody may use `public`."""
    return sorted({grantables.schema, str(users.schema)} - {"public"})


def _qualified(schema: str, name: str) -> str:
    return f"{_quote(schema)}.{_quote(name)}"


def _select_database_and_schema() -> Select[str, str]:
    schema = (
        select(cast(NAMESPACES.c.nspname, Text))
        .join(CLASSES, CLASSES.c.relnamespace == NAMESPACES.c.oid)
        .where(CLASSES.c.relname == LIBRARY_ITEM.name, func.pg_table_is_visible(CLASSES.c.oid))
    )
    return select(cast(func.current_database(), Text), schema.scalar_subquery())


def _select_sequences() -> Select[str, str]:
    """Select the sequence that a serial or identity column of LibraryItem owns."""
    owner = CLASSES.alias("owner")
    return (
        select(cast(NAMESPACES.c.nspname, Text), cast(CLASSES.c.relname, Text))
        .join_from(CLASSES, _DEPENDENCIES, _DEPENDENCIES.c.objid == CLASSES.c.oid)
        .join(owner, and_(owner.c.oid == _DEPENDENCIES.c.refobjid, owner.c.relname == LIBRARY_ITEM.name))
        .join(NAMESPACES, NAMESPACES.c.oid == CLASSES.c.relnamespace)
        .where(CLASSES.c.relkind == "S", _DEPENDENCIES.c.deptype.in_(("a", "i")), func.pg_table_is_visible(owner.c.oid))
    )
