"""Models of a review: search terms, IGDB games with similar names, the sheet, and people's decisions."""

from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict

from schemas.apis import Id, Name, Number, Reference, parse_rows
from schemas.catalogue import Action, Override
from schemas.frames import StrictFrame
from schemas.library import Kind, MatchReason, MatchStatus

MOST_CANDIDATES = 5


class OwnedApps(StrictFrame):
    """One row per app in some libraries, with the number of its owners and how long they played it together."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    name: str = pa.Field(nullable=True, description="Its name on Steam")
    owners: pl.Int32 = pa.Field(description="The number of users who own it")
    playtime_forever: pl.Int64 = pa.Field(description="Minutes played by all of them")


class SearchTerms(StrictFrame):
    """One row per app to look up at IGDB by its name, with what to ask for."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    name: str = pa.Field(description="Its name on Steam")
    spellings: Annotated[pl.List, pl.String] = pa.Field(description="Forms in which IGDB may hold the name")
    search_text: str = pa.Field(nullable=True, description="What to search for; null where the name has no words")
    fallback_text: str = pa.Field(description="The words to search for if that finds nothing; blank if there are none")


class FoundGames(StrictFrame):
    """One row per pair of an app and an IGDB game that may be the app, found by IGDB's search or list of Steam ids."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    igdb_id: pl.Int32 = pa.Field(ge=1, description="IGDB's id of a game")
    igdb_name: str = pa.Field(description="The game's name")
    other_names: Annotated[pl.List, pl.String] = pa.Field(description="Its alternative names")
    year: pl.Int32 = pa.Field(nullable=True, description="The year of its first release")
    game_type: pl.Int32 = pa.Field(nullable=True, description="Its game_type")
    is_edition: bool = pa.Field(description="Whether it is an edition of another game (version_parent)")
    is_on_computers: bool = pa.Field(description="Whether it is out for Windows, macOS or Linux")
    platforms: Annotated[pl.List, pl.String] = pa.Field(description="The abbreviations of its platforms")


class Candidates(StrictFrame):
    """One row per pair of an app and an IGDB game that may be that app: up to five per app, most similar name first."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    igdb_id: pl.Int32 = pa.Field(ge=1, description="IGDB's id of a game")
    label: str = pa.Field(description="Its name, year, type and platforms")
    score: pl.Int32 = pa.Field(ge=0, le=100, description="Similarity of the names, from 0 to 100 (equal but for case)")


class ReviewSheet(StrictFrame):
    """One row per app for a person to decide about: unmatched, filtered though today's rules would not, or matched."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    name: str = pa.Field(nullable=True, description="Its name on Steam")
    owners: pl.Int32 = pa.Field(description="The number of users who own it")
    playtime_forever: pl.Int64 = pa.Field(description="Minutes played by all of them")
    match_status: MatchStatus = pa.Field(description="UNMATCHED, IGNORED (filtered), or MATCHED where that was asked")
    match_reason: MatchReason = pa.Field(description="Why")
    matched_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the game that it is matched to")
    matched: str = pa.Field(nullable=True, description="The name of that game")
    kind: Kind = pa.Field(description="The kind that the run gave it")
    kind_reason: str = pa.Field(description="What decided the kind")
    proposed: Action = pa.Field(
        nullable=True, description="game, where the run filtered the app and today's rules and store types would not"
    )
    decided: str = pa.Field(nullable=True, description="The decision that overrides.csv holds already")
    action: str = pa.Field(nullable=True, description="To fill in: match, ignore or game; blank: no decision")
    igdb_id: pl.Int32 = pa.Field(nullable=True, description="To fill in: the game to match")
    note: str = pa.Field(
        nullable=True, description="To fill in: the reason; a blank cell keeps the note that overrides.csv has"
    )
    candidate_1_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the game with the most similar name")
    candidate_1: str = pa.Field(nullable=True, description="Its name (year, type, platforms)")
    candidate_1_score: pl.Int32 = pa.Field(nullable=True, description="Similarity of the names, from 0 to 100")
    candidate_2_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the next game")
    candidate_2: str = pa.Field(nullable=True, description="Its name (year, type, platforms)")
    candidate_2_score: pl.Int32 = pa.Field(nullable=True, description="Similarity of the names, from 0 to 100")
    candidate_3_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the next game")
    candidate_3: str = pa.Field(nullable=True, description="Its name (year, type, platforms)")
    candidate_3_score: pl.Int32 = pa.Field(nullable=True, description="Similarity of the names, from 0 to 100")
    candidate_4_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the next game")
    candidate_4: str = pa.Field(nullable=True, description="Its name (year, type, platforms)")
    candidate_4_score: pl.Int32 = pa.Field(nullable=True, description="Similarity of the names, from 0 to 100")
    candidate_5_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the next game")
    candidate_5: str = pa.Field(nullable=True, description="Its name (year, type, platforms)")
    candidate_5_score: pl.Int32 = pa.Field(nullable=True, description="Similarity of the names, from 0 to 100")


def _names(rows: object) -> object:
    """Return the names in a list of IGDB's references, of those that IGDB expanded to objects."""
    found = (row.get("name") for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
    # Half a surrogate pair is in no UTF-8.
    return [name.encode(errors="replace").decode() for name in found if isinstance(name, str)]


class FoundPlatform(BaseModel):
    """A platform of a found game: IGDB's id, and its abbreviation where IGDB gives one."""

    model_config = ConfigDict(frozen=True)

    id: Id
    abbreviation: Name | None = None


def _platforms(rows: object) -> object:
    """Return the platforms in a list of IGDB's references, whether IGDB expanded them to objects or not."""
    found = (row if isinstance(row, dict) else {"id": row} for row in rows) if isinstance(rows, list) else ()
    return parse_rows(list(found), FoundPlatform)[0]


class FoundGame(BaseModel):
    """An object of IGDB's `games`, from a search or a look-up by id; its references may be ids or objects."""

    model_config = ConfigDict(frozen=True)

    id: Id
    name: Name
    alternative_names: Annotated[list[str], BeforeValidator(_names)] = []
    first_release_date: Number | None = None
    game_type: Reference = None
    version_parent: Any = None
    platforms: Annotated[list[FoundPlatform], BeforeValidator(_platforms)] = []


class Decision(Override):
    """A person's decision about one app, an Override, with the number of its line in the filled-in review sheet."""

    line: int
