"""The steps of a backfill as an AWS Lambda function."""

from typing import Any

from handlers.respond import answer, deadline_of, run
from pipeline.backfill.runner import do_step
from schemas.events import BackfillEvent, BackfillResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """`{step, run_id, …}`: the plan, a shard's fetch, enrich or load, the one look-up, or the report."""
    deadline = deadline_of(context)
    return answer(
        event,
        BackfillEvent,
        BackfillResponse,
        lambda settings, step: run(do_step(settings, step, deadline)),
        context,
    )
