"""Stage 2 as an AWS Lambda function."""

from typing import Any

from handlers.respond import answer, deadline_of, run
from pipeline import stages
from pipeline.apis import igdb, steam_store  # noqa: F401 - loaded while Lambda initialises, not while a user waits
from schemas.events import EnrichEvent, EnrichResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """`{user_id, s3_location}` to an enriched CSV; what IGDB cannot be asked in time is PENDING."""
    deadline = deadline_of(context)
    return answer(
        event,
        EnrichEvent,
        EnrichResponse,
        lambda settings, enrich: run(stages.enrich_with_settings(settings, enrich, deadline=deadline)),
        context,
    )
