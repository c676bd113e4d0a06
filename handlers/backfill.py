"""The steps of a backfill as an AWS Lambda function."""

from typing import Any

from handlers.respond import deadline_of, respond, run_async
from pipeline.backfill.runner import do_step
from schemas.events import BackfillEvent, BackfillResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """`{step, run_id, …}`: the plan, a shard's fetch, enrich or load, the one look-up, or the report."""
    deadline = deadline_of(context)
    return respond(
        event,
        BackfillEvent,
        BackfillResponse,
        lambda settings, step: run_async(do_step(settings, step, deadline)),
        context,
    )
