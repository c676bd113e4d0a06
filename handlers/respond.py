"""What the entry points have in common.

CloudWatch metrics of the stages: lines of the log in Embedded Metric Format.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import cache
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
from structlog.contextvars import bind_contextvars, bound_contextvars

from pipeline.errors import PipelineError, Retryable
from pipeline.logs import configure_logging
from pipeline.settings import Settings
from pipeline.stages import parse_event
from schemas.events import (
    EnrichResponse,
    EnrichStats,
    ErrorCode,
    FetchResponse,
    HandlerEvent,
    LoadResponse,
    StageResponse,
)

Event = TypeVar("Event", bound=HandlerEvent)
Response = TypeVar("Response", bound=StageResponse)
T = TypeVar("T")

SPARE_SECONDS = 30.0
"""Before the function's time runs out: to write what is known, and to end."""

log = structlog.get_logger()


def answer(
    event: object,
    event_type: type[Event],
    response: type[Response],
    stage: Callable[[Settings, Event], Response],
    context: object = None,
) -> dict[str, Any]:
    """The contract's response to an event; what a retry may mend is raised as `Retryable`.

    Each line that is logged meanwhile names the stage, Lambda's request, the user and the run.
    """
    started_at = monotonic()
    request_id = getattr(context, "aws_request_id", None)
    with bound_contextvars(stage=event_type.stage, request_id=request_id, user_id=None, run_id=None):
        try:
            done = _done(event, event_type, stage)
        except PipelineError as error:
            _report(event_type.stage, error, round(monotonic() - started_at, 3))
            if isinstance(error, Retryable):
                raise
            return response.failed(error.code, error.message).answer()
        emit_done(event_type.stage, done)
        return done.answer()


def _done(event: object, event_type: type[Event], stage: Callable[[Settings, Event], Response]) -> Response:
    configure_logging(Settings.model_construct())  # until it is known how: what is refused is logged too
    parsed = parse_event(event, event_type)
    parsed = parsed.model_copy(update={"run_id": parsed.run_id or uuid4().hex})
    bind_contextvars(**parsed.model_dump(include={"user_id", "run_id"}))
    settings = Settings.read()
    configure_logging(settings)
    return stage(settings, parsed)


def _report(stage: str, error: PipelineError, seconds: float) -> None:
    log.warning("failed", error_code=error.code, error=error.message, seconds=seconds)
    emit_failed(stage, error.code, seconds)


def deadline_of(context: object) -> float | None:
    """When to stop asking, in seconds of `time.monotonic`; a context without a time limit has none."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return monotonic() + remaining() / 1000 - SPARE_SECONDS if remaining else None


def run(stage: Coroutine[None, None, T]) -> T:
    """What a stage gives, on the event loop that all invocations of this process share."""
    # The runner would keep the context of its first stage, whose run all later lines of the log would name.
    return _runner().run(stage, context=copy_context())


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


NAMESPACE = "SteamLibraryImport"


def emit_done(stage: str, response: StageResponse) -> None:
    """What a stage did; its `failures` are 0, so that a rate can be told."""
    done = {"requests": response.requests, "retries": response.retries, "rejected": response.rejected or 0}
    _emit(stage, {"failures": 0, "seconds": response.seconds} | done | _rows(response))


def emit_failed(stage: str, error_code: ErrorCode, seconds: float) -> None:
    """One failure of a stage, by the stage alone and by its error code too."""
    _emit(stage, {"failures": 1, "seconds": seconds}, error_code)


def _rows(response: StageResponse) -> dict[str, int]:
    match response:
        case FetchResponse(game_count=int(rows)):
            return {"rows": rows}
        case EnrichResponse(stats=EnrichStats() as stats):
            return {"rows": stats.processed} | stats.model_dump(include={"matched", "unmatched", "pending"})
        case LoadResponse(stats=dict(stats)):
            return {"rows": stats["imported_games_created"] + stats["imported_games_updated"]}
    return {}


def _emit(stage: str, figures: Mapping[str, float], error_code: ErrorCode | None = None) -> None:
    metrics = AmazonCloudWatchEMFProvider(namespace=NAMESPACE)
    metrics.add_dimension("stage", stage)
    if error_code:
        metrics.add_dimensions(stage=stage, error_code=error_code)
    for name, figure in figures.items():
        metrics.add_metric(name, MetricUnit.Seconds if name == "seconds" else MetricUnit.Count, figure)
    metrics.flush_metrics()
