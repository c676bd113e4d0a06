"""The commands that look at the database."""

import sys

import click

from pipeline import wiring
from pipeline.local import make_tables, with_database
from pipeline.options import DATABASE, with_settings
from pipeline.settings import Settings
from pipeline.terminal import describe


@click.group()
def db() -> None:
    """Look at SavePoint's database, or make one to try things in."""


@db.command()
@with_settings(*DATABASE)
def check(settings: Settings) -> None:
    """Say what the database has, lacks, and what a load would leave out; exit status 1 if it could not work."""
    with with_database(settings) as local:
        findings = wiring.database(local).check()
    click.echo(describe(findings))
    if findings.missing:
        click.echo(findings.remedy, err=True)
    sys.exit(1 if findings.missing else 0)


@db.command()
@click.option("--generation", type=click.Choice(["2025", "2026"]), default="2026", show_default=True)
@with_settings(*DATABASE)
def create(settings: Settings, generation: str) -> None:
    """Make SavePoint's tables in an empty database, to try things in; SavePoint's own are made by its migrations."""
    made = make_tables(settings, 2025 if generation == "2025" else 2026)
    click.echo(f"Made SavePoint's tables of {generation}." if made else "There are tables already; nothing was made.")


@db.command()
@click.argument("role")
@with_settings(*DATABASE)
def grants(settings: Settings, role: str) -> None:
    """Print the least privileges that ROLE needs to load, as statements for the owner of the database to run."""
    with with_database(settings) as local:
        for statement in wiring.database(local).grants(role):
            click.echo(statement)
