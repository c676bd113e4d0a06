"""The commands that look at the database."""

import json
import sys

import click

from pipeline import clients
from pipeline.cli.echo import echo, echo_always
from pipeline.cli.help import Group
from pipeline.cli.local import make_tables, with_database
from pipeline.cli.options import DATABASE, json_option, with_settings
from pipeline.cli.output import describe, findings_json
from pipeline.settings import Settings


@click.group(cls=Group, epilog="steam-import db check")
def db() -> None:
    """Check SavePoint's database, or make one to try things in."""


@db.command(epilog="steam-import db check --database-url postgresql://importer@localhost/savepoint")
@json_option
@with_settings(*DATABASE)
def check(settings: Settings, *, as_json: bool) -> None:
    """Say what the database has, lacks, and what a load would leave out; exit status 1 if it could not work."""
    with with_database(settings) as local:
        findings = clients.open_database(local).read_schema()
    if as_json:
        click.echo(json.dumps(findings_json(findings)))
    else:
        echo(describe(findings))
    if findings.missing:
        echo_always(findings.remedy, err=True)
    sys.exit(1 if findings.missing else 0)


@db.command(epilog="steam-import db create --database-url postgresql://me@localhost/empty")
@click.option(
    "--generation",
    type=click.Choice(["2025", "2026"]),
    default="2026",
    show_default=True,
    help="SavePoint's tables as of December 2025, or of June 2026.",
)
@json_option
@with_settings(*DATABASE)
def create(settings: Settings, generation: str, *, as_json: bool) -> None:
    """Make SavePoint's tables in an empty database, to try things in; SavePoint's own are made by its migrations."""
    made = make_tables(settings, 2025 if generation == "2025" else 2026)
    if as_json:
        click.echo(json.dumps({"made": made}))
    else:
        echo(f"Made SavePoint's tables of {generation}." if made else "There are tables already; nothing was made.")


@db.command(epilog="steam-import db grants importer")
@click.argument("role")
@json_option
@with_settings(*DATABASE)
def grants(settings: Settings, role: str, *, as_json: bool) -> None:
    """Print the least privileges that ROLE needs to load, as statements for the owner of the database to run."""
    with with_database(settings) as local:
        statements = clients.open_database(local).grant_statements(role)
    click.echo(json.dumps(statements) if as_json else "\n".join(statements))
