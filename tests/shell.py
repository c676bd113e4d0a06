"""The documents' shell examples: which there are, and whether the program knows their commands and options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
CALL = re.compile(r"(?<![\w/-])(?:\.venv/bin/)?steam-import (?P<words>[^\n|;)]*)")


def blocks_of(document: Path) -> list[str]:
    """Its blocks of shell, in their order."""
    return re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", document.read_text(encoding="utf-8"))


def calls_of(script: str) -> Iterator[list[str]]:
    """The words of each call of the program, without its name."""
    for call in CALL.finditer(re.sub(r"(?m)\s+#.*$", "", script)):
        yield shlex.split(re.sub(r"[<>].*", "", call["words"]))


def mentions_of(document: Path) -> list[list[str]]:
    """The same of what a text names in passing, `steam-import review export` say: arguments may be left out."""
    return [words.split() for words in re.findall(r"`steam-import ([^`]+)`", document.read_text(encoding="utf-8"))]


def check_call(words: list[str], *, is_whole: bool = True) -> None:
    """Raise click's UsageError where the program would, but for files that are not there."""
    command: click.Command | None = cli
    context = click.Context(cli, info_name="steam-import")
    while isinstance(command, click.Group) and words:
        name, command, words = command.resolve_command(context, words)
        assert command, name
        context = click.Context(command, parent=context, info_name=name)
    if command is None or isinstance(command, click.Group):
        assert not is_whole, "a group does nothing by itself"
        return
    given, rest, _ = command.make_parser(context).parse_args(list(words))
    assert not rest, f"{command.name} does not take {rest}"
    lacking = [param.name for param in command.params if param.required and not isinstance(given[str(param.name)], str)]
    assert not (is_whole and lacking), f"{command.name} lacks {lacking}"
