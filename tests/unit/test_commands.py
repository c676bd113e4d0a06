"""What all commands have in common, found by walking down from the program: none can be forgotten."""

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from tests.shell import calls_of, check_call

LEAVES = ("--json", "--quiet", "--log-level")


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join((*above, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


COMMANDS = dict(commands(cli))
ONES = {name: command for name, command in COMMANDS.items() if not isinstance(command, click.Group)}


def help_of(name: str) -> str:
    shown = CliRunner().invoke(cli, [*name.split(), "--help"], prog_name="steam-import")
    assert shown.exit_code == 0
    return shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_in_a_sentence(name: str) -> None:
    says = (COMMANDS[name].help or "").split("\n\n")[0]
    assert re.match(r"[A-Z].*[.]$", says, re.DOTALL), says


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_could_be_typed(name: str) -> None:
    example = COMMANDS[name].epilog or ""
    assert example.startswith(f"steam-import {name}")
    assert f"\nExample:\n  {example}\n" in help_of(name), "a command takes cls=Command, a group cls=Group"
    (call,) = calls_of(example)
    check_call(call)


@pytest.mark.parametrize("name", ONES)
def test_every_command_that_does_something_can_print_json_and_be_quiet(name: str) -> None:
    assert {flag for option in ONES[name].params for flag in option.opts} >= set(LEAVES)


@pytest.mark.parametrize("name", ONES)
def test_every_option_has_a_help_text_and_a_heading(name: str) -> None:
    assert [o.name for o in ONES[name].params if isinstance(o, click.Option) and not o.help] == []
    shown = help_of(name)
    assert "\nOptions:" not in shown
    assert shown.index("\nSettings:") < shown.index("\nOutput:") if "\nSettings:" in shown else "\nOutput:" in shown
