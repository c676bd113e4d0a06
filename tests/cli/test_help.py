"""What all commands have in common, found by walking down from the program: none can be forgotten."""

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from pipeline.cli import COMMANDS as LISTED
from pipeline.cli import cli
from tests.support.documents import calls_of, check_call

LEAVES = ("--json", "--quiet", "--log-level")


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
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


def test_the_listed_summaries_are_the_first_sentences_of_the_commands() -> None:
    first_sentences = {name: (COMMANDS[name].help or "").split("\n\n")[0] for name in LISTED}
    assert {name: command.summary for name, command in LISTED.items()} == first_sentences


LIST_IMPORTS = """
import sys
before = set(sys.modules)
from pipeline.cli import main
try:
    main()
finally:
    print("imported", *sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_library_but_click(option: str) -> None:
    program = [sys.executable, "-c", LIST_IMPORTS, option]
    shown = subprocess.check_output(program, text=True)  # noqa: S603 - our own program
    modules = shown.partition("imported ")[2].split()
    libraries = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert libraries == {"click", "pipeline"}


def test_the_package_is_the_same_program() -> None:
    program = [sys.executable, "-m", "pipeline", "run", "--help"]
    shown = subprocess.check_output(program, text=True)  # noqa: S603 - our own program
    assert "Usage: steam-import run [OPTIONS] [STEAM_ID]" in shown


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
    assert shown.index("\nSettings:") < shown.index("\nOutput:") if "\nSettings:" in shown else "\nOutput:" in shown


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_fits_80_columns_and_cuts_no_sentence(name: str) -> None:
    shown = help_of(name)
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "..." not in shown.replace("[ARGS]...", "")


def test_the_option_of_a_setting_says_what_it_means_and_its_default() -> None:
    shown = " ".join(help_of("fetch").split())
    assert "Key of the Steam Web API." in shown
    assert "Least severe log lines to print; WARNING on a terminal if unset. [default: INFO]" in shown


def test_the_shell_completes_commands() -> None:
    words = {"_STEAM_IMPORT_COMPLETE": "bash_complete", "COMP_WORDS": "steam-import re", "COMP_CWORD": "1"}
    completed = CliRunner().invoke(cli, prog_name="steam-import", env=words)
    assert set(completed.output.split()) == {"plain,report", "plain,review", "plain,replay"}
