"""The list of users that a backfill imports: a CSV, or the database's table of users; each line is checked."""

import re
from hashlib import sha256
from typing import NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.database.database import Database
from pipeline.errors import Failed, Refused, agree
from pipeline.steam_id import Vanity, parse_steam_id
from pipeline.storage.csv import parse_header, parse_records, read_rows, to_spreadsheet, unescape_formulas
from pipeline.storage.keys import IMPORTS, backfill_key
from pipeline.storage.store import Store
from schemas.backfill import ListedUsers, RejectedLines
from schemas.events import USER_ID, USER_ID_RULE
from schemas.frames import conform, empty_frame
from schemas.staging import SteamUsers

LIST_COLUMNS = ("user_id", "steam_id64")

USERS_REJECTED = "users.rejected.csv"
"""The name of a backfill's file with the lines of its list that cannot be used."""

NOT_LISTS = (IMPORTS, "catalogue/", "state/")
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
        Refused: `bad_event`, where a column is missing or there twice, there is no line after the header, or a
            spreadsheet has rounded the ids.
    """
    lines = _parse_lines(body)
    _refuse_rounded_ids(lines["steam_id64"])
    return _split(lines)


class UserList(NamedTuple):
    """The users of a list and its rejected lines, with the number of each, and the SHA-256 of the list's CSV.

    The numbers are of the whole list, of which the frames may hold less.
    """

    digest: str
    user_count: int
    rejected_count: int
    users: DataFrame[ListedUsers]
    rejected_lines: DataFrame[RejectedLines]


def list_of_csv(body: bytes) -> UserList:
    """Return the list of users in the bytes of a CSV; raises as `parse_list`."""
    users, rejected = parse_list(body)
    return UserList(sha256(body).hexdigest(), users.height, rejected.height, users, rejected)


def list_of_database(database: Database, *, counts_only: bool = False) -> UserList:
    """Return the list of all users of a database who have a `steamId64`, in the order of their ids.

    It is the list that the CSV of the same users would be, and has its digest. The users are read in pages. With
    `counts_only` no page is kept but the first of rejected lines, so that any number of users fit into memory.

    Raises:
        Refused: `bad_event`, where no user has one; otherwise as `Database.read_steam_ids`.
    """
    digest = sha256(",".join(LIST_COLUMNS).encode() + b"\n")
    users, rejected = [empty_frame(ListedUsers)], [empty_frame(RejectedLines)]
    user_count = rejected_count = 0
    page = database.read_steam_ids()
    while page.height:
        digest.update(page.write_csv(include_header=False).encode())
        usable, unusable = _split(_parse_page(page, 2 + user_count + rejected_count))
        user_count, rejected_count = user_count + usable.height, rejected_count + unusable.height
        users += [] if counts_only else [usable]
        rejected += [] if counts_only and rejected[-1].height else [unusable]
        page = database.read_steam_ids(after=page["user_id"][-1])
    if not user_count + rejected_count:
        raise Refused("bad_event", f"No user of {database} has a steamId64. Give a list of users, as a CSV.")
    whole = conform(pl.concat(users), ListedUsers), conform(pl.concat(rejected), RejectedLines)
    return UserList(digest.hexdigest(), user_count, rejected_count, *whole)


def _split(lines: pl.DataFrame) -> tuple[DataFrame[ListedUsers], DataFrame[RejectedLines]]:
    """Return the users of the lines that can be used, and the other lines with the reason."""
    bad_user_id = pl.when(~pl.col("user_id").str.contains(USER_ID)).then(pl.lit(f"bad_event: {USER_ID_RULE}"))
    lines = lines.with_columns(error=pl.coalesce("fault", bad_user_id, "steam_id_error"))
    is_usable = pl.col("error").is_null()
    first = pl.col("line").filter(is_usable).min().over("user_id")
    repeated = pl.when(pl.col("line") != first).then(pl.format("bad_event: line {} has this user already", first))
    lines = lines.with_columns(error=pl.coalesce("error", repeated))
    users = lines.filter(is_usable).select("user_id", "steam_id")
    rejected = lines.filter(~is_usable).select("line", pl.col("user_id", "steam_id64", "error").str.head(MAX_CHARS))
    return conform(users, ListedUsers), conform(rejected, RejectedLines)


def write_rejected_lines(store: Store, run_id: str, lines: DataFrame[RejectedLines]) -> None:
    """Write the rejected lines of a backfill's list into `users.rejected.csv`, which a spreadsheet can open."""
    store.write(backfill_key(run_id, USERS_REJECTED), to_spreadsheet(lines))


def read_rejected_lines(store: Store, run_id: str) -> DataFrame[RejectedLines]:
    """Return the rejected lines of a backfill's list, read from its `users.rejected.csv`.

    Raises:
        Failed: `checkpoint_invalid`, where the file was changed into one that cannot be read.
    """
    key = backfill_key(run_id, USERS_REJECTED)
    return conform(unescape_formulas(read_rows(store.read(key) or b"", key, RejectedLines)), RejectedLines)


_STEAM_ID64 = re.compile(r"[0-9]{17}")

_LINE = pl.Schema(
    {
        "line": pl.Int64,
        **dict.fromkeys(("user_id", "steam_id64", "fault", "steam_id", "steam_id_error"), pl.String),
    }
)


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
        raise Refused(
            "bad_event",
            f"The list lacks the {agree(len(missing), 'column')} {' and '.join(missing)}; its first line names them.",
        )
    if repeated := [name for name in LIST_COLUMNS if header.count(name) > 1]:
        raise Refused(
            "bad_event", f"The list has more than one column {' and '.join(repeated)}: keep the one you mean."
        )
    return pl.DataFrame(rows, schema=_LINE, orient="row")


def _parse_page(page: DataFrame[SteamUsers], first_line: int) -> pl.DataFrame:
    """Return a page of the database's users as lines of a list; the name in a custom URL is invalid there."""
    rows = []
    for line, (user_id, steam_id64) in enumerate(page.iter_rows(), first_line):
        account, error = _parse_account(steam_id64)
        if account and not _STEAM_ID64.fullmatch(account):
            account, error = None, f"bad_steam_id: {steam_id64!r:.80} is not a SteamID64, which has 17 digits"
        rows.append((line, user_id, steam_id64, None, account, error))
    return pl.DataFrame(rows, schema=_LINE, orient="row")


def _refuse_rounded_ids(steam_ids: pl.Series) -> None:
    """Raise `bad_event` for a list whose SteamID64s have all lost their last digits: they are strangers' accounts.

    Spreadsheets keep 15 digits of a number, and an id has 17; some write 7.65612E+16. One id in a hundred ends in 00 by
    itself, and three of three do in one list of a million. Ids may stand in links to profiles.
    """
    ids = steam_ids.str.extract(r"^(?:\S*/)?(\d{17})/?$").drop_nulls().unique()
    powers_of_ten = steam_ids.str.contains(r"^\d[.,]\d+[Ee]\+1\d$").sum()
    rounded = ids.len() + powers_of_ten
    if rounded >= FEWEST_ROUNDED and ids.str.ends_with("00").all():
        raise Refused(
            "bad_event",
            f"All {rounded} SteamID64s of the list end in 00, or are written as powers of ten: a spreadsheet has "
            "rounded them, and they are other people's now. Get the ids from their source again, and import the column "
            "as text: in Excel with Data > From Text/CSV > Transform Data > data type Text, in LibreOffice with the "
            "column's type in the import's dialogue. Ids that are rounded cannot be repaired.",
        )


def _parse_account(steam_id: str) -> tuple[str | None, str | None]:
    """Return the SteamID64 or the name in a custom URL, or what is wrong with it."""
    try:
        account = parse_steam_id(steam_id)
    except Refused as error:
        return None, f"{error.code}: {error.message}"
    return account.name if isinstance(account, Vanity) else account, None
