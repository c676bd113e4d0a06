"""The AWS Lambda function that does one step of a backfill: the plan, a shard's step, the look-up, or the report.

It also erases a user: it is the one function with rights to all that the store holds of users.
"""

from typing import Any

from handlers.respond import deadline_of, respond, run_async
from pipeline import clients
from pipeline.backfill.forget import forget_user
from pipeline.backfill.runner import run_event
from schemas.events import BackfillEvent, BackfillResponse, ForgetEvent, ForgetResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: do the step that the event names and return the response as JSON types."""
    if isinstance(event, dict) and event.get("step") == "forget":
        return respond(
            event,
            ForgetEvent,
            ForgetResponse,
            lambda settings, event: forget_user(clients.open_store(settings), event.user_id, dry_run=event.dry_run),
            context,
        )
    deadline = deadline_of(context)
    return respond(
        event,
        BackfillEvent,
        BackfillResponse,
        lambda settings, event: run_async(run_event(settings, event, deadline)),
        context,
    )
