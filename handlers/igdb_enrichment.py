"""Stage 2 as a Lambda function: `{user_id, s3_location}` becomes an enriched CSV."""

from typing import Any

from handlers.respond import deadline_of, respond, run_async
from pipeline.apis import igdb, steam  # noqa: F401 - imported while Lambda initialises, not while a user waits
from pipeline.errors import Refused
from pipeline.settings import Settings
from pipeline.stages import enrich_with_settings
from schemas.events import EnrichEvent, EnrichResponse

WITHOUT_IGDB = (
    'Or ask nobody: send "look_up": false, or start the state machine of imports, whose CatalogueFunction has them.'
)
"""What a caller can do where the function has no IGDB credentials, as in the template."""


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: write an enriched CSV from a raw one and return the response as JSON types.

    Apps that IGDB does not answer about before the function's time is up are PENDING.
    """

    def stage(settings: Settings, event: EnrichEvent) -> EnrichResponse:
        try:
            return run_async(enrich_with_settings(settings, event, deadline=deadline_of(context)))
        except Refused as error:
            if not event.look_up or settings.has("igdb_client_secret"):
                raise
            raise Refused(error.code, f"{error.message}\n{WITHOUT_IGDB}") from error

    return respond(event, EnrichEvent, EnrichResponse, stage, context)
