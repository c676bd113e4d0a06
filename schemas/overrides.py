"""A line of overrides.csv."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

HEADER = ("appid", "action", "igdb_id", "note")
INT32_MAX = 2**31 - 1

Id = Annotated[int, Field(ge=1, le=INT32_MAX)]


def _blank_is_none(cell: object) -> object:
    return None if isinstance(cell, str) and not cell.strip() else cell


class Override(BaseModel):
    """`match` an app to an IGDB game, `ignore` it, or have it count as a `game` whatever store and name say."""

    appid: Id
    action: Literal["match", "ignore", "game"]
    igdb_id: Annotated[Id | None, BeforeValidator(_blank_is_none)] = None
    note: str = ""

    @model_validator(mode="after")
    def _names_a_game(self) -> Self:
        if self.action == "match" and self.igdb_id is None:
            raise ValueError("match needs an igdb_id")
        return self

    def columns(self) -> dict[str, Any]:
        """The row as the frame has it."""
        return {"appid": self.appid, "action": self.action, "override_igdb_id": self.igdb_id}
