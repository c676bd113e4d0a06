"""A list of users, checked as a whole, and cut into shards."""

from math import ceil
from typing import Any, NamedTuple

import polars as pl

from pipeline.errors import Refused
from pipeline.frames.spreadsheet import columns, records
from pipeline.steam_id import Vanity, parse_steam_id
from schemas.backfill import ListedUsers, RefusedUsers
from schemas.events import USER_ID

COLUMNS = ("user_id", "steam_id64")
STEAM_CALLS_A_DAY = 100_000
IGDB_REQUESTS_A_SECOND = 4
APPS_A_REQUEST, GAMES_A_REQUEST = 400, 500
"""IGDB is asked for the rows of external_games of so many apps, and then for so many games."""

APPS_OF_STEAM = 170_000
"""More than anybody has seen in libraries: no backfill asks for more."""

APPS_A_USER = 200

_LINES = {"line": pl.Int64, "user_id": pl.String, "steam_id64": pl.String, "error": pl.String}
_PARSED = _LINES | {"steam_id": pl.String, "steam_id_error": pl.String}


class Estimate(NamedTuple):
    """What a backfill will ask: of Steam at the least, a request a user; of IGDB at the most."""

    steam_requests: int
    steam_seconds: float
    igdb_requests: int
    igdb_seconds: float


MOST_CHARS = 500
"""Of what a refused line is told by."""


def listed_users(body: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A CSV of `user_id,steam_id64` and whatever else, as (ListedUsers, RefusedUsers).

    Of several lines for one user the first one counts. The Steam id may have any form.

    Raises:
        Refused: `bad_event`, where it lacks one of the columns, or has no line at all.
    """
    lines = _lines(body).with_columns(error=pl.coalesce("error", _user_id_error(), "steam_id_error"))
    judged = _without_repeated(lines)
    is_good = pl.col("error").is_null()
    return (
        ListedUsers.validate(judged.filter(is_good).select("user_id", "steam_id"), lazy=True),
        RefusedUsers.validate(
            # A cell of any length would come back from no spreadsheet.
            judged.filter(~is_good)
            .select(_LINES.keys())
            .fill_null("")
            .with_columns(pl.col(pl.String).str.head(MOST_CHARS)),
            lazy=True,
        ),
    )


def shard_users(users: pl.DataFrame, seen: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    """ListedUsers in ShardUsers of a size, in their order; with what is Seen of them."""
    last = seen.select("user_id", "seen_digest", "seen_database")
    known = users.join(last, on="user_id", how="left", validate="1:1", maintain_order="left")
    return [known.slice(start, size) for start in range(0, known.height, size)]


def estimate(users: int, known_apps: int, steam_requests_per_second: float) -> Estimate:
    """What so many users cost where the catalogue knows so many apps already; vanity names cost a request more."""
    days = max(users - 1, 0) // STEAM_CALLS_A_DAY
    apps = max(min(users * APPS_A_USER, APPS_OF_STEAM) - known_apps, 0)
    igdb_requests = ceil(apps / APPS_A_REQUEST) + ceil(apps / GAMES_A_REQUEST)
    return Estimate(
        users,
        days * 86_400 + (users - days * STEAM_CALLS_A_DAY) / steam_requests_per_second,
        igdb_requests,
        igdb_requests / IGDB_REQUESTS_A_SECOND,
    )


def _lines(body: bytes) -> pl.DataFrame:
    parsed: dict[str, list[Any]] = {name: [] for name in _PARSED}
    for line, cells, fault in records(body):
        steam_id64 = cells.get("steam_id64", "").strip()
        values = (line, cells.get("user_id", "").strip(), steam_id64, fault or None, *_account(steam_id64))
        for column, value in zip(parsed.values(), values, strict=True):
            column.append(value)
    if not parsed["line"]:
        raise Refused("bad_event", "The list holds no users. Give a CSV with the columns user_id and steam_id64.")
    header = columns(body)
    if lacking := [name for name in COLUMNS if name not in header]:
        raise Refused("bad_event", f"The list lacks the column {' and '.join(lacking)}; its first line names them.")
    return pl.DataFrame(parsed, schema=_PARSED)


def _account(text: str) -> tuple[str | None, str | None]:
    """The SteamID64 or vanity name, or what is wrong with it."""
    try:
        account = parse_steam_id(text)
    except Refused as error:
        return None, f"{error.code}: {error.message}"
    return account.name if isinstance(account, Vanity) else account, None


def _user_id_error() -> pl.Expr:
    message = pl.format("bad_event: the user id has to match {}", pl.lit(USER_ID))
    return pl.when(~pl.col("user_id").str.contains(USER_ID)).then(message)


def _without_repeated(lines: pl.DataFrame) -> pl.DataFrame:
    """The first good line of a user counts; the others say which one it is."""
    first = pl.col("line").filter(pl.col("error").is_null()).min().over("user_id")
    message = pl.format("bad_event: line {} has this user already", first)
    return lines.with_columns(error=pl.coalesce("error", pl.when(pl.col("line") != first).then(message)))
