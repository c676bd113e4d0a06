"""The data the sandbox serves: Steam accounts, Steam's store, and IGDB's tables with references as bare ids."""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self
from zlib import crc32

from pipeline.sandbox.synthetic import Oddities, fill
from pipeline.sandbox.wire import Row

PRIVATE, PUBLIC = 1, 3
"""The two values of communityvisibilitystate a foreign key sees."""

STEAM_SOURCE, GOG_SOURCE = 1, 5
"""IGDB's external_game_source."""

SHOWN, HIDDEN = 1, 15
"""The `success` of a store item: EResult OK, and AccessDenied for what is delisted."""

GAME, MOD, SOFTWARE = 0, 2, 6
"""EStoreAppType (SteamDatabase/Protobufs, webui/common.proto), as far as the recorded library needs it."""

FREE = frozenset({440, 570, 730, 230410, 248570, 304930, 444090, 1172470, 1240440, 2357570, 2767030})
"""Appids of free games in the recorded library that were played."""

FREE_SUB = frozenset({427460, 596350, 770720, 1083500})
"""Appids of test branches in the recorded library: never played, added by a free package, games to Steam's store."""

UNVETTED = frozenset({1131720})
"""Appids in the recorded library whose profile features Steam limits (`skip_unvetted_apps` hides them)."""

STORE_TYPES = {268850: SOFTWARE, 363890: SOFTWARE, 365720: MOD}
"""Store types of the recorded apps that are no games: EVGA Precision X1, RPG Maker MV, Skyrim Script Extender."""

DELISTED = frozenset({208090, 560380})
"""Appids in the recorded library that Steam's store no longer shows: Loadout, MapleStory 2."""

RECORDED_AT = 1_735_689_600
"""`created_at` and `updated_at` of every IGDB row until it is touched: 2025-01-01."""


@dataclass
class Account:
    """A Steam account; `games` are rows of GetOwnedGames, `hidden` is the privacy of its game details alone.

    Rows of `free`, `free_sub` and `unvetted` appids show only if asked for.
    """

    games: list[Row] = field(default_factory=list)
    visibility: int = PUBLIC
    hidden: bool = False
    vanity: str = ""
    name: str = "A player"
    free: frozenset[int] = frozenset()
    free_sub: frozenset[int] = frozenset()
    unvetted: frozenset[int] = frozenset()


@dataclass
class World:
    """Plain data that a test may change at any time; an account, app or row that is not here does not exist.

    IGDB's tables are rows by id. Rows of external_games are added by `add_external_game`, which remembers their uid.
    """

    RECORDED_ACCOUNT: ClassVar[str] = "76561197960287930"
    PRIVATE_ACCOUNT: ClassVar[str] = "76561197960265731"
    HIDDEN_ACCOUNT: ClassVar[str] = "76561197960265732"
    EMPTY_ACCOUNT: ClassVar[str] = "76561197960265733"
    UNKNOWN_ACCOUNT: ClassVar[str] = "76561197960265734"
    SYNTHETIC_ACCOUNT: ClassVar[str] = "76561197960265735"

    accounts: dict[str, Account] = field(default_factory=dict)
    store: dict[int, Row] = field(default_factory=dict)
    external_games: dict[int, Row] = field(default_factory=dict)
    games: dict[int, Row] = field(default_factory=dict)
    genres: dict[int, Row] = field(default_factory=dict)
    platforms: dict[int, Row] = field(default_factory=dict)
    covers: dict[int, Row] = field(default_factory=dict)
    alternative_names: dict[int, Row] = field(default_factory=dict)
    rows_of_uid: dict[str, list[Row]] = field(default_factory=dict)

    @classmethod
    def recorded(cls) -> Self:
        """Return a recorded library of 129 games, what IGDB and the store say of them, and each kind of account.

        Names, genres and platforms are IGDB's (121 games for 122 of the apps), and so are ids below 900001; the
        summaries and the ids of external_games rows are not. One game, The Pirate: Caribbean Hunt, has no Steam row.
        """
        world = cls._with_vocabulary()
        recorded = Account(
            vanity="gabelogannewell", name="Recorded library", free=FREE, free_sub=FREE_SUB, unvetted=UNVETTED
        )
        world.accounts = {
            cls.RECORDED_ACCOUNT: recorded,
            cls.PRIVATE_ACCOUNT: Account(visibility=PRIVATE, vanity="sandbox-private", name="Private profile"),
            cls.HIDDEN_ACCOUNT: Account(hidden=True, vanity="sandbox-hidden", name="Private game details"),
            cls.EMPTY_ACCOUNT: Account(vanity="sandbox-empty", name="Owns nothing"),
        }
        for app in _read("library"):
            appid, name = app["owned"]["appid"], app["owned"]["name"]
            recorded.games.append(app["owned"])
            success = HIDDEN if appid in DELISTED else SHOWN
            world.add_store_item(appid, name, type=STORE_TYPES.get(appid, GAME), success=success)
            world.games |= _table("games", app.get("games", []))
            world.covers |= _table("covers", app.get("covers", []))
            for row in app.get("external_games", []):
                world.add_external_game(**row)
        return world

    @classmethod
    def synthetic(cls, size: int, *, owned: int = sys.maxsize, **oddities: int) -> Self:
        """Return as many made-up apps, all games in the store and on IGDB; the same ones every time.

        SYNTHETIC_ACCOUNT owns the first `owned` of them; `oddities` are `shared_every`, `ambiguous_every` and
        `bare_every` of Oddities.
        """
        world = cls._with_vocabulary()
        world.accounts[cls.SYNTHETIC_ACCOUNT] = Account(vanity="synthetic")
        fill(world, size, owned, Oddities(**oddities))
        return world

    @classmethod
    def _with_vocabulary(cls) -> Self:
        tables = {name: _table(name, _read(name)) for name in ("genres", "platforms")}
        return cls(genres=tables["genres"], platforms=tables["platforms"])

    def table(self, name: str) -> dict[Any, Row]:
        """Return one of IGDB's tables."""
        rows: dict[Any, Row] = getattr(self, name)
        return rows

    def add_owned(self, steam_id64: str, appid: int, name: str | None, **fields: Any) -> Row:
        """Give an account one more app; `fields` are those of GetOwnedGames, a name of None is left out."""
        named = {} if name is None else {"name": name}
        never = {"playtime_forever": 0, "img_icon_url": f"{appid:040x}", "rtime_last_played": 0}
        by_system = {f"playtime_{system}_forever": 0 for system in ("windows", "mac", "linux", "deck")}
        row = {"appid": appid, **named, **never, **by_system, "playtime_disconnected": 0, **fields}
        self.accounts.setdefault(steam_id64, Account()).games.append(row)
        return row

    def add_store_item(self, appid: int, name: str, **fields: Any) -> Row:
        """Put an app in the store, a game unless `type` says otherwise, delisted if `success` is HIDDEN."""
        self.store[appid] = {"name": name, "type": GAME, "success": SHOWN, **fields}
        return self.store[appid]

    def add_game(self, appid: int, igdb_id: int, name: str, **fields: Any) -> Row:
        """Put a game on IGDB, known there by its Steam appid; `fields` are those of a games row, plus `image_id`."""
        image_id = fields.pop("image_id", None)
        if image_id is not None:
            fields["cover"] = igdb_id
            self.covers |= _table("covers", [{"id": igdb_id, "game": igdb_id, "image_id": image_id}])
        slug = "-".join(name.casefold().split())
        self.games |= _table("games", [{"id": igdb_id, "name": name, "slug": slug, "game_type": 0, **fields}])
        self.add_external_game(str(appid), game=igdb_id, name=name)
        return self.games[igdb_id]

    def add_external_game(self, uid: str, **fields: Any) -> Row:
        """Add a row of external_games, Steam's unless `external_game_source` says otherwise."""
        row_id = 1 + next(reversed(self.external_games), 0)
        own = {"id": row_id, "uid": uid, "external_game_source": STEAM_SOURCE, **fields}
        row = _with_common_fields("external_games", own)
        self.external_games[row_id] = row
        self.rows_of_uid.setdefault(uid, []).append(row)
        return row

    def add_alternative_name(self, igdb_id: int, name: str) -> Row:
        """Give a game of IGDB one more name."""
        name_id, game = 1 + len(self.alternative_names), self.games[igdb_id]
        self.alternative_names[name_id] = {"id": name_id, "game": igdb_id, "name": name}
        game["alternative_names"] = [*game.get("alternative_names", []), name_id]
        return self.alternative_names[name_id]

    def touch(self, igdb_id: int, **changes: Any) -> Row:
        """Change a game, now unless `updated_at` is among the changes."""
        self.games[igdb_id] |= {"updated_at": int(time.time()), **changes}
        return self.games[igdb_id]

    def touch_external_game(self, uid: str, **changes: Any) -> None:
        """Change the rows of external_games with this uid, now unless `updated_at` is among the changes."""
        for row in self.rows_of_uid[uid]:
            row |= {"updated_at": int(time.time()), **changes}


def _read(name: str) -> list[Row]:
    rows: list[Row] = json.loads((Path(__file__).parent / "recorded" / f"{name}.json").read_text(encoding="utf-8"))
    return rows


def _table(name: str, rows: Iterable[Row]) -> dict[int, Row]:
    return {row["id"]: _with_common_fields(name, row) for row in rows}


def _with_common_fields(table: str, row: Row) -> Row:
    """Return the row with the fields that every row of IGDB has; its checksum only looks like a UUID."""
    checksum = f"{row['id']:08x}-0000-4000-8000-{crc32(table.encode()):012x}"
    page = {"url": f"https://www.igdb.com/{table}/{row['slug']}"} if "slug" in row else {}
    return {"created_at": RECORDED_AT, "updated_at": RECORDED_AT, "checksum": checksum, **page, **row}
