"""Stage 2 as an AWS Lambda function."""

import time
from typing import Any

from handlers.answer import answer, run
from pipeline import wiring
from pipeline.edges import igdb, steam_store  # noqa: F401 - loaded while Lambda initialises, not while a user waits
from schemas.events import EnrichEvent, EnrichResponse

SPARE_SECONDS = 30.0
"""Before the function's time runs out: to write what is known, and to end."""


def handler(event: object, context: object) -> dict[str, Any]:
    """`{user_id, s3_location}` to an enriched CSV; what IGDB cannot be asked in time is PENDING."""
    deadline = _deadline(context)
    return answer(
        event,
        EnrichEvent,
        EnrichResponse,
        lambda settings, enrich: run(wiring.enrich(settings, enrich, deadline=deadline)),
        context,
    )


def _deadline(context: object) -> float | None:
    """When to stop asking, in seconds of `time.monotonic`; a context without a time limit has none."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return time.monotonic() + remaining() / 1000 - SPARE_SECONDS if remaining else None
