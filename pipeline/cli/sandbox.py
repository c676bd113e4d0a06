"""The command that serves the sandbox's APIs, and a PostgreSQL, to programs that are being developed."""

import json
import os
import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import click

from pipeline import clients
from pipeline.cli.local import refusing_missing_extra, with_database
from pipeline.cli.options import json_option, with_settings
from pipeline.cli.terminal import Command, echo
from pipeline.errors import Refused
from pipeline.settings import DATA, Settings, absolute_path

if TYPE_CHECKING:
    from pydantic import SecretStr

    from pipeline.sandbox.server import Sandbox

DEFAULT_PORT = 8350

STEAM_KEY, TWITCH_ID, TWITCH_PASSWORD = "5AB0" * 8, "sandbox0client0id0000000000000", "sandbox0client0secret000000000"
"""The keys that the sandbox takes, the same at every start: settings that were pasted once stay right."""


@click.command("sandbox", cls=Command, epilog="steam-import sandbox --database --fault igdb:429:0.2")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of this machine to listen on; 0 is a free one.",
)
@click.option("--database", is_flag=True, help="Serve the embedded PostgreSQL too, with SavePoint's tables.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="SERVICE:KIND[:SHARE]",
    help="Let the requests to a service fail, or a SHARE of them, such as 0.2. May be given several times.",
)
@json_option
@with_settings()
def sandbox(settings: Settings, port: int, faults: Sequence[str], *, database: bool, as_json: bool) -> None:
    """Serve a local Steam, Twitch and IGDB, to develop and try things with.

    Prints the settings that lead there, to paste into a shell or into .env, and serves until Ctrl-C. Nobody outside
    this machine can reach it. There are a library of 129 games (gabelogannewell), a private one (sandbox-private), one
    whose game details are hidden (sandbox-hidden) and an empty one (sandbox-empty).

    A fault has a SERVICE, which is steam, store, twitch or igdb, and a KIND: an error status such as 429 or 503, stall
    (an answer after a minute), reset (no answer), lost (the same, after the request was carried out), cut (half an
    answer), html (a web page), not_json (half a JSON text), or of steam private (every library is private).
    """
    # Whoever runs it in the background ends it by `kill`, which has to stop PostgreSQL as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        server = stack.enter_context(_running_sandbox(port, faults))
        found = server.environment | {"STORE_URL": str(absolute_path(DATA / "sandbox"))}
        if database:
            own = {"store_url": found["STORE_URL"], "database_url": None, "database_url_secret_arn": None}
            local = stack.enter_context(with_database(settings.model_copy(update=own)))
            clients.open_database(local).ensure_users(list(server.world.accounts))
            found["DATABASE_URL"] = _short_url(cast("SecretStr", local.database_url).get_secret_value())
        exports = "\n".join(f"export {name}={quote_for_shell_and_env(value)}" for name, value in found.items())
        click.echo(json.dumps(found) if as_json else exports)
        echo("Serving until Ctrl-C. With these settings: steam-import run gabelogannewell", err=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
    echo("The sandbox has stopped.", err=True)


def quote_for_shell_and_env(text: str) -> str:
    """Return a value in quotes that a shell and a file `.env` read alike.

    There are none for `${…}`, and for an apostrophe or a backslash beside a `$` or a backquote: these are for a shell.
    """
    if not {"'", "\\"} & set(text):
        return shlex.quote(text)
    return '"' + re.sub(r'(["\\$`])', r"\\\1", text) + '"'


def _short_url(url: str) -> str:
    """Return a URL of the embedded PostgreSQL that psql, Prisma and the like take as well."""
    parameters = parse_qs(urlsplit(url).query)
    where = urlencode({name: parameters[name][0] for name in ("host", "port")}, safe="/")
    return f"postgresql://postgres@localhost/postgres?{where}"


@contextmanager
def _running_sandbox(port: int, faults: Sequence[str]) -> Iterator["Sandbox"]:
    """Yield a running sandbox with the recorded library, keys that never change, and faults.

    Raises:
        Refused: `configuration`, if it cannot listen on the port.
        click.BadParameter: A text names no fault.
    """
    with refusing_missing_extra():
        from pipeline.sandbox.faults import parse_fault
        from pipeline.sandbox.server import Sandbox
        from pipeline.sandbox.world import World
    server = Sandbox(World.recorded())
    server.port, server.steam.key = port, STEAM_KEY
    server.twitch.client_id, server.twitch.client_secret = TWITCH_ID, TWITCH_PASSWORD
    for text in faults:
        try:
            server.faults.add(parse_fault(text))
        except ValueError as error:
            raise click.BadParameter(
                f"{text}: {error}. See steam-import sandbox --help", param_hint="--fault"
            ) from None
    with ExitStack() as stack:
        try:
            stack.enter_context(server)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            says = f"The sandbox cannot listen on port {port} of this machine: {why}."
            raise Refused("configuration", f"{says} Name another with --port; --port 0 takes a free one.") from None
        yield server
