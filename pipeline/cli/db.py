"""The commands that look at the database."""

import json
import sys

import click

from pipeline import clients
from pipeline.cli.local import make_tables, with_database
from pipeline.cli.options import DATABASE, json_option, with_settings
from pipeline.cli.terminal import Group, echo, echo_always
from pipeline.database.item_statuses import explain_item_statuses
from pipeline.settings import Settings
from pipeline.stages import with_statuses
from schemas.staging import DEFAULT_OPTIONS

FINDINGS = ("Users' table", "Tables", "Missing", "Left out", "Own rules")
WITHOUT_STATUS = {"unplayed": "none", "played": "none", "recent": "by its playtime"}


@click.group(cls=Group, epilog="steam-import db check")
def db() -> None:
    """Check SavePoint's database, or make one to try things in."""


@db.command(epilog="steam-import db check --database-url postgresql://importer@localhost/savepoint")
@json_option
@with_settings(*DATABASE)
def check(settings: Settings, *, as_json: bool) -> None:
    """Print what a load finds in the database, what is missing, what it leaves out, and which statuses new items get.

    Encoding, types, nulls, enum values and keys are compared; row-level security, rights and whether the session can
    write are checked. The exit status is 1 if something is missing that a load needs, and that of the error if the
    tables are complete but cannot be written to.
    """
    with with_database(settings) as local:
        database = clients.open_database(local)
        schema = database.read_schema()
        findings = {
            "users_table": [schema.users.name] if schema.users is not None else [],
            "tables": sorted(schema.columns),
            "missing": schema.missing,
            "left_out": schema.left_out,
            "own_rules": [f'{rule} of "{name}"' for name, rules in schema.row_rules.items() for rule in rules],
        }
        options = with_statuses(DEFAULT_OPTIONS, settings)
        statuses = explain_item_statuses(schema, options)
        if as_json:
            click.echo(json.dumps(findings | {"statuses": {name: of._asdict() for name, of in statuses.items()}}))
        else:
            for title, found in zip(FINDINGS, findings.values(), strict=True):
                echo(f"{title + ':':14}{', '.join(found) or 'nothing'}")
            for name, (status, why) in statuses.items():
                echo(f"Status, {name + ':':10}{status or WITHOUT_STATUS[name]}, because {why}")
        if not schema.missing:
            database.require_ready([], options)
            return
    echo_always(schema.remedy, err=True)
    sys.exit(1)


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
