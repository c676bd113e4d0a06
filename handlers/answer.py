"""What the three entry points have in common."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from pipeline.errors import PipelineError, Retryable
from pipeline.settings import Settings
from pipeline.wiring import configure_logging, parse_event
from schemas.events import StageEvent, StageResponse

Event = TypeVar("Event", bound=StageEvent)
Response = TypeVar("Response", bound=StageResponse)
T = TypeVar("T")


def answer(
    event: object, event_type: type[Event], response: type[Response], stage: Callable[[Settings, Event], Response]
) -> dict[str, Any]:
    """The contract's response to an event; what a retry may mend is raised as `Retryable`."""
    try:
        parsed = parse_event(event, event_type)
        settings = Settings.read()
        configure_logging(settings)
        return stage(settings, parsed).answer()
    except Retryable:
        raise
    except PipelineError as error:
        return response.failed(error.code, error.message).answer()


def run(stage: Coroutine[None, None, T]) -> T:
    """What a stage gives, on the event loop that all invocations of this process share."""
    return _runner().run(stage)


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()
