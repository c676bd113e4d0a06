"""The code that all Lambda functions share: run a stage for an event, and report it in response, log and metrics."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import cache
from os import environ
from time import monotonic
from typing import Any, TypeVar

import structlog
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
from structlog.contextvars import bind_contextvars, bound_contextvars

from pipeline.clients import reread_secrets
from pipeline.errors import PipelineError, Refused, Retryable
from pipeline.logs import configure_logging
from pipeline.settings import Settings
from pipeline.stages import parse_event
from pipeline.storage import s3  # noqa: F401 - imported while Lambda initialises, not while a user waits
from schemas.events import (
    CatalogueResponse,
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

METRICS_NAMESPACE = "SteamLibraryImport"
"""The default namespace; a stack has one of its own, in Powertools' variable POWERTOOLS_METRICS_NAMESPACE."""

SPARE_SECONDS = 30.0
"""Seconds of a Lambda function's time that are kept for writing the results and ending."""

MAY_BE_ROTATED: set[ErrorCode] = {"bad_steam_key", "bad_igdb_credentials", "configuration"}
"""Error codes that an outdated secret may cause; PostgreSQL's "authentication failed" has the code `configuration`."""

NAMES_THE_ACCOUNT: set[ErrorCode] = {"bad_steam_id", "account_not_found"}
"""Error codes whose messages quote a custom URL, which is often a person's name: the log has the code alone."""

log = structlog.get_logger()


def respond(
    event: object,
    event_type: type[Event],
    response_type: type[Response],
    stage: Callable[[Settings, Event], Response],
    context: object = None,
) -> dict[str, Any]:
    """Run a stage for a Lambda event and return the response as JSON types, also for an error that no retry can fix.

    The event is validated first, and metrics are printed at the end. Every line that is logged meanwhile
    names the stage, Lambda's request, the user and the run.

    Raises:
        Retryable: The error may pass by itself; Step Functions may send the same event again.
    """
    started_at = monotonic()
    request_id = getattr(context, "aws_request_id", None)
    with bound_contextvars(stage=event_type.stage, request_id=request_id, user_id=None, run_id=None):
        try:
            response = _run_stage(event, event_type, stage)
        except PipelineError as error:
            seconds = round(monotonic() - started_at, 3)
            says = None if error.code in NAMES_THE_ACCOUNT else error.message
            log.warning("failed", error_code=error.code, error=says, seconds=seconds)
            _emit(event_type.stage, {"failures": 1, "seconds": seconds}, error.code)
            if isinstance(error, Retryable):
                # Lambda puts the stack trace into the cause, and a state of Step Functions holds 256 KB of causes.
                raise error.with_traceback(None) from None
            return response_type.failed(error.code, error.message).to_lambda_response()
        _emit(event_type.stage, {"failures": 0} | _figures(response))
        return response.to_lambda_response()


def deadline_of(context: object) -> float | None:
    """Return when a Lambda function should stop calling APIs, on the clock `time.monotonic`; None without a limit."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return monotonic() + remaining() / 1000 - SPARE_SECONDS if remaining else None


def run_async(stage: Coroutine[None, None, T]) -> T:
    """Return the result of a coroutine, run on the event loop that all invocations of this process share."""
    # A copy: the loop would keep the context of its first stage, whose run all later lines of the log would name.
    return _event_loop().run(stage, context=copy_context())


@cache
def _event_loop() -> asyncio.Runner:
    return asyncio.Runner()


def _run_stage(event: object, event_type: type[Event], stage: Callable[[Settings, Event], Response]) -> Response:
    configure_logging(Settings.model_construct())  # the defaults, for errors in the event and the settings
    parsed = parse_event(event, event_type)
    bind_contextvars(**parsed.model_dump(include={"user_id", "run_id"}))
    settings = Settings.read()
    configure_logging(settings)
    try:
        return stage(settings, parsed)
    except Refused as error:
        if error.code not in MAY_BE_ROTATED or not reread_secrets():
            raise
        log.info("secrets rotated", error_code=error.code)
        return stage(settings, parsed)


def _figures(response: StageResponse) -> dict[str, float]:
    """Return the metrics of a stage that succeeded."""
    figures = {
        "seconds": response.seconds,
        "requests": response.requests,
        "retries": response.retries,
        "rejected": response.rejected or 0,
    }
    match response:
        case FetchResponse(game_count=int(rows)):
            return figures | {"rows": rows}
        case EnrichResponse(stats=EnrichStats() as stats):
            return figures | {"rows": stats.processed} | stats.model_dump(include={"matched", "unmatched", "pending"})
        case LoadResponse(stats=dict(stats)):
            return figures | {"rows": stats["imported_games_created"] + stats["imported_games_updated"]}
        case CatalogueResponse(stats={"unanswered": apps}):
            return figures | {"wanted": apps}
    return figures


def _emit(stage: str, figures: Mapping[str, float], error_code: ErrorCode | None = None) -> None:
    """Print the figures as CloudWatch metrics (Embedded Metric Format), by stage, and by error code too if given."""
    metrics = AmazonCloudWatchEMFProvider(namespace=environ.get("POWERTOOLS_METRICS_NAMESPACE", METRICS_NAMESPACE))
    metrics.add_dimension("stage", stage)
    if error_code:
        metrics.add_dimensions(stage=stage, error_code=error_code)
        metrics.add_dimensions(error_code=error_code)
    for name, figure in figures.items():
        metrics.add_metric(name, MetricUnit.Seconds if name == "seconds" else MetricUnit.Count, figure)
    metrics.flush_metrics()
