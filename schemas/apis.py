"""The rows of Steam's store and of IGDB (https://api-docs.igdb.com/#endpoints) that the pipeline uses.

IGDB leaves a field without a value out, and gives a reference as a bare id where it was not expanded.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

INT32_MAX = 2**31 - 1
_YEAR_1, YEAR_9999 = -62135596800, 253402300799
Id = Annotated[int, Field(ge=1, le=INT32_MAX, strict=True)]
Number = Annotated[int, Field(ge=-INT32_MAX, le=INT32_MAX, strict=True)]

# PostgreSQL's text cannot hold U+0000.
Text = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]


def _id_of(reference: object) -> object:
    return reference.get("id") if isinstance(reference, dict) else reference


# IGDB answers with an object in the place of a number where the reference was expanded.
Reference = Annotated[Number | None, BeforeValidator(_id_of)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


Row = TypeVar("Row", bound=BaseModel)


def parse_rows(rows: Sequence[Any], model: type[Row]) -> tuple[list[Row], list[str]]:
    """Return a list of the rows that conform to a Pydantic model, and a list of messages about the others."""
    adapter = TypeAdapter(model)
    good: list[Row] = []
    faults: list[str] = []
    for row in rows:
        try:
            good.append(adapter.validate_python(row))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = row.get("id") if isinstance(row, dict) else row
            faults.append(f"{model.__name__} {name!r:.40}: {'.'.join(map(str, first['loc']))} {first['msg']}")
    return good, faults


class StoreItem(_Row):
    """A row of Steam's `store_items`: an app and its type; if `success` is not 1, it is hidden and `type` is 0."""

    id: Id
    success: int = 0
    type: int | None = None


def _first_valid(model: type[Row]) -> Callable[[Any], Any]:
    """Return a validator that replaces a reference which is not expanded, or not valid, by None."""
    return lambda row: next(iter(parse_rows([row], model)[0]), None)


def _only_valid(model: type[Row]) -> Callable[[Any], Any]:
    """Return a validator that drops references which are not expanded or invalid: one bad genre costs no game."""
    return lambda rows: parse_rows(rows or [], model)[0] if rows is None or isinstance(rows, list) else rows


class RowId(_Row):
    """A row of any of IGDB's endpoints, of which only the `id` is used."""

    id: Id


class ExternalGame(_Row):
    """A row of IGDB's `external_games`: an IGDB game, and its id in a store (`uid`, for Steam the appid).

    A `uid` may be any text, and a row without a game does not conform.
    """

    uid: Text
    game: Annotated[Id, BeforeValidator(_id_of)]


class Genre(_Row):
    """A row of IGDB's `genres`."""

    id: Id
    name: Name
    slug: Name
    checksum: Text | None = None


class Platform(_Row):
    """A row of IGDB's `platforms`."""

    id: Id
    name: Name
    slug: Name
    abbreviation: Text | None = None
    alternative_name: Text | None = None
    generation: Number | None = None
    platform_family: Reference = None
    platform_type: Reference = None
    checksum: Text | None = None


class Cover(_Row):
    """A row of IGDB's `covers`; its `image_id` becomes a part of the cover's URL."""

    image_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class Game(_Row):
    """A row of IGDB's `games`, with its references expanded."""

    id: Id
    name: Name
    slug: Name
    summary: Text | None = None
    first_release_date: Annotated[int, Field(ge=_YEAR_1, le=YEAR_9999, strict=True)] | None = None
    cover: Annotated[Cover | None, BeforeValidator(_first_valid(Cover))] = None
    game_type: Reference = None
    version_parent: Annotated[Id | None, BeforeValidator(_id_of)] = None
    genres: Annotated[list[Genre], BeforeValidator(_only_valid(Genre))] = []
    platforms: Annotated[list[Platform], BeforeValidator(_only_valid(Platform))] = []
