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


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield " ".join((*above, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


COMMANDS = dict(commands(cli))


def help_of(name: str) -> str:
    shown = CliRunner().invoke(cli, [*name.split(), "--help"], prog_name="steam-import")
    assert shown.exit_code == 0
    return shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_whole_sentences_within_80_columns_and_an_example_that_could_be_typed(name: str) -> None:
    command, shown = COMMANDS[name], help_of(name)
    assert re.match(r"[A-Z].*[.](\n\n|$)", command.help or "", re.DOTALL)
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "..." not in shown.replace("[ARGS]...", "")
    example = command.epilog or ""
    assert example.startswith(f"steam-import {name}")
    assert f"\nExample:\n  {example}\n" in shown, "a command takes cls=Command, a group cls=Group"
    (call,) = calls_of(example)
    check_call(call)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not isinstance(command, click.Group)])
def test_every_command_that_does_something_can_print_json_and_be_quiet_and_explains_its_options(name: str) -> None:
    options = [param for param in COMMANDS[name].params if isinstance(param, click.Option)]
    assert {flag for option in options for flag in option.opts} >= {"--json", "--quiet", "--log-level"}
    assert [option.name for option in options if not option.help] == []
    shown = help_of(name)
    assert shown.index("\nSettings:") < shown.index("\nOutput:") if "\nSettings:" in shown else "\nOutput:" in shown


def test_the_help_of_the_program_lists_the_first_sentence_of_each_command_within_80_columns() -> None:
    first_sentences = {name: (COMMANDS[name].help or "").split("\n\n")[0] for name in LISTED}
    assert {name: command.summary for name, command in LISTED.items()} == first_sentences
    shown = help_of("")
    assert [name for name in LISTED if f"\n  {name} " not in shown] == []
    assert [line for line in shown.splitlines() if len(line) > 80 or "..." in line.replace("[ARGS]...", "")] == []


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


def test_the_option_of_a_setting_says_what_it_means_and_its_default() -> None:
    shown = " ".join(help_of("fetch").split())
    assert "Key of the Steam Web API." in shown
    assert "Least severe log lines to print; WARNING on a terminal if unset. [default: INFO]" in shown


def test_the_shell_completes_commands() -> None:
    words = {"_STEAM_IMPORT_COMPLETE": "bash_complete", "COMP_WORDS": "steam-import re", "COMP_CWORD": "1"}
    completed = CliRunner().invoke(cli, prog_name="steam-import", env=words)
    assert set(completed.output.split()) == {"plain,report", "plain,review", "plain,replay"}
