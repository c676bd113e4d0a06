"""The command that prints what changed between two imports of a user."""

import click

from pipeline import clients
from pipeline.api import find_pair
from pipeline.cli.options import STORE, json_option, with_settings
from pipeline.cli.output import add_change_rows, console, figures_table
from pipeline.cli.terminal import Command, echo
from pipeline.settings import Settings
from pipeline.stages import read_changes_between


@click.command(cls=Command, epilog="steam-import diff 20261123T031749Z")
@click.argument("run")
@click.argument("later", required=False, metavar="[RUN]")
@json_option
@with_settings(*STORE)
def diff(settings: Settings, run: str, later: str | None, *, as_json: bool) -> None:
    """Print what changed between two imports of a user.

    With one RUN, since the user's import before it. A RUN is a run id, a time or the location of a CSV, as `runs`
    lists them.
    """
    store = clients.open_store(settings)
    earlier, after = find_pair(store, run, later)
    changes = read_changes_between(store, earlier, after)
    if as_json:
        click.echo(changes.model_dump_json())
        return
    nothing = ": nothing has changed." if changes.is_nothing else ":"
    echo(f"{after.user_id}, from {changes.since} to {changes.until}{nothing}")
    table = figures_table()
    add_change_rows(table, changes, shown=None)
    if table.row_count:
        console().print(table)
