"""Stage 2 as a Lambda function: `{user_id, s3_location}` becomes an enriched CSV."""

from typing import Any

from handlers.respond import deadline_of, respond, run_async
from pipeline.apis import igdb, steam  # noqa: F401 - imported while Lambda initialises, not while a user waits
from pipeline.settings import Settings
from pipeline.stages import enrich_with_settings
from schemas.events import EnrichEvent, EnrichResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: write an enriched CSV from a raw one and return the response as JSON types.

    Apps that IGDB does not answer about before the function's time is up are PENDING.
    """

    def stage(settings: Settings, event: EnrichEvent) -> EnrichResponse:
        return run_async(enrich_with_settings(settings, event, deadline=deadline_of(context)))

    return respond(event, EnrichEvent, EnrichResponse, stage, context)
