"""What the command line uses where nothing is configured: an embedded PostgreSQL, and for the demo sandbox APIs."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import SubprocessError
from typing import Literal

from pydantic import SecretStr

from pipeline import clients
from pipeline.errors import Refused
from pipeline.settings import DATA, Settings

DEMO_LATENCY_SECONDS = 0.08
_INSTALL = 'Set DATABASE_URL, or install the embedded database: pip install "steam-library-import[sandbox]"'


@contextmanager
def with_database(settings: Settings, user_id: str | None = None) -> Iterator[Settings]:
    """These settings, with an embedded PostgreSQL if they name no database; there, the user's row is made on demand."""
    if settings.has("database_url"):
        yield settings
        return
    with _extra():
        from pipeline.sandbox.embedded import embedded_database
    with ExitStack() as stack:
        with _usable(_data(settings)):
            url = stack.enter_context(embedded_database(_data(settings) / "postgres"))
        local = settings.model_copy(update={"database_url": SecretStr(url)})
        if user_id:
            clients.open_database(local).ensure_users([user_id])
        yield local


def make_tables(settings: Settings, generation: Literal[2025, 2026]) -> bool:
    """Make SavePoint's tables of a generation, 2025 or 2026, where there are none; whether it did."""
    with _extra():
        from pipeline.sandbox.embedded import create_tables, serve_postgres
    if settings.has("database_url"):
        clients.open_database(settings).read_schema()  # says what is wrong with the URL without quoting it
        return create_tables(clients.secret_value(settings, "database_url"), generation)
    with ExitStack() as stack:
        with _usable(_data(settings)):
            url = stack.enter_context(serve_postgres(_data(settings) / "postgres"))
        return create_tables(url, generation)


@contextmanager
def with_sandbox(settings: Settings) -> Iterator[tuple[Settings, str]]:
    """Settings that lead to sandbox APIs and to a store and a database of the demo's own, and an account to import."""
    with _extra():
        from pipeline.sandbox.server import Sandbox
        from pipeline.sandbox.world import World
    with Sandbox(World.recorded(), latency_seconds=DEMO_LATENCY_SECONDS) as sandbox:
        apis = {name.lower(): value for name, value in sandbox.environment.items()}
        own = {"store_url": str(DATA / "demo"), "log_level": settings.log_level}
        unset = dict.fromkeys(
            ("database_url", "database_url_secret_arn", "status_played", "status_unplayed", "aws_endpoint_url_s3")
        )
        yield Settings.model_validate(apis | own | unset), World.RECORDED_ACCOUNT


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Refused("configuration", f"{error.name} is not installed. {_INSTALL}") from None


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SubprocessError) as error:
        why = error if isinstance(error, OSError) else "its PostgreSQL does not start; look whose its files are"
        raise Refused(
            "configuration",
            f"No database can be embedded in {folder}: {why}. Set DATABASE_URL, or another STORE_URL.",
        ) from error


def _data(settings: Settings) -> Path:
    store = str(settings.store)
    return DATA if store.startswith("s3://") else Path(store)


def absolute(location: str) -> str:
    """A location as the store has it: a path from wherever one stands is spelt out."""
    return location if "://" in location else os.path.normpath(Path(location).expanduser().absolute())
