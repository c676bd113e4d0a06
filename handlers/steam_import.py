"""Stage 1 as a Lambda function: `{user_id, steam_id64}` becomes a raw CSV."""

from typing import Any

from handlers.respond import respond, run_async
from pipeline.apis import steam  # noqa: F401 - imported while Lambda initialises, not while a user waits
from pipeline.settings import Settings
from pipeline.stages import fetch_with_settings
from schemas.events import FetchEvent, FetchResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: write a user's Steam library into a raw CSV and return the response as JSON types."""

    def stage(settings: Settings, event: FetchEvent) -> FetchResponse:
        return run_async(fetch_with_settings(settings, event))

    return respond(event, FetchEvent, FetchResponse, stage, context)
