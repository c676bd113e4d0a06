"""Stage 3 as a Lambda function: `{user_id, s3_enriched_location}` becomes rows in SavePoint's database."""

from typing import Any

from handlers.respond import respond
from pipeline.stages import load_with_settings
from schemas.events import LoadEvent, LoadResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: load an enriched CSV into SavePoint's database and return the response as JSON types."""
    return respond(event, LoadEvent, LoadResponse, load_with_settings, context)
