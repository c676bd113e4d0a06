"""What an import needs, looked at one thing at a time: each says what it found, or what to mend.

The command that says what to mend before an import.
"""

import asyncio
import json
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal, NamedTuple
from uuid import uuid4

import click

from pipeline import clients
from pipeline.apis.igdb_queries import Query
from pipeline.cli.echo import echo_always, is_quiet
from pipeline.cli.help import Command
from pipeline.cli.local import with_database
from pipeline.cli.options import IGDB, STEAM, json_option, with_settings
from pipeline.errors import Failed, PipelineError, Refused
from pipeline.settings import WHERE_TO_GET, Settings

IMPATIENT = {"http_timeout_seconds": 5.0, "retry_attempts": 2, "retry_base_seconds": 0.5}

MOST_SECONDS_OFF = 120
"""S3 refuses requests that are signed 15 minutes off; a clock that is kept is never two minutes off."""

ANYONE = "76561197960287930"
ONE_GAME = Query("games", "id", "id = 1")


class Finding(NamedTuple):
    """How it is with one of the things: `skipped` is what no setting is there for."""

    check: str
    status: Literal["ok", "failed", "skipped"]
    says: str


class Check(NamedTuple):
    """One of the things: looked at where the settings it needs are there; says what is, or raises our errors."""

    name: str
    look: Callable[[Settings], str]
    needs: tuple[str, ...] = ()


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one after another, whatever the others said; seconds each, as nothing is tried often."""
    impatient = settings.model_copy(update=IMPATIENT)
    return (_find(check, impatient) for check in CHECKS)


def _find(check: Check, settings: Settings) -> Finding:
    missing = [name for name in check.needs if not settings.has(name)]
    if missing:
        return Finding(check.name, "skipped", f"Set {'; '.join(WHERE_TO_GET[name] for name in missing)}.")
    try:
        return Finding(check.name, "ok", check.look(settings))
    except PipelineError as error:
        return Finding(check.name, "failed", f"{error.code}: {error.message}")


def _versions(_settings: Settings) -> str:
    ours = (f"{package} {version(package)}" for package in ("steam-library-import", "polars"))
    return f"{', '.join(ours)}, Python {platform.python_version()}."


def _clock(settings: Settings) -> str:
    theirs = asyncio.run(clients.fetch_steam_time(settings))
    if theirs is None:
        return "Steam's answer has no time to compare with."
    seconds = (datetime.now(UTC) - theirs).total_seconds()
    if abs(seconds) > MOST_SECONDS_OFF:
        raise Refused(
            "configuration",
            f"This machine's clock is {abs(seconds):.0f} seconds {'ahead of' if seconds > 0 else 'behind'} Steam's; S3 "
            "refuses what is signed at a wrong time. Let the system keep its time (timedatectl set-ntp true).",
        )
    return "As Steam's, to two minutes."


def _steam_key(settings: Settings) -> str:
    async def ask() -> None:
        async with clients.open_steam(settings) as steam:
            await steam.has_account(ANYONE)

    asyncio.run(ask())
    return "Steam takes STEAM_API_KEY."


def _igdb_keys(settings: Settings) -> str:
    async def ask() -> None:
        async with clients.open_igdb(settings) as igdb:
            await igdb.count(ONE_GAME)

    asyncio.run(ask())
    return "Twitch gives a token for IGDB_CLIENT_ID and IGDB_CLIENT_SECRET, and IGDB takes it."


def _store(settings: Settings) -> str:
    store, key, body = clients.open_store(settings), f"doctor-{uuid4().hex}", b"written to be read and deleted"
    store.write(key, body)
    try:
        if store.read(key) != body or key not in store.list("doctor-"):
            raise Failed(
                "store_unavailable", f"What was written to {store.locate(key)} is not there. Look at STORE_URL."
            )
    finally:
        store.delete(key)
    return f"{store.locate('')} can be written, listed, read and deleted from."


def _database(settings: Settings) -> str:
    with with_database(settings) as local:
        database = clients.open_database(local)
        findings, lacking = database.read_schema(), database.missing_rights()
        if lacking:
            raise Refused(
                "configuration",
                f"The role of DATABASE_URL lacks {', '.join(lacking)}. Let the database's owner run what "
                "`steam-import db grants ROLE` prints.",
            )
        place = "as DATABASE_URL says" if settings.has("database_url") else "embedded, as DATABASE_URL is not set"
        left_out = f" A load leaves out {', '.join(findings.left_out)}." if findings.left_out else ""
        return f"PostgreSQL {database.server_version()}, {place}; it has all that a load needs.{left_out}"


CHECKS = (
    Check("versions", _versions),
    Check("clock", _clock),
    Check("store", _store, ("store",)),
    Check("steam key", _steam_key, ("steam_api_key",)),
    Check("igdb keys", _igdb_keys, ("igdb_client_id", "igdb_client_secret")),
    Check("database", _database),
)

EXIT_FAILED, EXIT_SKIPPED = 1, 2


@click.command(cls=Command, epilog="steam-import doctor")
@json_option
@with_settings(*dict.fromkeys((*STEAM, *IGDB, "database_url")))
def doctor(settings: Settings, *, as_json: bool) -> None:
    """Check keys, store, database, clock and versions, and say what to fix.

    The exit status is 0 when all is well, 1 when something failed, and 2 when nothing did but settings are missing.
    """
    findings: list[Finding] = []
    for finding in examine(settings):
        findings.append(finding)
        if not as_json and not (is_quiet() and finding.status == "ok"):
            echo_always(f"{finding.status:8} {finding.check:10} {finding.says}")
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    met = {finding.status for finding in findings}
    sys.exit(EXIT_FAILED if "failed" in met else EXIT_SKIPPED if "skipped" in met else 0)
