"""Lines of text that people read: none can send a control character to a terminal."""

import re

import click

QUIET = "pipeline.quiet"
"""The key under which the running command's context keeps `--quiet`."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All of them but tabs and line feeds: a terminal obeys them instead of showing them."""


def is_quiet() -> bool:
    """Return whether the running command was called with `--quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and QUIET in context.meta


def echo(line: str, *, err: bool = False) -> None:
    """Print a line for people, on stdout or stderr, unless the command is to be quiet."""
    if not is_quiet():
        echo_always(line, err=err)


def echo_always(line: str, *, err: bool = False) -> None:
    """Print a line for people, on stdout or stderr, also if the command is to be quiet."""
    click.echo(strip_control_characters(line), err=err)


def strip_control_characters(text: str) -> str:
    """Return the text with a replacement character for each control character but tabs and line feeds."""
    return _CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)
