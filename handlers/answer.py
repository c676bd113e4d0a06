"""What the three entry points have in common."""

from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.errors import PipelineError, Retryable
from pipeline.settings import Settings
from pipeline.wiring import configure_logging, parse_event
from schemas.events import StageEvent, StageResponse

Event = TypeVar("Event", bound=StageEvent)
Response = TypeVar("Response", bound=StageResponse)


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
