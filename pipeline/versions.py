"""Files that say which schema they follow: one of another version is refused, never misread."""

from typing import TypeVar

from pydantic import BaseModel

from pipeline.errors import Failed
from schemas.manifest import SCHEMA_VERSION, Version

Model = TypeVar("Model", bound=BaseModel)


class OtherVersion(Failed):
    """A file that would be misread, whoever trusts it."""


def versioned(body: bytes, model: type[Model], file: str, remedy: str = "") -> Model:
    """A JSON object as its model has it.

    Raises:
        OtherVersion: `checkpoint_invalid`, with the remedy.
        ValidationError: It is none of the model's.
    """
    check_version(Version.model_validate_json(body).schema_version, file, remedy)
    return model.model_validate_json(body)


def check_version(version: object, file: str, remedy: str = "") -> None:
    """Refuse a file of another version than this program's; raises as `versioned`."""
    if str(version) != str(SCHEMA_VERSION):
        says = f"{file} has schema version {version!s:.20}, and this program reads {SCHEMA_VERSION}."
        raise OtherVersion("checkpoint_invalid", f"{says} {remedy}".rstrip())
