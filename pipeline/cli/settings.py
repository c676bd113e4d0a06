"""The command that prints all settings: their meaning, their values in force, and where each value comes from."""

import json
import os
from collections.abc import Set as AbstractSet
from typing import Literal, NamedTuple, get_args, get_origin

import click
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Table

from pipeline.cli.options import json_option, with_settings
from pipeline.cli.output import console
from pipeline.cli.terminal import Command
from pipeline.settings import Settings

TYPES: dict[type, str] = {int: "integer", float: "number", str: "text", SecretStr: "text"}


class Setting(NamedTuple):
    """A setting as it is declared: its environment variable, the type of its values, its default and its meaning."""

    name: str
    type: str
    default: str
    meaning: str


def declared_settings() -> list[Setting]:
    """Return all settings in the order of their declaration; a default of None is an empty text."""
    return [
        Setting(
            name.upper(),
            _type(field.annotation),
            "" if field.default is None else str(field.default),
            f"{field.description}.",
        )
        for name, field in Settings.model_fields.items()
    ]


@click.command("settings", cls=Command, epilog="steam-import settings --json")
@json_option
@with_settings()
def settings(settings: Settings, *, as_json: bool) -> None:
    """Print all settings with their values, and where each value comes from.

    Secrets are printed as ***. An option of a command overrides the environment, which overrides the file .env.
    """
    params = click.get_current_context().params
    options = {"log_level" if name == "quiet" else name for name, value in params.items() if value}
    given = Settings.read().model_fields_set
    in_environment = {name.lower() for name, value in os.environ.items() if value}
    found = [
        {
            **setting._asdict(),
            "value": _value(settings, field),
            "source": _source(field, options, in_environment, given),
        }
        for setting in declared_settings()
        for field in [setting.name.lower()]
    ]
    if as_json:
        click.echo(json.dumps(found))
        return
    table = Table("Setting", "Value", "From", "Meaning")
    for row in found:
        table.add_row(row["name"], escape(row["value"] or ""), row["source"], escape(row["meaning"]))
    console().print(table)


def _type(annotation: object) -> str:
    """Return the type of a setting's values in words; Literals are listed, and None is left out."""
    if get_origin(annotation) is Literal:
        return ", ".join(get_args(annotation))
    if isinstance(annotation, type):
        return TYPES[annotation]
    return next(_type(argument) for argument in get_args(annotation) if argument is not type(None))


def _value(settings: Settings, field: str) -> str | None:
    value = getattr(settings, field)
    if isinstance(value, SecretStr):
        return "***"
    return None if value is None else str(value)


def _source(field: str, options: AbstractSet[str], in_environment: AbstractSet[str], given: AbstractSet[str]) -> str:
    """Return where a value comes from; the command line has defaults of its own for the log and the store."""
    if field in options:
        return "option"
    if field in in_environment:
        return "environment"
    return ".env" if field in given else "default"
