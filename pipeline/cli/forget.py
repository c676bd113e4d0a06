"""The command that erases a user from the store."""

import click

from pipeline.backfill.forget import forget_with_settings
from pipeline.cli.options import STORE, json_option, with_settings
from pipeline.cli.terminal import Command, echo
from pipeline.settings import Settings
from pipeline.stages import require_user_id
from schemas.events import ForgetEvent, ForgetResponse


@click.command(cls=Command, epilog="steam-import forget cm1a2b3c4 --dry-run")
@click.argument("user_id")
@click.option("--dry-run", is_flag=True, help="Print what the store holds of the user, and erase nothing.")
@json_option
@with_settings(*STORE)
def forget(settings: Settings, user_id: str, *, dry_run: bool, as_json: bool) -> None:
    """Erase what the store holds of a user.

    These are the user's imports, lines in lists, rows in backfills that have ended, and what was last loaded. If a
    backfill with the user has not ended, nothing is erased. The database is not touched.
    """
    settings.require("store")
    erased = forget_with_settings(settings, ForgetEvent(user_id=require_user_id(user_id), dry_run=dry_run))
    if as_json:
        click.echo(erased.model_dump_json(exclude={"seconds", "requests"}))
    else:
        _print(erased)


def _print(erased: ForgetResponse) -> None:
    echo(f"{'The store holds' if erased.dry_run else 'Erased'} of user {erased.user_id}:")
    echo(f"  files of imports: {erased.files}")
    echo(f"  lists of users:   {', '.join(erased.lists or ()) or 'none'}")
    echo(f"  backfills:        {', '.join(erased.backfills or ()) or 'none'}")
    echo(f"  last loaded:      {'yes' if erased.last_loaded else 'no'}")
    echo("The rows of the user in the database are not touched: delete the user in SavePoint.")
