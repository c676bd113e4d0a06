"""The commands about this installation: what an import lacks, the settings in force, and the documentation."""

import asyncio
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple, get_args, get_origin
from uuid import uuid4

import click
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Table

from pipeline import clients
from pipeline.apis.igdb_queries import Query
from pipeline.cli.local import describe_embedded
from pipeline.cli.options import IGDB, STEAM, json_option, with_settings
from pipeline.cli.output import console
from pipeline.cli.terminal import Command, echo_always, is_quiet
from pipeline.errors import Failed, PipelineError, Refused
from pipeline.settings import WHERE_TO_GET, Settings
from pipeline.stages import with_statuses
from schemas.staging import DEFAULT_OPTIONS

QUICK_SETTINGS = {"http_timeout_seconds": 5.0, "retry_attempts": 2, "retry_base_seconds": 0.5}
"""Settings with which each check ends within seconds, even if no server answers."""

MOST_SECONDS_OFF = 120
"""The seconds that this machine's clock may be off; a synchronised one never is.

S3 refuses requests that are signed 15 minutes off.
"""

ANY_ACCOUNT = "76561197960287930"
ONE_GAME = Query("games", "id", "id = 1")
EXIT_FAILED, EXIT_SKIPPED = 1, 2

SETTING_TYPES: dict[type, str] = {int: "integer", float: "number", str: "text", SecretStr: "text"}
"""The words for the types of settings, by type."""


class Check(NamedTuple):
    """A check of `doctor`: a function that returns its finding or raises an error; skipped without its settings."""

    name: str
    run: Callable[[Settings], str]
    needed: tuple[str, ...] = ()


class Finding(NamedTuple):
    """The result of one check of the command `doctor`; a check is skipped if a setting that it needs is missing."""

    check: str
    status: Literal["ok", "failed", "skipped"]
    says: str


@click.command(cls=Command, epilog="steam-import doctor")
@json_option
@with_settings(*dict.fromkeys((*STEAM, *IGDB, "database_url")))
def doctor(settings: Settings, *, as_json: bool) -> None:
    """Check what an import needs, and say what to fix.

    Checked are the keys, the store, the database, the clock and the versions of the libraries.

    The exit status is 0 if every check is ok, 1 if one failed, and 2 if none failed but settings are missing.
    """
    settings = settings.model_copy(update=QUICK_SETTINGS)
    findings: list[Finding] = []
    for check in CHECKS:
        finding = _run(check, settings)
        findings.append(finding)
        if not as_json and not (is_quiet() and finding.status == "ok"):
            echo_always(f"{finding.status:8} {finding.check:10} {finding.says}")
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    statuses = {finding.status for finding in findings}
    sys.exit(EXIT_FAILED if "failed" in statuses else EXIT_SKIPPED if "skipped" in statuses else 0)


def _run(check: Check, settings: Settings) -> Finding:
    missing = [name for name in check.needed if not settings.has(name)]
    if missing:
        return Finding(check.name, "skipped", f"Set {'; '.join(WHERE_TO_GET[name] for name in missing)}.")
    try:
        return Finding(check.name, "ok", check.run(settings))
    except PipelineError as error:
        return Finding(check.name, "failed", f"{error.code}: {error.message}")


def _check_versions(_settings: Settings) -> str:
    ours = (f"{package} {version(package)}" for package in ("steam-library-import", "polars"))
    return f"{', '.join(ours)}, Python {platform.python_version()}."


def _check_clock(settings: Settings) -> str:
    steam_time = asyncio.run(clients.fetch_steam_time(settings))
    if steam_time is None:
        return "Steam's answer has no time to compare with."
    seconds = (datetime.now(UTC) - steam_time).total_seconds()
    if abs(seconds) > MOST_SECONDS_OFF:
        raise Refused(
            "configuration",
            f"This machine's clock is {abs(seconds):.0f} seconds {'ahead of' if seconds > 0 else 'behind'} Steam's. S3 "
            "refuses requests that are signed at a wrong time. Synchronise it (timedatectl set-ntp true).",
        )
    return "The clock agrees with Steam's to two minutes."


def _check_store(settings: Settings) -> str:
    store, key, body = clients.open_store(settings), f"doctor-{uuid4().hex}", b"written to be read and deleted"
    store.write(key, body)
    try:
        if store.read(key) != body or key not in store.list("doctor-"):
            raise Failed("store_unavailable", f"{store.locate(key)} was written but is not there. Check STORE_URL.")
        etag = store.list(key).get(key)
        is_bucket = store.locate("").startswith("s3://")
        if is_bucket and (store.replace(key, body, None) or not store.replace(key, body, etag)):
            raise Refused(
                "configuration",
                f"{store.locate('')} ignores the conditions of a write (If-Match, If-None-Match), which keep backfills "
                "and the catalogue from overwriting each other. Use a store that knows them.",
            )
    finally:
        store.delete(key)
    return f"{store.locate('')} can be written to, listed, read and deleted from."


def _check_steam_key(settings: Settings) -> str:
    async def ask() -> None:
        async with clients.open_steam(settings) as steam:
            await steam.has_account(ANY_ACCOUNT)

    asyncio.run(ask())
    return "Steam accepts STEAM_API_KEY."


def _check_igdb_keys(settings: Settings) -> str:
    async def ask() -> None:
        async with clients.open_igdb(settings) as igdb:
            await igdb.count(ONE_GAME)

    asyncio.run(ask())
    return "Twitch gives a token for IGDB_CLIENT_ID and IGDB_CLIENT_SECRET, and IGDB accepts it."


def _check_database(settings: Settings) -> str:
    if not settings.has("database_url"):
        return f"{describe_embedded(settings)}; embedded, as DATABASE_URL is not set."
    database = clients.open_database(settings)
    database.require_ready([], with_statuses(DEFAULT_OPTIONS, settings))
    schema = database.read_schema()
    left_out = f" A load leaves out {', '.join(schema.left_out)}." if schema.left_out else ""
    return f"PostgreSQL {database.server_version()}, of DATABASE_URL, has all that a load needs.{left_out}"


CHECKS = (
    Check("versions", _check_versions),
    Check("clock", _check_clock),
    Check("store", _check_store, ("store",)),
    Check("steam key", _check_steam_key, ("steam_api_key",)),
    Check("igdb keys", _check_igdb_keys, ("igdb_client_id", "igdb_client_secret")),
    Check("database", _check_database),
)


class Setting(NamedTuple):
    """A setting as it is declared: its environment variable, the type of its values, its default and its meaning."""

    name: str
    type: str
    default: str
    meaning: str


def declared_settings() -> list[Setting]:
    """Return all settings in the order of their declaration; a default of None is an empty text."""
    return [
        Setting(
            name.upper(),
            _setting_type(field.annotation),
            "" if field.default is None else str(field.default),
            f"{field.description}.",
        )
        for name, field in Settings.model_fields.items()
    ]


@click.command("settings", cls=Command, epilog="steam-import settings --json")
@json_option
@with_settings()
def settings(settings: Settings, *, as_json: bool) -> None:
    """Print all settings with their values, and where each value comes from.

    Secrets are printed as ***. An option of a command overrides the environment, which overrides the file .env.
    """
    options = {
        "log_level" if name == "quiet" else name for name, value in click.get_current_context().params.items() if value
    }
    sources = (
        dict.fromkeys(Settings.read().model_fields_set, ".env")
        | {name.lower(): "environment" for name, value in os.environ.items() if value}
        | dict.fromkeys(options, "option")
    )
    found: list[dict[str, str]] = []
    for setting in declared_settings():
        value = getattr(settings, setting.name.lower())
        shown = "***" if isinstance(value, SecretStr) else value if value is None else str(value)
        source = sources.get(setting.name.lower(), "default")
        found.append(setting._asdict() | {"value": shown, "source": source})
    if as_json:
        click.echo(json.dumps(found))
        return
    table = Table("Setting", "Value", "From", "Meaning")
    for row in found:
        table.add_row(row["name"], escape(row["value"] or ""), row["source"], escape(row["meaning"]))
    console().print(table)


def _setting_type(annotation: object) -> str:
    """Return the type of a setting's values in words; Literals are listed, and None is left out."""
    if get_origin(annotation) is Literal:
        return ", ".join(get_args(annotation))
    if isinstance(annotation, type):
        return SETTING_TYPES[annotation]
    return next(_setting_type(argument) for argument in get_args(annotation) if argument is not type(None))


def read_pages() -> dict[str, str]:
    """Return the text of each page of the documentation by its name, such as `errors`."""
    package = Path(__file__).parents[1]
    in_wheel, in_repository = package / "docs", package.parent / "docs"
    pages = sorted((in_wheel if in_wheel.is_dir() else in_repository).glob("*.md"))
    return {page.stem: page.read_text(encoding="utf-8") for page in pages}


@click.command(cls=Command, epilog="steam-import docs errors private_library")
@click.argument("page", required=False)
@click.argument("section", required=False)
@json_option
@with_settings()
def docs(page: str | None, section: str | None, *, as_json: bool, **_: object) -> None:
    """Print a page of the documentation, or the names of all pages.

    SECTION is a heading of PAGE, such as an error code of the page `errors`.
    """
    pages = read_pages()
    if page is None:
        click.echo(json.dumps(list(pages)) if as_json else "\n".join(pages))
        return
    if page not in pages:
        raise click.BadParameter(f"There is no page {page!r}; there are {', '.join(pages)}.", param_hint="PAGE")
    text = _section(pages[page], section) if section else pages[page]
    if text is None:
        raise click.BadParameter(f"The page {page} has no heading {section!r}.", param_hint="SECTION")
    if as_json:
        click.echo(json.dumps({"page": page, "section": section, "text": text}))
    else:
        echo_always(text.strip())


def _section(text: str, heading: str) -> str | None:
    """Return the part of a Markdown page from a heading to the next one of the same level; None without the heading."""
    found = re.search(rf"(?m)^(#+) `?{re.escape(heading)}`?$", text)
    if found is None:
        return None
    end = re.search(rf"(?m)^#{{1,{len(found[1])}}} ", text[found.end() :])
    return text[found.start() : found.end() + end.start() if end else None]
