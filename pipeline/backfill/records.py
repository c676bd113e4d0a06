"""The JSON objects of a backfill: its plan, its report, and what its steps did."""

from typing import TypeVar

import structlog
from pydantic import ValidationError

from pipeline.contract import Store
from pipeline.versions import versioned
from schemas.backfill import Record

R = TypeVar("R", bound=Record)

REMEDY = (
    "Use the program's version that wrote it, or begin anew: `steam-import backfill USERS_CSV --resume ANOTHER_ID`."
)
"""Of what another version wrote."""

log = structlog.get_logger()


def read_record(store: Store, key: str, model: type[R], **of_key: object) -> R | None:
    """A JSON object of a backfill; None where there is none, none that can be read, or one of something else.

    `of_key` is what its key says of it, by the names of its fields.

    Raises:
        Failed: `checkpoint_invalid`, for one of another schema version.
    """
    return record_of(store.read(key), key, model, **of_key)


def record_of(body: bytes | None, key: str, model: type[R], **of_key: object) -> R | None:
    """The same of what was read already."""
    if body is None:
        return None
    try:
        record = versioned(body, model, key, REMEDY)
    except ValidationError as error:
        log.warning("record left out", key=key, faults=error.error_count())
        return None
    if any(getattr(record, name) != value for name, value in of_key.items()):
        log.warning("record left out", key=key, fault="it is not of what its key says")
        return None
    return record


def write_record(store: Store, key: str, record: Record) -> None:
    """Write a JSON object of a backfill."""
    store.write(key, json_of(record))


def json_of(record: Record) -> bytes:
    """A record as it is written."""
    return record.model_dump_json(indent=1).encode()
