"""Stage 2 as an AWS Lambda function."""

import asyncio
from typing import Any

from handlers.answer import answer
from pipeline import wiring
from schemas.events import EnrichEvent, EnrichResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """`{user_id, s3_location}` to an enriched CSV."""
    return answer(
        event,
        EnrichEvent,
        EnrichResponse,
        lambda settings, enrich: asyncio.run(wiring.enrich(settings, enrich)),
        context,
    )
