"""What people review: the games that a run could not match, and what IGDB has under such names."""

from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict

from schemas.catalogue import ACTIONS, Override
from schemas.frames import StrictFrame
from schemas.igdb import Id, Name, Number
from schemas.library import KINDS, MATCH_REASONS, MATCH_STATUSES

MOST_CANDIDATES = 5


class SearchTerms(StrictFrame):
    """The apps that candidates are looked for: one row per app."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    name: str = pa.Field(description="Its name on Steam")
    search: str = pa.Field(nullable=True, description="What to search for on IGDB; null where the name says nothing")


class FoundGames(StrictFrame):
    """What IGDB found for apps: one row per app and game."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    igdb_id: pl.Int32 = pa.Field(ge=1, description="IGDB's id of a game")
    igdb_name: str = pa.Field(description="The game's name")
    other_names: Annotated[pl.List, pl.String] = pa.Field(description="Its alternative names")
    year: pl.Int32 = pa.Field(nullable=True, description="The year of its first release")
    game_type: pl.Int32 = pa.Field(nullable=True, description="Its game_type")
    is_edition: bool = pa.Field(description="Whether it is an edition of another game (version_parent)")
    is_on_computers: bool = pa.Field(description="Whether it is out for Windows, macOS or Linux")


class Candidates(StrictFrame):
    """The games that an app may be, the likeliest first: up to five rows per app."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    igdb_id: pl.Int32 = pa.Field(ge=1, description="IGDB's id of a game")
    label: str = pa.Field(description="Its name, year and type")
    score: pl.Int32 = pa.Field(ge=0, le=100, description="How alike the names are; 100: but for case, the same")


class ReviewSheet(StrictFrame):
    """The file that a person fills in: one row per app of a run that is unmatched, or need not be filtered."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    name: str = pa.Field(nullable=True, description="Its name on Steam")
    playtime_forever: pl.Int32 = pa.Field(description="Minutes played")
    match_status: Annotated[pl.Enum, MATCH_STATUSES] = pa.Field(description="UNMATCHED, or IGNORED (filtered)")
    match_reason: Annotated[pl.Enum, MATCH_REASONS] = pa.Field(description="Why")
    kind: Annotated[pl.Enum, KINDS] = pa.Field(description="What the run took it for")
    kind_reason: str = pa.Field(description="Why")
    proposed: Annotated[pl.Enum, ACTIONS] = pa.Field(
        nullable=True, description="game, where today's rules and the store say so of an app that the run filtered"
    )
    decided: str = pa.Field(nullable=True, description="What overrides.csv says of it already")
    action: str = pa.Field(nullable=True, description="To fill in: match, ignore or game; blank: no decision")
    igdb_id: pl.Int32 = pa.Field(nullable=True, description="To fill in: the game to match")
    note: str = pa.Field(nullable=True, description="To fill in: why; blank leaves the note that is there")
    candidate_1_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the likeliest game")
    candidate_1: str = pa.Field(nullable=True, description="Its name (year, type)")
    candidate_1_score: pl.Int32 = pa.Field(nullable=True, description="How alike the names are, to 100")
    candidate_2_id: pl.Int32 = pa.Field(nullable=True, description="The next one")
    candidate_2: str = pa.Field(nullable=True, description="Its name (year, type)")
    candidate_2_score: pl.Int32 = pa.Field(nullable=True, description="How alike the names are, to 100")
    candidate_3_id: pl.Int32 = pa.Field(nullable=True, description="The next one")
    candidate_3: str = pa.Field(nullable=True, description="Its name (year, type)")
    candidate_3_score: pl.Int32 = pa.Field(nullable=True, description="How alike the names are, to 100")
    candidate_4_id: pl.Int32 = pa.Field(nullable=True, description="The next one")
    candidate_4: str = pa.Field(nullable=True, description="Its name (year, type)")
    candidate_4_score: pl.Int32 = pa.Field(nullable=True, description="How alike the names are, to 100")
    candidate_5_id: pl.Int32 = pa.Field(nullable=True, description="The next one")
    candidate_5: str = pa.Field(nullable=True, description="Its name (year, type)")
    candidate_5_score: pl.Int32 = pa.Field(nullable=True, description="How alike the names are, to 100")
    checkpoint: str = pa.Field(description="Key of the enriched CSV, for review apply")


def _names(rows: object) -> object:
    """The names of references that were expanded."""
    found = (row.get("name") for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
    # Half a surrogate pair is in no UTF-8.
    return [name.encode(errors="replace").decode() for name in found if isinstance(name, str)]


def _ids(rows: object) -> object:
    """The ids of references, whether they were expanded or not."""
    found = (row.get("id") if isinstance(row, dict) else row for row in rows) if isinstance(rows, list) else ()
    return [number for number in found if isinstance(number, int)]


class FoundGame(BaseModel):
    """A row of `games` as a search gives it, or a look-up by id; references may be bare ids or objects."""

    model_config = ConfigDict(frozen=True)

    id: Id
    name: Name
    alternative_names: Annotated[list[str], BeforeValidator(_names)] = []
    first_release_date: Number | None = None
    game_type: Number | None = None
    version_parent: Any = None
    platforms: Annotated[list[int], BeforeValidator(_ids)] = []


class Decision(Override):
    """A line of the edited file that decides something."""

    line: int
    checkpoint: str
