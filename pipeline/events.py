"""An event from outside, as its model."""

from typing import TypeVar

from pydantic import ValidationError

from pipeline.errors import Refused
from schemas.events import HandlerEvent

Event = TypeVar("Event", bound=HandlerEvent)


def parse_event(event: object, event_type: type[Event]) -> Event:
    """The event as its model.

    Raises:
        Refused: `bad_event`, naming every field at fault.
    """
    try:
        return event_type.model_validate(event)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        listed = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg']}" for fault in faults)
        raise Refused("bad_event", f"The event cannot be used; mend {listed}.") from None
