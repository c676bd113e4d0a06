"""Stage 3 as an AWS Lambda function."""

from typing import Any

from handlers.respond import answer
from pipeline import stages
from schemas.events import LoadEvent, LoadResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """`{user_id, s3_enriched_location}` to rows in SavePoint's database."""
    return answer(event, LoadEvent, LoadResponse, stages.load_with_settings, context)
