"""The JSON objects of a backfill."""

from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from pipeline.contract import Store

Record = TypeVar("Record", bound=BaseModel)

log = structlog.get_logger()


def read_record(store: Store, key: str, model: type[Record]) -> Record | None:
    """What is there under a key; None where there is nothing, or nothing that can be read."""
    return record_of(store.read(key), key, model)


def record_of(body: bytes | None, key: str, model: type[Record]) -> Record | None:
    """The same of bytes that were read already."""
    if body is None:
        return None
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        log.warning("record left out", key=key, faults=error.error_count())
        return None


def write_record(store: Store, key: str, record: BaseModel) -> None:
    """Put a record under a key, whatever was there."""
    store.write(key, json_of(record))


def json_of(record: BaseModel) -> bytes:
    """A record as its object holds it."""
    return record.model_dump_json(indent=1).encode()
