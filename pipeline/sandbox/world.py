"""What the sandbox knows: Steam accounts and the Steam store, and IGDB's tables with references as bare ids."""

import sys
import time
from collections.abc import Mapping, MutableMapping, MutableSequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

from pipeline.sandbox.rows import by_id, described, described_rows, read_rows
from pipeline.sandbox.schema import FIELDS
from pipeline.sandbox.synthetic import Oddities, fill
from pipeline.sandbox.tables import KeyedTable, ListedTable, Table
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
"""Free games of the recorded library that were played."""

FREE_SUB = frozenset({427460, 596350, 770720, 1083500})
"""Its test branches, never played, that came with a free package; to the store they are games."""

UNVETTED = frozenset({1131720})
"""An app of it whose profile features Steam limits."""

STORE_TYPES = {268850: SOFTWARE, 363890: SOFTWARE, 365720: MOD}
"""Its apps that are no games in the store: EVGA Precision X1, RPG Maker MV, Skyrim Script Extender."""

DELISTED = frozenset({208090, 560380})
"""Its apps that the store no longer shows: Loadout, MapleStory 2."""


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

    IGDB's tables keep copies of the rows they are given: change a row as it is found in its table.
    """

    RECORDED_ACCOUNT: ClassVar[str] = "76561197960287930"
    PRIVATE_ACCOUNT: ClassVar[str] = "76561197960265731"
    HIDDEN_ACCOUNT: ClassVar[str] = "76561197960265732"
    EMPTY_ACCOUNT: ClassVar[str] = "76561197960265733"
    UNKNOWN_ACCOUNT: ClassVar[str] = "76561197960265734"
    SYNTHETIC_ACCOUNT: ClassVar[str] = "76561197960265735"

    accounts: dict[str, Account] = field(default_factory=dict)
    store: dict[int, Row] = field(default_factory=dict)
    external_games: MutableSequence[Row] = field(default_factory=list)
    games: MutableMapping[int, Row] = field(default_factory=dict)
    genres: MutableMapping[int, Row] = field(default_factory=dict)
    platforms: MutableMapping[int, Row] = field(default_factory=dict)
    covers: MutableMapping[int, Row] = field(default_factory=dict)
    alternative_names: MutableMapping[int, Row] = field(default_factory=dict)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - any of the attributes
        if name in FIELDS and not isinstance(value, Table):
            value = KeyedTable(value) if isinstance(value, Mapping) else ListedTable(value)
        super().__setattr__(name, value)

    @classmethod
    def recorded(cls) -> Self:
        """A recorded library of 129 games, what IGDB and the store say of them, and an account of every other kind.

        Ids, names, genres and platforms are IGDB's (115 games for 116 of the apps); the summaries and the ids of
        external_games rows are not.
        """
        world = cls._with_vocabulary()
        world.accounts |= _accounts()
        world.accounts[cls.RECORDED_ACCOUNT].games = read_rows("owned_games")
        for row in world.accounts[cls.RECORDED_ACCOUNT].games:
            appid = row["appid"]
            success = HIDDEN if appid in DELISTED else SHOWN
            world.add_store_item(appid, row["name"], type=STORE_TYPES.get(appid, GAME), success=success)
        world.external_games = described_rows("external_games")
        world.games = by_id(described_rows("games"))
        world.covers = by_id(described_rows("covers"))
        return world

    @classmethod
    def synthetic(cls, size: int, *, owned: int = sys.maxsize, **oddities: int) -> Self:
        """As many made-up apps, all games in the store and on IGDB; the same ones every time.

        SYNTHETIC_ACCOUNT owns the first `owned` of them; `oddities` are `shared_every`, `ambiguous_every` and
        `bare_every` of Oddities.
        """
        world = cls._with_vocabulary()
        world.accounts[cls.SYNTHETIC_ACCOUNT] = Account(vanity="synthetic")
        fill(world, size, owned, Oddities(**oddities))
        return world

    @classmethod
    def _with_vocabulary(cls) -> Self:
        return cls(genres=by_id(described_rows("genres")), platforms=by_id(described_rows("platforms")))

    def table(self, name: str) -> Table:
        """One of IGDB's tables."""
        return cast("Table", getattr(self, name))

    def add_owned(self, steam_id64: str, appid: int, name: str | None, **fields: Any) -> Row:  # noqa: ANN401
        """Give an account one more app; `fields` are those of GetOwnedGames, a name of None is left out."""
        named = {} if name is None else {"name": name}
        never = {"playtime_forever": 0, "img_icon_url": f"{appid:040x}", "rtime_last_played": 0}
        by_system = {f"playtime_{system}_forever": 0 for system in ("windows", "mac", "linux", "deck")}
        row = {"appid": appid, **named, **never, **by_system, "playtime_disconnected": 0, **fields}
        self.accounts.setdefault(steam_id64, Account()).games.append(row)
        return row

    def add_store_item(self, appid: int, name: str, **fields: Any) -> Row:  # noqa: ANN401
        """Put an app in the store, a game unless `type` says otherwise, delisted if `success` is HIDDEN."""
        self.store[appid] = {"name": name, "type": GAME, "success": SHOWN, **fields}
        return self.store[appid]

    def add_game(self, appid: int, igdb_id: int, name: str, **fields: Any) -> Row:  # noqa: ANN401
        """Put a game on IGDB, known there by its Steam appid; `fields` are those of a games row, plus `image_id`."""
        image_id = fields.pop("image_id", None)
        if image_id is not None:
            fields["cover"] = igdb_id
            self.covers[igdb_id] = described("covers", {"id": igdb_id, "game": igdb_id, "image_id": image_id})
        game = {"id": igdb_id, "name": name, "slug": "-".join(name.casefold().split()), "game_type": 0, **fields}
        self.games[igdb_id] = described("games", game)
        self.add_external_game(str(appid), game=igdb_id, name=name)
        return self.games[igdb_id]

    def add_external_game(self, uid: str, **fields: Any) -> Row:  # noqa: ANN401
        """Add a row of external_games, Steam's unless `external_game_source` says otherwise."""
        row_id = 1 + (self.external_games[-1]["id"] if self.external_games else 0)
        row = {"id": row_id, "uid": uid, "external_game_source": STEAM_SOURCE, **fields}
        self.external_games.append(described("external_games", row))
        return self.external_games[-1]

    def add_alternative_name(self, igdb_id: int, name: str) -> Row:
        """Give a game of IGDB one more name."""
        name_id = 1 + max(self.alternative_names, default=0)
        self.alternative_names[name_id] = described("alternative_names", {"id": name_id, "game": igdb_id, "name": name})
        game = self.games[igdb_id]
        game["alternative_names"] = [*game.get("alternative_names", []), name_id]
        return self.alternative_names[name_id]

    def touch(self, igdb_id: int, **changes: Any) -> Row:  # noqa: ANN401
        """Change a game, now unless `updated_at` is among the changes."""
        game = self.games[igdb_id]
        game.update({"updated_at": int(time.time()), **changes})
        return game

    def touch_external_game(self, uid: str, **changes: Any) -> None:  # noqa: ANN401
        """Change the rows of external_games with this uid, now unless `updated_at` is among the changes."""
        for row in self.external_games:
            if row["uid"] == uid:
                row.update({"updated_at": int(time.time()), **changes})


def _accounts() -> dict[str, Account]:
    """One account of each kind; the unknown one is missing."""
    recorded = Account(
        vanity="gabelogannewell", name="Recorded library", free=FREE, free_sub=FREE_SUB, unvetted=UNVETTED
    )
    return {
        World.RECORDED_ACCOUNT: recorded,
        World.PRIVATE_ACCOUNT: Account(visibility=PRIVATE, vanity="sandbox-private", name="Private profile"),
        World.HIDDEN_ACCOUNT: Account(hidden=True, vanity="sandbox-hidden", name="Private game details"),
        World.EMPTY_ACCOUNT: Account(vanity="sandbox-empty", name="Owns nothing"),
    }
