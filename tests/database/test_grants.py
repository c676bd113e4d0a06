"""The rights that a load needs, and no others."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.database.database import Database
from pipeline.errors import Refused
from pipeline.frames.staging import stage_library
from schemas.staging import LoadOptions
from tests.support.databases import NewDatabase, as_role, execute, fetch, rows_of
from tests.support.libraries import FIGHTING, WINDOWS, library, matched

ROLE = 'SavePoint "loader"'
QUOTED = '"SavePoint ""loader"""'
ROWS = library(matched(10, 100, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS]))


@contextmanager
def role(url: str) -> Iterator[str]:
    """The URL of a role that may connect to the database and has no other right there."""
    name = fetch(url, "SELECT current_database()").item()
    execute(url, f"CREATE ROLE {QUOTED} LOGIN")
    execute(url, f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    try:
        yield as_role(url, ROLE)
    finally:
        execute(url, f"DROP OWNED BY {QUOTED}")
        execute(url, f"DROP ROLE {QUOTED}")


def test_a_role_with_what_is_granted_can_load(own_database_url: str) -> None:
    with role(own_database_url) as url:
        for grant in Database(own_database_url).grant_statements(ROLE):
            execute(own_database_url, grant)
        Database(url).load(stage_library(ROWS), ["user-1"], LoadOptions(details=True))
        Database(url).load(stage_library(ROWS), ["user-1"], LoadOptions(dry_run=True))
        assert Database(url).read_schema().missing == []

    assert len(rows_of(own_database_url, "LibraryItem")) == 1


def test_every_grant_is_needed(new_database: NewDatabase) -> None:
    own = new_database(2026)

    with role(own) as url:
        granted = Database(own).grant_statements(ROLE)
        for left_out in granted:
            for grant in granted:
                execute(own, grant)
            execute(own, left_out.replace("GRANT", "REVOKE").replace(f"TO {QUOTED}", f"FROM {QUOTED}"))
            with pytest.raises(Refused, match="permission denied") as raised:
                Database(url).load(stage_library(ROWS), ["user-1"])
            assert raised.value.code == "configuration"

    assert len(granted) == 5
