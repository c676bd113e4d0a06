"""What a Lambda function imports when it starts: its own stage, and nothing of the others."""

import subprocess
import sys

import pytest

HTTP = {"httpx", "httpcore", "anyio"}
SQL = {"sqlalchemy", "adbc_driver_manager", "adbc_driver_postgresql", "schemas.tables"}
NEEDED = {
    "steam_import": {"pipeline.edges.steam"},
    "igdb_enrichment": {"pipeline.edges.igdb", "pipeline.edges.steam_store"},
    "database_import": {"pipeline.edges.postgres"},
}
FOREIGN = {
    "steam_import": SQL | {"pipeline.edges.igdb", "pipeline.edges.steam_store"},
    "igdb_enrichment": SQL | {"pipeline.edges.steam"},
    "database_import": HTTP | {"pipeline.edges.http"},
}
NOBODYS = {"aiohttp", "lark", "rapidfuzz", "pipeline.cli", "pipeline.sandbox", "pipeline.review"}


@pytest.mark.parametrize("function", NEEDED)
def test_a_function_imports_all_that_its_own_stage_needs_and_nothing_of_the_others(function: str) -> None:
    program = f"import sys, handlers.{function}; print(*sys.modules)"
    imported = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())  # noqa: S603 - our own
    assert NEEDED[function] <= imported
    assert imported & (FOREIGN[function] | NOBODYS) == set()
