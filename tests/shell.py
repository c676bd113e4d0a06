"""The documents' shell examples: which there are, and whether the program knows their commands and options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
CALL = re.compile(r"(?<![\w/-])(?:\.venv/bin/)?steam-import (?P<words>[a-z][^`\n|#);]*)")


def blocks_of(document: Path) -> list[str]:
    """Its blocks of shell, in their order."""
    return re.findall(r"(?ms)^```sh\n(.*?)^```", document.read_text(encoding="utf-8"))


def calls_of(script: str) -> Iterator[list[str]]:
    """The words of each call of the program, without its name."""
    joined = script.replace("\\\n", " ")
    for call in CALL.finditer(joined):
        yield shlex.split(re.sub(r"[<>].*", "", call["words"].replace('"', "")))


def check_call(words: list[str]) -> None:
    """Raise click's UsageError where the program would, but for files that are not there."""
    command: click.Command = cli
    context = click.Context(cli, info_name="steam-import")
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        assert command, name
        context = click.Context(command, parent=context, info_name=name)
    given, _, _ = command.make_parser(context).parse_args(list(words))
    lacking = [param.name for param in command.params if param.required and given.get(str(param.name)) is None]
    assert not lacking, f"{words} lacks {lacking}"
