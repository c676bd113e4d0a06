"""The modules that a Lambda function imports: its own stage, no other, and few before an event is accepted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lambda_functions import ENRICHED, RAW, USER
from tests.support.stores import BUCKET

HTTP = {"httpx", "httpcore", "anyio"}
SQL = {"sqlalchemy", "adbc_driver_manager", "adbc_driver_postgresql", "schemas.savepoint"}
NEEDED = {
    "steam_import": {"pipeline.apis.steam"},
    "igdb_enrichment": {"pipeline.apis.igdb", "pipeline.apis.steam"},
    "database_import": {"pipeline.storage.s3"},
}
FOREIGN = {
    "steam_import": SQL | {"pipeline.apis.igdb"},
    "igdb_enrichment": SQL,
    "database_import": HTTP | {"pipeline.apis.http"},
}
NOBODYS = {"aiohttp", "rapidfuzz", "pipeline.cli", "pipeline.sandbox", "pipeline.review"}

REFUSED = {
    "steam_import": {"user_id": USER, "steam_id64": "no Steam id"},
    "igdb_enrichment": {"user_id": "somebody-else", "s3_location": RAW},
    "database_import": {"user_id": "somebody-else", "s3_enriched_location": ENRICHED},
}
CONNECTIONS = {"httpcore", "anyio"} | SQL
"""What is imported with the first connection to an API or to the database."""

SETTINGS = {
    "S3_BUCKET": BUCKET,
    "AWS_REGION": "eu-central-1",
    "STEAM_API_KEY": "x",
    "IGDB_CLIENT_ID": "x",
    "IGDB_CLIENT_SECRET": "x",
    "DATABASE_URL": "postgresql://127.0.0.1:1/x",
}


def imported_by(function: str) -> tuple[set[str], set[str]]:
    """The modules that a function has imported when it is loaded, and when it has refused an event."""
    program = f"""
import sys
from handlers.{function} import handler
print(*sys.modules)
assert handler({REFUSED[function]!r}, None)["error_code"] != "configuration"
print(*sys.modules)
"""
    environment = {"PYTHONPATH": str(Path.cwd())} | SETTINGS
    told = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)  # noqa: S603 - our own
    loaded, *_, refused = told.splitlines()
    return set(loaded.split()), set(refused.split())


@pytest.mark.parametrize("function", NEEDED)
def test_a_function_imports_what_its_stage_needs_and_nothing_to_connect_with_before_it_accepts_an_event(
    function: str,
) -> None:
    loaded, refused = imported_by(function)
    assert NEEDED[function] <= loaded
    assert loaded & (FOREIGN[function] | NOBODYS) == set()
    assert refused & CONNECTIONS == set()
