"""The command that lists imports and backfills."""

import json

import click
import polars as pl
from pandera.typing.polars import DataFrame
from rich.table import Table

from pipeline import clients
from pipeline.api import runs_in
from pipeline.backfill.report import OUTCOMES_CSV
from pipeline.cli.options import STORE, json_option, with_settings
from pipeline.cli.output import console
from pipeline.cli.terminal import Command, echo
from pipeline.settings import Settings
from pipeline.storage.keys import backfill_key
from schemas.frames import as_text
from schemas.manifest import Runs

COUNTS = ("rows", "matched", "unmatched", "filtered", "pending", "rejected", "requests")


@click.command(cls=Command, epilog="steam-import runs --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The most runs to list.")
@json_option
@with_settings(*STORE)
def runs(settings: Settings, limit: int, *, as_json: bool) -> None:
    """List the runs in the store, the newest first.

    Each line has the stages that are done, what they counted, and how many seconds they took.
    """
    store = clients.open_store(settings)
    found = runs_in(store, limit)
    if as_json:
        click.echo(json.dumps(found.with_columns(as_text(found.select("started_at"))).to_dicts()))
    elif found.height:
        console().print(_runs_table(found))
        if "import" in found["kind"]:
            echo(f"An import's CSVs: {store.locate('imports/{user}/{time}-raw.csv')} and …-enriched.csv")
        if "backfill" in found["kind"]:
            echo(f"A backfill's users: {store.locate(backfill_key('{backfill}', OUTCOMES_CSV))}")
    else:
        echo(f"There are no runs in {store.locate('')}.")


def _runs_table(found: DataFrame[Runs]) -> Table:
    table = Table("time", "user or backfill", "done", box=None, padding=(0, 2, 0, 0))
    for name in (*COUNTS, "seconds"):
        table.add_column(name, justify="right")
    cells = found.select(
        "timestamp",
        pl.coalesce("user_id", pl.format("{}, users: {}", "run_id", "users")),
        _stages_done(),
        pl.col(COUNTS).cast(pl.String).fill_null(""),
        pl.col("seconds").round(1).cast(pl.String).fill_null(""),
    )
    for row in cells.rows():
        table.add_row(*row)
    return table


def _stages_done() -> pl.Expr:
    """Return an expression for the text of the stages that are done, with "not ended" for an unfinished backfill."""
    stages = pl.col("stages").cast(pl.List(pl.String)).list.join(", ")
    not_ended = pl.concat_str(stages.replace("", None), pl.lit("not ended"), separator="; ", ignore_nulls=True)
    return pl.when(pl.col("is_ended").not_()).then(not_ended).otherwise(stages)
