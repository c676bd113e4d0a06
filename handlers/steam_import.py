"""Stage 1 as an AWS Lambda function."""

from typing import Any

from handlers.respond import answer, run
from pipeline import stages
from pipeline.apis import steam  # noqa: F401 - loaded while Lambda initialises, not while the first user waits
from schemas.events import FetchEvent, FetchResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """`{user_id, steam_id64}` to a raw CSV."""
    return answer(
        event,
        FetchEvent,
        FetchResponse,
        lambda settings, fetch: run(stages.fetch_with_settings(settings, fetch)),
        context,
    )
