"""IGDB's rows as we use them; what does not conform is set aside (https://api-docs.igdb.com/#endpoints).

IGDB leaves a field without a value out, and gives a reference as a bare id where it was not expanded.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

INT32_MAX = 2**31 - 1
_YEAR_1, YEAR_9999 = -62135596800, 253402300799
Row = TypeVar("Row", bound=BaseModel)
Id = Annotated[int, Field(ge=1, le=INT32_MAX, strict=True)]
Number = Annotated[int, Field(ge=-INT32_MAX, le=INT32_MAX, strict=True)]

# PostgreSQL's text cannot hold U+0000.
Text = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]


def _bare(reference: object) -> object:
    """A reference is an id, or an object that holds one."""
    return reference.get("id") if isinstance(reference, dict) else reference


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Changed(_Row):
    """A row of `games` of which no more than the id is asked."""

    id: Id


class ExternalGame(_Row):
    """A row of `external_games`; some have no game, and a uid may be anything."""

    uid: Text
    game: Annotated[Id, BeforeValidator(_bare)]


class Genre(_Row):
    """A row of `genres`."""

    id: Id
    name: Name
    slug: Name
    checksum: Text | None = None


class Platform(_Row):
    """A row of `platforms`."""

    id: Id
    name: Name
    slug: Name
    abbreviation: Text | None = None
    alternative_name: Text | None = None
    generation: Number | None = None
    platform_family: Number | None = None
    platform_type: Number | None = None
    checksum: Text | None = None


class Cover(_Row):
    """A row of `covers`; its `image_id` goes into a URL."""

    image_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


def _whole_one(model: type[Row]) -> Callable[[Any], Any]:
    """A reference that was expanded and is whole; else none."""

    def keep(row: object) -> object:
        return next(iter(valid([row], model)[0]), None)

    return keep


def _whole(model: type[Row]) -> Callable[[Any], Any]:
    """Of a list of references, those that were expanded and are whole: a game is not lost for one bad genre."""

    def keep(rows: object) -> object:
        return valid(rows or [], model)[0] if rows is None or isinstance(rows, list) else rows

    return keep


class Game(_Row):
    """A row of `games`."""

    id: Id
    name: Name
    slug: Name
    summary: Text | None = None
    first_release_date: Annotated[int, Field(ge=_YEAR_1, le=YEAR_9999, strict=True)] | None = None
    cover: Annotated[Cover | None, BeforeValidator(_whole_one(Cover))] = None
    game_type: Number | None = None
    version_parent: Annotated[Id | None, BeforeValidator(_bare)] = None
    genres: Annotated[list[Genre], BeforeValidator(_whole(Genre))] = []
    platforms: Annotated[list[Platform], BeforeValidator(_whole(Platform))] = []


def valid(rows: list[Any], model: type[Row]) -> tuple[list[Row], list[str]]:
    """The rows that conform to the model, and for each of the others a line that says why it does not."""
    adapter = TypeAdapter(model)
    good: list[Row] = []
    bad: list[str] = []
    for row in rows:
        try:
            good.append(adapter.validate_python(row))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = row.get("id") if isinstance(row, dict) else row
            bad.append(f"{model.__name__} {name!r:.40}: {'.'.join(map(str, first['loc']))} {first['msg']}")
    return good, bad
