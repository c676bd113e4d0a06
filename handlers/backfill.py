"""The AWS Lambda function that does one step of a backfill: the plan, a shard's step, the look-up, or the report."""

from typing import Any

from handlers.respond import deadline_of, respond, run_async
from pipeline.backfill.runner import run_event
from schemas.events import BackfillEvent, BackfillResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: do the step of a backfill that the event names and return the response as JSON types."""
    deadline = deadline_of(context)
    return respond(
        event,
        BackfillEvent,
        BackfillResponse,
        lambda settings, event: run_async(run_event(settings, event, deadline)),
        context,
    )
