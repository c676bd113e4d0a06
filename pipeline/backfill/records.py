"""The JSON objects of a backfill: its plan, its report, and what its steps did."""

from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from pipeline.contract import Store

Record = TypeVar("Record", bound=BaseModel)

log = structlog.get_logger()


def read_record(store: Store, key: str, model: type[Record], **of_key: object) -> Record | None:
    """A JSON object of a backfill; None where there is none, none that can be read, or one of something else.

    `of_key` is what its key says of it, by the names of its fields.
    """
    return record_of(store.read(key), key, model, **of_key)


def record_of(body: bytes | None, key: str, model: type[Record], **of_key: object) -> Record | None:
    """The same of what was read already."""
    if body is None:
        return None
    try:
        record = model.model_validate_json(body)
    except ValidationError as error:
        log.warning("record left out", key=key, faults=error.error_count())
        return None
    if any(getattr(record, name) != value for name, value in of_key.items()):
        log.warning("record left out", key=key, fault="it is not of what its key says")
        return None
    return record


def write_record(store: Store, key: str, record: BaseModel) -> None:
    """Write a JSON object of a backfill."""
    store.write(key, json_of(record))


def json_of(record: BaseModel) -> bytes:
    """A record as it is written."""
    return record.model_dump_json(indent=1).encode()
