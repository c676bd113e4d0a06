"""Questions to PostgreSQL's own catalogue about SavePoint's tables, wherever the search path finds them."""

from sqlalchemy import (
    ARRAY,
    Executable,
    Integer,
    Text,
    and_,
    any_,
    cast,
    column,
    func,
    select,
    table,
)

from schemas.tables import IMPORTED_GAME, SAVEPOINT, UNIQUE_KEYS, USED_ENUM_VALUES

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
