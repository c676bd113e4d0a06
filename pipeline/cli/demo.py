"""The command that shows an import to whoever has nothing: no keys, no account, no database."""

import json

import click

from pipeline.cli.echo import echo
from pipeline.cli.help import Command
from pipeline.cli.imports import import_library, print_import
from pipeline.cli.local import with_database, with_sandbox
from pipeline.cli.options import json_option, with_settings
from pipeline.cli.output import ImportReport, console, summary_table
from pipeline.cli.report import write_report
from pipeline.settings import DATA, Settings

REPORT = DATA / "demo" / "report.html"


@click.command(cls=Command, epilog="steam-import demo --json")
@json_option
@with_settings()
def demo(settings: Settings, *, as_json: bool) -> None:
    """Import a recorded library of 129 games twice, with nothing configured.

    The APIs of Steam and IGDB are played by a server of this process, and the rows go into an embedded PostgreSQL.
    """
    first, again = ImportReport(), ImportReport()
    with with_sandbox(settings) as (apis, account), with_database(apis, account) as local:
        import_library(local, account, first)
        import_library(local, account, again)
        if as_json:
            click.echo(json.dumps([first.as_json(), again.as_json()]))
        else:
            print_import(local, first)
            echo("\nThe same library once more:")
            console().print(summary_table(again))
        page = write_report(local, str(again.enrich and again.enrich.s3_enriched_location), REPORT)
        click.echo(f"\nReport, for a browser: {page}", err=as_json)
