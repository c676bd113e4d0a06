"""The list of users that a backfill imports: read from the store, and checked line by line."""

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.errors import Failed, Refused
from pipeline.steam_id import Vanity, parse_steam_id
from pipeline.storage.csv import drop_records, parse_header, parse_records, read_rows, to_spreadsheet, unescape_formulas
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import Store
from schemas.backfill import ListedUsers, RejectedLines
from schemas.events import USER_ID
from schemas.frames import conform

LIST_COLUMNS = ("user_id", "steam_id64")

NOT_LISTS = ("imports/", "catalogue/", "state/")
"""Key prefixes of the store under which no list of users may lie: libraries, the catalogue, and what was loaded."""

FEWEST_ROUNDED = 3
"""The number of ids from which a list is refused if all of them end in 00."""

MAX_CHARS = 500
"""The number of characters of a rejected line's cell that are kept: a cell may be a whole file."""


def read_list(store: Store, location: str) -> bytes:
    """Return the bytes of the list of users, a CSV, at a location in the store.

    Raises:
        Refused: `bad_event`, where nothing is there.
        Failed: `location_refused`, for a location outside the store, or in a folder that holds no lists.
    """
    key = store.key_of(location)
    if key.startswith(NOT_LISTS):
        raise Failed("location_refused", f"{location!r:.200} is no list of users. Put the list elsewhere in the store.")
    body = store.read(key, max_bytes=store.file_max_bytes)
    if body is None:
        raise Refused("bad_event", f"There is no list of users at {location}.")
    return body


def parse_list(body: bytes) -> tuple[DataFrame[ListedUsers], DataFrame[RejectedLines]]:
    """Return the users of a list, and the lines that cannot be used; the list is a CSV with `user_id` and `steam_id64`.

    The Steam id may have any form, and other columns are ignored. Of several lines for one user the first one that can
    be used counts, and the others are rejected.

    Raises:
        Refused: `bad_event`, where a column is missing, there is no line after the header, or a spreadsheet has rounded
            the ids.
    """
    lines = _with_errors(_parse_lines(body))
    _refuse_rounded_ids(lines["steam_id64"])
    is_usable = pl.col("error").is_null()
    users = lines.filter(is_usable).select("user_id", "steam_id")
    rejected = lines.filter(~is_usable).select("line", pl.col("user_id", "steam_id64", "error").str.head(MAX_CHARS))
    return conform(users, ListedUsers), conform(rejected, RejectedLines)


def drop_user_from_list(body: bytes, user_id: str) -> bytes:
    """Return a list without the lines of a user; the other lines stay as they are, and so does a list without any."""
    return drop_records(body, "user_id", user_id)


def write_rejected_lines(store: Store, run_id: str, lines: DataFrame[RejectedLines]) -> None:
    """Write the rejected lines of a backfill's list into `users.rejected.csv`, which a spreadsheet can open."""
    store.write(_rejected_key(run_id), to_spreadsheet(lines))


def read_rejected_lines(store: Store, run_id: str) -> DataFrame[RejectedLines]:
    """Return the rejected lines of a backfill's list, read from its `users.rejected.csv`.

    Raises:
        Failed: `checkpoint_invalid`, where the file was changed into one that cannot be read.
    """
    key = _rejected_key(run_id)
    return conform(unescape_formulas(read_rows(store.read(key) or b"", key, RejectedLines)), RejectedLines)


def _rejected_key(run_id: str) -> str:
    return backfill_key(run_id, "users.rejected.csv")


def _parse_lines(body: bytes) -> pl.DataFrame:
    """Return one row per line: its number, its cells, its account or what is wrong with that, and any fault of it."""
    rows = []
    for line, cells, fault in parse_records(body):
        user_id, steam_id64 = (cells.get(name, "").strip() for name in LIST_COLUMNS)
        rows.append((line, user_id, steam_id64, fault or None, *_parse_account(steam_id64)))
    if not rows:
        raise Refused("bad_event", "The list holds no users. Give a CSV with the columns user_id and steam_id64.")
    header = parse_header(body)
    if missing := [name for name in LIST_COLUMNS if name not in header]:
        raise Refused("bad_event", f"The list lacks the column {' and '.join(missing)}; its first line names them.")
    text = ("user_id", "steam_id64", "fault", "steam_id", "steam_id_error")
    return pl.DataFrame(rows, schema={"line": pl.Int64} | dict.fromkeys(text, pl.String), orient="row")


def _refuse_rounded_ids(steam_ids: pl.Series) -> None:
    """Raise `bad_event` for a list whose SteamID64s have all lost their last digits: they are strangers' accounts.

    Spreadsheets keep 15 digits of a number, and an id has 17. One id in a hundred ends in 00 by itself, and three of
    three do in one list of a million.
    """
    ids = steam_ids.filter(steam_ids.str.contains(r"^\d{17}$")).unique()
    if ids.len() >= FEWEST_ROUNDED and ids.str.ends_with("00").all():
        raise Refused(
            "bad_event",
            f"All {ids.len()} SteamID64s of the list end in 00: a spreadsheet has rounded them to 15 digits, and they "
            "are other people's now. Get the ids from their source again, and import the column as text: in Excel with "
            "Data > From Text/CSV > Transform Data > data type Text, in LibreOffice with the column's type in the "
            "import's dialogue. Ids that are rounded cannot be repaired.",
        )


def _parse_account(steam_id: str) -> tuple[str | None, str | None]:
    """Return the SteamID64 or the name in a custom URL, or what is wrong with it."""
    try:
        account = parse_steam_id(steam_id)
    except Refused as error:
        return None, f"{error.code}: {error.message}"
    return account.name if isinstance(account, Vanity) else account, None


def _with_errors(lines: pl.DataFrame) -> pl.DataFrame:
    """Add the column `error`: why a line cannot be used, null where it can."""
    bad_user_id = pl.when(~pl.col("user_id").str.contains(USER_ID)).then(
        pl.format("bad_event: the user id has to match {}", pl.lit(USER_ID))
    )
    lines = lines.with_columns(error=pl.coalesce("fault", bad_user_id, "steam_id_error"))
    first = pl.col("line").filter(pl.col("error").is_null()).min().over("user_id")
    repeated = pl.when(pl.col("line") != first).then(pl.format("bad_event: line {} has this user already", first))
    return lines.with_columns(error=pl.coalesce("error", repeated))
