"""The least that a role must be granted to load: as statements for `db grants`, and what of it our own role lacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Select, Table, Text, and_, cast, column, func, select, table
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer

from pipeline.database.connection import DIALECT, Session
from pipeline.database.live_schema import CATALOG, CLASSES, NAMESPACES
from schemas.savepoint import GAME, GAME_GENRE, GAME_PLATFORM, GENRE, IMPORTED_GAME, LIBRARY_ITEM, PLATFORM

DEPENDENCIES = table("pg_depend", *map(column, ("objid", "refobjid", "deptype")), schema=CATALOG)
WRITTEN = (GENRE, PLATFORM, GAME, IMPORTED_GAME, LIBRARY_ITEM)
LINKS = (GAME_GENRE, GAME_PLATFORM)


@dataclass(frozen=True)
class Places:
    """Where things are: the database, the schema of its tables, and LibraryItem's sequence as (schema, name)."""

    database: str
    schema: str
    sequences: Sequence[tuple[str, str]]


def read_places(session: Session) -> Places:
    """Ask the catalogue, in two statements."""
    database, schema = session.fetch(_database()).row(0)
    return Places(database, schema, [(schema, name) for schema, name in session.fetch(_sequences()).rows()])


def grants(places: Places, users: Table, role: str) -> list[str]:
    """The statements that let the role load and nothing more."""
    quoted = PGIdentifierPreparer(DIALECT)
    to = f"TO {quoted.quote(role)};"

    def named(*tables: Table) -> str:
        return ", ".join(f"{quoted.quote(places.schema)}.{quoted.quote(own.name)}" for own in tables)

    users_name = f"{quoted.quote(str(users.schema))}.{quoted.quote(users.name)}"
    key: Column[str] = users.c.id
    return [
        f"GRANT TEMPORARY ON DATABASE {quoted.quote(places.database)} {to}",
        f"GRANT SELECT, INSERT, UPDATE ON {named(*WRITTEN)} {to}",
        f"GRANT SELECT, INSERT, DELETE ON {named(*LINKS)} {to}",
        *(f"GRANT USAGE ON SEQUENCE {quoted.quote(s)}.{quoted.quote(name)} {to}" for s, name in places.sequences),
        f"GRANT SELECT ({quoted.quote(key.name)}) ON {users_name} {to}",
    ]


def lacking_rights(session: Session, users: Table) -> list[str]:
    """What our own role lacks of it, as `INSERT on Game`; one statement."""
    places = read_places(session)
    quote = PGIdentifierPreparer(DIALECT).quote
    tables = [(own.name, right) for own in WRITTEN for right in ("SELECT", "INSERT", "UPDATE")]
    tables += [(own.name, right) for own in LINKS for right in ("SELECT", "INSERT", "DELETE")]
    users_name = f"{quote(str(users.schema))}.{quote(users.name)}"
    rights = {
        f"TEMPORARY on {places.database}": func.has_database_privilege(func.current_database(), "TEMPORARY"),
        f"SELECT on {users.name}": func.has_column_privilege(users_name, users.c.id.name, "SELECT"),
    }
    for name, right in tables:
        rights[f"{right} on {name}"] = func.has_table_privilege(f"{quote(places.schema)}.{quote(name)}", right)
    for schema, name in places.sequences:
        rights[f"USAGE on {name}"] = func.has_sequence_privilege(f"{quote(schema)}.{quote(name)}", "USAGE")
    had = session.fetch(select(*(has.label(what) for what, has in rights.items()))).row(0)
    return [what for what, has in zip(rights, had, strict=True) if not has]


def _database() -> Select[str, str]:
    own = (
        select(cast(NAMESPACES.c.nspname, Text))
        .join(CLASSES, CLASSES.c.relnamespace == NAMESPACES.c.oid)
        .where(CLASSES.c.relname == LIBRARY_ITEM.name, func.pg_table_is_visible(CLASSES.c.oid))
    )
    return select(cast(func.current_database(), Text), own.scalar_subquery())


def _sequences() -> Select[str, str]:
    """The sequence that a serial or identity column of LibraryItem owns."""
    owner = CLASSES.alias("owner")
    return (
        select(cast(NAMESPACES.c.nspname, Text), cast(CLASSES.c.relname, Text))
        .join_from(CLASSES, DEPENDENCIES, DEPENDENCIES.c.objid == CLASSES.c.oid)
        .join(owner, and_(owner.c.oid == DEPENDENCIES.c.refobjid, owner.c.relname == LIBRARY_ITEM.name))
        .join(NAMESPACES, NAMESPACES.c.oid == CLASSES.c.relnamespace)
        .where(CLASSES.c.relkind == "S", DEPENDENCIES.c.deptype.in_(("a", "i")), func.pg_table_is_visible(owner.c.oid))
    )
