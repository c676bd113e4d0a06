"""Steam's store_items as we use them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.igdb import INT32_MAX


class StoreItem(BaseModel):
    """An app in the store; where `success` is not 1 it is hidden, and its `type` reads 0, as a game's."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[int, Field(ge=1, le=INT32_MAX, strict=True)]
    success: int = 0
    type: int | None = None
