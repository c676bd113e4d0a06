"""The commands that look at the database."""

import json
import sys

import click

from pipeline import clients
from pipeline.cli.local import make_tables, with_database
from pipeline.cli.options import DATABASE, json_option, with_settings
from pipeline.cli.terminal import Group, echo, echo_always
from pipeline.settings import Settings


@click.group(cls=Group, epilog="steam-import db check")
def db() -> None:
    """Check SavePoint's database, or make one to try things in."""


@db.command(epilog="steam-import db check --database-url postgresql://importer@localhost/savepoint")
@json_option
@with_settings(*DATABASE)
def check(settings: Settings, *, as_json: bool) -> None:
    """Print what a load finds in the database, what is missing, and what it would leave out.

    The exit status is 1 if something is missing that a load needs.
    """
    with with_database(settings) as local:
        schema = clients.open_database(local).read_schema()
    findings = {
        "users_table": [schema.users.name] if schema.users is not None else [],
        "tables": sorted(schema.columns),
        "missing": schema.missing,
        "left_out": schema.left_out,
    }
    if as_json:
        click.echo(json.dumps(findings))
    else:
        for title, found in zip(("Users' table", "Tables", "Missing", "Left out"), findings.values(), strict=True):
            echo(f"{title + ':':14}{', '.join(found) or 'nothing'}")
    if schema.missing:
        echo_always(schema.remedy, err=True)
    sys.exit(1 if schema.missing else 0)


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
    """Create SavePoint's tables in an empty database, to try things in.

    SavePoint's own tables are made by its migrations.
    """
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
    """Print the statements that give ROLE the least privileges that a load needs.

    The owner of the database has to run them.
    """
    with with_database(settings) as local:
        statements = clients.open_database(local).grant_statements(role)
    click.echo(json.dumps(statements) if as_json else "\n".join(statements))
