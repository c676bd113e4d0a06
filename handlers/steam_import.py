"""Stage 1 as an AWS Lambda function."""

import asyncio
from typing import Any

from handlers.answer import answer
from pipeline import wiring
from schemas.events import FetchEvent, FetchResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """`{user_id, steam_id64}` to a raw CSV."""
    return answer(
        event, FetchEvent, FetchResponse, lambda settings, fetch: asyncio.run(wiring.fetch(settings, fetch)), context
    )
