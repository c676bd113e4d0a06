"""Turn Steam's answer about an account's games into rows of a raw library."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame

from schemas.frames import TIME_FORMAT, conform, dtypes, set_aside
from schemas.library import RawLibrary

_YEAR_2004 = 1072915200
"""2004 in Unix seconds: an earlier last play is an artefact, often 86400, 1970-01-02 (Playnite: "unknown")."""

_UINT32 = 2**32


def parse_owned_games(
    games: Sequence[Any], user_id: str, steam_id64: str
) -> tuple[DataFrame[RawLibrary], pl.DataFrame]:
    """Return the valid rows of a GetOwnedGames answer, and a frame of the rejected ones with the check each failed.

    A row is rejected only if it has no usable appid, or a value that PostgreSQL cannot hold. Fields that RawLibrary
    does not have are left out.
    """
    return set_aside(owned_games_as_text(games, user_id, steam_id64), RawLibrary)


def owned_games_as_text(games: Sequence[Any], user_id: str, steam_id64: str) -> pl.DataFrame:
    """Return the rows of a GetOwnedGames answer in the columns of RawLibrary, all as text and unchecked."""
    owner = {"user_id": user_id, "steam_id64": steam_id64}
    columns = [
        pl.Series(name, [owner.get(name) or _to_text(game, name) for game in games], pl.String)
        for name in dtypes(RawLibrary)
    ]
    # Steam's protocol buffers leave a zero out.
    playtime = pl.col("playtime_forever").fill_null("0")
    return pl.DataFrame(columns).with_columns(playtime, rtime_last_played=_last_played())


def library_of_nobody(apps: pl.DataFrame) -> DataFrame[RawLibrary]:
    """Return apps as the raw library of a made-up user who never played them; columns besides `appid` may be absent."""
    of_nobody = {"user_id": pl.lit("nobody"), "steam_id64": pl.lit("0" * 17), "playtime_forever": pl.lit(0)}
    absent = {name: pl.lit(None) for name in dtypes(RawLibrary) if name not in apps.columns}
    columns = apps.with_columns(**absent | of_nobody)
    return conform(columns.select(pl.col(name).cast(dtype) for name, dtype in dtypes(RawLibrary).items()), RawLibrary)


def _to_text(game: object, field: str) -> str | None:
    """Return a JSON value as a CSV would hold it; half a surrogate pair, which no UTF-8 can hold, becomes `?`."""
    value = game.get(field) if isinstance(game, dict) else None
    if value is None:
        return None
    if type(value) is int:  # most of them are, and json takes three times as long
        return str(value)
    return (value if isinstance(value, str) else json.dumps(value)).encode(errors="replace").decode()


def _last_played() -> pl.Expr:
    """Return an expression for the last play as text; anything but Unix seconds stays, for the schema to reject."""
    text = pl.col("rtime_last_played")
    seconds = text.cast(pl.Int64, strict=False)
    return (
        pl.when(seconds < _YEAR_2004)
        .then(None)
        .when(seconds < _UINT32)
        .then(pl.from_epoch(seconds).dt.strftime(TIME_FORMAT))
        .otherwise(text)
    )
